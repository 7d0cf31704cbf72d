package tuntrail.android

import java.lang.reflect.Proxy
import java.net.UnknownHostException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import tuntrail.ClientInterface
import tuntrail.ClientStats
import tuntrail.EventStats
import tuntrail.HostResolver
import tuntrail.InternalException
import tuntrail.NetworkState
import tuntrail.Peer
import tuntrail.PowerState
import tuntrail.SocketProtector
import tuntrail.TunDevice
import tuntrail.TunnelConfig
import tuntrail.TunnelInfo
import tuntrail.TunnelStats
import tuntrail.TuntrailException

class TunnelKeeperTest {
    private val host = FakeHost()
    private val keeper = TunnelKeeper(host)

    @Test
    fun `it starts when there is a network, and tells the client of it first`() {
        keeper.start()
        assertEquals(listOf("state Waiting"), host.take())
        keeper.networkChanged(WIFI)
        assertEquals(listOf("network 1", "establish", "startTunnel 7", "state Running"), host.take())
    }

    @Test
    fun `a client that comes later hears of the network and the power there is`() {
        keeper.powerChanged(PowerState(charging = true))
        keeper.networkChanged(WIFI)
        keeper.start()
        assertEquals(listOf("network 1", "power", "establish", "startTunnel 7", "state Running"), host.take())
    }

    @Test
    fun `a network change is told, and leaves a running tunnel to the client`() {
        running()
        keeper.networkChanged(WIFI.copy(id = 2u))
        keeper.networkChanged(NetworkState(connected = false))
        keeper.networkChanged(WIFI)
        assertEquals(listOf("network 2", "network 0", "network 1"), host.take())
    }

    @Test
    fun `the same configuration leaves the tunnel alone and another replaces it`() {
        running()
        keeper.start()
        assertEquals(emptyList<String>(), host.take())
        host.config = host.config.copy(mtu = 1280u)
        keeper.start()
        // The new device first: without any the traffic would go around the VPN.
        assertEquals(listOf("establish", "stopTunnel", "startTunnel 7", "flush"), host.take())
    }

    @Test
    fun `names are found before there is a device, and the tunnel is told what was found`() {
        host.config = named("vpn.example.com:51820")
        keeper.networkChanged(WIFI)
        keeper.start()
        assertEquals(listOf("network 1", "resolve vpn.example.com", "establish", "startTunnel 7", "state Running"), host.take())
        assertEquals(listOf("192.0.2.1"), host.atStart["vpn.example.com"])
        // Later the network is another.
        host.addresses = listOf("192.0.2.2")
        assertEquals(listOf("192.0.2.2"), host.tunnelsResolver!!.resolve("vpn.example.com"))
    }

    @Test
    fun `a name that is not found leaves the device without a VPN, and is asked for again when the network changes`() {
        host.config = named("vpn.example.com:51820")
        host.addresses = null
        keeper.networkChanged(WIFI)
        keeper.start()
        assertEquals(TunnelState.Waiting("can't find the address of vpn.example.com"), host.state)
        assertEquals(listOf("network 1", "resolve vpn.example.com", "state Waiting"), host.take())
        host.addresses = listOf("192.0.2.1")
        keeper.networkChanged(NetworkState(connected = false))
        assertTrue(host.state is TunnelState.Waiting)
        keeper.networkChanged(WIFI)
        assertTrue(host.state is TunnelState.Running)
    }

    @Test
    fun `a start that is no longer wanted when its names are found makes no device`() {
        host.config = named("vpn.example.com:51820")
        host.onResolve = keeper::unwanted
        keeper.networkChanged(WIFI)
        keeper.start()
        keeper.stop()
        assertEquals(listOf("network 1", "resolve vpn.example.com"), host.take())
    }

    @Test
    fun `a start that fails is tried again after pauses that double up to a limit`() {
        host.onStart = { throw TuntrailException.Tunnel("no socket") }
        keeper.networkChanged(WIFI)
        keeper.start()
        val pauses = List(10) { host.elapse().also { keeper.retry() } / 1000 }
        assertEquals(listOf<Long>(5, 10, 20, 40, 80, 160, 320, 640, 900, 900), pauses)
        host.onStart = {}
        host.elapse()
        keeper.retry()
        assertTrue(host.state is TunnelState.Running)
        assertNull(host.pause)
    }

