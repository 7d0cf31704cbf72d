package tuntrail.android

import android.app.Notification
import android.content.Context
import android.content.Intent
import android.content.pm.ServiceInfo
import android.net.VpnService
import android.os.Build
import android.system.OsConstants
import java.io.File
import tuntrail.ClientInterface
import tuntrail.Event
import tuntrail.HostResolver
import tuntrail.SocketProtector
import tuntrail.TunnelConfig

/** Where [Tuntrail] keeps its records: the app's own, and in no backup. Not there before the user has unlocked the device. */
val Context.tuntrailDirectory: File
    get() = File(noBackupFilesDir, "tuntrail")

/**
 * A VPN service with a tuntrail tunnel. An app derives its own, which says who the client is and where the tunnel leads, and declares it
 * in its manifest (docs/android.md).
 *
 * It runs from [connect], or from when the system starts it as always-on VPN, to [disconnect], or until the user revokes the VPN. After
 * the process was killed, the system starts it again. Meanwhile it tells the client of networks and of the power supply.
 *
 * Android calls it on the main thread, where nothing waits: what does, is done on the thread `tuntrail-vpn`, which sleeps otherwise.
 * Nothing is polled, and no wake lock is taken: in doze the device sleeps, and a packet is what wakes the tunnel.
 */
abstract class TuntrailVpnService : VpnService() {
    private lateinit var worker: Worker
    private lateinit var keeper: TunnelKeeper
    private lateinit var networks: NetworkWatcher
    private lateinit var power: PowerWatcher
    private val onEvent: (Event?) -> Unit = { event ->
        when (event) {
            is Event.TunnelDeviceEnded -> worker.post(Worker.Key.TUNNEL_ENDED) { keeper.deviceEnded() }
            is Event.TunnelFailed -> worker.post(Worker.Key.TUNNEL_ENDED) { keeper.tunnelFailed() }
            else -> {}
        }
    }

    /** The client of the process. Called once, on the service's thread; may wait for the disk. It stays the app's: nobody closes it here. */
    protected abstract fun tuntrail(): Tuntrail

    /**
     * The tunnel that the user wants. Called on the service's thread at each start, also after the process was killed: so it must come
     * from where it is kept. What it throws ends in [TunnelState.Failed].
     */
    protected abstract fun tunnelConfig(): TunnelConfig

    /**
     * More for the VPN than the tunnel's configuration has: its name, the apps that go around it, what a touch on its settings opens.
     * Called on the service's thread when addresses, routes and DNS are set.
     */
    protected open fun configure(builder: Builder) {}

    /**
     * What is shown while the tunnel runs. With one, this is a foreground service, which the system keeps alive also while the VPN is not
     * established; it needs the permissions that docs/android.md names. Called on the main thread.
     */
    protected open fun notification(): Notification? = null

    /** What became of the tunnel. Called on the service's thread at each change. */
    protected open fun onTunnelState(state: TunnelState) {}

