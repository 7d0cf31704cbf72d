//! One peer: a boringtun session machine, the timers that drive it, the packets that wait for it, and its endpoint.
//!
//! Owned by the engine and called on its thread. boringtun encrypts and decrypts; when to shake hands and to send
//! keepalives is decided by [`timers`]. boringtun is told the time ("pumped") before handshake messages, and when an
//! attempt, a session or the keys must end.

mod staged;
mod timers;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use boringtun::noise::{Tunn, TunnResult, errors::WireGuardError, rate_limiter::RateLimiter};
use boringtun::x25519::StaticSecret;

use self::{
    staged::Staged,
    timers::{Timers, Unanswered},
};
use super::{
    config::PeerConfig,
    engine::Sink,
    key::PublicKey,
    message,
    stats::{DropCounts, EventCounts, PeerStats},
};
use crate::{
    clock::Instant,
    hook::{Connection, ConnectionCounter, Direction, Protocol},
};

/// boringtun pads nothing; the protocol wants whole blocks (paper, 5.4.6), which also hides exact lengths.
const PADDING: usize = 16;
/// More than boringtun queues by itself (256): draining its queue ends.
const MAX_DRAIN: usize = 257;

/// What a peer needs of the engine while it handles one thing.
pub(super) struct Io<'a, S> {
    pub(super) sink: &'a mut S,
    /// The address of ours that the datagram came to, if it is known.
    pub(super) local: Option<SocketAddr>,
    /// Padded packets on their way into boringtun.
    pub(super) plain: &'a mut [u8],
    /// What boringtun writes.
    pub(super) output: &'a mut [u8],
    pub(super) counter: &'a mut Option<Box<dyn ConnectionCounter>>,
    pub(super) events: &'a mut EventCounts,
    pub(super) drops: &'a mut DropCounts,
}

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Nothing for the device.
    Nothing,
    /// An inner packet: the first `length` bytes of the output buffer, said to be from `source`.
    Packet { length: usize, source: IpAddr },
}

/// Our side of a peer's sessions.
pub(super) struct OwnSide {
    pub(super) private_key: StaticSecret,
    /// Bytes of the longest inner packet.
    pub(super) mtu: u16,
    /// The upper 24 bits of session indexes.
    pub(super) session_base: u32,
    /// boringtun insists on limiting handshakes; the engine has done so already.
    pub(super) unlimited: Arc<RateLimiter>,
    /// For jitter.
    pub(super) seed: u64,
}

/// See the module.
pub(super) struct Peer {
    tunn: Tunn,
    timers: Timers,
    staged: Staged,
    mtu: usize,
    /// How datagrams are counted: from the peer's first inner address to its endpoint. Kept ready because it is
    /// wanted for every packet.
    physical: Connection,
    /// The address of ours that the peer sends to, once it is known.
    local: Option<SocketAddr>,
    /// How often the endpoint or the local address was set.
    moves: u32,
    stats: PeerStats,
    /// Something called for a handshake while the output buffer was in use.
    wants_handshake: bool,
    /// A session became usable: staged packets can go.
    wants_drain: bool,
    /// A handshake was given up, and nobody has asked yet.
    gave_up: bool,
    /// A session was made since the last [`Self::take_new_session`].
    new_session: bool,
}

impl Peer {
    pub(super) fn new(config: &PeerConfig, endpoint: Option<SocketAddr>, own: OwnSide, now: Instant) -> Self {
        let preshared_key = config.preshared_key.as_ref().map(|key| *key.as_bytes());
        let public_key = config.public_key;
        // Persistent keepalive is ours to time: boringtun's stops after an unanswered handshake.
        let tunn = Tunn::new(
            own.private_key,
            public_key.to_x25519(),
            preshared_key,
            None,
            own.session_base,
            Some(own.unlimited),
        );
        let persistent = config.persistent_keepalive.filter(|seconds| *seconds != 0);
        let mut timers =
            Timers::new(now, persistent.map(|seconds| Duration::from_secs(seconds.into())), own.seed);
        if endpoint.is_some() {
            timers.start_persistent(now);
        }
        Self {
            tunn,
            timers,
            staged: Staged::default(),
            mtu: usize::from(own.mtu),
            physical: Connection { protocol: Protocol::UNKNOWN, src: local_address(config), dst: endpoint },
            local: None,
            moves: 0,
            stats: PeerStats {
                public_key,
                endpoint,
                last_handshake: None,
                tx_datagrams: 0,
                tx_bytes: 0,
                rx_datagrams: 0,
                rx_bytes: 0,
            },
            wants_handshake: false,
            wants_drain: false,
            gave_up: false,
            new_session: false,
        }
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.stats.public_key
    }

