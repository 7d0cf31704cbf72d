//! A flood of handshake messages must neither fill the memory nor lock out a peer. A test binary of its own, because
//! it counts every allocation of the process.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod allocations;

use std::{net::SocketAddr, time::Duration};

use blake2::{
    Blake2s256, Blake2sMac, Digest,
    digest::{Mac, consts::U16},
};
use tuntrail::{
    clock::{Clock, Instant, SystemClock},
    tunnel::{Config, Engine, PeerConfig, PrivateKey, PublicKey, Sink},
};

const FLOOD: u32 = 100_000;
/// Of the engine's time: ten thousand messages a second.
const STEP: Duration = Duration::from_micros(100);
/// The peer comes back while the flood goes on.
const PEER_STARTS: u32 = 20_000;
/// All that handling them may take of the heap at any time.
const MAX_GROWTH: isize = 1 << 20;

#[test]
fn a_flood_of_handshakes_takes_no_memory_and_locks_out_no_peer() {
    let mut now = SystemClock.now();
    let mut server = engine(2, 1, now);
    let mut out = Out::new();
    // The peer was there before: an observer has its initiation.
    let recorded = {
        let (mut peer, mut peer_out) = (engine(1, 2, now), Out::new());
        peer.handle_inner(now, &packet(1, 2), &mut peer_out);
        peer_out.to(address(2)).remove(0)
    };
    server.handle_datagram(now, address(1), &recorded, &mut out);
    assert_eq!(out.to(address(1)).len(), 1, "a response");
    // It starts anew amid the flood.
    let (mut peer, mut peer_out) = (engine(1, 2, now), Out::new());
    let mut came_back = None;

    let mut flood = Flood::new(PrivateKey::from_bytes([2; 32]).public_key());
    let held = allocations::reset_peak();
    for number in 0..FLOOD {
        now = now + STEP;
        let (from, datagram) = match number % 4 {
            0 | 1 => flood.forged(),
            2 => (flood.source(), recorded.as_slice()),
            _ => flood.garbage(),
        };
        server.handle_datagram(now, from, datagram, &mut out);
        if number == PEER_STARTS {
            peer.handle_inner(now, &packet(1, 2), &mut peer_out);
        }
        peer.handle_deadline(now, &mut peer_out);
        for datagram in peer_out.to(address(2)) {
            server.handle_datagram(now, address(1), &datagram, &mut out);
        }
        for datagram in out.to(address(1)) {
            peer.handle_datagram(now, address(2), &datagram, &mut peer_out);
        }
        if out.delivered > 0 && came_back.is_none() {
            came_back = Some(number);
        }
    }
    let growth = allocations::peak_growth(held);

    let stats = server.stats();
    println!("{stats:#?}\npeer back after {came_back:?}, heap grew by {growth} bytes at most");
    assert!(growth < MAX_GROWTH, "the heap grew by {growth} bytes");
    // A cookie at once, and the next try with it after the usual five seconds.
    let took = STEP * (came_back.expect("the peer must get in") - PEER_STARTS);
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(peer.stats().events.cookies_received, 1);
    assert_eq!(peer.stats().events.sessions, 1);
    assert_eq!(out.delivered, 1);
    // Nothing else got anywhere, and everything is accounted for.
    assert_eq!((stats.events.sessions, stats.peers[0].endpoint), (2, Some(address(1))));
    let drops = stats.drops;
    let refused = drops.malformed + drops.unknown_peer + drops.invalid + drops.replayed;
    assert_eq!(
        refused + stats.events.cookies_sent,
        u64::from(FLOOD) + 1,
        "the flood, and the peer's first try"
    );
    // Three in four have the right MAC; the peer's tries too.
    let worked_on = u64::from(FLOOD) * 3 / 4 + 2 - stats.events.cookies_sent;
    assert!(worked_on <= 50 + 50 * 10 + 1, "50 at once, 50 a second, and the peer: {worked_on}");
}

/// Keeps what goes to the peers, and forgets what goes to the flood.
struct Out {
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    delivered: u32,
}

impl Out {
    fn new() -> Self {
        Self { datagrams: Vec::with_capacity(8), delivered: 0 }
    }

    fn to(&mut self, address: SocketAddr) -> Vec<Vec<u8>> {
        self.datagrams.extract_if(.., |(to, _)| *to == address).map(|(_, datagram)| datagram).collect()
    }
}

impl Sink for Out {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        if to.port() == PORT {
            self.datagrams.push((to, datagram.to_vec()));
        }
    }

    fn deliver(&mut self, _: &[u8]) {
        self.delivered += 1;
    }
}

/// Makes datagrams that nobody with keys has made.
struct Flood {
    mac1_key: [u8; 32],
    random: u64,
    buffer: [u8; 200],
}

impl Flood {
    fn new(target: PublicKey) -> Self {
        let mac1_key = Blake2s256::new().chain_update(b"mac1----").chain_update(target.as_bytes()).finalize();
        Self { mac1_key: mac1_key.into(), random: 1, buffer: [0; 200] }
    }

    /// splitmix64
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Any address; the port tells the flood from the peers.
    fn source(&mut self) -> SocketAddr {
        let [a, b, c, d, kind, rest @ ..] = self.next().to_be_bytes();
        if kind % 2 == 0 {
            SocketAddr::from(([a, b, c, d], 7))
        } else {
            let [e, f, g] = rest.map(u16::from);
            let [a, b, c, d] = [a, b, c, d].map(u16::from);
            SocketAddr::from(([0x2001, a, b, c, d, e, f, g], 7))
        }
    }

    fn fill(&mut self) {
        for start in (0..self.buffer.len()).step_by(8) {
            let bytes = self.next().to_le_bytes();
            self.buffer[start..start + 8].copy_from_slice(&bytes);
        }
    }

    /// An initiation with the MAC that needs no secret.
    fn forged(&mut self) -> (SocketAddr, &[u8]) {
        self.fill();
        self.buffer[..4].copy_from_slice(&[1, 0, 0, 0]);
        let mac = <Blake2sMac<U16> as Mac>::new_from_slice(&self.mac1_key).unwrap();
        let mac = mac.chain_update(&self.buffer[..116]).finalize().into_bytes();
        self.buffer[116..132].copy_from_slice(&mac);
        self.buffer[132..148].fill(0);
        (self.source(), &self.buffer[..148])
    }

    /// Any bytes; half of them say that they are handshake messages.
    fn garbage(&mut self) -> (SocketAddr, &[u8]) {
        self.fill();
        let length = match self.next() % 4 {
            0 => 148,
            1 => 92,
            _ => self.next() as usize % 200,
        };
        let kind = match length {
            148 => 1,
            92 => 2,
            _ => self.buffer[0],
        };
        self.buffer[..4].copy_from_slice(&[kind, 0, 0, 0]);
        (self.source(), &self.buffer[..length])
    }
}

const PORT: u16 = 51_820;

fn address(node: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node], PORT))
}

fn engine(own: u8, other: u8, now: Instant) -> Engine {
    let mut config = Config::new(PrivateKey::from_bytes([own; 32]));
    let mut peer = PeerConfig::new(PrivateKey::from_bytes([other; 32]).public_key());
    peer.allowed_ips.push(format!("10.0.0.{other}/32").parse().unwrap());
    config.peers.push(peer);
    Engine::new(&config, &[Some(address(other))], now).unwrap()
}

fn packet(from: u8, to: u8) -> Vec<u8> {
    vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, from, 10, 0, 0, to]
}
