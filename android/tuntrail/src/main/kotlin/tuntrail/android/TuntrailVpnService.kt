package tuntrail.android

import android.app.ActivityManager
import android.app.Notification
import android.app.NotificationManager
import android.content.ComponentName
import android.content.Context
import android.content.Intent
import android.content.pm.ServiceInfo
import android.net.VpnService
import android.os.Build
import android.os.Handler
import android.os.Looper
import android.os.SystemClock
import android.system.OsConstants
import android.util.Log
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
 * Nothing of it is polled, and no wake lock is taken: in doze the device sleeps, and a packet is what wakes the tunnel. A timer runs only
 * until the next try of a tunnel that could not start, and wakes nothing. Below Android 14, JNA, which carries the calls into the library,
 * has a thread of its own that looks every 30 seconds for what may be freed, also without a tunnel.
 */
abstract class TuntrailVpnService : VpnService() {
    private lateinit var worker: Worker
    private lateinit var keeper: TunnelKeeper
    private lateinit var networks: NetworkWatcher
    private lateinit var power: PowerWatcher
    private val main = Handler(Looper.getMainLooper())
    private val retry = Runnable { worker.post(Worker.Key.RETRY) { keeper.retry() } }
    private val renewal = Runnable(::renewNotification)

    /** What Android counts starts by: a stop that names an older one than the last stops nothing, so that no connect is lost. */
    @Volatile
    private var lastStart = UNCONDITIONAL

    /** The start that the keeper has obeyed last. On the worker only. */
    private var serving = UNCONDITIONAL

    @Volatile
    private var state: TunnelState = TunnelState.Stopped

    /** Whether there is a notification to be renewed. On the main thread only. */
    private var foreground = false
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
     * What is shown while the tunnel runs or waits: [state] is [TunnelState.Running] or [TunnelState.Waiting]. With one, this is a
     * foreground service, which the system keeps alive also while the VPN is not established; it needs the permissions that
     * docs/android.md names. Called on the main thread, at the start and at each change.
     */
    protected open fun notification(state: TunnelState): Notification? = null

    /** What became of the tunnel. Called on the service's thread at each change. What it throws is logged. */
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
        lastStart = startId
        if (intent?.action == ACTION_DISCONNECT) {
            end(startId)
            return START_NOT_STICKY
        }
        // ACTION_CONNECT, the system's own action for an always-on VPN, or none: a new start after the process was killed.
        showNotification()
        worker.post(Worker.Key.TUNNEL) {
            serving = startId
            keeper.start()
        }
        return START_STICKY
    }

    /** Another app is the VPN now, or the user has switched it off. The device is gone already. May come on any thread. */
    override fun onRevoke() = end(lastStart)

    /** The process may be killed for its memory soon: what was recorded goes to the disk. */
    override fun onTrimMemory(level: Int) {
        worker.post(Worker.Key.FLUSH) { keeper.flush() }
    }

    override fun onDestroy() {
        networks.stop()
        power.stop()
        foreground = false
        keeper.unwanted()
        worker.post(Worker.Key.TUNNEL) {
            keeper.stop()
            client?.events?.remove(onEvent)
        }
        worker.close()
        // Usually the tunnel was stopped before. If the system ends the service, this is the last moment before the process may go.
        worker.awaitEnd(STOP_WAIT_MILLIS)
        super.onDestroy()
    }

    private fun end(startId: Int) {
        keeper.unwanted()
        worker.post(Worker.Key.TUNNEL) {
            keeper.stop()
            stopSelf(startId)
        }
    }

    private fun showNotification() {
        val shown = state.takeIf { it.isOn } ?: TunnelState.Waiting("it has not started yet")
        val notification = notification(shown) ?: return
        try {
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE) {
                startForeground(NOTIFICATION_ID, notification, ServiceInfo.FOREGROUND_SERVICE_TYPE_SYSTEM_EXEMPTED)
            } else {
                startForeground(NOTIFICATION_ID, notification)
            }
            foreground = true
        } catch (_: IllegalStateException) {
            // Started in the background, where it is not allowed: the tunnel runs without. An established VPN keeps its process alive.
        } catch (_: SecurityException) {
            // From Android 14 on only an app that the user has allowed to be a VPN may. Others get no tunnel, and the keeper says so.
        }
    }

    /** Not by startForeground, which may be refused in the background. */
    private fun renewNotification() {
        val shown = state
        if (!foreground || !shown.isOn) return
        val notification = notification(shown) ?: return
        getSystemService(NotificationManager::class.java).notify(NOTIFICATION_ID, notification)
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

        override fun now(): Long = SystemClock.elapsedRealtime()

        override fun retryAfter(millis: Long?) {
            main.removeCallbacks(retry)
            // By a clock that stands still while the device sleeps.
            if (millis != null) main.postDelayed(retry, millis)
        }

        override fun onState(state: TunnelState) {
            this@TuntrailVpnService.state = state
            main.post(renewal)
            try {
                onTunnelState(state)
            } catch (error: Exception) {
                Log.e(LOG_TAG, "onTunnelState has thrown", error)
            }
            if (state is TunnelState.Failed) stopSelf(serving)
        }
    }

    companion object {
        /** Starts the tunnel, or replaces it if its configuration has changed. The same as no action. */
        const val ACTION_CONNECT = "tuntrail.android.CONNECT"

        /** Stops the tunnel and the service. */
        const val ACTION_DISCONNECT = "tuntrail.android.DISCONNECT"

        private const val LOG_TAG = "tuntrail"

        /** In place of a start's number: stops the service in any case. */
        private const val UNCONDITIONAL = -1

        /** Any number but 0: it is the service's only notification. */
        private const val NOTIFICATION_ID = 1

        /**
         * The tunnel stops within a second; the rest is for the disk. Well below the five seconds for which Android lets a main thread
         * be busy while a user waits.
         */
        private const val STOP_WAIT_MILLIS = 2_000L

        /**
         * Starts [service]. From the background Android allows this only with a notification.
         *
         * @param foreground the service has a [notification].
         * @throws NotPreparedException unless `VpnService.prepare` returns null. Android would end an app that promises a foreground
         *   service of this kind and may not have one.
         */
        fun connect(context: Context, service: Class<out TuntrailVpnService>, foreground: Boolean) {
            if (prepare(context) != null) throw NotPreparedException()
            val intent = Intent(context, service).setAction(ACTION_CONNECT)
            if (foreground) context.startForegroundService(intent) else context.startService(intent)
        }

        /** Stops [service], if it runs. Any thread, also in the background. */
        fun disconnect(context: Context, service: Class<out TuntrailVpnService>) {
            val intent = Intent(context, service)
            if (!runs(context, ComponentName(context, service))) return
            try {
                context.startService(Intent(intent).setAction(ACTION_DISCONNECT))
            } catch (_: IllegalStateException) {
                // An app in the background may start nothing. Then no VPN is established, which would keep it from being in the background,
                // and hold the service.
                context.stopService(intent)
            }
        }

        private fun runs(context: Context, service: ComponentName): Boolean {
            // Deprecated because it tells of the app's own services only, which is what is asked. Also of those in another process.
            @Suppress("DEPRECATION")
            val services = context.getSystemService(ActivityManager::class.java).getRunningServices(Int.MAX_VALUE)
            return services.any { it.service == service }
        }
    }
}

/** Whether a tunnel is wanted. */
private val TunnelState.isOn: Boolean
    get() = this is TunnelState.Running || this is TunnelState.Waiting
