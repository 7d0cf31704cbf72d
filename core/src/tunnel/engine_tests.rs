//! Tests of the engine: two or more of them, back to back in memory.

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

#[test]
fn packets_pass_both_ways_in_both_families_at_any_length() {
    let mut pair = Pair::connected();
    for length in (0..70).chain([1000, 1371, 1372, 1391, 1392, 9000]) {
        let payload = vec![7; length];
        for (there, back) in [
            (udp_v4(1, 2, &payload), udp_v4(2, 1, &payload)),
            (udp_v6(1, 2, &payload), udp_v6(2, 1, &payload)),
        ] {
            pair.a.send(pair.now, &there);
            pair.b.send(pair.now, &back);
            let datagram = &pair.a.output.datagrams[0].1;
            assert!(
                datagram.len().is_multiple_of(16) || datagram.len() >= 1420 + 32,
                "padded: {}",
                datagram.len()
            );
            pair.exchange();
            assert_eq!(pair.b.output.packets, [there]);
            assert_eq!(pair.a.output.packets, [back]);
            pair.a.output.packets.clear();
            pair.b.output.packets.clear();
        }
    }
    assert_eq!(pair.a.drops(), DropCounts::default());
    assert_eq!(pair.b.drops(), DropCounts::default());
}

#[test]
fn counters_see_every_byte_once_on_each_side() {
    let mut pair = Pair::new();
    let (mut there, mut back) = (0, 0);
    for length in [0, 1, 15, 16, 100, 1372] {
        let (packet, answer) = (udp_v4(1, 2, &vec![1; length]), udp_v6(2, 1, &vec![2; length]));
        there += packet.len() as u64;
        back += answer.len() as u64;
        pair.a.send(pair.now, &packet);
        pair.exchange();
        pair.b.send(pair.now, &answer);
        pair.exchange();
    }
    assert_eq!(total(&pair.a.virtual_counts, Direction::Tx), (6, there));
    assert_eq!(total(&pair.b.virtual_counts, Direction::Rx), (6, there));
    assert_eq!(total(&pair.b.virtual_counts, Direction::Tx), (6, back));
    assert_eq!(total(&pair.a.virtual_counts, Direction::Rx), (6, back));
    let (a, b) = (pair.a.engine.stats().peers[0], pair.b.engine.stats().peers[0]);
    assert_eq!((a.tx_datagrams, a.tx_bytes), (b.rx_datagrams, b.rx_bytes));
    assert_eq!((b.tx_datagrams, b.tx_bytes), (a.rx_datagrams, a.rx_bytes));
    assert_eq!(total(&pair.a.physical_counts, Direction::Tx), (a.tx_datagrams, a.tx_bytes));
    assert_eq!(total(&pair.a.physical_counts, Direction::Rx), (a.rx_datagrams, a.rx_bytes));
    assert_eq!(total(&pair.b.physical_counts, Direction::Rx), (b.rx_datagrams, b.rx_bytes));
}

#[test]
fn rows_have_the_local_side_first_and_physical_ones_no_protocol() {
    let pair = Pair::connected();
    let (inner, ..) = pair.b.virtual_counts.lock().unwrap()[0];
    assert_eq!(inner.src, Some("10.0.0.2:2000".parse().unwrap()));
    assert_eq!(inner.dst, Some("10.0.0.1:1000".parse().unwrap()));
    assert_eq!(inner.protocol, Protocol::UDP);
    for (outer, ..) in pair.b.physical_counts.lock().unwrap().iter() {
        let expected = Connection {
            protocol: Protocol::UNKNOWN,
            src: Some("10.0.0.1:0".parse().unwrap()),
            dst: Some(address(1)),
        };
        assert_eq!(*outer, expected);
    }
}

#[test]
fn packets_wait_for_the_handshake_in_order_and_the_oldest_are_dropped() {
    let mut pair = Pair::new();
    for number in 0..200_u8 {
        pair.a.send(pair.now, &udp_v4(1, 2, &[number]));
    }
    assert_eq!(pair.a.output.datagrams.len(), 1, "one initiation");
    assert_eq!(pair.a.drops().staged_full, 72);
    pair.exchange();
    let expected: Vec<_> = (72..200).map(|number| udp_v4(1, 2, &[number])).collect();
    assert_eq!(pair.b.output.packets, expected);
}