    /// Whether a handshake was given up since the last call.
    pub(super) fn take_gave_up(&mut self) -> bool {
        std::mem::take(&mut self.gave_up)
    }

    /// Whether a session was made since the last call.
    pub(super) fn take_new_session(&mut self) -> bool {
        std::mem::take(&mut self.new_session)
    }

    pub(super) fn stats(&self) -> PeerStats {
        PeerStats { last_handshake: self.timers.last_session().or(self.stats.last_handshake), ..self.stats }
    }

    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    pub(super) fn has_endpoint(&self) -> bool {
        self.stats.endpoint.is_some()
    }

    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        self.stats.endpoint
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Changes whenever the endpoint or the local address does: cheaper to compare for each packet.
    #[inline]
    pub(super) fn moves(&self) -> u32 {
        self.moves
    }

    pub(super) fn set_endpoint(&mut self, now: Instant, endpoint: SocketAddr) {
        self.move_to(endpoint);
        self.timers.start_persistent(now);
    }

    /// Encrypts and sends an inner packet, or keeps it until a handshake is done.
    pub(super) fn send_packet<S: Sink>(&mut self, now: Instant, packet: &[u8], io: &mut Io<'_, S>) {
        if self.timers.must_reject(now) {
            self.pump(now, io);
        }
        if self.timers.can_send(now) {
            self.encrypt(now, packet, io);
        } else {
            io.drops.staged_full += self.staged.push(packet);
            if !self.timers.attempt_in_flight() {
                self.initiate(now, io);
            }
        }
    }

