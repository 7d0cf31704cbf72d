//! What the engine costs beyond the cipher: a packet through one engine or two, with counting, against the bare
//! AEAD over the same bytes in the same run.
//!
//! `cargo bench -p tuntrail --bench engine`

#![allow(clippy::expect_used, reason = "a benchmark may fail loudly")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::{
    hint::black_box,
    net::SocketAddr,
    time::{Duration, Instant as StdInstant},
};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use tuntrail::{
    clock::{Clock, Instant, SystemClock},
    hook::{Connection, ConnectionCounter, Device, Direction},
    tunnel::{Config, DropCounts, Engine, PeerConfig, PrivateKey, Sink},
};

/// Keeps the last datagram and packet, as a driver would hand them to the system.
#[derive(Default)]
struct Last {
    datagram: Vec<u8>,
    packet_len: usize,
}

impl Sink for Last {
    fn send(&mut self, _: SocketAddr, datagram: &[u8]) {
        self.datagram.clear();
        self.datagram.extend_from_slice(datagram);
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.packet_len = black_box(packet).len();
    }
}

/// Takes output and does nothing with it, so that only the engine's own work is measured.
struct Void;

impl Sink for Void {
    fn send(&mut self, _: SocketAddr, datagram: &[u8]) {
        black_box(datagram);
    }

    fn deliver(&mut self, packet: &[u8]) {
        black_box(packet);
    }
}

/// One row that counts everything: what calling a counter costs, without what it does.
#[derive(Default)]
struct OneRow {
    packets: [u64; 2],
    bytes: [u64; 2],
}

impl ConnectionCounter for OneRow {
    fn count(&mut self, _: Instant, connection: &Connection, packets: u64, bytes: u64, direction: Direction) {
        black_box(connection);
        let [tx, rx] = &mut self.packets;
        let [tx_bytes, rx_bytes] = &mut self.bytes;
        let (count, sum) = match direction {
            Direction::Tx => (tx, tx_bytes),
            Direction::Rx => (rx, rx_bytes),
        };
        *count += packets;
        *sum += bytes;
    }
}

fn engine(own: u8, other: u8, now: Instant) -> Engine {
    let mut config = Config::new(PrivateKey::from_bytes([own; 32]));
    let mut peer = PeerConfig::new(PrivateKey::from_bytes([other; 32]).public_key());
    peer.allowed_ips.push(format!("10.0.0.{other}/32").parse().expect("a prefix"));
    config.peers.push(peer);
    let endpoint: SocketAddr = format!("192.0.2.{other}:51820").parse().expect("an address");
    let mut engine = Engine::new(&config, &[Some(endpoint)], now).expect("an engine");
    engine.virtual_device().set_connection_counter(now, Some(Box::new(OneRow::default())));
    engine.physical_device().set_connection_counter(now, Some(Box::new(OneRow::default())));
    engine
}

fn packet(length: usize) -> Vec<u8> {
    let total = u16::try_from(length).expect("an IP length").to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet.extend_from_slice(&[3, 232, 7, 208]);
    packet.resize(length, 0x5a);
    packet
}

