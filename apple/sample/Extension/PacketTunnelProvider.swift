import TuntrailTunnel

/// The extension's principal class, which Info.plist names. Everything is in the superclass.
final class PacketTunnelProvider: TuntrailPacketTunnelProvider, @unchecked Sendable {}
