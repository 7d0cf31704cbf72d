package tuntrail.android

import tuntrail.TunnelInfo
import tuntrail.TuntrailException

/** What a `TuntrailVpnService` is doing. */
sealed interface TunnelState {
    /** There is no tunnel, and none is wanted. */
    data object Stopped : TunnelState

    /** A tunnel is wanted, and starts as soon as the network allows: [reason] says what is missing. */
    data class Waiting(val reason: String) : TunnelState

    /** The tunnel runs. Whether its peers answer is told by [tuntrail.Event.PeerConnected] and [tuntrail.Event.PeerSilent]. */
    data class Running(val info: TunnelInfo) : TunnelState

    /** The tunnel could not start, and another try would not help. The service has stopped. */
    data class Failed(val error: Exception) : TunnelState
}

/** The user has not allowed this app to be a VPN, or has chosen another one: `VpnService.prepare` asks. */
class NotPreparedException : Exception("the user has not allowed this app to be a VPN, or has chosen another: ask by VpnService.prepare")

/** What went wrong, in words for a log or a support screen. The text of the exception says `reason=` before it. */
val TuntrailException.reason: String
    get() = when (this) {
        is TuntrailException.Config -> reason
        is TuntrailException.Storage -> reason
        is TuntrailException.NoConsent -> reason
        is TuntrailException.Tunnel -> reason
        is TuntrailException.Closed -> reason
        is TuntrailException.Internal -> reason
    }