#[test]
fn an_inner_packet_to_nobody_is_dropped_and_counted() {
    let mut pair = Pair::connected();
    pair.a.send(pair.now, &udp_v4(1, 3, b"x"));
    pair.a.send(pair.now, b"");
    pair.a.send(pair.now, &[0x45; 19]);
    pair.a.send(pair.now, &[0xff; 100]);
    assert_eq!(pair.a.drops(), DropCounts { no_peer: 4, ..DropCounts::default() });
    let mut giant = udp_v4(1, 2, b"x");
    giant.resize(MAX_INNER + 1, 0);
    pair.a.send(pair.now, &giant);
    assert_eq!(pair.a.drops().too_large, 1);
    assert!(pair.a.output.datagrams.is_empty());
}

#[test]
fn the_longest_packet_passes() {
    let mut pair = Pair::connected();
    let packet = udp_v4(1, 2, &vec![1; MAX_INNER - 28]);
    assert_eq!(packet.len(), MAX_INNER);
    pair.a.send(pair.now, &packet);
    pair.exchange();
    assert_eq!(pair.b.output.packets, [packet]);
}

#[test]
fn a_peer_without_endpoint_gets_nothing_until_it_calls() {
    let mut pair = Pair::new();
    pair.b.send(pair.now, &udp_v4(2, 1, b"too early"));
    assert_eq!(pair.b.drops().no_endpoint, 1);
    assert_eq!(pair.b.engine.next_deadline(), None);
    pair.connect();
    pair.b.send(pair.now, &udp_v4(2, 1, b"now"));
    pair.exchange();
    assert_eq!(pair.a.output.packets, [udp_v4(2, 1, b"now")]);
}

#[test]
fn inner_packets_that_lie_about_their_length_are_counted_as_they_are() {
    let mut pair = Pair::connected();
    let mut counted = 0;
    for length in [0_u8, 1, 5, 19, 20] {
        let mut packet = udp_v4(1, 2, b"");
        packet[2..4].copy_from_slice(&[0, length]);
        pair.a.send(pair.now, &packet);
        pair.exchange();
        counted += u64::from(length);
    }
    let lengths: Vec<_> = pair.b.output.packets.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1, 5, 19, 20]);
    let first = udp_v4(1, 2, b"first").len() as u64;
    assert_eq!(total(&pair.b.virtual_counts, Direction::Rx), (6, first + counted));
}

#[test]
fn authentic_garbage_inside_is_dropped_and_counted() {
    let mut pair = Pair::connected();
    // Says that it is longer than it is.
    let mut packet = udp_v4(1, 2, b"x");
    packet[2] = 0xff;
    pair.a.send(pair.now, &packet);
    pair.exchange();
    assert_eq!(pair.b.drops(), DropCounts { bad_inner: 1, ..DropCounts::default() });
    assert!(pair.b.output.packets.is_empty());
}

#[test]
fn a_source_that_the_peer_does_not_own_is_dropped_and_counted() {
    let mut pair = Pair::connected();
    let before = total(&pair.b.virtual_counts, Direction::Rx);
    pair.a.send(pair.now, &udp_v4(9, 2, b"spoofed"));
    pair.exchange();
    assert_eq!(pair.b.drops(), DropCounts { wrong_source: 1, ..DropCounts::default() });
    assert!(pair.b.output.packets.is_empty());
    assert_eq!(total(&pair.b.virtual_counts, Direction::Rx), before);
}

#[test]
fn replays_and_forgeries_are_dropped_counted_and_move_nothing() {
    let mut pair = Pair::connected();
    let elsewhere = address(99);
    pair.a.send(pair.now, &udp_v4(1, 2, b"once"));
    let datagram = pair.a.pop();
    let mut forged = datagram.clone();
    *forged.last_mut().unwrap() ^= 1;
    pair.b.receive(pair.now, elsewhere, &forged);
    assert_eq!(pair.b.drops(), DropCounts { invalid: 1, ..DropCounts::default() });
    pair.b.receive(pair.now, address(1), &datagram);
    pair.b.receive(pair.now, elsewhere, &datagram);
    assert_eq!(pair.b.drops(), DropCounts { invalid: 1, replayed: 1, ..DropCounts::default() });
    assert_eq!(pair.b.output.packets.len(), 1);
    assert_eq!(pair.b.endpoint(), Some(address(1)));
    // Nor do they make rows for addresses that proved nothing.
    let rows = pair.b.physical_counts.lock().unwrap();
    assert!(rows.iter().all(|row| row.0.dst == Some(address(1))));
}

