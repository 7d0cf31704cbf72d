//! What a tunnel counts about itself: whatever is not carried is counted here, by reason.

use std::net::SocketAddr;

use boringtun::noise::errors::WireGuardError;

use super::key::PublicKey;
use crate::clock::Instant;

/// Counts since the tunnel started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TunnelStats {
    /// Inner packets that were carried.
    pub carried: CarriedCounts,
    /// The protocol's events.
    pub events: EventCounts,
    /// Packets and datagrams that were not carried.
    pub drops: DropCounts,
    /// What the driver's sockets and device refused; all zero for an engine without driver.
    pub io: IoCounts,
    /// The TUN device ended or was closed by the host while the tunnel goes on: nothing can be carried any more.
    pub device_ended: bool,
    /// One entry per peer, in the order of the configuration.
    pub peers: Vec<PeerStats>,
}

/// Inner packets, as the engine sees them: accepted from the device for a peer, and decrypted from a peer for the
/// device. Connection counters are told of exactly these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CarriedCounts {
    /// Packets from this device.
    pub tx_packets: u64,
    /// Their bytes, IP headers included.
    pub tx_bytes: u64,
    /// Packets to this device.
    pub rx_packets: u64,
    /// Their bytes, IP headers included.
    pub rx_bytes: u64,
}

/// One peer's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStats {
    /// Who.
    pub public_key: PublicKey,
    /// Where it was last heard from, or is believed to be.
    pub endpoint: Option<SocketAddr>,
    /// When the newest session was made.
    pub last_handshake: Option<Instant>,
    /// Datagrams sent, handshakes and keepalives included.
    pub tx_datagrams: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Datagrams received, as far as they were authentic or came from the known endpoint.
    pub rx_datagrams: u64,
    /// Their bytes.
    pub rx_bytes: u64,
}

/// Events of the WireGuard protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCounts {
    /// Handshake initiations sent, retransmissions included.
    pub initiations: u64,
    /// Sessions made, from either side.
    pub sessions: u64,
    /// Handshakes given up after 90 s without an answer.
    pub gave_up: u64,
    /// Cookies sent because of too many handshake messages.
    pub cookies_sent: u64,
    /// Cookies received.
    pub cookies_received: u64,
    /// Changes of a peer's endpoint after an authentic message from elsewhere.
    pub roamed: u64,
}

/// Why something was dropped. The first five are inner packets on their way out, the others datagrams that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropCounts {
    /// Not an IP packet, or its destination is in nobody's allowed IPs.
    pub no_peer: u64,
    /// The peer's endpoint is not known (yet).
    pub no_endpoint: u64,
    /// Longer than a datagram can carry.
    pub too_large: u64,
    /// Too many packets waited for a handshake; the oldest go first.
    pub staged_full: u64,
    /// Still waited when the handshake was given up.
    pub staged_expired: u64,
    /// No WireGuard message: too short or of unknown type or length.
    pub malformed: u64,
    /// For a session or from a key that no peer has.
    pub unknown_peer: u64,
    /// Failed authentication.
    pub invalid: u64,
    /// Replayed, or so late that it can't be told from a replay.
    pub replayed: u64,
    /// For a session that has ended, or an answer nobody waits for.
    pub no_session: u64,
    /// Authentic, but not an IP packet.
    pub bad_inner: u64,
    /// Authentic, but from an inner address that the peer does not own.
    pub wrong_source: u64,
}

impl DropCounts {
    /// Counts an incoming message that boringtun refused.
    pub(super) fn count(&mut self, error: &WireGuardError) {
        let counter = match error {
            WireGuardError::DuplicateCounter
            | WireGuardError::InvalidCounter
            | WireGuardError::WrongTai64nTimestamp => &mut self.replayed,
            WireGuardError::NoCurrentSession
            | WireGuardError::WrongIndex
            | WireGuardError::ConnectionExpired
            | WireGuardError::UnexpectedPacket => &mut self.no_session,
            WireGuardError::InvalidPacket | WireGuardError::WrongPacketType => &mut self.malformed,
            _ => &mut self.invalid,
        };
        *counter += 1;
    }
}

/// What sockets and device refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoCounts {
    /// Datagrams dropped because the socket's send buffer was full.
    pub send_full: u64,
    /// Datagrams that the system would not send, for example without route.
    pub send_failed: u64,
    /// Datagrams that the system would not send because they are too long for the path: lower the configuration's MTU.
    /// (Linux, and all systems that allow it, send them in fragments instead.)
    pub send_too_large: u64,
    /// Errors on receiving, such as a port-unreachable reply. They lose nothing by themselves.
    pub receive_failed: u64,
    /// Inner packets dropped because the device's reader was behind.
    pub device_full: u64,
    /// Inner packets that the device would not take.
    pub device_failed: u64,
    /// Reads from the device that contradict themselves; only where it hands over many packets at once.
    pub device_malformed: u64,
}
