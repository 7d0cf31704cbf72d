package tuntrail.android

import tuntrail.TunnelInfo

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
