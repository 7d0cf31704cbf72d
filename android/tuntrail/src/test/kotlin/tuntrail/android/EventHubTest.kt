package tuntrail.android

import java.lang.reflect.Proxy
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.async
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Test
import tuntrail.ClientInterface
import tuntrail.Event
import tuntrail.EventListener

class EventHubTest {
    private var listener: EventListener? = null
    private val hub = EventHub(
        Proxy.newProxyInstance(ClientInterface::class.java.classLoader, arrayOf(ClientInterface::class.java)) { _, method, arguments ->
            assertEquals("setListener", method.name)
            listener = arguments[0] as EventListener?
            null
        } as ClientInterface,
    )

    @Test
    fun `it listens only while somebody collects, and everybody gets everything`() = runBlocking {
        assertNull(listener)
        val first = async(start = CoroutineStart.UNDISPATCHED) { hub.flow().toList() }
        val second = async(start = CoroutineStart.UNDISPATCHED) { hub.flow().first() }
        listener!!.onEvent(silent(1))
        assertEquals(silent(1), second.await())
        assertNotNull(listener)
        listener!!.onEvent(silent(2))
        hub.close()
        assertEquals(listOf(silent(1), silent(2)), first.await())
        assertNull(listener)
    }

    @Test
    fun `a collector that is cancelled is forgotten`() = runBlocking {
        val collector = launch(start = CoroutineStart.UNDISPATCHED) { hub.flow().collect {} }
        assertNotNull(listener)
        collector.cancel()
        collector.join()
        assertNull(listener)
    }

    @Test
    fun `collecting after the end ends at once`() = runBlocking {
        hub.close()
        assertEquals(emptyList<Event>(), hub.flow().toList())
    }

    @Test
    fun `a slow collector loses the oldest and is told how many`() = runBlocking {
        val mailbox = Mailbox()
        repeat(Mailbox.CAPACITY + 3) { mailbox.put(silent(it)) }
        assertEquals(Event.EventsDropped(3u), mailbox.take())
        repeat(Mailbox.CAPACITY) { assertEquals(silent(it + 3), mailbox.take()) }
        mailbox.put(null)
        assertNull(mailbox.take())
    }

    @Test
    fun `what the client dropped is added to what the mailbox dropped`() = runBlocking {
        val mailbox = Mailbox()
        mailbox.put(Event.EventsDropped(5u))
        repeat(Mailbox.CAPACITY + 1) { mailbox.put(silent(it)) }
        assertEquals(Event.EventsDropped(6u), mailbox.take())
    }

    private fun silent(number: Int): Event = Event.PeerSilent("peer $number")
}
