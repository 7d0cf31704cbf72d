//! Tests of the engine: two or more of them, back to back in memory.

mod refusal;
mod timing;
mod traffic;

use std::{
    collections::VecDeque,
    net::Ipv6Addr,
    sync::{Arc as Shared, Mutex},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    hook::{Connection, Protocol},
    tunnel::{PeerConfig, PrivateKey},
};

/// Everything an engine puts out.
#[derive(Default)]
struct Output {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    packets: Vec<Vec<u8>>,
}

impl Sink for Output {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.datagrams.push_back((to, datagram.to_vec()));
    }

    fn deliver(&mut self, packet: &[u8]) {
        assert!(!packet.is_empty());
        self.packets.push(packet.to_vec());
    }
}

/// What a counter was told: connection, packets, bytes, direction.
type Counts = Shared<Mutex<Vec<(Connection, u64, u64, Direction)>>>;

struct Recorder(Counts);

impl ConnectionCounter for Recorder {
    fn count(&mut self, _: Instant, connection: &Connection, packets: u64, bytes: u64, direction: Direction) {
        self.0.lock().unwrap().push((*connection, packets, bytes, direction));
    }
}

/// Writes down the paths that it is told, and how many packets took each.
#[derive(Clone, Default)]
struct PathRecorder(Shared<Mutex<Vec<(SocketAddr, u64)>>>);

impl ConnectionCounter for PathRecorder {
    fn count(&mut self, _: Instant, _: &Connection, packets: u64, _: u64, _: Direction) {
        self.0.lock().unwrap().last_mut().unwrap().1 += packets;
    }

    fn path(&mut self, _: Instant, local: Option<SocketAddr>, remote: SocketAddr) {
        assert_eq!(local, None);
        self.0.lock().unwrap().push((remote, 0));
    }
}

fn total(counts: &Counts, direction: Direction) -> (u64, u64) {
    let counts = counts.lock().unwrap();
    let of_direction = counts.iter().filter(|count| count.3 == direction);
    of_direction.fold((0, 0), |sum, count| (sum.0 + count.1, sum.1 + count.2))
}

struct Node {
    engine: Engine,
    address: SocketAddr,
    output: Output,
    virtual_counts: Counts,
    physical_counts: Counts,
}

impl Node {
    fn new(config: &Config, endpoints: &[Option<SocketAddr>], address: SocketAddr, now: Instant) -> Self {
        let mut engine = Engine::new(config, endpoints, now).unwrap();
        let (virtual_counts, physical_counts) = (Counts::default(), Counts::default());
        engine.virtual_device().set_connection_counter(now, Some(Box::new(Recorder(virtual_counts.clone()))));
        engine
            .physical_device()
            .set_connection_counter(now, Some(Box::new(Recorder(physical_counts.clone()))));
        Self { engine, address, output: Output::default(), virtual_counts, physical_counts }
    }

    fn send(&mut self, now: Instant, packet: &[u8]) {
        self.engine.handle_inner(now, packet, &mut self.output);
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.engine.handle_datagram(now, from, datagram, &mut self.output);
    }

    fn deadline(&mut self, now: Instant) {
        self.engine.handle_deadline(now, &mut self.output);
    }

    fn pop(&mut self) -> Vec<u8> {
        self.output.datagrams.pop_front().expect("a datagram").1
    }

    fn endpoint(&self) -> Option<SocketAddr> {
        self.engine.stats().peers[0].endpoint
    }

    fn drops(&self) -> DropCounts {
        self.engine.stats().drops
    }
}

/// Two nodes that know each other: `a` owns 10.0.0.1 and fd00::1, `b` 10.0.0.2 and fd00::2.
struct Pair {
    now: Instant,
    a: Node,
    b: Node,
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn config(own: u8, other: u8, keepalive: Option<u16>) -> Config {
    let mut config = Config::new(key(own));
    let mut peer = PeerConfig::new(key(other).public_key());
    peer.allowed_ips =
        vec![format!("10.0.0.{other}/32").parse().unwrap(), format!("fd00::{other}/128").parse().unwrap()];
    peer.persistent_keepalive = keepalive;
    config.peers.push(peer);
    config
}

fn address(node: u8) -> SocketAddr {
    format!("192.0.2.{node}:51820").parse().unwrap()
}

impl Pair {
    fn new() -> Self {
        Self::with_keepalive(None)
    }

    fn with_keepalive(keepalive: Option<u16>) -> Self {
        let now = SystemClock.now();
        let a = Node::new(&config(1, 2, keepalive), &[Some(address(2))], address(1), now);
        let b = Node::new(&config(2, 1, None), &[None], address(2), now);
        Self { now, a, b }
    }

    /// Carries datagrams until there are none.
    fn exchange(&mut self) {
        loop {
            if let Some((to, datagram)) = self.a.output.datagrams.pop_front() {
                assert_eq!(to, self.b.address);
                self.b.receive(self.now, self.a.address, &datagram);
            } else if let Some((to, datagram)) = self.b.output.datagrams.pop_front() {
                assert_eq!(to, self.a.address);
                self.a.receive(self.now, self.b.address, &datagram);
            } else {
                return;
            }
        }
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        pair.connect();
        pair
    }

    fn connect(&mut self) {
        self.a.send(self.now, &udp_v4(1, 2, b"first"));
        self.exchange();
        assert_eq!(self.b.output.packets.pop(), Some(udp_v4(1, 2, b"first")));
    }

    /// Runs both nodes' deadlines up to `until`, without loss, and returns how many there were.
    fn run_until(&mut self, until: Instant) -> usize {
        let mut wakes = 0;
        while let Some(next) =
            [self.a.engine.next_deadline(), self.b.engine.next_deadline()].into_iter().flatten().min()
            && next <= until
        {
            assert!(next >= self.now, "deadlines lie ahead");
            self.now = next;
            self.a.deadline(next);
            self.b.deadline(next);
            self.exchange();
            wakes += 1;
            assert!(wakes < 100_000, "the deadlines make no progress");
        }
        self.now = until;
        wakes
    }
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut segment = Vec::new();
    for field in [1000, 2000, length, 0] {
        segment.extend_from_slice(&field.to_be_bytes());
    }
    segment.extend_from_slice(payload);
    segment
}

fn udp_v4(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let segment = udp(payload);
    let length = u16::try_from(20 + segment.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend_from_slice(&[10, 0, 0, from, 10, 0, 0, to]);
    packet.extend_from_slice(&segment);
    packet
}

fn udp_v6(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let segment = udp(payload);
    let length = u16::try_from(segment.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], 17, 64];
    for node in [from, to] {
        packet.extend_from_slice(&Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, node.into()).octets());
    }
    packet.extend_from_slice(&segment);
    packet
}
