//! The tunnel without I/O: what to send and deliver for each packet, datagram and deadline.
//!
//! Owned by one thread (the driver's, or a host's own loop), which tells the time with each call and provides a
//! [`Sink`]. Never blocks, never reads a clock (but boringtun inside does, see below), and allocates nothing per
//! packet once a session stands.
//!
//! boringtun reads the system's suspend-aware clock for its own backup timers. `now` must come from
//! [`crate::clock::SystemClock`] in production; tests may run ahead of it.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use boringtun::noise::{
    Packet, Tunn, errors::WireGuardError, handshake::parse_handshake_anon, rate_limiter::RateLimiter,
};
use boringtun::x25519;

use super::{
    allowed_ips::AllowedIps,
    config::{Config, ConfigError, DEFAULT_MTU},
    key::PublicKey,
    limiter::{HandshakeLimiter, Verdict},
    message::{self, Kind},
    peer::{Incoming, Io, OwnSide, Peer},
    stats::{CarriedCounts, DropCounts, EventCounts, IoCounts, TunnelStats},
};
use crate::{
    clock::Instant,
    hook::{ConnectionCounter, Device, Direction},
    timer::Deadlines,
};

/// The longest UDP payload over IPv4.
const MAX_DATAGRAM: usize = 65_507;
/// The longest inner packet that fits into one with all padding.
const MAX_INNER: usize = (MAX_DATAGRAM - message::TRANSPORT_OVERHEAD) / 16 * 16;
/// Room for anything boringtun writes, rounded up.
const BUFFER_LEN: usize = 1 << 16;

/// Where an engine's output goes.
pub trait Sink {
    /// Sends a datagram. May drop it, as networks do.
    fn send(&mut self, to: SocketAddr, datagram: &[u8]);

    /// Delivers an inner packet to the TUN device. Never empty; anything that decrypted can be in it.
    fn deliver(&mut self, packet: &[u8]);
}

/// Why an engine can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The endpoints don't fit the configuration.
    #[error("{endpoints} endpoints for {peers} peers; pass one per peer, in the same order")]
    Endpoints {
        /// How many were passed.
        endpoints: usize,
        /// How many peers there are.
        peers: usize,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system's random source failed; try again later")]
    NoRandomness,
    /// Handshakes carry the wall-clock time as a counter, which can't be before 1970.
    #[error("the wall clock is before 1970; set it")]
    ClockBeforeEpoch,
}

/// A WireGuard node with any number of peers. See the module.
pub struct Engine {
    peers: Vec<Peer>,
    /// Peers by the upper 24 bits of their session indexes, sorted.
    by_index: Vec<(u32, usize)>,
    /// Peers by key, sorted.
    by_key: Vec<(PublicKey, usize)>,
    allowed_ips: AllowedIps,
    /// Each peer's next deadline.
    deadlines: Deadlines,
    /// What `deadlines` holds, to skip the queue for the many packets that change nothing.
    armed: Vec<Option<Instant>>,
    private_key: x25519::StaticSecret,
    public_key: x25519::PublicKey,
    limiter: HandshakeLimiter,
    virtual_counter: Option<Box<dyn ConnectionCounter>>,
    physical_counter: Option<Box<dyn ConnectionCounter>>,
    /// The path that the virtual counter was told last: a peer, and how often that had moved.
    told_path: Option<(usize, u32)>,
    plain: Box<[u8]>,
    output: Box<[u8]>,
    carried: CarriedCounts,
    events: EventCounts,
    drops: DropCounts,
    /// The count of handshakes given up that [`Engine::take_gave_up`] has told of.
    told_gave_up: u64,
    /// The same of sessions and [`Engine::take_new_sessions`].
    told_sessions: u64,
}