    @Test
    fun `another network, no network or a stop ends the pause, and the next is short again`() {
        host.onStart = { throw TuntrailException.Tunnel("no socket") }
        keeper.networkChanged(WIFI)
        keeper.start()
        repeat(3) { host.elapse().also { keeper.retry() } }
        keeper.networkChanged(NetworkState(connected = false))
        assertNull(host.pause)
        keeper.networkChanged(WIFI)
        assertEquals(5_000L, host.pause)
        keeper.stop()
        assertNull(host.pause)
        // A timer that had gone off already.
        host.take()
        keeper.retry()
        assertEquals(emptyList<String>(), host.take())
    }

    @Test
    fun `without the user's permission it fails and does not try again`() {
        host.descriptor = null
        keeper.networkChanged(WIFI)
        keeper.start()
        assertTrue((host.state as TunnelState.Failed).error is NotPreparedException)
        host.take()
        keeper.networkChanged(WIFI.copy(id = 2u))
        assertEquals(listOf("network 2"), host.take())
    }

    @Test
    fun `a wrong configuration fails before a device is made`() {
        host.config = host.config.copy(addresses = listOf("nonsense"))
        keeper.networkChanged(WIFI)
        keeper.start()
        assertEquals(listOf("network 1", "state Failed"), host.take())
    }

    @Test
    fun `an app whose code throws gets to know it`() {
        host.onClient = { throw IllegalStateException("no settings") }
        keeper.networkChanged(WIFI)
        keeper.start()
        assertEquals("no settings", (host.state as TunnelState.Failed).error.message)
    }

    @Test
    fun `stopping stops and writes once, and nothing starts afterwards`() {
        running()
        keeper.stop()
        keeper.stop()
        assertEquals(listOf("stopTunnel", "flush", "state Stopped"), host.take())
        keeper.networkChanged(WIFI.copy(id = 2u))
        assertEquals(listOf("network 2"), host.take())
    }

    @Test
    fun `a client that was shut down does not keep it from stopping`() {
        running()
        host.onStop = { throw TuntrailException.Closed("it was shut down") }
        keeper.stop()
        assertEquals(TunnelState.Stopped, host.state)
    }

    @Test
    fun `a client that panics does not keep it from stopping`() {
        running()
        host.onStop = { throw InternalException("panicked") }
        keeper.stop()
        assertEquals(TunnelState.Stopped, host.state)
    }

    @Test
    fun `only the end of the device that is in use counts, and it gets another at once`() {
        running()
        keeper.deviceEnded()
        assertEquals(emptyList<String>(), host.take())
        host.deviceEnded = true
        keeper.deviceEnded()
        assertEquals(listOf("establish", "stopTunnel", "startTunnel 7", "flush"), host.take())
    }

    @Test
    fun `a device that the system gives to another app is not asked for again`() {
        running()
        host.deviceEnded = true
        host.descriptor = null
        keeper.deviceEnded()
        assertEquals(listOf("stopTunnel", "flush", "state Failed"), host.take())
        assertTrue((host.state as TunnelState.Failed).error is NotPreparedException)
        assertNull(host.pause)
    }

    @Test
    fun `a tunnel that keeps failing is started again at once only the first time`() {
        running()
        keeper.tunnelFailed()
        assertEquals(listOf("establish", "stopTunnel", "startTunnel 7", "flush"), host.take())
        keeper.tunnelFailed()
        assertEquals(listOf("stopTunnel", "flush", "state Waiting"), host.take())
        keeper.tunnelFailed()
        assertEquals(emptyList<String>(), host.take())
        assertEquals(10_000L, host.elapse())
        keeper.retry()
        assertEquals(listOf("establish", "startTunnel 7", "state Running"), host.take())
    }

    @Test
    fun `a tunnel that ran for a while before it failed is started again at once`() {
        running()
        repeat(3) {
            host.time += 60_000
            keeper.tunnelFailed()
            assertEquals(listOf("establish", "stopTunnel", "startTunnel 7", "flush"), host.take())
        }
    }

