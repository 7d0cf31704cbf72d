//! The counters of one packet thread for one window.
//!
//! Owned by that thread until the window ends, then by the logger's worker. A known flow costs one look-up: no lock,
//! no atomic, no allocation. What is beyond the limit is counted per traffic class instead of per flow.

use std::ops::AddAssign;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::{
    classify::TrafficClass,
    key::{Key, V4Key, WideKey},
};
use crate::hook::{Connection, Direction};

/// Packets and bytes in both directions. Sums stop at `u64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Packets from this device.
    #[serde(rename = "txPkts", default, skip_serializing_if = "is_zero")]
    pub tx_packets: u64,
    /// Bytes in these packets, IP headers included.
    #[serde(rename = "txBytes", default, skip_serializing_if = "is_zero")]
    pub tx_bytes: u64,
    /// Packets to this device.
    #[serde(rename = "rxPkts", default, skip_serializing_if = "is_zero")]
    pub rx_packets: u64,
    /// Bytes in these packets, IP headers included.
    #[serde(rename = "rxBytes", default, skip_serializing_if = "is_zero")]
    pub rx_bytes: u64,
}

pub(super) fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Counts {
    #[inline]
    pub(super) fn add(&mut self, packets: u64, bytes: u64, direction: Direction) {
        let (sum_packets, sum_bytes) = match direction {
            Direction::Tx => (&mut self.tx_packets, &mut self.tx_bytes),
            Direction::Rx => (&mut self.rx_packets, &mut self.rx_bytes),
        };
        *sum_packets = sum_packets.saturating_add(packets);
        *sum_bytes = sum_bytes.saturating_add(bytes);
    }

    /// Packets in both directions.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.tx_packets.saturating_add(self.rx_packets)
    }

    /// Bytes in both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tx_bytes.saturating_add(self.rx_bytes)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.add(other.tx_packets, other.tx_bytes, Direction::Tx);
        self.add(other.rx_packets, other.rx_bytes, Direction::Rx);
    }
}

/// What is kept for a flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) counts: Counts,
    /// The state of the network at the flow's first packet, which decides its class.
    pub(super) epoch: u32,
    /// How many flows of this table came before.
    pub(super) order: u32,
}

/// The flows of one window.
#[derive(Debug, Default)]
pub(super) struct Table {
    v4: HashMap<V4Key, Entry, RandomState>,
    wide: HashMap<WideKey, Entry, RandomState>,
    overflow: [Counts; TrafficClass::COUNT],
}

/// A cleared table with more room than this is freed, not kept for the next window: one busy window shall not cost
/// memory for ever. 4,096 flows take about half a megabyte.
const MAX_RECYCLED_CAPACITY: usize = 4096;

impl Table {
    /// Flows in the table.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.wide.len()
    }

    /// The counts of an IPv4 flow, if it is known.
    #[inline]
    pub(super) fn known_v4(&mut self, key: &V4Key) -> Option<&mut Counts> {
        self.v4.get_mut(key).map(|entry| &mut entry.counts)
    }

    /// The counts of any other flow, if it is known.
    #[inline]
    pub(super) fn known_wide(&mut self, key: &WideKey) -> Option<&mut Counts> {
        self.wide.get_mut(key).map(|entry| &mut entry.counts)
    }

    /// The counts of a flow, if it is known.
    #[inline]
    pub(super) fn known(&mut self, key: &Key) -> Option<&mut Counts> {
        match key {
            Key::V4(key) => self.known_v4(key),
            Key::Wide(key) => self.known_wide(key),
        }
    }

    /// Adds a flow that is not known.
    pub(super) fn insert(&mut self, key: Key, epoch: u32, counts: Counts) {
        let entry = Entry { counts, epoch, order: u32::try_from(self.len()).unwrap_or(u32::MAX) };
        match key {
            Key::V4(key) => drop(self.v4.insert(key, entry)),
            Key::Wide(key) => drop(self.wide.insert(key, entry)),
        }
    }

    /// The counts of all flows of a class that found no room.
    pub(super) fn overflow_mut(&mut self, class: TrafficClass) -> &mut Counts {
        class.pick_mut(&mut self.overflow)
    }

    /// The counts of all flows that found no room, per class.
    pub(super) fn overflow(&self) -> impl Iterator<Item = (TrafficClass, Counts)> {
        TrafficClass::ALL.into_iter().zip(self.overflow)
    }

    /// All flows, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Connection, Entry)> {
        let v4 = self.v4.iter().map(|(key, entry)| (key.connection(), *entry));
        v4.chain(self.wide.iter().map(|(key, entry)| (key.connection(), *entry)))
    }

    /// All that was counted.
    pub(super) fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        self.iter().for_each(|(_, entry)| sum += entry.counts);
        self.overflow().for_each(|(_, counts)| sum += counts);
        sum
    }

    /// The table without flows, with its memory if that is worth keeping.
    pub(super) fn recycle(mut self) -> Self {
        if self.v4.capacity() + self.wide.capacity() > MAX_RECYCLED_CAPACITY {
            return Self::default();
        }
        self.v4.clear();
        self.wide.clear();
        self.overflow = Default::default();
        self
    }
}
