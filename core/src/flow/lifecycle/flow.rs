//! One flow: what is kept of it, and what its packets do to it.

use jiff::Timestamp;

use super::{
    CloseReason, FlowEvent, FlowEventKind, FlowId, LifecycleConfig, OuterPath, Role, grant::Grant,
    packet::Packet, path::FlowPaths,
};
use crate::{
    clock::Instant,
    flow::{key::Key, table::Counts},
    hook::{Direction, Protocol},
    packet::TcpFlags,
};

use std::{net::SocketAddr, time::Duration};

/// How long a TCP connection that both sides have closed is kept. Its last acknowledgements and repeated FINs belong to
/// it, and without sequence numbers the final one can't be told from those before. The peers of a connection repeat a
/// FIN after 1 s and 3 s; a new connection with the same ports begins a new flow at once.
const LINGER: Duration = Duration::from_secs(5);

/// The kinds of flows by how long they may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    TcpEstablished,
    TcpOther,
    TcpClosed,
    Udp,
    Dns,
    Icmp,
}

impl Patience {
    pub(super) const ALL: [Self; 6] =
        [Self::TcpEstablished, Self::TcpOther, Self::TcpClosed, Self::Udp, Self::Dns, Self::Icmp];

    /// For how long a flow of this kind may be silent.
    #[inline]
    pub(super) fn timeout(self, config: &LifecycleConfig) -> Duration {
        match self {
            Self::TcpEstablished => config.tcp_established,
            Self::TcpOther => config.tcp_other,
            Self::TcpClosed => LINGER,
            Self::Udp => config.udp,
            Self::Dns => config.dns,
            Self::Icmp => config.icmp,
        }
    }

    /// Of a flow that is not TCP, or of a TCP connection that begins.
    fn at_start(protocol: Protocol, ports: [u16; 2]) -> Self {
        const DNS_PORT: u16 = 53;
        match protocol {
            Protocol::TCP => Self::TcpOther,
            Protocol::UDP if ports.contains(&DNS_PORT) => Self::Dns,
            Protocol::ICMPV4 | Protocol::ICMPV6 => Self::Icmp,
            _ => Self::Udp,
        }
    }
}

/// What is known of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tcp {
    /// The initiator has sent something other than a SYN.
    initiator_went_on: bool,
    responder_answered: bool,
    fin_of_initiator: bool,
    fin_of_responder: bool,
}

impl Tcp {
    fn is_closed(self) -> bool {
        self.fin_of_initiator && self.fin_of_responder
    }

    fn patience(self) -> Patience {
        match (self.fin_of_initiator, self.fin_of_responder) {
            (true, true) => Patience::TcpClosed,
            (false, false) if self.initiator_went_on && self.responder_answered => Patience::TcpEstablished,
            _ => Patience::TcpOther,
        }
    }
}

/// What a flow that was split hands on to the one after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heritage {
    role: Role,
    tcp: Tcp,
}

/// How a flow begins.
#[derive(Debug, Clone, Copy)]
pub(in crate::flow) struct Opening {
    /// Wall-clock time of the packet.
    pub(in crate::flow) wall: Timestamp,
    pub(in crate::flow) grant: Grant,
}

/// How a flow ended.
#[derive(Debug, Clone, Copy)]
struct Ending {
    reason: CloseReason,
    end: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) id: FlowId,
    pub(super) grant: Grant,
    role: Role,
    tcp: Tcp,
    /// The list of idle flows that it is in.
    pub(super) patience: Patience,
    pub(super) start: Instant,
    start_wall: Timestamp,
    pub(super) last: Instant,
    /// As the initiator sees them.
    counts: Counts,
    tx_payload: u64,
    rx_payload: u64,
    pub(super) paths: FlowPaths,
    state: State,
}

/// What is to be told of a flow.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing: the latest event has told of every packet.
    Told,
    /// An update, sometime after this packet, which no event has told of.
    UntoldSince(Instant),
    /// Its end.
    Over(Ending),
}

impl Flow {
    /// The flow of a packet that belongs to no other. The packet is yet to be added.
    pub(super) fn new(
        now: Instant,
        packet: &Packet,
        ports: [u16; 2],
        id: FlowId,
        opening: Opening,
        heritage: Option<Heritage>,
    ) -> Self {
        // Who sends a SYN with an ACK was called before.
        let answers = packet.has(TcpFlags::SYN) && packet.has(TcpFlags::ACK);
        let role = match (packet.direction, answers) {
            (Direction::Tx, false) | (Direction::Rx, true) => Role::Initiator,
            (Direction::Rx, false) | (Direction::Tx, true) => Role::Responder,
        };
        let Heritage { role, tcp } = heritage.unwrap_or(Heritage { role, tcp: Tcp::default() });
        Self {
            key: packet.key,
            id,
            grant: opening.grant,
            role,
            tcp,
            patience: Patience::at_start(packet.protocol, ports),
            start: now,
            start_wall: opening.wall,
            last: now,
            counts: Counts::default(),
            tx_payload: 0,
            rx_payload: 0,
            paths: FlowPaths::default(),
            state: State::Told,
        }
    }

