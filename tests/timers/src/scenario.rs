//! What happens in a simulation: traffic, and what the network does to it.

use std::time::Duration;

use tuntrail::clock::Instant;

use crate::{Random, Side};

/// The network between two nodes, the same in both directions.
#[derive(Debug, Clone)]
pub struct Link {
    /// Least time that a datagram takes.
    pub latency: Duration,
    /// Up to so much more, for each datagram anew: this reorders.
    pub jitter: Duration,
    /// So many datagrams in a thousand are lost.
    pub loss: u64,
    /// So many in a thousand arrive twice.
    pub duplicates: u64,
    /// Times, from the start, in which nothing that is sent arrives.
    pub outages: Vec<(Duration, Duration)>,
    /// Decides the fate of each datagram, together with its direction and time: the same datagram at the same time
    /// has the same fate whichever nodes are simulated, so that chance favours neither.
    pub seed: u64,
}

impl Link {
    /// A network that only takes time.
    pub fn perfect(latency: Duration) -> Self {
        Self { latency, jitter: Duration::ZERO, loss: 0, duplicates: 0, outages: Vec::new(), seed: 0 }
    }

    /// When the copies of the `nth` datagram arrive that `by` sends at `at`, with the simulation's start at `start`.
    pub(crate) fn arrivals(&self, start: Instant, by: Side, at: Instant, nth: u64) -> Vec<Instant> {
        let since = at.saturating_duration_since(start);
        if self.outages.iter().any(|(from, to)| (*from..*to).contains(&since)) {
            return Vec::new();
        }
        let mut fate =
            Random::new(self.seed ^ at.as_nanos().rotate_left(17) ^ nth << 1 ^ u64::from(by == Side::A));
        if fate.per_mille(self.loss) {
            return Vec::new();
        }
        let copies = if fate.per_mille(self.duplicates) { 2 } else { 1 };
        let jitter = u64::try_from(self.jitter.as_millis()).unwrap_or(0) + 1;
        (0..copies).map(|_| at + self.latency + fate.millis(0, jitter)).collect()
    }
}

/// A packet that an application sends.
#[derive(Debug, Clone, Copy)]
pub struct Send {
    /// When, from the start.
    pub at: Duration,
    /// Who.
    pub by: Side,
    /// Whether the receiver sends a packet back at once.
    pub answered: bool,
}

/// What happens in a simulation.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The network.
    pub link: Link,
    /// Packets, in order of time.
    pub traffic: Vec<Send>,
    /// Persistent keepalive of node `a`, in seconds.
    pub keepalive: Option<u16>,
    /// How long to go on after the last packet.
    pub rest: Duration,
}

impl Scenario {
    /// Packets of `a` at a fixed interval.
    pub fn regular(
        interval: Duration,
        packets: u32,
        answered: bool,
        latency: Duration,
        rest: Duration,
    ) -> Self {
        let send = |number| Send { at: interval * number, by: Side::A, answered };
        let traffic = (0..packets).map(send).collect();
        Self { link: Link::perfect(latency), traffic, keepalive: None, rest }
    }

    /// Any traffic on any network: bursts of requests, of uploads from either side or of both, with rests between them
    /// that fall on all sides of the protocol's deadlines; loss, reordering and up to two outages of up to two minutes.
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let latency = random.millis(2, 400);
        let jitter = if random.per_mille(500) { random.millis(1, 120) } else { Duration::ZERO };
        let loss = if random.per_mille(600) { random.between(1, 200) } else { 0 };
        let duplicates = if random.per_mille(300) { random.between(1, 50) } else { 0 };
        let mut traffic = Vec::new();
        let mut at = random.millis(0, 1000);
        for _ in 0..random.between(1, 6) {
            // Short exchanges at any pace, or a stream that goes on for a while.
            let (interval, packets) = if random.per_mille(800) {
                (random.millis(20, 8000), random.between(1, 50))
            } else {
                (random.millis(200, 2000), random.between(50, 300))
            };
            let (kind, side) = (random.between(0, 3), if random.per_mille(700) { Side::A } else { Side::B });
            for number in 0..packets {
                let by = match (kind, number % 2, side) {
                    (2, 1, Side::A) => Side::B,
                    (2, 1, Side::B) => Side::A,
                    _ => side,
                };
                traffic.push(Send { at, by, answered: kind == 0 });
                at += interval;
            }
            at += match random.between(0, 4) {
                0 => random.millis(0, 20_000),
                1 => random.millis(0, 130_000),
                2 => random.millis(100_000, 200_000),
                _ => random.millis(0, 700_000),
            };
        }
        let length = u64::try_from(at.as_millis()).unwrap_or(0).max(1);
        let outages = (0..random.between(0, 5).saturating_sub(2)).map(|_| {
            let from = random.millis(0, length);
            (from, from + random.millis(1000, 120_000))
        });
        let outages = outages.collect();
        let link = Link { latency, jitter, loss, duplicates, outages, seed: random.number() };
        Self { link, traffic, keepalive: None, rest: Duration::from_secs(800) }
    }
}