#[test]
fn a_replayed_initiation_is_dropped_and_counted() {
    let mut pair = Pair::new();
    pair.a.send(pair.now, &udp_v4(1, 2, b"x"));
    let initiation = pair.a.pop();
    pair.b.receive(pair.now, address(1), &initiation);
    pair.b.receive(pair.now, address(99), &initiation);
    assert_eq!(pair.b.drops(), DropCounts { replayed: 1, ..DropCounts::default() });
    assert_eq!(pair.b.endpoint(), Some(address(1)));
    assert_eq!(pair.b.output.datagrams.len(), 1, "one response");
}

#[test]
fn short_unknown_and_oversized_datagrams_are_malformed() {
    let mut pair = Pair::connected();
    let mut forged_counter = vec![0; 64];
    forged_counter[0] = 4;
    forged_counter[8..16].fill(0xff);
    let malformed = [
        vec![],
        vec![4, 0, 0, 0],
        vec![4; 31],
        vec![0; 148],
        vec![5, 0, 0, 0, 0, 0, 0, 0],
        [&[1, 0, 0, 0][..], &[0; 145]].concat(),
        [&[2, 0, 0, 0][..], &[0; 87]].concat(),
        [&[3, 0, 0, 0][..], &[0; 61]].concat(),
        [&[4, 0, 0, 1][..], &[0; 60]].concat(),
        vec![4; MAX_DATAGRAM + 1],
        forged_counter,
    ];
    let count = malformed.len() as u64;
    for datagram in malformed {
        pair.b.receive(pair.now, address(1), &datagram);
    }
    assert_eq!(pair.b.drops(), DropCounts { malformed: count, ..DropCounts::default() });
    assert!(pair.b.output.datagrams.is_empty());
}

#[test]
fn strangers_are_told_apart_by_reason() {
    let mut pair = Pair::connected();
    // A node that knows b's key, but b doesn't know it.
    let mut stranger = Node::new(&config(3, 2, None), &[Some(address(2))], address(3), pair.now);
    stranger.send(pair.now, &udp_v4(3, 2, b"x"));
    let initiation = stranger.pop();
    pair.b.receive(pair.now, address(3), &initiation);
    assert_eq!(pair.b.drops(), DropCounts { unknown_peer: 1, ..DropCounts::default() });
    // It means someone else: the MAC shows it.
    pair.a.receive(pair.now, address(3), &initiation);
    assert_eq!(pair.a.drops(), DropCounts { invalid: 1, ..DropCounts::default() });
    // A session that nobody has.
    let base = pair.b.engine.by_index[0].0;
    let mut transport = vec![4, 0, 0, 0];
    transport.extend_from_slice(&((base ^ 1) << 8).to_le_bytes());
    transport.resize(64, 0);
    pair.b.receive(pair.now, address(3), &transport);
    assert_eq!(pair.b.drops().unknown_peer, 2);
    // A session that the peer doesn't have now.
    transport[4..8].copy_from_slice(&(base << 8 | 0x70).to_le_bytes());
    pair.b.receive(pair.now, address(3), &transport);
    assert_eq!(pair.b.drops().no_session, 1);
    assert_eq!(total(&pair.b.physical_counts, Direction::Rx).0, pair.b.engine.stats().peers[0].rx_datagrams);
    assert!(pair.b.output.datagrams.is_empty());
}

#[test]
fn an_authentic_message_from_elsewhere_moves_the_endpoint() {
    let mut pair = Pair::connected();
    pair.a.address = address(77);
    pair.a.send(pair.now, &udp_v4(1, 2, b"from the train"));
    pair.exchange();
    assert_eq!(pair.b.endpoint(), Some(address(77)));
    assert_eq!(pair.b.engine.stats().events.roamed, 1);
    pair.b.send(pair.now, &udp_v4(2, 1, b"answer"));
    pair.exchange();
    assert_eq!(pair.a.output.packets, [udp_v4(2, 1, b"answer")]);
}