    /// Adds a packet of this flow.
    #[inline]
    pub(super) fn add(&mut self, now: Instant, packet: &Packet) {
        self.last = now;
        let from_initiator = (packet.direction == Direction::Tx) == (self.role == Role::Initiator);
        let (direction, payload) = match from_initiator {
            true => (Direction::Tx, &mut self.tx_payload),
            false => (Direction::Rx, &mut self.rx_payload),
        };
        *payload = payload.saturating_add(packet.payload);
        self.counts.add(packet.packets, packet.bytes, direction);
        if packet.is_tcp() {
            let (fin, syn) = (packet.has(TcpFlags::FIN), packet.has(TcpFlags::SYN));
            if from_initiator {
                self.tcp.initiator_went_on |= !syn;
                self.tcp.fin_of_initiator |= fin;
            } else {
                self.tcp.responder_answered = true;
                self.tcp.fin_of_responder |= fin;
            }
            self.patience = self.tcp.patience();
        }
    }

    /// Whether the packet begins a new connection with the addresses and ports of this one. Before the initiator has
    /// sent anything but SYNs, one more is a repetition; that the responder answered proves nothing, since the answer
    /// may be lost.
    #[inline]
    pub(super) fn is_ended_by(&self, packet: &Packet) -> bool {
        packet.is_syn() && self.tcp.initiator_went_on
    }

    pub(super) fn heritage(&self) -> Heritage {
        Heritage { role: self.role, tcp: self.tcp }
    }

    /// When the flow ends if no packet comes.
    #[inline]
    pub(super) fn expiry(&self, config: &LifecycleConfig) -> Instant {
        self.last + self.patience.timeout(config)
    }

    /// Since when an open flow has had packets that no event has told of.
    #[inline]
    pub(super) fn untold_since(&self) -> Option<Instant> {
        match self.state {
            State::UntoldSince(since) => Some(since),
            State::Told | State::Over(_) => None,
        }
    }

    /// Remembers that an open flow has had packets that no event has told of, or that it has none.
    #[inline]
    pub(super) fn set_untold_since(&mut self, since: Option<Instant>) {
        self.state = since.map_or(State::Told, State::UntoldSince);
    }

    /// Ends the flow. A connection that both sides have closed ended by that, whatever made us look.
    pub(super) fn end(&mut self, reason: CloseReason, at: Instant) {
        self.state = State::Over(match reason {
            _ if self.tcp.is_closed() => Ending { reason: CloseReason::Fin, end: self.last },
            CloseReason::Rst => Ending { reason, end: self.last },
            _ => Ending { reason, end: at },
        });
    }

    /// The counts as this device sees them.
    pub(super) fn local_counts(&self) -> Counts {
        self.role.local_counts(self.counts)
    }

    /// What there is to tell now.
    pub(super) fn event(&self, kind: FlowEventKind) -> Option<FlowEvent> {
        let (connection, icmp_id) = Packet::connection(&self.key);
        let (local, remote): (SocketAddr, SocketAddr) = (connection.src?, connection.dst?);
        let (src, dst) = match self.role {
            Role::Initiator => (local, remote),
            Role::Responder => (remote, local),
        };
        let told = kind != FlowEventKind::Open;
        let ending = match self.state {
            State::Over(ending) => Some(ending),
            State::Told | State::UntoldSince(_) => None,
        };
        Some(FlowEvent {
            id: self.id,
            kind,
            role: self.role,
            protocol: connection.protocol,
            src,
            dst,
            icmp_id,
            outer: self.paths.iter().map(|(ends, since)| self.outer(ends, *since)).collect(),
            start: self.start_wall,
            last_packet: told.then(|| self.wall(self.last)),
            end: ending.map(|ending| self.wall(ending.end)),
            counts: if told { self.counts } else { Counts::default() },
            tx_payload: if told { self.tx_payload } else { 0 },
            rx_payload: if told { self.rx_payload } else { 0 },
            reason: ending.map(|ending| ending.reason),
        })
    }

    fn outer(&self, ends: &super::path::PathEnds, since: Instant) -> OuterPath {
        OuterPath { local: ends.local, remote: ends.remote, since: self.wall(since) }
    }

    fn wall(&self, at: Instant) -> Timestamp {
        let since = at.saturating_duration_since(self.start);
        self.start_wall.saturating_add(since).unwrap_or(self.start_wall)
    }
}
