package tuntrail.android

/**
 * A thread for everything that may wait: Android's callbacks come on the main thread, which must not.
 *
 * Jobs run one after the other. Each has a key, and of those that wait only the latest of a key is kept, moved to the end: what counts is
 * the latest wish and the latest state. So the queue has at most as many jobs as there are keys. Without a job the thread sleeps.
 */
internal class Worker(name: String) {
    private val lock = Object()
    private val waiting = LinkedHashMap<Key, () -> Unit>()
    private var closed = false
    private val thread = Thread(::run, name).apply { start() }

    enum class Key { TUNNEL, NETWORK, POWER, TUNNEL_ENDED, RETRY, FLUSH }

    /** Runs [job] when its turn comes. Nothing is taken after [close]. Returns at once. */
    fun post(key: Key, job: () -> Unit) = synchronized(lock) {
        if (closed) return
        waiting.remove(key)
        waiting[key] = job
        lock.notifyAll()
    }

    /** Ends the thread after the jobs that wait. Returns at once. */
    fun close() = synchronized(lock) {
        closed = true
        lock.notifyAll()
    }

    /** Waits for the end, but not longer than [millis]. Whether it has come. */
    fun awaitEnd(millis: Long): Boolean {
        thread.join(millis)
        return !thread.isAlive
    }

    private fun run() {
        while (true) (next() ?: return)()
    }

    private fun next(): (() -> Unit)? = synchronized(lock) {
        while (waiting.isEmpty()) {
            if (closed) return null
            lock.wait()
        }
        val key = waiting.keys.first()
        waiting.remove(key)
    }
}
