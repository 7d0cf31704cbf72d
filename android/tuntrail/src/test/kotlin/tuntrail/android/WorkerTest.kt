package tuntrail.android

import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test

class WorkerTest {
    private val worker = Worker("test")
    private val done = mutableListOf<String>()

    @Test
    fun `of the jobs of a key that wait the latest runs, at its own turn`() {
        val blocked = CountDownLatch(1)
        worker.post(Worker.Key.FLUSH) { blocked.await() }
        // While the first runs or waits, whichever it is.
        worker.post(Worker.Key.TUNNEL) { done += "connect" }
        worker.post(Worker.Key.NETWORK) { done += "network" }
        worker.post(Worker.Key.TUNNEL) { done += "disconnect" }
        blocked.countDown()
        worker.close()
        assertTrue(worker.awaitEnd(LIMIT))
        assertEquals(listOf("network", "disconnect"), done)
    }

    @Test
    fun `closing runs what waits and takes nothing more`() {
        worker.post(Worker.Key.TUNNEL) { done += "before" }
        worker.close()
        worker.post(Worker.Key.TUNNEL) { done += "after" }
        assertTrue(worker.awaitEnd(LIMIT))
        assertEquals(listOf("before"), done)
    }

    @Test
    fun `waiting for the end is bounded`() {
        val blocked = CountDownLatch(1)
        val runs = CountDownLatch(1)
        worker.post(Worker.Key.TUNNEL) {
            runs.countDown()
            blocked.await()
        }
        assertTrue(runs.await(LIMIT, TimeUnit.MILLISECONDS))
        worker.close()
        assertFalse(worker.awaitEnd(1))
        blocked.countDown()
        assertTrue(worker.awaitEnd(LIMIT))
    }
}
