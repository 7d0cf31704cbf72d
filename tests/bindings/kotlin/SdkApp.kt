// What the steps share: the app, its listeners and callbacks, and checks.

import java.io.File
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import tuntrail.*
import uniffi.testpeer.CarriedFlow
import uniffi.testpeer.LogServer
import uniffi.testpeer.RecordedFlow
import uniffi.testpeer.TrafficKind
import uniffi.testpeer.VirtualNetwork
import uniffi.testpeer.nativeThreadName

const val WINDOWS = "windows.log.test.example"
const val FLOWS = "flows.log.test.example"
const val SESSIONS = "sessions.log.test.example"
const val SOCKETS = "sockets.log.test.example"
const val DIAGNOSTICS = "diagnostics.log.test.example"

fun equal(expected: Any?, actual: Any?) {
    if (expected != actual) throw AssertionError("expected $expected, got $actual")
}

fun holds(condition: Boolean, shown: Any? = null) {
    if (!condition) throw AssertionError("does not hold: $shown")
}

inline fun <reified E : Throwable> throws(call: () -> Unit): E {
    try {
        call()
    } catch (error: Throwable) {
        if (error is E) return error
        throw error
    }
    throw AssertionError("expected ${E::class}")
}

/** Takes what comes next. Only a failing test waits so long. */
fun <T> LinkedBlockingQueue<T>.next(): T = poll(30, TimeUnit.SECONDS) ?: throw AssertionError("nothing came")

/** Packets and bytes in both directions. */
data class Counts(val txPackets: ULong = 0u, val txBytes: ULong = 0u, val rxPackets: ULong = 0u, val rxBytes: ULong = 0u)

fun CarriedFlow.counts() = Counts(txPackets, txBytes, rxPackets, rxBytes)

fun List<RecordedFlow>.counts() =
    Counts(sumOf { it.txPackets }, sumOf { it.txBytes }, sumOf { it.rxPackets }, sumOf { it.rxBytes })

/** Keeps what happened. */
class Recorder : EventListener {
    val events = LinkedBlockingQueue<Pair<Event, String>>()

    override fun onEvent(event: Event) {
        events.add(event to nativeThreadName())
    }

    inline fun <reified E : Event> waitFor(wanted: (E) -> Boolean = { true }): E {
        while (true) {
            val (event, thread) = events.next()
            equal("tuntrail-events", thread)
            if (event is E && wanted(event)) return event
        }
    }
}

/** Stands for `VpnService.protect`. */
class Protector : SocketProtector {
    val calls = LinkedBlockingQueue<Pair<ULong, String>>()

    override fun protect(socket: ULong) = calls.add(socket to nativeThreadName())
}

/** Knows one name. */
class Resolver : HostResolver {
    override fun resolve(host: String): List<String> {
        equal("vpn.example.com", host)
        return listOf("127.0.0.1")
    }
}

/** Fails in ways that are declared and in ways that are not. */
class Throwing(private val error: Exception? = null) : EventListener, SocketProtector, HostResolver {
    val calls = LinkedBlockingQueue<Boolean>()

    override fun onEvent(event: Event) {
        fail()
    }

    override fun protect(socket: ULong) = fail()

    override fun resolve(host: String): List<String> {
        fail()
        return emptyList()
    }

    private fun fail(): Boolean {
        calls.add(true)
        if (error != null) throw error
        return false
    }
}

fun rule(resource: ULong, prefix: String, port: UShort) =
    ResourceRule(resource, listOf(prefix), listOf(PortRange(port, port)), 6u)

val ownNode = Node(
    id = 1, stableId = "n1", name = "phone.example.com.", addresses = listOf("100.64.0.1", "fd7a:115c:a1e0::1"), user = 9,
)
val peerNode = Node(
    id = 2, stableId = "n2", name = "office.example.com.", addresses = listOf("100.64.0.2", "fd7a:115c:a1e0::2"),
)
val networkMap = NetworkMap(ownNode, listOf(peerNode), listOf(User(9, "user@example.com")))
val routes = Routes(local = listOf("100.64.0.1"), remote = listOf("100.64.0.0/10", "10.20.0.0/16"))

class App(private val directory: File) {
    val server = LogServer.start()
    val network = VirtualNetwork()
    val recorder = Recorder()
    val protector = Protector()
    lateinit var client: Client

    /** What the step "host transport" leaves for the step "claim". */
    lateinit var left: CarriedFlow

    fun path(name: String): String = File(directory, name).path

    fun files(name: String) = File(directory, name).walk().filter { it.isFile }.toList()

    fun config(name: String, consent: Consent = Consent.GRANTED) = ClientConfig(
        directory = path(name),
        baseUrl = server.url(),
        consent = consent,
        collections = Collections(
            windows = WINDOWS, flows = FLOWS, sessions = SESSIONS, sockets = SOCKETS, diagnostics = DIAGNOSTICS,
        ),
    )

    fun tunnelConfig() = parseTunnelConfig(network.tunnelConfig())

    fun startTunnel(client: Client, protector: SocketProtector? = null) {
        client.setNetwork(networkMap, routes)
        client.startTunnel(tunnelConfig(), TunDevice.Tun(network.attach()), protector, null)
    }

    /** Sends everything, which must succeed. */
    fun upload(client: Client = this.client) {
        client.upload("scenario").use { upload -> upload.join().let { holds(it.complete, it.summary) } }
    }

    /** What the server knows of a connection, over all windows. */
    fun recorded(flow: CarriedFlow) =
        server.flows(WINDOWS).filter { it.source == flow.source && it.destination == flow.destination }.counts()

    fun exitRows() = server.flows(WINDOWS).filter { it.kind == TrafficKind.EXIT }
}
