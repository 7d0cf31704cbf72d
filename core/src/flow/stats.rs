//! What the flow logger has done so far.

use std::ops::AddAssign;

use super::{classify::TrafficClass, table::Counts};

/// Sums over one kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassStats {
    /// Connections, counted anew in each window.
    pub flows: u64,
    /// Packets and bytes, those of connections that found no room included.
    pub counts: Counts,
}

/// Sums since the logger was started. They cover the windows that were finished; nothing in them identifies anybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowStats {
    /// Records given to the sink.
    pub records: u64,
    /// Their bytes of JSON.
    pub record_bytes: u64,
    /// Connections between this device and other nodes.
    pub virtual_traffic: ClassStats,
    /// Connections through subnet routers.
    pub subnet_traffic: ClassStats,
    /// Connections through exit nodes.
    pub exit_traffic: ClassStats,
    /// Connections of unknown kind, undecodable packets among them.
    pub unknown_traffic: ClassStats,
    /// Datagrams of the tunnel.
    pub physical_traffic: ClassStats,
    /// Exit and unknown traffic that was not recorded, because of [`ExitFlows::Off`](super::ExitFlows::Off).
    pub withheld: ClassStats,
    /// Packets of connections that found no room in the table. They are in the sums of their kind of traffic.
    pub overflow_packets: u64,
    /// Packets whose addresses could not be read.
    pub undecodable_packets: u64,
    /// How often a counter kept its table because the worker was behind. Nothing is lost by it; the window gets longer.
    pub deferred_handovers: u64,
    /// Tables that came too late for their window and got a record of their own.
    pub late_tables: u64,
    /// What counters counted after the logger was shut down.
    pub discarded: Counts,
    /// What was done to follow single flows, see [`FlowConfig::lifecycle`](super::FlowConfig::lifecycle).
    pub lifecycle: LifecycleStats,
}

/// Sums of the life cycles of flows, as far as the counters have handed them over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LifecycleStats {
    /// Flows that began.
    pub flows: u64,
    /// Events given to the sink.
    pub events: u64,
    /// Their bytes of JSON.
    pub event_bytes: u64,
    /// Packets that belong to no flow: the rest of TCP connections that were over, and packets without addresses.
    pub stray: Counts,
    /// Flows that were closed because there were too many.
    pub evicted: u64,
    /// Exit flows, and flows of unknown kind, of whose end nothing was told, because they need
    /// [`ExitFlows::Full`](super::ExitFlows::Full); and what they carried.
    pub withheld: u64,
    /// See `withheld`.
    pub withheld_counts: Counts,
    /// Events of a flow's beginning or progress that were left out because the worker was behind. Its `close` tells all
    /// of it.
    pub skipped: u64,
    /// Flows whose `close` was lost because the worker was behind for very long, or the logger was shut down before
    /// the counter was dropped; and what they carried.
    pub lost: u64,
    /// See `lost`.
    pub lost_counts: Counts,
    /// How often a counter kept its events because the worker was behind.
    pub deferred_handovers: u64,
}

impl FlowStats {
    pub(super) fn class_mut(&mut self, class: TrafficClass) -> &mut ClassStats {
        match class {
            TrafficClass::Virtual => &mut self.virtual_traffic,
            TrafficClass::Subnet => &mut self.subnet_traffic,
            TrafficClass::Exit => &mut self.exit_traffic,
            TrafficClass::Unknown => &mut self.unknown_traffic,
            TrafficClass::Physical => &mut self.physical_traffic,
        }
    }
}

impl AddAssign for ClassStats {
    fn add_assign(&mut self, other: Self) {
        self.flows += other.flows;
        self.counts += other.counts;
    }
}

impl AddAssign for FlowStats {
    fn add_assign(&mut self, other: Self) {
        // Without `..`, so that no sum is forgotten.
        let Self {
            records,
            record_bytes,
            virtual_traffic,
            subnet_traffic,
            exit_traffic,
            unknown_traffic,
            physical_traffic,
            withheld,
            overflow_packets,
            undecodable_packets,
            deferred_handovers,
            late_tables,
            discarded,
            lifecycle,
        } = other;
        self.records += records;
        self.record_bytes += record_bytes;
        self.virtual_traffic += virtual_traffic;
        self.subnet_traffic += subnet_traffic;
        self.exit_traffic += exit_traffic;
        self.unknown_traffic += unknown_traffic;
        self.physical_traffic += physical_traffic;
        self.withheld += withheld;
        self.overflow_packets = self.overflow_packets.saturating_add(overflow_packets);
        self.undecodable_packets = self.undecodable_packets.saturating_add(undecodable_packets);
        self.deferred_handovers += deferred_handovers;
        self.late_tables += late_tables;
        self.discarded += discarded;
        self.lifecycle += lifecycle;
    }
}

impl AddAssign for LifecycleStats {
    fn add_assign(&mut self, other: Self) {
        // Without `..`, so that no sum is forgotten.
        let Self {
            flows,
            events,
            event_bytes,
            stray,
            evicted,
            withheld,
            withheld_counts,
            skipped,
            lost,
            lost_counts,
            deferred_handovers,
        } = other;
        self.flows += flows;
        self.events += events;
        self.event_bytes += event_bytes;
        self.stray += stray;
        self.evicted += evicted;
        self.withheld += withheld;
        self.withheld_counts += withheld_counts;
        self.skipped += skipped;
        self.lost += lost;
        self.lost_counts += lost_counts;
        self.deferred_handovers += deferred_handovers;
    }
}