/// Two engines with a session that encrypts both ways.
fn pair(now: Instant) -> (Engine, Engine, SocketAddr) {
    let from: SocketAddr = "192.0.2.1:51820".parse().expect("an address");
    let to: SocketAddr = "192.0.2.2:51820".parse().expect("an address");
    let (mut a, mut b) = (engine(1, 2, now), engine(2, 1, now));
    let (mut a_out, mut b_out) = (Last::default(), Last::default());
    a.handle_inner(now, &packet(64), &mut a_out);
    b.handle_datagram(now, from, &a_out.datagram, &mut b_out);
    // The answer carries the packet that waited; it is the last datagram, after a keepalive.
    a.handle_datagram(now, to, &b_out.datagram, &mut a_out);
    b.handle_datagram(now, from, &a_out.datagram, &mut b_out);
    assert_eq!(b_out.packet_len, 64);
    (a, b, from)
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Seals per measured batch: long enough to hide the clock, short enough to stay inside a session.
const BATCH: usize = 512;

fn engine_against_aead(criterion: &mut Criterion) {
    for length in [64, 1420] {
        let mut group = criterion.benchmark_group(format!("{length} B"));
        group.throughput(Throughput::Bytes(length as u64));
        let key = || LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("a key"));

        group.bench_function(BenchmarkId::new("seal", "ring"), |bencher| {
            let (key, mut buffer, mut counter) = (key(), packet(length), 0);
            bencher.iter(|| {
                counter += 1;
                let tag = key.seal_in_place_separate_tag(nonce(counter), Aad::empty(), &mut buffer);
                let _ = black_box(tag.expect("sealed"));
            });
        });
        group.bench_function(BenchmarkId::new("seal", "engine"), |bencher| {
            let now = SystemClock.now();
            let (mut a, _, _) = pair(now);
            let packet = packet(length);
            bencher.iter(|| a.handle_inner(now, black_box(&packet), &mut Void));
        });

        group.throughput(Throughput::Bytes((length * BATCH) as u64));
        group.bench_function(BenchmarkId::new("open × 512", "ring"), |bencher| {
            let (key, mut counter) = (key(), 0);
            bencher.iter_batched_ref(
                || {
                    (0..BATCH)
                        .map(|_| {
                            counter += 1;
                            let mut sealed = packet(length);
                            key.seal_in_place_append_tag(nonce(counter), Aad::empty(), &mut sealed)
                                .expect("sealed");
                            (counter, sealed)
                        })
                        .collect::<Vec<_>>()
                },
                |sealed| {
                    for (counter, sealed) in sealed {
                        black_box(key.open_in_place(nonce(*counter), Aad::empty(), sealed).expect("opened"));
                    }
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("open × 512", "engine"), |bencher| {
            let now = SystemClock.now();
            let (mut a, mut b, from) = pair(now);
            let packet = packet(length);
            bencher.iter_batched_ref(
                || {
                    (0..BATCH)
                        .map(|_| {
                            let mut output = Last::default();
                            a.handle_inner(now, &packet, &mut output);
                            output.datagram
                        })
                        .collect::<Vec<_>>()
                },
                |datagrams| {
                    for datagram in datagrams {
                        b.handle_datagram(now, from, datagram, &mut Void);
                    }
                },
                BatchSize::PerIteration,
            );
        });

        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("round trip", "ring"), |bencher| {
            let (key, mut buffer, mut counter) = (key(), packet(length), 0);
            bencher.iter(|| {
                counter += 1;
                buffer.truncate(length);
                key.seal_in_place_append_tag(nonce(counter), Aad::empty(), &mut buffer).expect("sealed");
                black_box(key.open_in_place(nonce(counter), Aad::empty(), &mut buffer).expect("opened"));
            });
        });
        group.bench_function(BenchmarkId::new("round trip", "engine"), |bencher| {
            let now = SystemClock.now();
            let (mut a, mut b, from) = pair(now);
            let (packet, mut output) = (packet(length), Last::default());
            bencher.iter(|| {
                a.handle_inner(now, black_box(&packet), &mut output);
                let datagram = std::mem::take(&mut output.datagram);
                b.handle_datagram(now, from, &datagram, &mut Void);
                output.datagram = datagram;
            });
            assert_eq!(b.stats().drops, DropCounts::default(), "every packet must have been carried");
        });
        group.finish();
    }
}

/// Rounds of the ratio table; each takes some 10 µs, so that a disturbance spoils few of them.
const ROUNDS: usize = 8000;
/// Packets per round: few enough to stay in the first-level cache, as a packet does that a socket just handed over.
const BURST: usize = 16;

/// The figures that matter, against noise: both candidates in turn in each round, ratio inside the round, median over
/// all rounds.
fn ratios() {
    println!("engine with counting / ring alone, median of {ROUNDS} rounds of {BURST} packets");
    for length in [64, 1420] {
        let now = SystemClock.now();
        let (mut a, mut b, from) = pair(now);
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("a key"));
        let (packet, mut counter, mut output) = (packet(length), 0, Last::default());
        let mut sealed = vec![vec![0; length + 16]; BURST];
        let mut datagrams = vec![Vec::new(); BURST];
        let (mut seal, mut open) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let first = counter;
            let begun = StdInstant::now();
            for buffer in &mut sealed {
                counter += 1;
                let (content, _) = buffer.split_at_mut(length);
                let tag =
                    key.seal_in_place_separate_tag(nonce(counter), Aad::empty(), content).expect("sealed");
                buffer.truncate(length);
                buffer.extend_from_slice(tag.as_ref());
            }
            let ring_seal = begun.elapsed();
            let begun = StdInstant::now();
            for (counter, buffer) in (first + 1..).zip(&mut sealed) {
                black_box(key.open_in_place(nonce(counter), Aad::empty(), buffer).expect("opened"));
            }
            let ring_open = begun.elapsed();
            let begun = StdInstant::now();
            for _ in 0..BURST {
                a.handle_inner(now, black_box(&packet), &mut Void);
            }
            seal.push(begun.elapsed().as_secs_f64() / ring_seal.as_secs_f64());
            for datagram in &mut datagrams {
                a.handle_inner(now, &packet, &mut output);
                std::mem::swap(&mut output.datagram, datagram);
            }
            let begun = StdInstant::now();
            for datagram in &datagrams {
                b.handle_datagram(now, from, datagram, &mut Void);
            }
            open.push(begun.elapsed().as_secs_f64() / ring_open.as_secs_f64());
        }
        assert_eq!(b.stats().drops, DropCounts::default(), "every packet must have been carried");
        println!("{length:>5} B  encapsulate {:.3}  decapsulate {:.3}", median(seal), median(open));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = engine_against_aead
}

fn main() {
    ratios();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
