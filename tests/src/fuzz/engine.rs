//! Any bytes as what arrives at a tunnel: from anybody, damaged on the way, or from a peer that means harm.

use std::net::{IpAddr, SocketAddr};

use tuntrail::{
    clock::{Clock, Instant, SystemClock},
    tunnel::{Config, Engine, PeerConfig, PrivateKey, Sink, TunnelStats},
};

use super::input::Input;

/// Datagrams per input.
const MAX_STEPS: usize = 32;
/// Inner address of the peer; it may send from no other.
const PEER: [u8; 4] = [10, 0, 0, 2];

/// `data` is a sequence of steps: a datagram of any content, an authentic one of which a bit is changed, an authentic
/// one that carries any content. The engine delivers an inner packet only if the peer has really sent it, and from
/// its own address; whatever it does not deliver it counts.
pub fn engine_datagram(data: &[u8]) {
    let mut input = Input(data);
    let mut pair = Pair::new();
    for _ in 0..MAX_STEPS {
        let Some(kind) = input.byte() else { break };
        let len = usize::from(input.byte().unwrap_or(0)) + 256 * usize::from(kind >> 6);
        match kind % 4 {
            0 => pair.any_datagram(input.take(len), false),
            1 => pair.any_datagram(input.take(len), true),
            2 => pair.damaged(usize::from(input.byte().unwrap_or(0)), input.byte().unwrap_or(1)),
            _ => pair.any_inner(input.take(len)),
        }
        if input.is_empty() {
            break;
        }
    }
    // Nothing of it has broken the session.
    pair.any_inner(&packet(PEER));
    assert_eq!(pair.out.delivered.last(), Some(&packet(PEER)));
}

#[derive(Default)]
struct Out {
    datagrams: Vec<Vec<u8>>,
    delivered: Vec<Vec<u8>>,
}

impl Sink for Out {
    fn send(&mut self, _: SocketAddr, datagram: &[u8]) {
        self.datagrams.push(datagram.to_vec());
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.delivered.push(packet.to_vec());
    }
}

/// An engine and its peer with a session between them.
struct Pair {
    now: Instant,
    engine: Engine,
    out: Out,
    peer: Engine,
    peer_out: Out,
}

impl Pair {
    fn new() -> Self {
        let now = SystemClock.now();
        let mut pair = Self {
            now,
            engine: engine(1, 2, "10.0.0.2/32", now),
            out: Out::default(),
            peer: engine(2, 1, "0.0.0.0/0", now),
            peer_out: Out::default(),
        };
        pair.peer.handle_inner(now, &packet(PEER), &mut pair.peer_out);
        let initiation = pair.last_of_peer();
        pair.engine.handle_datagram(now, address(2), &initiation, &mut pair.out);
        let response = pair.out.datagrams.pop().expect("a response");
        pair.peer.handle_datagram(now, address(1), &response, &mut pair.peer_out);
        for datagram in std::mem::take(&mut pair.peer_out.datagrams) {
            pair.engine.handle_datagram(now, address(2), &datagram, &mut pair.out);
        }
        assert_eq!(pair.out.delivered, [packet(PEER)]);
        pair
    }

    /// The last datagram of the peer.
    fn last_of_peer(&mut self) -> Vec<u8> {
        let datagram = self.peer_out.datagrams.pop().expect("a datagram");
        self.peer_out.datagrams.clear();
        datagram
    }

    /// `known`: under the index of the session, so that it gets as far as the cipher.
    fn any_datagram(&mut self, datagram: &[u8], known: bool) {
        let mut datagram = datagram.to_vec();
        if known {
            let index = self.authentic().get(4..8).map(<[u8]>::to_vec).unwrap_or_default();
            datagram.iter_mut().zip([4, 0, 0, 0].into_iter().chain(index)).for_each(|(to, from)| *to = from);
        }
        self.refuse(address(3), &datagram);
    }

    fn damaged(&mut self, at: usize, change: u8) {
        let mut datagram = self.authentic();
        let at = at % datagram.len();
        if let Some(byte) = datagram.get_mut(at)
            && change != 0
        {
            *byte ^= change;
            self.refuse(address(2), &datagram);
        }
    }

    /// A transport message of the peer that the engine has not seen.
    fn authentic(&mut self) -> Vec<u8> {
        self.peer.handle_inner(self.now, &packet(PEER), &mut self.peer_out);
        self.last_of_peer()
    }

    /// Gives the engine a datagram that nobody with the keys has made.
    fn refuse(&mut self, from: SocketAddr, datagram: &[u8]) {
        let (before, delivered) = (self.engine.stats(), self.out.delivered.len());
        self.engine.handle_datagram(self.now, from, datagram, &mut self.out);
        let after = self.engine.stats();
        assert_eq!(self.out.delivered.len(), delivered);
        assert_eq!(after.carried, before.carried);
        assert_eq!(after.peers.first().map(|peer| peer.endpoint), Some(Some(address(2))), "no roaming");
        let cookies = |stats: &TunnelStats| stats.events.cookies_sent;
        assert_eq!(dropped(&after) + cookies(&after), dropped(&before) + cookies(&before) + 1);
    }

    /// The peer sends an inner packet of any content; with a destination that gets it into the tunnel.
    fn any_inner(&mut self, content: &[u8]) {
        let mut content = content.to_vec();
        match content.first_mut() {
            Some(first) => *first = 0x40 | (*first & 0x0f),
            None => return,
        }
        self.peer.handle_inner(self.now, &content, &mut self.peer_out);
        let Some(datagram) = self.peer_out.datagrams.pop() else { return };
        self.peer_out.datagrams.clear();
        let (before, delivered) = (self.engine.stats(), self.out.delivered.len());
        self.engine.handle_datagram(self.now, address(2), &datagram, &mut self.out);
        let after = self.engine.stats();
        let carried = after.carried.rx_packets - before.carried.rx_packets;
        assert_eq!(carried + dropped(&after) - dropped(&before), 1, "carried or counted as dropped");
        // The peer pads what it sends, and a packet may claim the padding for itself.
        content.resize(content.len().next_multiple_of(16), 0);
        for packet in self.out.delivered.iter().skip(delivered) {
            assert_eq!(packet.get(12..16), Some(PEER.as_slice()), "a source that is not the peer's");
            assert_eq!(content.get(..packet.len()), Some(packet.as_slice()));
        }
    }
}

fn engine(own: u8, other: u8, allowed: &str, now: Instant) -> Engine {
    let mut config = Config::new(PrivateKey::from_bytes([own; 32]));
    let mut peer = PeerConfig::new(PrivateKey::from_bytes([other; 32]).public_key());
    peer.allowed_ips.push(allowed.parse().expect("a prefix"));
    config.peers.push(peer);
    Engine::new(&config, &[Some(address(other))], now).expect("an engine")
}

fn address(node: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::from([192, 0, 2, node]), 51_820)
}

/// A packet from `src` to the engine.
fn packet(src: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(src.into_iter().chain([10, 0, 0, 1]));
    packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
    packet
}

/// All drops, of whatever kind.
fn dropped(stats: &TunnelStats) -> u64 {
    let drops = &stats.drops;
    drops.malformed
        + drops.unknown_peer
        + drops.too_many_handshakes
        + drops.invalid
        + drops.replayed
        + drops.no_session
        + drops.bad_inner
        + drops.wrong_source
}
