package tuntrail.android

import tuntrail.ClientInterface
import tuntrail.HostResolver
import tuntrail.NetworkState
import tuntrail.PowerState
import tuntrail.SocketProtector
import tuntrail.TunDevice
import tuntrail.TunnelConfig
import tuntrail.TuntrailException

/** What [TunnelKeeper] needs of the service. All calls come on the thread that calls the keeper. */
internal interface TunnelHost {
    /** Exempts the tunnel's sockets from the VPN. Called on the tunnel's threads, too. */
    val protector: SocketProtector

    /** Finds peers by name outside the VPN. May wait. Called on the tunnel's threads, too. */
    val resolver: HostResolver

    /** The client of the process. May wait for the disk. */
    fun client(): ClientInterface

    /** The tunnel that is wanted now. */
    fun tunnelConfig(): TunnelConfig

    /** Makes the TUN device and gives its descriptor away, or null without the user's permission. */
    fun establish(plan: TunnelPlan): Int?

    /** Milliseconds of a clock that counts sleep, too. */
    fun now(): Long

    /** Calls [TunnelKeeper.retry] once after [millis], or never if null, instead of what was asked for before. Must not wake the device. */
    fun retryAfter(millis: Long?)

    /** Is told every change. Must not throw. */
    fun onState(state: TunnelState)
}

/**
 * Keeps one tunnel running while it is wanted: starts it, waits for a network, tells the client what changes.
 *
 * It has no thread and knows no Android: `TuntrailVpnService` calls it on its worker, always on that one but for [unwanted].
 * A tunnel that can't start for want of a network is started when there is one. One that can't start otherwise, or that ends by itself,
 * is tried again when the network changes, and after pauses that double from 5 seconds to 15 minutes. One that ends gets its first try
 * at once.
 */
internal class TunnelKeeper(private val host: TunnelHost) {
    @Volatile
    private var wanted = false
    private var client: ClientInterface? = null
    private var network: NetworkState? = null
    private var power: PowerState? = null
    private var running: TunnelConfig? = null
    private var startedAt = 0L
    private var state: TunnelState = TunnelState.Stopped

    /** Since the network changed or the user asked. */
    private var tries = 0

    /** Starts the tunnel. One that runs is left alone if it is the same, and otherwise replaced. */
    fun start() {
        wanted = true
        forgetTries()
        attempt()
    }

    /** [stop] will come: a start that waits for a name meanwhile shall not make a VPN any more. Any thread. */
    fun unwanted() {
        wanted = false
    }

    /** Stops the tunnel, if there is one, within a second, and writes what it counted. */
    fun stop() {
        wanted = false
        forgetTries()
        halt(TunnelState.Stopped)
    }

    /** The network changed. */
    fun networkChanged(state: NetworkState) {
        network = state
        tell { it.setNetworkState(state) }
        forgetTries()
        retry()
    }

    /** The power supply changed. */
    fun powerChanged(state: PowerState) {
        power = state
        tell { it.setPowerState(state) }
    }

    /** The client says that the TUN device has ended. That may be old news: then a new one runs. */
    fun deviceEnded() {
        var ended = false
        tell { ended = it.stats().tunnel?.deviceEnded == true }
        // If another app is the VPN now, the system refuses a new device, and calls onRevoke.
        if (ended) lost("the system has closed the VPN's device")
    }

    /** The client says that the tunnel has ended by itself. */
    fun tunnelFailed() = lost("the tunnel has failed; the SDK's log says why")

    /** The time that [TunnelHost.retryAfter] was told is over. */
    fun retry() {
        if (wanted && running == null && network?.connected == true) attempt()
    }

    /** Writes what was recorded so far. */
    fun flush() = tell { it.flush() }

    /** @param again the tunnel that runs is no good. */
    private fun attempt(again: Boolean = false) {
        try {
            val client = client ?: host.client().also { opened(it) }
            val config = host.tunnelConfig()
            if (config == running && !again) return
            tries += 1
            val plan = TunnelPlan.of(config)
            if (network?.connected != true) return halt(TunnelState.Waiting("there is no network"))
            val found = peerNames(config).associateWith { find(it) ?: return pause("can't find the address of $it") }
            if (wanted) replace(client, config, plan, PreparedNames(found, host.resolver))
        } catch (error: TuntrailException.Tunnel) {
            pause(error.reason)
        } catch (error: Exception) {
            // What an app's own code throws is no reason to end its process.
            wanted = false
            halt(TunnelState.Failed(error))
        }
    }

    private fun replace(client: ClientInterface, config: TunnelConfig, plan: TunnelPlan, names: PreparedNames) {
        // Before the old device is closed, or what the device sends meanwhile would go around the VPN: the system hands over.
        val descriptor = host.establish(plan) ?: throw NotPreparedException()
        val replaced = stopTunnel()
        val info = client.startTunnel(config, TunDevice.Tun(descriptor), host.protector, names)
        names.forget()
        running = config
        startedAt = host.now()
        become(TunnelState.Running(info))
        if (replaced) flush()
    }

    private fun find(name: String): List<String>? = try {
        host.resolver.resolve(name).ifEmpty { null }
    } catch (_: Exception) {
        null
    }

    private fun opened(client: ClientInterface) {
        this.client = client
        network?.let(client::setNetworkState)
        power?.let(client::setPowerState)
    }

    private fun lost(reason: String) {
        if (running == null || !wanted) return
        if (host.now() - startedAt >= SOUND_MILLIS) tries = 0
        // The first may be the start of the tunnel that is lost.
        if (tries <= 1) attempt(again = true) else pause(reason)
    }

    /** Waits for another network, or for some time. */
    private fun pause(reason: String) {
        halt(TunnelState.Waiting(reason))
        if (wanted && network?.connected == true) {
            val doubled = (tries - 1).coerceIn(0, MOST_DOUBLED)
            host.retryAfter((FIRST_PAUSE_MILLIS shl doubled).coerceAtMost(LONGEST_PAUSE_MILLIS))
        }
    }

    private fun forgetTries() {
        tries = 0
        host.retryAfter(null)
    }

    private fun halt(new: TunnelState) {
        if (stopTunnel()) flush()
        become(new)
    }

    /** Whether there was one. */
    private fun stopTunnel(): Boolean {
        if (running == null) return false
        running = null
        tell { it.stopTunnel() }
        return true
    }

    /** A client that the app has shut down, a full disk or a fault of the client is no reason to fail: the client logs it. */
    private fun tell(what: (ClientInterface) -> Unit) {
        val client = client ?: return
        try {
            what(client)
        } catch (_: Exception) {
            // Not only TuntrailException: a panic in the client, which it has caught, comes as another.
        }
    }

    private fun become(new: TunnelState) {
        if (new == state) return
        state = new
        host.onState(new)
    }

    private companion object {
        /** Long enough for what passes by itself, such as a name server that restarts. */
        const val FIRST_PAUSE_MILLIS = 5_000L

        /** Short enough for a user who waits, long enough to cost nothing that a battery shows. */
        const val LONGEST_PAUSE_MILLIS = 900_000L

        /** The first power of two that takes the pause beyond the longest. */
        const val MOST_DOUBLED = 8

        /** A tunnel that ran so long had started well, so that its end is a new fault. */
        const val SOUND_MILLIS = 60_000L
    }
}
