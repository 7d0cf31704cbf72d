package tuntrail.android

import android.app.Notification
import android.content.ComponentCallbacks2
import android.content.Intent
import android.net.ConnectivityManager
import android.net.LinkAddress
import android.net.Network
import android.net.NetworkCapabilities
import android.net.RouteInfo
import android.net.VpnService
import android.os.BatteryManager
import android.os.ParcelFileDescriptor
import com.android.internal.net.VpnConfig
import java.util.concurrent.BlockingQueue
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController
import org.robolectric.annotation.Config
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.annotation.RealObject
import org.robolectric.shadows.ShadowNetwork
import org.robolectric.shadows.ShadowNetworkCapabilities
import tuntrail.Client
import tuntrail.ClientConfig
import tuntrail.Collections
import tuntrail.Consent
import tuntrail.InterfaceKind
import tuntrail.NetworkMap
import tuntrail.NetworkState
import tuntrail.Node
import tuntrail.Peer
import tuntrail.PowerState
import tuntrail.Routes
import tuntrail.TunDevice
import tuntrail.TunnelConfig
import tuntrail.UploadOutcome
import tuntrail.generatePrivateKey
import tuntrail.publicKeyOf

/** The service on Android's own classes and the real library, with a second client as the other end of its tunnel. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], manifest = Config.NONE, shadows = [ShadowBuilder::class])
class TuntrailVpnServiceTest {
    private val controller: ServiceController<TestService> = Robolectric.buildService(TestService::class.java)
    private val service = controller.get()
    private val far = FarEnd()

    @After
    fun close() {
        service.client?.close()
        far.close()
        ShadowBuilder.device = null
    }

    @Test
    fun `packets pass the tunnel and are recorded and uploaded`() {
        val device = TestTun()
        ShadowBuilder.device = device
        service.tunnel = tunnel()
        controller.create().startCommand(0, 1)
        assertTrue(service.next() is TunnelState.Waiting)
        wifi()
        val running = service.next()
        assertTrue("$running", running is TunnelState.Running)
        assertTrue(service.protectedSockets.isNotEmpty())

        val packet = udpPacket("10.77.0.2", 4444, "10.77.0.1", 5555)
        device.use {
            it.send(packet)
            assertArrayEquals(packet, far.device.receive())
        }
        service.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        service.onStartCommand(Intent(TuntrailVpnService.ACTION_DISCONNECT), 0, 2)
        assertEquals(TunnelState.Stopped, service.next())
        controller.destroy()
        assertTrue(shadowOf(service).isStoppedBySelf)
        val report = runBlocking { withTimeout(LIMIT) { service.client!!.upload("the user asked") } }
        assertEquals(report.summary, UploadOutcome.Complete, report.outcome)
    }

    @Test
    fun `the system is told addresses, routes, DNS, MTU, and that the VPN costs what the network costs`() {
        ShadowBuilder.device = TestTun()
        service.tunnel = tunnel().copy(
            addresses = listOf("10.77.0.2/24", "fd77::2/64"),
            dns = listOf("10.77.0.53"),
            searchDomains = listOf("example.com"),
            mtu = 1280u,
        )
        start()
        val config = ShadowBuilder.last!!
        assertEquals(listOf("10.77.0.2/24", "fd77:0:0:0:0:0:0:2/64"), config.addresses.map { it.toString() })
        assertEquals(listOf("10.77.0.0/24"), config.routes.map { it.destination.toString() })
        assertEquals(listOf("10.77.0.53"), config.dnsServers)
        assertEquals(listOf("example.com"), config.searchDomains)
        assertEquals(1280, config.mtu)
        assertFalse(config.isMetered)
        assertFalse(config.blocking)
        assertNull(config.underlyingNetworks)
        assertEquals("configured", config.session)
    }

    @Test
    fun `a tunnel that takes all of one family blocks the other, and one that takes a part does not`() {
        ShadowBuilder.device = TestTun()
        val peer = tunnel().peers.single()
        service.tunnel = tunnel().copy(addresses = listOf("fd77::2/64"), peers = listOf(peer.copy(allowedIps = listOf("::/0"))))
        start()
        assertEquals(listOf(0), ShadowBuilder.last!!.routes.map { it.destination.prefixLength })
        assertFalse(ShadowBuilder.last!!.allowIPv4)

        ShadowBuilder.device = TestTun()
        service.tunnel = service.tunnel.copy(peers = listOf(peer.copy(allowedIps = listOf("fd77::/64"))))
        service.onStartCommand(Intent(TuntrailVpnService.ACTION_CONNECT), 0, 2)
        service.next()
        assertTrue(ShadowBuilder.last!!.allowIPv4)
    }

    @Test
    fun `without the user's permission it stops and says why`() {
        service.tunnel = tunnel()
        controller.create().startCommand(0, 1)
        service.next()
        wifi()
        assertTrue((service.next() as TunnelState.Failed).error is NotPreparedException)
        controller.destroy()
        assertTrue(shadowOf(service).isStoppedBySelf)
    }

    @Test
    fun `when the VPN is revoked the tunnel stops and the service with it`() {
        ShadowBuilder.device = TestTun()
        service.tunnel = tunnel()
        start()
        service.onRevoke()
        assertEquals(TunnelState.Stopped, service.next())
        controller.destroy()
        assertTrue(shadowOf(service).isStoppedBySelf)
    }

    @Test
    fun `a service that the system ends stops its tunnel before it is gone`() {
        ShadowBuilder.device = TestTun()
        service.tunnel = tunnel()
        start()
        controller.destroy()
        assertEquals(TunnelState.Stopped, service.states.poll())
    }

    @Test
    fun `it is a foreground service if it has a notification, and started again if it was killed`() {
        service.notice = Notification.Builder(RuntimeEnvironment.getApplication(), "vpn").build()
        controller.create()
        // As the system starts it after the process was killed.
        assertEquals(android.app.Service.START_STICKY, service.onStartCommand(null, 0, 1))
        assertEquals(service.notice, shadowOf(service).lastForegroundNotification)
        val stop = Intent(TuntrailVpnService.ACTION_DISCONNECT)
        assertEquals(android.app.Service.START_NOT_STICKY, service.onStartCommand(stop, 0, 2))
        controller.destroy()
    }

    @Test
    fun `a network is what its capabilities say`() {
        val network = ShadowNetworkCapabilities.newInstance()
        shadowOf(network).addTransportType(NetworkCapabilities.TRANSPORT_CELLULAR)
        shadowOf(network).removeCapability(NetworkCapabilities.NET_CAPABILITY_NOT_METERED)
        shadowOf(network).removeCapability(NetworkCapabilities.NET_CAPABILITY_NOT_ROAMING)
        val expected = NetworkState(
            connected = true, id = 9u, `interface` = InterfaceKind.CELLULAR, metered = true, roaming = true, lowData = true,
        )
        assertEquals(expected, networkState(9, network, dataSaver = true))
        shadowOf(network).addCapability(NetworkCapabilities.NET_CAPABILITY_TEMPORARILY_NOT_METERED)
        shadowOf(network).addCapability(NetworkCapabilities.NET_CAPABILITY_NOT_ROAMING)
        assertEquals(expected.copy(metered = false, roaming = false, lowData = false), networkState(9, network, dataSaver = false))
    }

    @Test
    fun `the charge is a percentage, and a device without a battery is on power`() {
        val battery = Intent(Intent.ACTION_BATTERY_CHANGED)
            .putExtra(BatteryManager.EXTRA_LEVEL, 30)
            .putExtra(BatteryManager.EXTRA_SCALE, 200)
        assertEquals(PowerState(batteryPercent = 15u, charging = false, lowPower = true), powerState(battery, saves = true))
        battery.putExtra(BatteryManager.EXTRA_PLUGGED, BatteryManager.BATTERY_PLUGGED_USB)
        assertEquals(PowerState(batteryPercent = 15u, charging = true), powerState(battery, saves = false))
        battery.putExtra(BatteryManager.EXTRA_PRESENT, false).putExtra(BatteryManager.EXTRA_PLUGGED, 0)
        assertEquals(PowerState(charging = true), powerState(battery, saves = false))
    }

    private fun start() {
        controller.create().startCommand(0, 1)
        service.next()
        wifi()
        val running = service.next()
        assertTrue("$running", running is TunnelState.Running)
    }

    private fun tunnel() = TunnelConfig(
        privateKey = far.theirKey,
        addresses = listOf("10.77.0.2/32"),
        peers = listOf(Peer(publicKeyOf(far.key), listOf("10.77.0.99/24"), endpoint = far.endpoint)),
    )

    private fun wifi() {
        val capabilities = ShadowNetworkCapabilities.newInstance()
        shadowOf(capabilities).addTransportType(NetworkCapabilities.TRANSPORT_WIFI)
        shadowOf(capabilities).addCapability(NetworkCapabilities.NET_CAPABILITY_NOT_METERED)
        val network: Network = ShadowNetwork.newInstance(1)
        val manager = service.getSystemService(ConnectivityManager::class.java)
        val callbacks = shadowOf(manager).networkCallbacks
        assertEquals(1, callbacks.size)
        callbacks.forEach { it.onCapabilitiesChanged(network, capabilities) }
    }
}

/** A service as an app has it, that can be looked into. */
internal class TestService : TuntrailVpnService() {
    val states: BlockingQueue<TunnelState> = LinkedBlockingQueue()
    val protectedSockets: BlockingQueue<Int> = LinkedBlockingQueue()
    lateinit var tunnel: TunnelConfig
    var notice: Notification? = null

