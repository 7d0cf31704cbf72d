//! Token buckets: one, and a table of them per source address.
//!
//! The table is a fixed number of small sets, and a source's set follows from a keyed hash of its address. A new source
//! takes the place of the set's one that is nearest to being full, so newcomers are never turned away for want of room.
//! A bucket that is full again says nothing: after a quarter of a second without messages, nothing is lost by
//! forgetting a source.

use std::{hash::BuildHasher, net::IpAddr, time::Duration};

use foldhash::fast::RandomState;

use crate::clock::Instant;

/// Sets of the table: 1,024 sources in all, in 16 KiB. More than are ever in the middle of a handshake with a client,
/// and as many as can hand in five messages within a quarter of a second before a core is busy anyway.
const SETS: usize = 256;
/// Sources per set: a few, so that chance rarely fills one, and looking through it stays cheap.
const WAYS: usize = 4;

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Time per token.
    interval: Duration,
    /// Time to fill the bucket.
    capacity: Duration,
}

impl Rate {
    /// One token per `interval`, and at most `burst` saved.
    pub(super) const fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, capacity: interval.saturating_mul(burst) }
    }
}

/// A token bucket, kept as the time when it will be full. Full at first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    full_at: Instant,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { full_at: Instant::from_nanos(0) }
    }
}

impl Bucket {
    /// Takes a token. Returns whether there was one.
    pub(super) fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let full_at = self.full_at.max(now) + rate.interval;
        let taken = full_at <= now + rate.capacity;
        if taken {
            self.full_at = full_at;
        }
        taken
    }
}

/// An IPv4 address or the upper half of an IPv6 address: whoever has one address of a /64 has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Source(u64);

impl Source {
    fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            // Among prefixes that are reserved (RFC 4291, 2.4: 0000::/8) and send nothing.
            IpAddr::V4(address) => Self(0x0000_ffff_0000_0000 | u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sources {
    hasher: RandomState,
    /// A place that was never taken has a full bucket, which is right for whoever finds it.
    sets: Box<[[(Source, Bucket); WAYS]]>,
}

impl Sources {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::default(),
            sets: vec![[(Source::default(), Bucket::default()); WAYS]; SETS].into_boxed_slice(),
        }
    }

    /// Takes a token of the source `address`. Returns whether it had one.
    pub(super) fn take(&mut self, now: Instant, address: IpAddr, rate: Rate) -> bool {
        let source = Source::new(address);
        let at = self.hasher.hash_one(source) as usize % SETS;
        let Some(set) = self.sets.get_mut(at) else {
            return false;
        };
        if let Some((_, bucket)) = set.iter_mut().find(|place| place.0 == source) {
            return bucket.take(now, rate);
        }
        let Some(place) = set.iter_mut().min_by_key(|place| place.1.full_at) else {
            return false;
        };
        *place = (source, Bucket::default());
        place.1.take(now, rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
    const RATE: Rate = Rate::new(Duration::from_millis(50), 5);

    fn taken(sources: &mut Sources, now: Instant, address: &str) -> usize {
        (0..100).take_while(|_| sources.take(now, address.parse().unwrap(), RATE)).count()
    }

    #[test]
    fn a_bucket_holds_a_burst_and_fills_by_time() {
        let mut bucket = Bucket::default();
        let mut take = |millis| bucket.take(NOW + Duration::from_millis(millis), RATE);
        assert_eq!([(); 6].map(|()| take(0)), [true, true, true, true, true, false]);
        assert!(!take(49));
        assert!(take(50) && !take(50));
        assert_eq!([(); 6].map(|()| take(60_000)), [true, true, true, true, true, false]);
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_prefix_of_64_bits() {
        let mut sources = Sources::new();
        assert_eq!(taken(&mut sources, NOW, "192.0.2.1"), 5);
        assert_eq!(taken(&mut sources, NOW, "::ffff:192.0.2.1"), 0);
        assert_eq!(taken(&mut sources, NOW, "192.0.2.2"), 5);
        assert_eq!(taken(&mut sources, NOW, "2001:db8::1"), 5);
        assert_eq!(taken(&mut sources, NOW, "2001:db8::ffff:0:0:1"), 0);
        assert_eq!(taken(&mut sources, NOW, "2001:db8:0:1::1"), 5);
    }

    #[test]
    fn newcomers_always_find_room_and_the_busiest_stay() {
        let mut sources = Sources::new();
        let busy = "192.0.2.1".parse().unwrap();
        assert_eq!(taken(&mut sources, NOW, "192.0.2.1"), 5);
        for number in 0..100_000_u32 {
            let newcomer = IpAddr::from((0x0a00_0000 | number).to_be_bytes());
            assert!(sources.take(NOW, newcomer, RATE), "{newcomer}");
            // One message each takes less than five: they push out each other.
            assert!(!sources.take(NOW, busy, RATE));
        }
        assert_eq!(sources.sets.len(), SETS);
    }
}
