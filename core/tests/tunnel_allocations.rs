//! Once a session stands, the packet path must not use the allocator. A test binary of its own, because it counts
//! every allocation of the process.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod allocations;

use std::net::SocketAddr;

use tuntrail::{
    clock::{Clock, Instant, SystemClock},
    hook::{Connection, ConnectionCounter, Device, Direction},
    tunnel::{Config, DropCounts, Engine, PeerConfig, PrivateKey, Sink},
};

/// The last datagram, in a buffer that was made before.
struct Last {
    datagram: Vec<u8>,
    delivered: u64,
}

impl Sink for Last {
    fn send(&mut self, _: SocketAddr, datagram: &[u8]) {
        self.datagram.clear();
        self.datagram.extend_from_slice(datagram);
    }

    fn deliver(&mut self, _: &[u8]) {
        self.delivered += 1;
    }
}

struct Sum(u64);

impl ConnectionCounter for Sum {
    fn count(&mut self, _: Instant, _: &Connection, _: u64, bytes: u64, _: Direction) {
        self.0 += bytes;
    }
}

fn engine(own: u8, other: u8, now: Instant) -> Engine {
    let mut config = Config::new(PrivateKey::from_bytes([own; 32]));
    let mut peer = PeerConfig::new(PrivateKey::from_bytes([other; 32]).public_key());
    peer.allowed_ips.push(format!("10.0.0.{other}/32").parse().unwrap());
    // A keepalive moves a deadline with each packet.
    peer.persistent_keepalive = Some(25);
    config.peers.push(peer);
    let mut engine = Engine::new(&config, &[Some(address(other))], now).unwrap();
    engine.virtual_device().set_connection_counter(now, Some(Box::new(Sum(0))));
    engine.physical_device().set_connection_counter(now, Some(Box::new(Sum(0))));
    engine
}

fn address(node: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node], 51820))
}

fn packet(from: u8, to: u8, length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, from, 10, 0, 0, to];
    packet.resize(length.into(), 0);
    packet
}

#[test]
fn packets_through_engines_allocate_nothing() {
    let now = SystemClock.now();
    let (mut a, mut b) = (engine(1, 2, now), engine(2, 1, now));
    let new = || Last { datagram: Vec::with_capacity(2000), delivered: 0 };
    let (mut a_out, mut b_out) = (new(), new());
    a.handle_inner(now, &packet(1, 2, 20), &mut a_out);
    b.handle_datagram(now, address(1), &a_out.datagram, &mut b_out);
    a.handle_datagram(now, address(2), &b_out.datagram, &mut a_out);
    b.handle_datagram(now, address(1), &a_out.datagram, &mut b_out);
    assert_eq!(b_out.delivered, 1);

    let lengths = [20, 64, 576, 1380, 1420];
    let there = lengths.map(|length| packet(1, 2, length));
    let back = lengths.map(|length| packet(2, 1, length));
    let before = allocations::so_far();
    for _ in 0..100 {
        for (there, back) in there.iter().zip(&back) {
            a.handle_inner(now, there, &mut a_out);
            b.handle_datagram(now, address(1), &a_out.datagram, &mut b_out);
            b.handle_inner(now, back, &mut b_out);
            a.handle_datagram(now, address(2), &b_out.datagram, &mut a_out);
        }
    }
    assert_eq!(allocations::so_far() - before, 0);
    assert_eq!((a_out.delivered, b_out.delivered), (500, 501));
    assert_eq!(a.stats().drops, DropCounts::default());
}
