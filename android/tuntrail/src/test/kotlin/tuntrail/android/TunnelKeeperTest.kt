package tuntrail.android

import java.lang.reflect.Proxy
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import tuntrail.ClientInterface
import tuntrail.ClientStats
import tuntrail.EventStats
import tuntrail.HostResolver
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
        assertEquals(listOf("stopTunnel", "flush", "establish", "startTunnel 7"), host.take())
    }

    @Test
    fun `a name that is not found is asked for again when the network changes`() {
        host.onStart = { throw TuntrailException.Tunnel("can't resolve vpn.example.com") }
        keeper.networkChanged(WIFI)
        keeper.start()
        assertEquals(TunnelState.Waiting("can't resolve vpn.example.com"), host.state)
        host.onStart = {}
        keeper.networkChanged(NetworkState(connected = false))
        assertTrue(host.state is TunnelState.Waiting)
        keeper.networkChanged(WIFI)
        assertTrue(host.state is TunnelState.Running)
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
    fun `only the end of the device that is in use counts, and the next network gets another`() {
        running()
        keeper.deviceEnded()
        assertEquals(emptyList<String>(), host.take())
        host.deviceEnded = true
        keeper.deviceEnded()
        assertEquals(listOf("stopTunnel", "flush", "state Waiting"), host.take())
        keeper.networkChanged(WIFI.copy(id = 2u))
        assertEquals(listOf("network 2", "establish", "startTunnel 7", "state Running"), host.take())
    }

    @Test
    fun `a tunnel that failed by itself is cleared away`() {
        running()
        keeper.tunnelFailed()
        keeper.tunnelFailed()
        assertEquals(listOf("stopTunnel", "flush", "state Waiting"), host.take())
    }

    private fun running() {
        keeper.networkChanged(WIFI)
        keeper.start()
        assertTrue(host.state is TunnelState.Running)
        host.take()
    }

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
    var config = TunnelConfig(
        privateKey = "unused",
        addresses = listOf("10.0.0.2/32"),
        peers = listOf(Peer(publicKey = "unused", allowedIps = listOf("0.0.0.0/0"))),
    )

    override val protector = object : SocketProtector {
        override fun protect(socket: ULong) = true
    }
    override val resolver = object : HostResolver {
        override fun resolve(host: String) = listOf("192.0.2.1")
    }

    fun take(): List<String> = calls.toList().also { calls.clear() }

    override fun client(): ClientInterface {
        onClient()
        return client
    }

    override fun tunnelConfig() = config

    override fun establish(plan: TunnelPlan): Int? = descriptor?.also { calls += "establish" }

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
