package tuntrail.android

import android.app.ActivityManager
import android.app.Notification
import android.app.NotificationManager
import android.content.ComponentCallbacks2
import android.content.ComponentName
import android.content.ContextWrapper
import android.content.Intent
import android.net.ConnectivityManager
import android.net.LinkAddress
import android.net.Network
import android.net.NetworkCapabilities
import android.net.RouteInfo
import android.net.VpnService
import android.os.Looper
import android.os.ParcelFileDescriptor
import com.android.internal.net.VpnConfig
import java.util.concurrent.BlockingQueue
import java.util.concurrent.CountDownLatch
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import kotlin.reflect.KClass
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
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
import org.robolectric.shadows.ShadowVpnService
import tuntrail.Client
import tuntrail.ClientConfig
import tuntrail.Collections
import tuntrail.Consent
import tuntrail.NetworkMap
import tuntrail.Node
import tuntrail.Peer
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
    fun `a stop names the start that it answers, so that a newer connect is not lost`() {
        ShadowBuilder.device = TestTun()
        service.tunnel = tunnel()
        start()
        service.onStartCommand(Intent(TuntrailVpnService.ACTION_DISCONNECT), 0, 2)
        assertEquals(TunnelState.Stopped, service.next())
        service.idle()
        assertEquals(2, shadowOf(service).stopSelfId)

        ShadowBuilder.device = TestTun()
        service.onStartCommand(Intent(TuntrailVpnService.ACTION_CONNECT), 0, 3)
        assertTrue(service.next() is TunnelState.Running)
        service.onRevoke()
        assertEquals(TunnelState.Stopped, service.next())
        service.idle()
        assertEquals(3, shadowOf(service).stopSelfId)

        ShadowBuilder.device = null
        service.onStartCommand(Intent(TuntrailVpnService.ACTION_CONNECT), 0, 4)
        assertTrue(service.next() is TunnelState.Failed)
        service.idle()
        assertEquals(4, shadowOf(service).stopSelfId)
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
        service.noticed = true
        controller.create()
        // As the system starts it after the process was killed.
        assertEquals(android.app.Service.START_STICKY, service.onStartCommand(null, 0, 1))
        assertEquals("Waiting", service.shown())
        val stop = Intent(TuntrailVpnService.ACTION_DISCONNECT)
        assertEquals(android.app.Service.START_NOT_STICKY, service.onStartCommand(stop, 0, 2))
        controller.destroy()
    }

    @Test
    fun `the notification says what the tunnel does, and is not shown again after its end`() {
        ShadowBuilder.device = TestTun()
        service.noticed = true
        service.tunnel = tunnel()
        start()
        shadowOf(Looper.getMainLooper()).idle()
        assertEquals("Running", service.shown())
        service.onStartCommand(Intent(TuntrailVpnService.ACTION_DISCONNECT), 0, 2)
        assertEquals(TunnelState.Stopped, service.next())
        controller.destroy()
        shadowOf(Looper.getMainLooper()).idle()
        assertNotEquals("Stopped", service.shown())
    }

    @Test
    @Config(shadows = [RefusingService::class])
    fun `a system that refuses the foreground ends nothing`() {
        service.noticed = true
        service.tunnel = tunnel()
        start(TunnelState.Failed::class)
        shadowOf(Looper.getMainLooper()).idle()
        assertNull(service.shown())
    }

    @Test
    fun `a tunnel that can't start is tried again after a while`() {
        ShadowBuilder.device = TestTun()
        service.tunnel = tunnel()
        // As long as the client has this tunnel, no other can start.
        val other = TestTun()
        service.onOpen = { it.client.startTunnel(tunnel(), TunDevice.Tun(other.descriptor), null, null) }
        start(TunnelState.Waiting::class)
        // Which has set its timer by then.
        service.idle()
        service.client!!.client.stopTunnel()
        ShadowBuilder.device = TestTun()
        shadowOf(Looper.getMainLooper()).idleFor(5, TimeUnit.SECONDS)
        assertTrue(service.next() is TunnelState.Running)
        controller.destroy()
        other.close()
    }

    @Test
    fun `an app that throws when it is told the state ends nothing`() {
        service.tunnel = tunnel()
        service.onState = { error("the screen is gone") }
        start(TunnelState.Failed::class)
        controller.destroy()
        assertTrue(shadowOf(service).isStoppedBySelf)
        assertEquals(TunnelState.Stopped, service.states.last())
    }

    @Test
    fun `it is connected only with the user's permission`() {
        val context = RuntimeEnvironment.getApplication()
        ShadowVpnService.setPrepareResult(Intent("ask"))
        assertThrows(NotPreparedException::class.java) { TuntrailVpnService.connect(context, TestService::class.java, foreground = true) }
        assertNull(shadowOf(context).nextStartedService)
        ShadowVpnService.setPrepareResult(null)
        TuntrailVpnService.connect(context, TestService::class.java, foreground = true)
        assertEquals(TuntrailVpnService.ACTION_CONNECT, shadowOf(context).nextStartedService.action)
    }

    @Test
    fun `disconnecting starts nothing that does not run`() {
        val context = RuntimeEnvironment.getApplication()
        TuntrailVpnService.disconnect(context, TestService::class.java)
        assertNull(shadowOf(context).nextStartedService)

        val running = ActivityManager.RunningServiceInfo().apply { service = ComponentName(context, TestService::class.java) }
        shadowOf(context.getSystemService(ActivityManager::class.java)).setServices(listOf(running))
        TuntrailVpnService.disconnect(context, TestService::class.java)
        assertEquals(TuntrailVpnService.ACTION_DISCONNECT, shadowOf(context).nextStartedService.action)
    }

    @Test
    fun `an app in the background stops a service that waits`() {
        val context = object : ContextWrapper(RuntimeEnvironment.getApplication()) {
            override fun startService(service: Intent): ComponentName = throw IllegalStateException("in the background")
        }
        val running = ActivityManager.RunningServiceInfo().apply { service = ComponentName(context, TestService::class.java) }
        shadowOf(context.getSystemService(ActivityManager::class.java)).setServices(listOf(running))
        TuntrailVpnService.disconnect(context, TestService::class.java)
        assertEquals(running.service, shadowOf(RuntimeEnvironment.getApplication()).nextStoppedService.component)
    }

    private fun start(then: KClass<out TunnelState> = TunnelState.Running::class) {
        controller.create().startCommand(0, 1)
        service.next()
        wifi()
        val state = service.next()
        assertEquals("$state", then, state::class)
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
    @Volatile
    lateinit var tunnel: TunnelConfig

    @Volatile
    var onOpen: (Tuntrail) -> Unit = {}

    @Volatile
    var onState: (TunnelState) -> Unit = {}
    var noticed = false

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
        onOpen(it)
        client = it
    }

    override fun tunnelConfig(): TunnelConfig = tunnel

    override fun configure(builder: Builder) {
        builder.setSession("configured")
    }

    override fun notification(state: TunnelState): Notification? =
        if (noticed) Notification.Builder(this, "vpn").setContentTitle(state::class.simpleName).build() else null

    /** The title of what is shown. */
    fun shown(): String? {
        val shown = shadowOf(getSystemService(NotificationManager::class.java)).allNotifications
        return shown.singleOrNull()?.extras?.getString(Notification.EXTRA_TITLE)
    }

    override fun onTunnelState(state: TunnelState) {
        states += state
        onState(state)
    }

    /** Waits until the service's thread has done what it was given. */
    fun idle() {
        val done = CountDownLatch(1)
        // A job of another kind runs when its turn comes.
        val worker = TuntrailVpnService::class.java.getDeclaredField("worker").apply { isAccessible = true }.get(this) as Worker
        worker.post(Worker.Key.FLUSH, done::countDown)
        check(done.await(LIMIT, TimeUnit.MILLISECONDS)) { "the service's thread hangs" }
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

/** A system that lets no app have this kind of foreground service. */
@Implements(VpnService::class)
internal class RefusingService : ShadowVpnService() {
    @Implementation
    @Suppress("unused", "UNUSED_PARAMETER")
    override fun startForeground(id: Int, notification: Notification, type: Int): Unit = throw SecurityException("not a VPN")
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