    /// Takes in a datagram that is addressed to this peer. An inner packet is left in the output buffer; call
    /// [`Self::follow_up`] when done with it.
    pub(super) fn receive<S: Sink>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        io: &mut Io<'_, S>,
    ) -> Incoming {
        let kind = message::kind(datagram);
        let is_stale = match kind {
            message::Kind::Transport => self.timers.must_reject(now),
            _ => self.timers.is_stale(now),
        };
        if is_stale {
            self.pump(now, io);
        }
        let (authentic, incoming) = self.decapsulate(now, from, kind, datagram, io);
        // Either way it is from the known endpoint now: what proved nothing makes no row of its own.
        if authentic || self.stats.endpoint == Some(from) {
            self.count_received(now, datagram.len(), io);
        }
        incoming
    }

    /// Lets boringtun decide. Returns whether the message was authentic.
    fn decapsulate<S: Sink>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        kind: message::Kind,
        datagram: &[u8],
        io: &mut Io<'_, S>,
    ) -> (bool, Incoming) {
        use message::Kind::{CookieReply, Initiation, Response, Transport};

        let (incoming, length) = match (kind, self.tunn.decapsulate(Some(from.ip()), datagram, io.output)) {
            (Transport, TunnResult::Done) => (Incoming::Nothing, 0),
            (Transport, TunnResult::WriteToTunnelV4(packet, source)) => {
                (Incoming::Packet { length: packet.len(), source: source.into() }, 0)
            }
            (Transport, TunnResult::WriteToTunnelV6(packet, source)) => {
                (Incoming::Packet { length: packet.len(), source: source.into() }, 0)
            }
            // boringtun says so of a decrypted packet only, since the message itself was checked before.
            (Transport, TunnResult::Err(WireGuardError::InvalidPacket)) => {
                io.drops.bad_inner += 1;
                (Incoming::Nothing, 0)
            }
            (Initiation | Response, TunnResult::WriteToNetwork(reply)) => (Incoming::Nothing, reply.len()),
            (CookieReply, TunnResult::Done) => {
                io.events.cookies_received += 1;
                return (false, Incoming::Nothing);
            }
            (_, TunnResult::Err(error)) => {
                io.drops.count(&error);
                return (false, Incoming::Nothing);
            }
            _ => return (false, Incoming::Nothing),
        };
        self.roam(from, io);
        match kind {
            Transport => {
                // A keepalive is a header and a tag; whatever is longer carried data.
                let data = datagram.len() > message::TRANSPORT_OVERHEAD;
                let received = self.timers.received_transport(now, message::receiver(datagram), data);
                self.wants_handshake |= received.renew;
                self.wants_drain |= received.can_send;
            }
            Response => {
                io.events.sessions += 1;
                self.new_session = true;
                self.timers.initiated(now, message::response_receiver(datagram));
                self.stats.last_handshake = Some(now);
                self.wants_drain = true;
                self.sent(now, length, io);
            }
            Initiation => {
                io.events.sessions += 1;
                self.new_session = true;
                self.timers.responded(now, message::sender(io.output));
                if !self.staged.is_empty() {
                    self.timers.await_confirmation(now);
                }
                self.stats.last_handshake = Some(now);
                self.transmit(now, length, io);
            }
            CookieReply | message::Kind::Unknown => {}
        }
        (true, incoming)
    }

    /// Does what the last [`Self::receive`] called for.
    #[inline]
    pub(super) fn follow_up<S: Sink>(&mut self, now: Instant, io: &mut Io<'_, S>) {
        if self.wants_drain {
            self.wants_drain = false;
            self.drain(now, io);
        }
        if self.wants_handshake {
            self.wants_handshake = false;
            if !self.timers.attempt_in_flight() {
                self.initiate(now, io);
            }
        }
    }

    /// Does what is due.
    pub(super) fn handle_deadline<S: Sink>(&mut self, now: Instant, io: &mut Io<'_, S>) {
        if self.timers.must_pump(now) {
            self.pump(now, io);
        }
        match self.timers.take_attempt(now) {
            Unanswered::Wait => {}
            Unanswered::Initiate => self.initiate(now, io),
            Unanswered::GaveUp => self.gave_up(io),
        }
        if self.timers.take_unanswered(now) && !self.timers.attempt_in_flight() {
            self.initiate(now, io);
        }
        if let Some(again) = self.timers.take_owed(now)
            && self.timers.can_send(now)
        {
            self.encrypt(now, &[], io);
            if again {
                self.timers.owe(now);
            }
        }
        if self.timers.take_persistent(now) {
            if self.timers.can_send(now) {
                self.encrypt(now, &[], io);
            } else if !self.timers.attempt_in_flight() {
                self.initiate(now, io);
            }
        }
        self.timers.take_wipe(now);
    }

    /// Makes the peer learn our new address, if it is in use.
    pub(super) fn network_changed<S: Sink>(&mut self, now: Instant, io: &mut Io<'_, S>) {
        self.pump(now, io);
        if self.timers.is_active(now) {
            self.timers.restart();
            self.initiate(now, io);
        }
    }

    /// Tells boringtun the time.
    fn pump<S: Sink>(&mut self, now: Instant, io: &mut Io<'_, S>) {
        self.timers.pumped(now);
        let length = match self.tunn.update_timers(io.output) {
            TunnResult::WriteToNetwork(datagram) => datagram.len(),
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                match self.timers.expired(now) {
                    Unanswered::Wait => {}
                    Unanswered::Initiate => self.initiate(now, io),
                    Unanswered::GaveUp => self.gave_up(io),
                }
                return;
            }
            _ => return,
        };
        self.sent(now, length, io);
    }

    fn gave_up<S: Sink>(&mut self, io: &mut Io<'_, S>) {
        io.events.gave_up += 1;
        self.gave_up = true;
        io.drops.staged_expired += self.staged.take().len() as u64;
    }

    fn initiate<S: Sink>(&mut self, now: Instant, io: &mut Io<'_, S>) {
        if !self.has_endpoint() {
            return;
        }
        // boringtun stamps the attempt with the time it was told last, and would give it up as much too early.
        if self.timers.is_stale(now) {
            let before = self.timers.attempt_index();
            self.pump(now, io);
            let after = self.timers.attempt_index();
            if after.is_some() && after != before {
                // It has started one itself.
                return;
            }
        }
        if let TunnResult::WriteToNetwork(datagram) = self.tunn.format_handshake_initiation(io.output, true) {
            let length = datagram.len();
            self.sent(now, length, io);
        }
    }

    #[inline]
    fn encrypt<S: Sink>(&mut self, now: Instant, packet: &[u8], io: &mut Io<'_, S>) {
        let packet = pad(packet, self.mtu, io.plain);
        match self.tunn.encapsulate(packet, io.output) {
            TunnResult::WriteToNetwork(datagram) => {
                let length = datagram.len();
                self.sent(now, length, io);
            }
            // boringtun has no session and keeps the packet.
            TunnResult::Done => self.timers.cannot_send(),
            TunnResult::Err(error) => io.drops.count(&error),
            _ => {}
        }
    }

    /// The first `length` bytes of the output buffer are a message of ours: tell the timers and send it.
    #[inline]
    fn sent<S: Sink>(&mut self, now: Instant, length: usize, io: &mut Io<'_, S>) {
        match message::kind(io.output) {
            message::Kind::Transport => {
                let renew = self.timers.sent_transport(now, length > message::TRANSPORT_OVERHEAD);
                self.transmit(now, length, io);
                if renew {
                    self.initiate(now, io);
                }
            }
            message::Kind::Initiation => {
                io.events.initiations += 1;
                self.timers.sent_initiation(now, message::sender(io.output));
                self.transmit(now, length, io);
            }
            _ => self.transmit(now, length, io),
        }
    }

    #[inline]
    fn transmit<S: Sink>(&mut self, now: Instant, length: usize, io: &mut Io<'_, S>) {
        let (Some(endpoint), Some(datagram)) = (self.stats.endpoint, io.output.get(..length)) else {
            io.drops.no_endpoint += 1;
            return;
        };
        io.sink.send(endpoint, datagram);
        self.stats.tx_datagrams += 1;
        self.stats.tx_bytes += length as u64;
        self.count(now, length, Direction::Tx, io);
    }

    #[inline]
    fn count_received<S>(&mut self, now: Instant, length: usize, io: &mut Io<'_, S>) {
        self.stats.rx_datagrams += 1;
        self.stats.rx_bytes += length as u64;
        self.count(now, length, Direction::Rx, io);
    }

    #[inline]
    fn count<S>(&self, now: Instant, length: usize, direction: Direction, io: &mut Io<'_, S>) {
        if let Some(counter) = io.counter {
            counter.count(now, &self.physical, 1, length as u64, direction);
        }
    }

    /// The peer has proven to be at `from`.
    #[inline]
    fn roam<S>(&mut self, from: SocketAddr, io: &mut Io<'_, S>) {
        if self.stats.endpoint != Some(from) {
            if self.stats.endpoint.is_some() {
                io.events.roamed += 1;
            }
            self.move_to(from);
        }
        if io.local.is_some() && self.local != io.local {
            self.moves = self.moves.wrapping_add(1);
            self.local = io.local;
        }
    }

    fn move_to(&mut self, endpoint: SocketAddr) {
        self.moves = self.moves.wrapping_add(1);
        // What was learned of another family's path says nothing about this one.
        self.local = self.local.filter(|local| local.is_ipv4() == endpoint.is_ipv4());
        self.stats.endpoint = Some(endpoint);
        self.physical.dst = Some(endpoint);
    }

    /// Sends what waited.
    fn drain<S: Sink>(&mut self, now: Instant, io: &mut Io<'_, S>) {
        // What boringtun kept by itself comes first. Without a session it would only turn its queue round.
        for _ in 0..MAX_DRAIN {
            let TunnResult::WriteToNetwork(datagram) = self.tunn.decapsulate(None, &[], io.output) else {
                break;
            };
            let length = datagram.len();
            self.sent(now, length, io);
        }
        for packet in self.staged.take() {
            self.encrypt(now, &packet, io);
        }
    }
}

