//! Nanoseconds to parse and count one packet on the packet thread, and what the same costs in upstream's design: one
//! global mutex around a map of full tuples, and every packet decoded twice.
//!
//! `cargo bench -p tuntrail --bench counter`. "one-way" is all sent; "two-way" draws the direction of each packet.
//! "lifecycle" is two-way traffic with and without the flows being followed.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark may fail loudly; the macros document nothing"
)]

use std::{
    collections::HashMap,
    hint::black_box,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant as Stopwatch},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use tuntrail::{
    clock::{Clock, ManualClock},
    flow::{Counts, FlowConfig, FlowCounter, FlowLogger, Layer, LifecycleConfig, RecordSink},
    hook::{ConnectionCounter, Direction, Protocol},
    packet::Header,
};

/// Draws per flow count; a power of two, so that going round is a mask.
const DRAWS: usize = 1 << 16;

struct Traffic {
    packets: Vec<[u8; 64]>,
    draws: Vec<(u32, Direction)>,
}

impl Traffic {
    /// Packets of `flows` connections, TCP and UDP in turn, drawn with a Zipf exponent of 1.1.
    fn new(flows: u32, v6: bool, two_way: bool) -> Self {
        let weights = (1..=flows).scan(0.0, |sum, rank| {
            *sum += f64::from(rank).powf(-1.1);
            Some(*sum)
        });
        let weights: Vec<f64> = weights.collect();
        let total = weights.last().copied().unwrap_or(0.0);
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let draws = (0..DRAWS).map(|_| {
            let at = (next() >> 11) as f64 / (1_u64 << 53) as f64 * total;
            let flow = weights.partition_point(|&weight| weight < at) as u32;
            let rx = two_way && next() & 1 == 1;
            (flow.min(flows - 1), if rx { Direction::Rx } else { Direction::Tx })
        });
        let draws = draws.collect();
        Self { packets: (0..flows).map(|flow| packet(flow, v6)).collect(), draws }
    }

    /// One of the packets with its direction; a received one comes from the other side.
    #[inline]
    fn draw(&self, number: u64) -> (&[u8], Direction) {
        let (flow, direction) = self.draws[number as usize & (DRAWS - 1)];
        (&self.packets[flow as usize], direction)
    }
}

fn packet(flow: u32, v6: bool) -> [u8; 64] {
    let mut packet = [0; 64];
    let protocol = if flow.is_multiple_of(2) { 6 } else { 17 };
    let transport = if v6 {
        packet[0] = 0x60;
        packet[5] = 24;
        packet[6] = protocol;
        packet[8..10].copy_from_slice(&[0xfd, 0x7a]);
        packet[24..26].copy_from_slice(&[0xfd, 0x7a]);
        packet[36..40].copy_from_slice(&(flow / 7).to_be_bytes());
        40
    } else {
        packet[0] = 0x45;
        packet[3] = 64;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[100, 64, 0, 1]);
        packet[16..20].copy_from_slice(&(0x6440_0100 + flow / 7).to_be_bytes());
        20
    };
    packet[transport..transport + 2].copy_from_slice(&(flow as u16 ^ 0xc000).to_be_bytes());
    packet[transport + 3] = 53;
    packet
}

struct Nowhere;

impl RecordSink for Nowhere {
    fn append(&mut self, _wall: Timestamp, _json: &[u8]) {}
}

/// The design of upstream, with its counters.
#[derive(Default)]
struct Upstream {
    connections: Mutex<HashMap<Tuple, Counts>>,
}

type Tuple = (Protocol, Option<SocketAddr>, Option<SocketAddr>);

impl Upstream {
    fn count_packet(&self, packet: &[u8], direction: Direction) {
        // Once for the packet filter, once for the counter.
        black_box(Header::parse(black_box(packet)));
        let connection = Header::parse(packet).connection(direction);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = connections.entry((connection.protocol, connection.src, connection.dst)).or_default();
        match direction {
            Direction::Tx => {
                counts.tx_packets += 1;
                counts.tx_bytes += packet.len() as u64;
            }
            Direction::Rx => {
                counts.rx_packets += 1;
                counts.rx_bytes += packet.len() as u64;
            }
        }
    }
}

fn counter(criterion: &mut Criterion) {
    for (name, v6, two_way) in [
        ("v4 one-way", false, false),
        ("v4 two-way", false, true),
        ("v6 one-way", true, false),
        ("v6 two-way", true, true),
    ] {
        let mut group = criterion.benchmark_group(name);
        for flows in [1, 100, 10_000] {
            let traffic = Traffic::new(flows, v6, two_way);
            group.bench_function(BenchmarkId::new("tuntrail", flows), |bencher| {
                let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
                let logger =
                    FlowLogger::start(FlowConfig::default(), Arc::new(clock.clone()), Box::new(Nowhere));
                let logger = logger.expect("the default configuration is valid");
                let mut counter: FlowCounter = logger.counter(Layer::Virtual);
                let now = clock.now();
                let mut count = |number| {
                    let (packet, direction) = traffic.draw(number);
                    counter.count_packet(now, black_box(packet), direction);
                };
                (0..DRAWS as u64).for_each(&mut count);
                bencher.iter_custom(|packets| time(packets, &mut count));
            });
            group.bench_function(BenchmarkId::new("upstream design", flows), |bencher| {
                let counter = Upstream::default();
                let mut count = |number| {
                    let (packet, direction) = traffic.draw(number);
                    counter.count_packet(black_box(packet), direction);
                };
                (0..DRAWS as u64).for_each(&mut count);
                bencher.iter_custom(|packets| time(packets, &mut count));
            });
        }
    }
}

fn lifecycle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lifecycle");
    for (family, v6) in [("v4", false), ("v6", true)] {
        for flows in [100, 10_000] {
            let traffic = Traffic::new(flows, v6, true);
            for (name, lifecycle) in [("off", None), ("on", Some(LifecycleConfig::default()))] {
                let id = BenchmarkId::new(format!("{family} {name}"), flows);
                group.bench_function(id, |bencher| {
                    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
                    let config = FlowConfig { lifecycle, ..FlowConfig::default() };
                    let logger = FlowLogger::start(config, Arc::new(clock.clone()), Box::new(Nowhere));
                    let logger = logger.expect("the default configuration is valid");
                    let mut counter: FlowCounter = logger.counter(Layer::Virtual);
                    let now = clock.now();
                    let mut count = |number| {
                        let (packet, direction) = traffic.draw(number);
                        counter.count_packet(now, black_box(packet), direction);
                    };
                    (0..DRAWS as u64).for_each(&mut count);
                    bencher.iter_custom(|packets| time(packets, &mut count));
                });
            }
        }
    }
}

fn time(packets: u64, count: &mut impl FnMut(u64)) -> Duration {
    let started = Stopwatch::now();
    (0..packets).for_each(count);
    started.elapsed()
}

criterion_group!(benches, counter, lifecycle);
criterion_main!(benches);