    private fun running() {
        keeper.networkChanged(WIFI)
        keeper.start()
        assertTrue(host.state is TunnelState.Running)
        host.take()
    }

    private fun named(endpoint: String) = host.config.copy(peers = host.config.peers.map { it.copy(endpoint = endpoint) })

    private companion object {
        val WIFI = NetworkState(connected = true, id = 1u)
    }
}

/** Notes what is asked of it. */
private class FakeHost : TunnelHost {
    private val calls = mutableListOf<String>()
    var state: TunnelState = TunnelState.Stopped
    var descriptor: Int? = 7
    var deviceEnded = false
    var onClient = {}
    var onStart = {}
    var onStop = {}
    var onResolve = {}
    var addresses: List<String>? = listOf("192.0.2.1")
    var tunnelsResolver: HostResolver? = null

    /** What the tunnel was answered while it started. */
    val atStart = mutableMapOf<String, List<String>>()
    var time = 1_000L
    var pause: Long? = null
    var config = TunnelConfig(
        privateKey = "unused",
        addresses = listOf("10.0.0.2/32"),
        peers = listOf(Peer(publicKey = "unused", allowedIps = listOf("0.0.0.0/0"))),
    )

    override val protector = object : SocketProtector {
        override fun protect(socket: ULong) = true
    }
    override val resolver = object : HostResolver {
        override fun resolve(host: String): List<String> {
            onResolve()
            note("resolve $host")
            return addresses ?: throw UnknownHostException(host)
        }
    }

    fun take(): List<String> = calls.toList().also { calls.clear() }

    override fun client(): ClientInterface {
        onClient()
        return client
    }

    override fun tunnelConfig() = config

    override fun establish(plan: TunnelPlan): Int? = descriptor?.also { calls += "establish" }

    override fun now() = time

    override fun retryAfter(millis: Long?) {
        pause = millis
    }

    /** Lets the pause pass, and returns it. */
    fun elapse(): Long = checkNotNull(pause) { "it does not wait for a time" }.also {
        time += it
        pause = null
    }

    override fun onState(state: TunnelState) {
        this.state = state
        calls += "state ${state::class.simpleName}"
    }

    /** Refuses what is not expected of the keeper. */
    private val other = Proxy.newProxyInstance(ClientInterface::class.java.classLoader, arrayOf(ClientInterface::class.java)) { _, method, _ ->
        throw AssertionError("unexpected call: ${method.name}")
    } as ClientInterface

    private val client = object : ClientInterface by other {
        override fun setNetworkState(state: NetworkState) = note("network ${state.id}")

        override fun setPowerState(state: PowerState) = note("power")

        override fun startTunnel(
            config: TunnelConfig,
            device: TunDevice,
            protector: SocketProtector?,
            resolver: HostResolver?,
        ): TunnelInfo {
            onStart()
            tunnelsResolver = resolver
            peerNames(config).forEach { atStart[it] = resolver!!.resolve(it) }
            note("startTunnel ${(device as TunDevice.Tun).descriptor}")
            return TunnelInfo(localV4 = "0.0.0.0:1", localV6 = null, adapterLuid = null)
        }

        override fun stopTunnel() {
            onStop()
            note("stopTunnel")
        }

        override fun flush() = note("flush")

        override fun stats() = stats(deviceEnded)
    }

    private fun note(call: String) {
        calls += call
    }

    private fun stats(ended: Boolean) = ClientStats(
        flows = null,
        sessions = null,
        sockets = null,
        store = null,
        tunnel = TunnelStats(
            txPackets = 0u,
            txBytes = 0u,
            rxPackets = 0u,
            rxBytes = 0u,
            sessions = 0u,
            gaveUp = 0u,
            droppedOutgoing = 0u,
            droppedIncoming = 0u,
            deviceEnded = ended,
            peers = emptyList(),
        ),
        uploads = null,
        log = null,
        events = EventStats(delivered = 0u, failed = 0u, dropped = 0u),
    )
}