    @Volatile
    var client: Tuntrail? = null

    fun next(): TunnelState = checkNotNull(states.poll(LIMIT, TimeUnit.MILLISECONDS)) { "the state does not change" }

    override fun tuntrail(): Tuntrail = Tuntrail.open(
        ClientConfig(
            directory = tuntrailDirectory.path,
            baseUrl = logServer(),
            consent = Consent.GRANTED,
            collections = Collections(windows = "windows.android.test"),
            logFilter = "off",
        ),
    ).also {
        // Without it the far end is somebody on the Internet, of whom no address is recorded.
        val self = Node(id = 1, stableId = "self", addresses = listOf("10.77.0.2"))
        it.client.setNetwork(NetworkMap(selfNode = self), Routes(remote = listOf("10.77.0.0/24")))
        client = it
    }

    override fun tunnelConfig(): TunnelConfig = tunnel

    override fun configure(builder: Builder) {
        builder.setSession("configured")
    }

    override fun notification(): Notification? = notice

    override fun onTunnelState(state: TunnelState) {
        states += state
    }

    override fun protect(socket: Int): Boolean {
        protectedSockets += socket
        return true
    }
}

/** The other end of the tunnel, on the loopback interface. */
private class FarEnd : AutoCloseable {
    val key = generatePrivateKey()
    val theirKey = generatePrivateKey()
    val device = TestTun()
    private val client = Client(
        ClientConfig(
            directory = RuntimeEnvironment.getApplication().cacheDir.resolve("far").path,
            baseUrl = "https://logs.example.com",
            consent = Consent.UNKNOWN,
            logFilter = "off",
        ),
    )
    val endpoint: String