impl Engine {
    /// An engine for `config`. `endpoints` has an entry for each peer: its resolved endpoint, or `None` for a peer
    /// that will call us.
    ///
    /// Peers with persistent keepalive are due at once: call [`Self::handle_deadline`].
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(config: &Config, endpoints: &[Option<SocketAddr>], now: Instant) -> Result<Self, EngineError> {
        config.validate()?;
        if endpoints.len() != config.peers.len() {
            return Err(EngineError::Endpoints { endpoints: endpoints.len(), peers: config.peers.len() });
        }
        // boringtun panics in this case.
        if SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).is_err() {
            return Err(EngineError::ClockBeforeEpoch);
        }
        let private_key = config.private_key.to_x25519();
        let public_key = x25519::PublicKey::from(&private_key);
        // Handshake messages are limited once, by the engine, before it knows whose they are. boringtun would count
        // them again per peer.
        let unlimited = Arc::new(RateLimiter::new(&public_key, u64::MAX));
        let mut engine = Self {
            peers: Vec::with_capacity(config.peers.len()),
            by_index: Vec::with_capacity(config.peers.len()),
            by_key: Vec::with_capacity(config.peers.len()),
            allowed_ips: AllowedIps::default(),
            deadlines: Deadlines::new(),
            armed: vec![None; config.peers.len()],
            limiter: HandshakeLimiter::new(&public_key),
            private_key,
            public_key,
            virtual_counter: None,
            physical_counter: None,
            told_path: None,
            plain: vec![0; BUFFER_LEN].into_boxed_slice(),
            output: vec![0; BUFFER_LEN].into_boxed_slice(),
            carried: CarriedCounts::default(),
            events: EventCounts::default(),
            drops: DropCounts::default(),
            told_gave_up: 0,
            told_sessions: 0,
        };
        for (index, (peer, endpoint)) in config.peers.iter().zip(endpoints).enumerate() {
            let session_base = engine.free_session_base()?;
            let own = OwnSide {
                private_key: engine.private_key.clone(),
                mtu: config.mtu.unwrap_or(DEFAULT_MTU),
                session_base,
                unlimited: Arc::clone(&unlimited),
                seed: getrandom::u64().map_err(|_| EngineError::NoRandomness)?,
            };
            engine.peers.push(Peer::new(peer, *endpoint, own, now));
            engine.by_index.push((session_base, index));
            engine.by_index.sort_unstable();
            engine.by_key.push((peer.public_key, index));
            for prefix in &peer.allowed_ips {
                engine.allowed_ips.insert(*prefix, index);
            }
            engine.rearm(index);
        }
        engine.by_key.sort_unstable();
        Ok(engine)
    }

    /// Takes a packet from the TUN device.
    pub fn handle_inner(&mut self, now: Instant, packet: &[u8], sink: &mut impl Sink) {
        let owner = Tunn::dst_address(packet).and_then(|to| self.allowed_ips.lookup(to));
        let Some((index, peer)) = owner.and_then(|index| Some((index, self.peers.get_mut(index)?))) else {
            self.drops.no_peer += 1;
            return;
        };
        if packet.len() > MAX_INNER {
            self.drops.too_large += 1;
            return;
        }
        if !peer.has_endpoint() {
            self.drops.no_endpoint += 1;
            return;
        }
        self.carried.tx_packets += 1;
        self.carried.tx_bytes += packet.len() as u64;
        if let Some(counter) = &mut self.virtual_counter {
            tell_path(counter.as_mut(), &mut self.told_path, now, index, peer);
            counter.count_packet(now, packet, Direction::Tx);
        }
        self.with_peer(index, sink, |peer, io| peer.send_packet(now, packet, io));
    }

    /// Takes a datagram from the network. Any bytes are legal.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], sink: &mut impl Sink) {
        self.handle_datagram_at(now, None, from, datagram, sink);
    }

    /// [`Self::handle_datagram`] where it is known which of our addresses the datagram came to: counters are told of it
    /// as the local end of the path.
    pub fn handle_datagram_at(
        &mut self,
        now: Instant,
        local: Option<SocketAddr>,
        from: SocketAddr,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        if datagram.len() > MAX_DATAGRAM {
            self.drops.malformed += 1;
            return;
        }
        let owner = match message::checked_kind(datagram) {
            Kind::Transport | Kind::CookieReply => self.peer_by_index(message::receiver(datagram)),
            Kind::Response => match self.peer_by_index(message::response_receiver(datagram)) {
                Some(_) if !self.admit(now, from, datagram, sink) => return,
                owner => owner,
            },
            Kind::Initiation => {
                if !self.admit(now, from, datagram, sink) {
                    return;
                }
                match self.initiator(datagram) {
                    Ok(owner) => owner,
                    Err(error) => {
                        self.drops.count(&error);
                        return;
                    }
                }
            }
            Kind::Unknown => {
                self.drops.malformed += 1;
                return;
            }
        };
        match owner {
            Some(index) => self.receive(now, index, (local, from), datagram, sink),
            None => self.drops.unknown_peer += 1,
        }
    }

    #[inline]
    fn receive(
        &mut self,
        now: Instant,
        index: usize,
        (local, from): (Option<SocketAddr>, SocketAddr),
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let mut io = Io {
            sink,
            local,
            plain: &mut self.plain,
            output: &mut self.output,
            counter: &mut self.physical_counter,
            events: &mut self.events,
            drops: &mut self.drops,
        };
        if let Incoming::Packet { length, source } = peer.receive(now, from, datagram, &mut io) {
            if self.allowed_ips.lookup(source) == Some(index) {
                let packet = io.output.get(..length).unwrap_or_default();
                self.carried.rx_packets += 1;
                self.carried.rx_bytes += packet.len() as u64;
                if let Some(counter) = &mut self.virtual_counter {
                    tell_path(counter.as_mut(), &mut self.told_path, now, index, peer);
                    counter.count_packet(now, packet, Direction::Rx);
                }
                // A packet may say that it is empty. It counts, but no device takes it.
                if !packet.is_empty() {
                    io.sink.deliver(packet);
                }
            } else {
                io.drops.wrong_source += 1;
            }
        }
        peer.follow_up(now, &mut io);
        self.rearm(index);
    }

    /// Whether to handle a handshake message. Sends the cookie if it must show one first.
    fn admit(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], sink: &mut impl Sink) -> bool {
        match self.limiter.judge(now, from, datagram, &mut self.output) {
            Verdict::Admit => return true,
            Verdict::Prove(cookie) => {
                self.events.cookies_sent += 1;
                sink.send(from, cookie);
            }
            Verdict::TooMany => self.drops.too_many_handshakes += 1,
            Verdict::Refuse(error) => self.drops.count(&error),
        }
        false
    }

    /// The peer that an initiation is from, as far as its static key says.
    fn initiator(&self, datagram: &[u8]) -> Result<Option<usize>, WireGuardError> {
        let Packet::HandshakeInit(initiation) = Tunn::parse_incoming_packet(datagram)? else {
            return Err(WireGuardError::WrongPacketType);
        };
        let half = parse_handshake_anon(&self.private_key, &self.public_key, &initiation)?;
        Ok(self.peer_by_key(&PublicKey::from_bytes(half.peer_static_public)))
    }

    /// When [`Self::handle_deadline`] must be called; `None` while nothing is in flight and nobody counts.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let counters = [&self.virtual_counter, &self.physical_counter];
        let counters = counters.into_iter().flatten().filter_map(|counter| counter.next_deadline());
        counters.chain(self.deadlines.next()).min()
    }

    /// Does what is due at `now`. Early and late calls are harmless.
    pub fn handle_deadline(&mut self, now: Instant, sink: &mut impl Sink) {
        // Each peer at most once: what it arms anew lies ahead.
        for _ in 0..self.peers.len() {
            let Some(index) = self.deadlines.pop_due(now) else {
                break;
            };
            if let Some(armed) = self.armed.get_mut(index) {
                *armed = None;
            }
            self.with_peer(index, sink, |peer, io| peer.handle_deadline(now, io));
        }
        for counter in [&mut self.virtual_counter, &mut self.physical_counter].into_iter().flatten() {
            if counter.next_deadline().is_some_and(|deadline| deadline <= now) {
                counter.handle_deadline(now);
            }
        }
    }

    /// The network changed (Wi-Fi to cellular, a new address): peers in use get a new handshake, so that they learn
    /// where we are.
    pub fn network_changed(&mut self, now: Instant, sink: &mut impl Sink) {
        for index in 0..self.peers.len() {
            self.with_peer(index, sink, |peer, io| peer.network_changed(now, io));
        }
    }

    /// Tells where a peer is. Returns whether there is such a peer.
    pub fn set_endpoint(&mut self, now: Instant, peer: &PublicKey, endpoint: SocketAddr) -> bool {
        let Some(index) = self.peer_by_key(peer) else {
            return false;
        };
        if let Some(peer) = self.peers.get_mut(index) {
            peer.set_endpoint(now, endpoint);
        }
        self.rearm(index);
        true
    }

    /// Where a peer is believed to be.
    pub(super) fn endpoint(&self, peer: &PublicKey) -> Option<SocketAddr> {
        self.peers.get(self.peer_by_key(peer)?)?.endpoint()
    }

    /// Tells of each peer whose handshake was given up since the last call.
    pub(super) fn take_gave_up(&mut self, mut each: impl FnMut(&PublicKey)) {
        if self.told_gave_up == self.events.gave_up {
            return;
        }
        self.told_gave_up = self.events.gave_up;
        for peer in &mut self.peers {
            if peer.take_gave_up() {
                each(peer.public_key());
            }
        }
    }

    /// Tells of each peer with which a session was made since the last call.
    pub(super) fn take_new_sessions(&mut self, mut each: impl FnMut(&PublicKey)) {
        if self.told_sessions == self.events.sessions {
            return;
        }
        self.told_sessions = self.events.sessions;
        for peer in &mut self.peers {
            if peer.take_new_session() {
                each(peer.public_key());
            }
        }
    }

    /// Inner packets, as a device that can be counted.
    pub fn virtual_device(&mut self) -> CountedDevice<'_> {
        CountedDevice { counter: &mut self.virtual_counter, told_path: Some(&mut self.told_path) }
    }

    /// Datagrams, as a device that can be counted.
    pub fn physical_device(&mut self) -> CountedDevice<'_> {
        CountedDevice { counter: &mut self.physical_counter, told_path: None }
    }

    /// Makes both counters hand over what they have.
    pub fn flush_counters(&mut self, now: Instant) {
        for counter in [&mut self.virtual_counter, &mut self.physical_counter].into_iter().flatten() {
            counter.flush(now);
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> TunnelStats {
        TunnelStats {
            carried: self.carried,
            events: self.events,
            drops: self.drops,
            io: IoCounts::default(),
            device_ended: false,
            peers: self.peers.iter().map(Peer::stats).collect(),
        }
    }

    #[inline]
    fn with_peer<S: Sink>(
        &mut self,
        index: usize,
        sink: &mut S,
        action: impl FnOnce(&mut Peer, &mut Io<'_, S>),
    ) {
        if let Some(peer) = self.peers.get_mut(index) {
            let mut io = Io {
                sink,
                local: None,
                plain: &mut self.plain,
                output: &mut self.output,
                counter: &mut self.physical_counter,
                events: &mut self.events,
                drops: &mut self.drops,
            };
            action(peer, &mut io);
        }
        self.rearm(index);
    }

    #[inline]
    fn rearm(&mut self, index: usize) {
        let (Some(peer), Some(armed)) = (self.peers.get(index), self.armed.get_mut(index)) else {
            return;
        };
        let deadline = peer.next_deadline();
        if *armed != deadline {
            *armed = deadline;
            self.deadlines.set(index, deadline);
        }
    }

    #[inline]
    fn peer_by_index(&self, session: u32) -> Option<usize> {
        let at = self.by_index.binary_search_by_key(&(session >> 8), |entry| entry.0).ok()?;
        self.by_index.get(at).map(|entry| entry.1)
    }

    fn peer_by_key(&self, key: &PublicKey) -> Option<usize> {
        let at = self.by_key.binary_search_by_key(key, |entry| entry.0).ok()?;
        self.by_key.get(at).map(|entry| entry.1)
    }

    /// 24 random bits that no peer has: sequential ones would tell observers how many peers there are.
    fn free_session_base(&self) -> Result<u32, EngineError> {
        loop {
            let base = getrandom::u32().map_err(|_| EngineError::NoRandomness)? >> 8;
            if self.by_index.binary_search_by_key(&base, |entry| entry.0).is_err() {
                return Ok(base);
            }
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("peers", &self.peers.len())
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// Tells a counter which way a peer's packets take, if that is another than last time.
#[inline]
fn tell_path(
    counter: &mut dyn ConnectionCounter,
    told: &mut Option<(usize, u32)>,
    now: Instant,
    index: usize,
    peer: &Peer,
) {
    let path = Some((index, peer.moves()));
    if *told != path {
        *told = path;
        if let Some(endpoint) = peer.endpoint() {
            counter.path(now, peer.local(), endpoint);
        }
    }
}

/// One of an engine's two devices. Counters are called on the engine's thread.
pub struct CountedDevice<'a> {
    counter: &'a mut Option<Box<dyn ConnectionCounter>>,
    /// What the counter knows of paths, where it is told.
    told_path: Option<&'a mut Option<(usize, u32)>>,
}

impl Device for CountedDevice<'_> {
    fn set_connection_counter(&mut self, now: Instant, counter: Option<Box<dyn ConnectionCounter>>) {
        if let Some(previous) = self.counter.as_mut() {
            previous.flush(now);
        }
        *self.counter = counter;
        if let Some(told_path) = &mut self.told_path {
            **told_path = None;
        }
    }
}

impl std::fmt::Debug for CountedDevice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CountedDevice").field("counted", &self.counter.is_some()).finish()
    }
}

#[cfg(test)]
mod tests;
