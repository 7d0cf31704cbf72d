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

    /** Finds peers by name outside the VPN. Called on the tunnel's threads, too. */
    val resolver: HostResolver

    /** The client of the process. May wait for the disk. */
    fun client(): ClientInterface

    /** The tunnel that is wanted now. */
    fun tunnelConfig(): TunnelConfig

    /** Makes the TUN device and gives its descriptor away, or null without the user's permission. */
    fun establish(plan: TunnelPlan): Int?

    /** Is told every change. */
    fun onState(state: TunnelState)
}

/**
 * Keeps one tunnel running while it is wanted: starts it, waits for a network, tells the client what changes.
 *
 * It has no thread and knows no Android: `TuntrailVpnService` calls it on its worker, always on that one.
 * A tunnel that can't start for want of a network, or because a name can't be found, is tried again when the network changes, not
 * after a time: without a change there is little to hope for, and a timer would wake a device in a pocket.
 */
internal class TunnelKeeper(private val host: TunnelHost) {
    private var wanted = false
    private var client: ClientInterface? = null
    private var network: NetworkState? = null
    private var power: PowerState? = null
    private var running: TunnelConfig? = null
    private var state: TunnelState = TunnelState.Stopped

    /** Starts the tunnel. One that runs is left alone if it is the same, and otherwise replaced. */
    fun start() {
        wanted = true
        attempt()
    }

    /** Stops the tunnel, if there is one, within a second, and writes what it counted. */
    fun stop() {
        wanted = false
        halt()
        become(TunnelState.Stopped)
    }

    /** The network changed. */
    fun networkChanged(state: NetworkState) {
        network = state
        tell { it.setNetworkState(state) }
        if (wanted && running == null && state.connected) attempt()
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
        // The system calls onRevoke if another app is the VPN now. If not, the next network may get a device again.
        if (ended) lost("the system has closed the VPN's device")
    }

    /** The client says that the tunnel has ended by itself. */
    fun tunnelFailed() = lost("the tunnel has failed; the SDK's log says why")

    /** Writes what was recorded so far. */
    fun flush() = tell { it.flush() }

    private fun attempt() {
        try {
            val client = client ?: host.client().also { opened(it) }
            val config = host.tunnelConfig()
            if (config == running) return
            val plan = TunnelPlan.of(config)
            halt()
            if (network?.connected != true) return become(TunnelState.Waiting("there is no network"))
            val descriptor = host.establish(plan) ?: throw NotPreparedException()
            val info = client.startTunnel(config, TunDevice.Tun(descriptor), host.protector, host.resolver)
            running = config
            become(TunnelState.Running(info))
        } catch (error: TuntrailException.Tunnel) {
            become(TunnelState.Waiting(error.reason))
        } catch (error: Exception) {
            // What an app's own code throws is no reason to end its process.
            wanted = false
            halt()
            become(TunnelState.Failed(error))
        }
    }

    private fun opened(client: ClientInterface) {
        this.client = client
        network?.let(client::setNetworkState)
        power?.let(client::setPowerState)
    }

    private fun lost(reason: String) {
        if (running == null) return
        halt()
        become(TunnelState.Waiting(reason))
    }

    private fun halt() {
        if (running == null) return
        running = null
        tell {
            it.stopTunnel()
            it.flush()
        }
    }

    /** A client that the app has shut down, or a full disk, is no reason to fail: the client logs it. */
    private fun tell(what: (ClientInterface) -> Unit) {
        val client = client ?: return
        try {
            what(client)
        } catch (_: TuntrailException) {
        }
    }

    private fun become(new: TunnelState) {
        if (new == state) return
        state = new
        host.onState(new)
    }
}
