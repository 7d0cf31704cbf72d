//! One end of a tunnel: tuntrail's engine, or boringtun alone.

use std::{net::SocketAddr, time::Duration};

use boringtun::{
    noise::{Tunn, TunnResult},
    x25519::{PublicKey, StaticSecret},
};
use tuntrail::{
    clock::Instant,
    tunnel::{Config, Engine, PeerConfig, PrivateKey, Sink},
};

use crate::clock;

/// How often boringtun wants to be asked whether anything is due.
const POLL: Duration = Duration::from_millis(250);

/// One of two nodes that know each other. The clock must show `now` whenever it is called.
pub trait Node {
    /// Node `own` (1 or 2), with the other's key and address.
    fn new(own: u8, keepalive: Option<u16>, now: Instant) -> Self;
    /// An inner packet is to be sent.
    fn send(&mut self, now: Instant, packet: &[u8]);
    /// A datagram of the other node came in.
    fn receive(&mut self, now: Instant, datagram: &[u8]);
    /// The time that [`Self::next_wake`] gave has come. Early and late calls are allowed.
    fn wake(&mut self, now: Instant);
    /// When to call [`Self::wake`]; `None` until something else happens.
    fn next_wake(&self) -> Option<Instant>;
    /// Takes what is to be sent.
    fn datagrams(&mut self) -> Vec<Vec<u8>>;
    /// Takes what was received.
    fn packets(&mut self) -> Vec<Vec<u8>>;
}

/// The other node.
fn other(own: u8) -> u8 {
    3 - own
}

fn address(node: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node], 51_820))
}

/// An inner packet from node `own` to the other, told apart by `id`.
pub fn packet(own: u8, id: u32) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 24, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, own, 10, 0, 0, other(own)];
    packet.extend_from_slice(&id.to_be_bytes());
    packet
}

/// The `id` of a [`packet`].
pub fn packet_id(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[20..24].try_into().expect("four bytes"))
}

#[derive(Debug, Default)]
struct Output {
    datagrams: Vec<Vec<u8>>,
    packets: Vec<Vec<u8>>,
}

impl Sink for Output {
    fn send(&mut self, _: SocketAddr, datagram: &[u8]) {
        self.datagrams.push(datagram.to_vec());
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.packets.push(packet.to_vec());
    }
}

/// tuntrail's engine.
#[derive(Debug)]
pub struct EngineNode {
    /// The engine, for its statistics.
    pub engine: Engine,
    output: Output,
    own: u8,
}

impl Node for EngineNode {
    fn new(own: u8, keepalive: Option<u16>, now: Instant) -> Self {
        clock::set(now);
        let other = other(own);
        let mut config = Config::new(PrivateKey::from_bytes([own; 32]));
        let mut peer = PeerConfig::new(PrivateKey::from_bytes([other; 32]).public_key());
        peer.allowed_ips.push(format!("10.0.0.{other}/32").parse().expect("a prefix"));
        peer.persistent_keepalive = keepalive;
        config.peers.push(peer);
        let engine = Engine::new(&config, &[Some(address(other))], now).expect("an engine");
        Self { engine, output: Output::default(), own }
    }

    fn send(&mut self, now: Instant, packet: &[u8]) {
        self.engine.handle_inner(now, packet, &mut self.output);
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) {
        self.engine.handle_datagram(now, address(other(self.own)), datagram, &mut self.output);
    }

    fn wake(&mut self, now: Instant) {
        self.engine.handle_deadline(now, &mut self.output);
    }

    fn next_wake(&self) -> Option<Instant> {
        self.engine.next_deadline()
    }

    fn datagrams(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.output.datagrams)
    }

    fn packets(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.output.packets)
    }
}

/// boringtun by its manual: refreshed every 250 ms if `POLLED`, otherwise only when a test does it.
pub struct Bare<const POLLED: bool> {
    /// boringtun itself, for what it says about its state.
    pub tunn: Tunn,
    output: Output,
    own: u8,
    next_poll: Instant,
    buffer: Vec<u8>,
}

/// boringtun as its makers intend it.
pub type Polled = Bare<true>;
/// boringtun as it must not be used: called for packets only.
pub type Unpolled = Bare<false>;

impl<const POLLED: bool> Bare<POLLED> {
    /// Puts a result where it belongs. Returns whether to ask for more.
    fn take(result: TunnResult<'_>, output: &mut Output) -> bool {
        match result {
            TunnResult::WriteToNetwork(datagram) => {
                output.datagrams.push(datagram.to_vec());
                true
            }
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                output.packets.push(packet.to_vec());
                false
            }
            TunnResult::Done | TunnResult::Err(_) => false,
        }
    }
}

impl<const POLLED: bool> Node for Bare<POLLED> {
    fn new(own: u8, keepalive: Option<u16>, now: Instant) -> Self {
        clock::set(now);
        let peer = PublicKey::from(&StaticSecret::from([other(own); 32]));
        let tunn = Tunn::new([own; 32].into(), peer, None, keepalive, own.into(), None);
        Self { tunn, output: Output::default(), own, next_poll: now + POLL, buffer: vec![0; 2048] }
    }

    fn send(&mut self, _: Instant, packet: &[u8]) {
        Self::take(self.tunn.encapsulate(packet, &mut self.buffer), &mut self.output);
    }

    fn receive(&mut self, _: Instant, datagram: &[u8]) {
        let from = Some(address(other(self.own)).ip());
        let mut more = Self::take(self.tunn.decapsulate(from, datagram, &mut self.buffer), &mut self.output);
        while more {
            more = Self::take(self.tunn.decapsulate(from, &[], &mut self.buffer), &mut self.output);
        }
    }

    fn wake(&mut self, now: Instant) {
        Self::take(self.tunn.update_timers(&mut self.buffer), &mut self.output);
        self.next_poll = now + POLL;
    }

    fn next_wake(&self) -> Option<Instant> {
        POLLED.then_some(self.next_poll)
    }

    fn datagrams(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.output.datagrams)
    }

    fn packets(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.output.packets)
    }
}