#[test]
fn under_load_initiations_get_cookies_and_cookies_move_nothing() {
    let now = SystemClock.now();
    let mut b = Node::new(&config(2, 1, None), &[None], address(2), now);
    // One client, whose retransmissions b never manages to answer in time.
    let mut a = Node::new(&config(1, 2, None), &[Some(address(2))], address(1), now);
    a.send(now, &udp_v4(1, 2, b"x"));
    let initiation = a.pop();
    // A flood that holds the right MAC. It can take longer than the second after which the count starts over.
    let mut cookie = None;
    for _ in 0..10_000 {
        b.receive(now, address(50), &initiation);
        if let Some((to, datagram)) = b.output.datagrams.pop_front()
            && datagram.len() == 64
        {
            assert_eq!(to, address(50));
            cookie = Some(datagram);
            break;
        }
    }
    let cookie = cookie.expect("a flood is answered with cookies");
    assert_eq!(b.engine.stats().events.cookies_sent, 1);
    a.receive(now, address(66), &cookie);
    assert_eq!(a.endpoint(), Some(address(2)), "a cookie proves nothing about its sender");
    assert_eq!(a.engine.stats().events.cookies_received, 1);
    assert_eq!(total(&a.physical_counts, Direction::Rx), (0, 0));
}

#[test]
fn one_exchange_leaves_two_deadlines_and_then_none() {
    let mut pair = Pair::connected();
    let wakes = pair.run_until(pair.now + Duration::from_secs(3600));
    // b owes a keepalive after 10 s; both wipe their keys after 540 s, at the same instant.
    assert_eq!(wakes, 2);
    assert_eq!(pair.a.engine.next_deadline(), None);
    assert_eq!(pair.b.engine.next_deadline(), None);
    assert_eq!(pair.a.engine.stats().events.initiations, 1);
}

#[test]
fn persistent_keepalive_wakes_once_per_interval() {
    let mut pair = Pair::with_keepalive(Some(25));
    let start = pair.now;
    assert_eq!(pair.a.engine.next_deadline(), Some(start), "the first keepalive makes the session");
    let wakes = pair.run_until(start + Duration::from_secs(3600));
    assert!((140..=150).contains(&wakes), "{wakes} wake-ups in an hour");
    let events = pair.a.engine.stats().events;
    assert_eq!(events.gave_up, 0);
    assert!(pair.b.engine.stats().peers[0].rx_datagrams >= 140);
}

#[test]
fn an_unanswered_handshake_is_repeated_for_90_seconds_and_given_up() {
    let mut pair = Pair::new();
    pair.a.send(pair.now, &udp_v4(1, 2, b"x"));
    let start = pair.now;
    let mut times = vec![start];
    while let Some(next) = pair.a.engine.next_deadline() {
        pair.a.deadline(next);
        times.push(next);
    }
    let stats = pair.a.engine.stats();
    assert!((17..=18).contains(&stats.events.initiations), "{:?}", stats.events);
    assert_eq!(stats.events.gave_up, 1);
    assert_eq!(stats.drops.staged_expired, 1);
    let last = times.last().unwrap().saturating_duration_since(start);
    assert!((90..96).contains(&last.as_secs()), "{last:?}");
    for gap in times.array_windows().map(|[a, b]| b.saturating_duration_since(*a)) {
        assert!((5000..=5333).contains(&gap.as_millis()), "{gap:?}");
    }
}

#[test]
fn persistent_keepalive_never_stops_trying_but_backs_off() {
    let now = SystemClock.now();
    let mut a = Node::new(&config(1, 2, Some(25)), &[Some(address(2))], address(1), now);
    let mut wakes = 0;
    let mut at = now;
    while at < now + Duration::from_secs(24 * 3600) {
        at = a.engine.next_deadline().expect("it goes on");
        a.deadline(at);
        wakes += 1;
    }
    let gave_up = a.engine.stats().events.gave_up;
    assert!((100..200).contains(&gave_up), "about every 11 minutes: {gave_up}");
    assert!(wakes < 20 * gave_up + 20, "{wakes}");
}

#[test]
fn data_without_answer_makes_a_handshake_after_15_seconds() {
    let mut pair = Pair::connected();
    pair.run_until(pair.now + Duration::from_secs(60));
    pair.a.send(pair.now, &udp_v4(1, 2, b"lost"));
    pair.a.output.datagrams.clear();
    let due = pair.a.engine.next_deadline().unwrap();
    let after = due.saturating_duration_since(pair.now).as_millis();
    assert!((15_000..=15_333).contains(&after), "{after}");
    pair.now = due;
    pair.a.deadline(due);
    pair.exchange();
    assert_eq!(pair.a.engine.stats().events.sessions, 2);
}