    init {
        val config = TunnelConfig(
            privateKey = key,
            addresses = listOf("10.77.0.1/32"),
            peers = listOf(Peer(publicKeyOf(theirKey), listOf("10.77.0.2/32"))),
        )
        val info = client.startTunnel(config, TunDevice.Tun(device.descriptor), null, null)
        endpoint = "127.0.0.1:" + info.localV4!!.substringAfterLast(':')
    }

    override fun close() {
        client.shutdown()
        device.close()
    }
}

/** In place of the system that makes the TUN device. Everything before that is Android's own code, with its checks. */
@Implements(VpnService.Builder::class)
internal class ShadowBuilder {
    @RealObject
    private lateinit var real: VpnService.Builder

    @Implementation
    @Suppress("unused")
    fun establish(): ParcelFileDescriptor? {
        // As the real one does before it calls the system.
        val config = field("mConfig") as VpnConfig
        config.addresses = (field("mAddresses") as List<*>).map { it as LinkAddress }
        config.routes = (field("mRoutes") as List<*>).map { it as RouteInfo }
        last = config
        val descriptor = device?.descriptor ?: return null
        // Android's own class, but for the number.
        val (pipe, other) = ParcelFileDescriptor.createPipe()
        other.close()
        return object : ParcelFileDescriptor(pipe) {
            override fun detachFd(): Int {
                close()
                return descriptor
            }
        }
    }

    private fun field(name: String): Any? = VpnService.Builder::class.java.getDeclaredField(name).apply { isAccessible = true }.get(real)

    companion object {
        var device: TestTun? = null
        var last: VpnConfig? = null
    }
}