    override fun onCreate() {
        super.onCreate()
        worker = Worker("tuntrail-vpn")
        networks = NetworkWatcher(this) { state -> worker.post(Worker.Key.NETWORK) { keeper.networkChanged(state) } }
        power = PowerWatcher(this) { state -> worker.post(Worker.Key.POWER) { keeper.powerChanged(state) } }
        keeper = TunnelKeeper(host)
        networks.start()
        power.start()
    }

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        if (intent?.action == ACTION_DISCONNECT) {
            worker.post(Worker.Key.TUNNEL) { end() }
            return START_NOT_STICKY
        }
        // ACTION_CONNECT, the system's own action for an always-on VPN, or none: a new start after the process was killed.
        showNotification()
        worker.post(Worker.Key.TUNNEL) { keeper.start() }
        return START_STICKY
    }

    /** Another app is the VPN now, or the user has switched it off. The device is gone already. */
    override fun onRevoke() {
        worker.post(Worker.Key.TUNNEL) { end() }
    }

    /** The process may be killed for its memory soon: what was recorded goes to the disk. */
    override fun onTrimMemory(level: Int) {
        worker.post(Worker.Key.FLUSH) { keeper.flush() }
    }

    override fun onDestroy() {
        networks.stop()
        power.stop()
        worker.post(Worker.Key.TUNNEL) {
            keeper.stop()
            client?.events?.remove(onEvent)
        }
        worker.close()
        // Usually the tunnel was stopped before. If the system ends the service, this is the last moment before the process may go.
        worker.awaitEnd(STOP_WAIT_MILLIS)
        super.onDestroy()
    }

    private fun end() {
        keeper.stop()
        stopSelf()
    }

    private fun showNotification() {
        val notification = notification() ?: return
        try {
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE) {
                startForeground(NOTIFICATION_ID, notification, ServiceInfo.FOREGROUND_SERVICE_TYPE_SYSTEM_EXEMPTED)
            } else {
                startForeground(NOTIFICATION_ID, notification)
            }
        } catch (_: IllegalStateException) {
            // Started in the background, where it is not allowed: the tunnel runs without. An established VPN keeps its process alive.
        }
    }

    private fun establish(plan: TunnelPlan): Int? {
        val builder = Builder()
        plan.addresses.forEach { builder.addAddress(it.address, it.length) }
        plan.routes.forEach { builder.addRoute(it.address, it.length) }
        plan.dns.forEach(builder::addDnsServer)
        plan.searchDomains.forEach(builder::addSearchDomain)
        builder.setMtu(plan.mtu)
        if (!plan.takesEverything) {
            builder.allowFamily(OsConstants.AF_INET)
            builder.allowFamily(OsConstants.AF_INET6)
        }
        // The tunnel's sockets are bound to no network, so the one below is whichever is the system's default.
        builder.setUnderlyingNetworks(null)
        // As dear as the network below, instead of always dear.
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) builder.setMetered(false)
        configure(builder)
        return builder.establish()?.detachFd()
    }

    /** On the worker only. */
    private var client: Tuntrail? = null

    private val host = object : TunnelHost {
        override val protector = object : SocketProtector {
            override fun protect(socket: ULong): Boolean = this@TuntrailVpnService.protect(socket.toInt())
        }

        override val resolver = object : HostResolver {
            override fun resolve(host: String): List<String> = networks.resolve(host)
        }

        override fun client(): ClientInterface {
            val tuntrail = this@TuntrailVpnService.tuntrail()
            client = tuntrail
            tuntrail.events.add(onEvent)
            return tuntrail.client
        }

        override fun tunnelConfig(): TunnelConfig = this@TuntrailVpnService.tunnelConfig()

        override fun establish(plan: TunnelPlan): Int? = this@TuntrailVpnService.establish(plan)

        override fun onState(state: TunnelState) {
            onTunnelState(state)
            if (state is TunnelState.Failed) stopSelf()
        }
    }

    companion object {
        /** Starts the tunnel, or replaces it if its configuration has changed. The same as no action. */
        const val ACTION_CONNECT = "tuntrail.android.CONNECT"

        /** Stops the tunnel and the service. */
        const val ACTION_DISCONNECT = "tuntrail.android.DISCONNECT"

        /** Any number but 0: it is the service's only notification. */
        private const val NOTIFICATION_ID = 1

        /**
         * The tunnel stops within a second; the rest is for the disk. Well below the five seconds for which Android lets a main thread
         * be busy while a user waits.
         */
        private const val STOP_WAIT_MILLIS = 2_000L

        /**
         * Starts [service]. `VpnService.prepare` must have returned null. From the background Android allows this only with a
         * notification.
         *
         * @param foreground the service has a [notification].
         */
        fun connect(context: Context, service: Class<out TuntrailVpnService>, foreground: Boolean) {
            val intent = Intent(context, service).setAction(ACTION_CONNECT)
            if (foreground) context.startForegroundService(intent) else context.startService(intent)
        }

        /** Stops [service], if it runs. */
        fun disconnect(context: Context, service: Class<out TuntrailVpnService>) {
            context.startService(Intent(context, service).setAction(ACTION_DISCONNECT))
        }
    }
}