#[test]
fn an_old_session_is_renewed_when_used_and_not_used_beyond_180_seconds() {
    let mut pair = Pair::connected();
    let start = pair.now;
    pair.run_until(start + Duration::from_secs(121));
    pair.a.send(pair.now, &udp_v4(1, 2, b"renews"));
    pair.exchange();
    assert_eq!(pair.b.engine.stats().events.sessions, 2);
    assert_eq!(pair.b.output.packets.pop(), Some(udp_v4(1, 2, b"renews")));
    pair.run_until(start + Duration::from_secs(121 + 181));
    pair.a.send(pair.now, &udp_v4(1, 2, b"waits"));
    assert_eq!(message::kind(&pair.a.output.datagrams[0].1), Kind::Initiation);
    pair.exchange();
    assert_eq!(pair.b.output.packets.pop(), Some(udp_v4(1, 2, b"waits")));
}

#[test]
fn a_network_change_makes_a_handshake_with_peers_in_use_only() {
    let mut pair = Pair::new();
    pair.a.engine.network_changed(pair.now, &mut pair.a.output);
    assert!(pair.a.output.datagrams.is_empty(), "nobody is in use");
    pair.connect();
    pair.a.address = address(55);
    pair.a.engine.network_changed(pair.now, &mut pair.a.output);
    pair.exchange();
    assert_eq!(pair.b.endpoint(), Some(address(55)));
    assert_eq!(pair.a.engine.stats().events.sessions, 2);
}

#[test]
fn both_sides_calling_at_once_end_up_with_a_session() {
    let mut pair = Pair::new();
    let b_key = key(1).public_key();
    assert!(pair.b.engine.set_endpoint(pair.now, &b_key, address(1)));
    assert!(!pair.b.engine.set_endpoint(pair.now, &key(9).public_key(), address(1)));
    pair.a.send(pair.now, &udp_v4(1, 2, b"ping"));
    pair.b.send(pair.now, &udp_v4(2, 1, b"pong"));
    pair.exchange();
    pair.run_until(pair.now + Duration::from_secs(30));
    assert_eq!(pair.b.output.packets, [udp_v4(1, 2, b"ping")]);
    assert_eq!(pair.a.output.packets, [udp_v4(2, 1, b"pong")]);
}

#[test]
fn preshared_keys_must_agree() {
    let now = SystemClock.now();
    let with_psk = |own, other, psk| {
        let mut config = config(own, other, None);
        config.peers[0].preshared_key = Some(crate::tunnel::PresharedKey::from_bytes([psk; 32]));
        config
    };
    for (theirs, sessions) in [(7, 1), (8, 0)] {
        let mut a = Node::new(&with_psk(1, 2, 7), &[Some(address(2))], address(1), now);
        let mut b = Node::new(&with_psk(2, 1, theirs), &[None], address(2), now);
        a.send(now, &udp_v4(1, 2, b"x"));
        let initiation = a.pop();
        b.receive(now, address(1), &initiation);
        let response = b.pop();
        a.receive(now, address(2), &response);
        assert_eq!(a.engine.stats().events.sessions, sessions);
        assert_eq!(a.drops().invalid, 1 - sessions);
    }
}

#[test]
fn many_peers_are_told_apart() {
    let now = SystemClock.now();
    let mut hub_config = Config::new(key(200));
    for peer in 1..=20 {
        hub_config.peers.extend(config(200, peer, None).peers);
    }
    let mut hub = Node::new(&hub_config, &[None; 20], address(200), now);
    let mut spokes: Vec<_> = (1..=20)
        .map(|own| Node::new(&config(own, 200, None), &[Some(address(200))], address(own), now))
        .collect();
    for (spoke, own) in spokes.iter_mut().zip(1..) {
        spoke.send(now, &udp_v4(own, 200, &[own]));
        // Initiation, response, keepalive and data.
        for _ in 0..4 {
            while let Some((_, datagram)) = spoke.output.datagrams.pop_front() {
                hub.receive(now, address(own), &datagram);
            }
            while let Some((to, datagram)) = hub.output.datagrams.pop_front() {
                assert_eq!(to, address(own));
                spoke.receive(now, address(200), &datagram);
            }
        }
        assert_eq!(hub.output.packets.pop(), Some(udp_v4(own, 200, &[own])));
    }
    for own in (1..=20).rev() {
        hub.send(now, &udp_v4(200, own, b"hello"));
        let (to, datagram) = hub.output.datagrams.pop_front().unwrap();
        assert_eq!(to, address(own));
        let spoke = &mut spokes[usize::from(own) - 1];
        spoke.receive(now, address(200), &datagram);
        assert_eq!(spoke.output.packets, [udp_v4(200, own, b"hello")]);
    }
}

