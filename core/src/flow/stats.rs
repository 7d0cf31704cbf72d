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
    }
}
