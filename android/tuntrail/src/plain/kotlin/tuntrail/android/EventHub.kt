package tuntrail.android

import java.util.concurrent.CopyOnWriteArrayList
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import tuntrail.ClientInterface
import tuntrail.Event
import tuntrail.EventListener
import tuntrail.TuntrailException

/**
 * Gives the events of one client to any number of receivers: the client itself has one listener.
 *
 * It is the client's listener while somebody receives, and only then, so that nothing is called for nobody. Events come on the
 * client's thread `tuntrail-events`, which never waits for a receiver: see [Mailbox].
 */
internal class EventHub(private val client: ClientInterface) : EventListener {
    private val receivers = CopyOnWriteArrayList<(Event?) -> Unit>()
    private var closed = false

    override fun onEvent(event: Event) {
        receivers.forEach { it(event) }
    }

    /** Calls [receiver] on the client's thread for each event, and with null when there will be none. It must return at once. */
    fun add(receiver: (Event?) -> Unit) {
        synchronized(this) {
            if (!closed) {
                if (receivers.isEmpty()) client.setListener(this)
                receivers.add(receiver)
                return
            }
        }
        receiver(null)
    }

    /** Calls it no more, but for a call that has begun. Harmless when repeated. */
    fun remove(receiver: (Event?) -> Unit) = synchronized(this) {
        if (receivers.remove(receiver) && receivers.isEmpty()) {
            try {
                client.setListener(null)
            } catch (_: TuntrailException.Closed) {
                // It calls nobody any more.
            }
        }
    }

    /** The events from the moment of collecting on. Ends with the client. */
    fun flow(): Flow<Event> = flow {
        val mailbox = Mailbox()
        val receiver = mailbox::put
        add(receiver)
        try {
            while (true) emit(mailbox.take() ?: break)
        } finally {
            remove(receiver)
        }
    }

    /** Ends all flows. To be called when the client is shut down. */
    fun close() {
        synchronized(this) { closed = true }
        receivers.forEach { it(null) }
    }
}

/**
 * The events that one collector has not seen yet. Bounded: beyond [CAPACITY] the oldest are dropped, and the collector is told how
 * many by [Event.EventsDropped], as the client itself does. One collector that is slow takes nothing from the others.
 */
internal class Mailbox {
    private val events = ArrayDeque<Event>()
    private var dropped = 0uL
    private var ended = false

    /** Has something while there may be something to take. */
    private val changed = Channel<Unit>(Channel.CONFLATED)

    /** Adds an event; null is the end. */
    fun put(event: Event?) {
        synchronized(this) {
            when (event) {
                null -> ended = true
                // Told with our own, before what is still there: it happened before.
                is Event.EventsDropped -> dropped += event.count
                else -> events.addLast(event)
            }
            while (events.size > CAPACITY) {
                events.removeFirst()
                dropped += 1uL
            }
        }
        changed.trySend(Unit)
    }

    /** Waits for the next event; null is the end. For one collector. */
    suspend fun take(): Event? {
        while (true) {
            synchronized(this) {
                if (dropped > 0uL) return Event.EventsDropped(dropped).also { dropped = 0uL }
                events.removeFirstOrNull()?.let { return it }
                if (ended) return null
            }
            changed.receive()
        }
    }

    companion object {
        /** As many as the client's own queue holds: who can't follow that, needs no more. */
        const val CAPACITY = 256
    }
}