#[test]
fn a_configuration_and_endpoints_must_fit() {
    let now = SystemClock.now();
    let error = Engine::new(&config(1, 2, None), &[], now).unwrap_err();
    assert_eq!(error, EngineError::Endpoints { endpoints: 0, peers: 1 });
    let error = Engine::new(&Config::new(key(1)), &[], now).unwrap_err();
    assert_eq!(error, EngineError::Config(ConfigError::NoPeer));
}

#[test]
fn a_counters_deadline_is_the_engines_and_replacing_it_flushes() {
    #[derive(Clone, Default)]
    struct Windowed(Shared<Mutex<(Option<Instant>, usize, usize)>>);
    impl ConnectionCounter for Windowed {
        fn count(&mut self, now: Instant, _: &Connection, _: u64, _: u64, _: Direction) {
            self.0.lock().unwrap().0.get_or_insert(now + Duration::from_secs(5));
        }
        fn next_deadline(&self) -> Option<Instant> {
            self.0.lock().unwrap().0
        }
        fn handle_deadline(&mut self, _: Instant) {
            let mut state = self.0.lock().unwrap();
            state.0 = None;
            state.1 += 1;
        }
        fn flush(&mut self, _: Instant) {
            self.0.lock().unwrap().2 += 1;
        }
    }
    let mut pair = Pair::connected();
    let counter = Windowed::default();
    pair.a.engine.virtual_device().set_connection_counter(pair.now, Some(Box::new(counter.clone())));
    let before = pair.a.engine.next_deadline();
    pair.a.send(pair.now, &udp_v4(1, 2, b"x"));
    let due = pair.now + Duration::from_secs(5);
    assert_ne!(before, Some(due));
    assert_eq!(pair.a.engine.next_deadline(), Some(due));
    pair.a.deadline(pair.now);
    assert_eq!(counter.0.lock().unwrap().1, 0, "not yet");
    pair.a.deadline(due);
    assert_eq!(counter.0.lock().unwrap().1, 1);
    pair.a.engine.flush_counters(due);
    pair.a.engine.virtual_device().set_connection_counter(due, None);
    assert_eq!(counter.0.lock().unwrap().2, 2);
}

fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let typed = |length: std::ops::Range<usize>| {
        (1_u8..5, proptest::collection::vec(any::<u8>(), length)).prop_map(|(kind, mut bytes)| {
            let prefix = [kind, 0, 0, 0];
            for (byte, value) in bytes.iter_mut().zip(prefix) {
                *byte = value;
            }
            bytes
        })
    };
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        typed(0..200),
        typed(148..149),
        typed(92..93),
        typed(64..65),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_input_at_any_time_is_survived(
        steps in proptest::collection::vec((datagrams(), any::<bool>(), any::<bool>(), 0_u64..200), 1..30)
    ) {
        let mut pair = Pair::connected();
        let index = pair.b.engine.by_index[0].0 << 8 | 1;
        for (mut bytes, aimed, inner, seconds) in steps {
            pair.now = pair.now + Duration::from_secs(seconds);
            if inner {
                if aimed && bytes.len() >= 20 {
                    bytes[0] = 0x45;
                    bytes[16..20].copy_from_slice(&[10, 0, 0, 2]);
                }
                pair.a.send(pair.now, &bytes);
                pair.exchange();
            } else {
                if aimed && bytes.len() >= 12 {
                    let at = if bytes[0] == 2 { 8 } else { 4 };
                    bytes[at..at + 4].copy_from_slice(&index.to_le_bytes());
                }
                pair.b.receive(pair.now, address(9), &bytes);
            }
            pair.a.deadline(pair.now);
            pair.b.deadline(pair.now);
            pair.exchange();
        }
        prop_assert_eq!(pair.b.endpoint(), Some(address(1)));
    }
}