/// The peer's first single address, or else its first prefix, with port 0.
fn local_address(config: &PeerConfig) -> Option<SocketAddr> {
    let single = config.allowed_ips.iter().find(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
    single.or(config.allowed_ips.first()).map(|prefix| SocketAddr::new(prefix.addr(), 0))
}

/// The packet with zeros up to a whole block, but not beyond the MTU. Copies only if it must.
#[inline]
fn pad<'a>(packet: &'a [u8], mtu: usize, buffer: &'a mut [u8]) -> &'a [u8] {
    let padded = packet.len().next_multiple_of(PADDING).min(mtu.max(packet.len()));
    if padded == packet.len() {
        return packet;
    }
    let Some((content, padding)) =
        buffer.get_mut(..padded).and_then(|room| room.split_at_mut_checked(packet.len()))
    else {
        return packet;
    };
    content.copy_from_slice(packet);
    padding.fill(0);
    buffer.get(..padded).unwrap_or(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_padded_to_whole_blocks_within_the_mtu() {
        let mut buffer = [0xff; 2000];
        for (length, mtu, expected) in [
            (0, 1420, 0),
            (1, 1420, 16),
            (16, 1420, 16),
            (20, 1420, 32),
            (1409, 1420, 1420),
            (1420, 1420, 1420),
            (1500, 1420, 1500),
        ] {
            let packet = vec![7; length];
            let padded = pad(&packet, mtu, &mut buffer);
            assert_eq!(padded.len(), expected, "{length} bytes");
            assert_eq!(padded[..length], packet);
            assert!(padded[length..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn the_local_side_is_the_first_single_address() {
        let mut config = PeerConfig::new(PublicKey::from_bytes([1; 32]));
        assert_eq!(local_address(&config), None);
        config.allowed_ips = vec!["0.0.0.0/0".parse().unwrap()];
        assert_eq!(local_address(&config), Some("0.0.0.0:0".parse().unwrap()));
        config.allowed_ips.push("100.64.0.7/32".parse().unwrap());
        assert_eq!(local_address(&config), Some("100.64.0.7:0".parse().unwrap()));
    }
}
