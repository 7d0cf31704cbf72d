//! One window: from the tables of the counters to messages.
//!
//! Pure logic without threads and clocks. The worker collects what counters hand over in a [`Record`], and turns it
//! into messages when the window is finished: adds up what several counters counted for one connection, classifies,
//! removes what privacy demands, sorts, and spreads what is too large over several messages.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use jiff::Timestamp;

use super::{
    FlowStats, Layer,
    classify::{Endpoint, Snapshot, TrafficClass},
    estimate,
    message::{ConnectionCounts, Message, NodeInfo},
    pack::{Header, Lists, pack},
    privacy::{ExitFlows, anonymise, sum_equal},
    table::{Counts, Table},
};
use crate::{
    clock::Instant,
    hook::{Connection, Protocol},
    netmap::{NodeId, Owner},
};

/// When and in which state of the network a window was opened.
#[derive(Debug)]
pub(super) struct WindowStart {
    pub(super) id: u64,
    /// Wall-clock time of the first packet.
    pub(super) start: Timestamp,
    pub(super) opened: Instant,
    /// When the counters hand over.
    pub(super) deadline: Instant,
    pub(super) epoch: u32,
    pub(super) snapshot: Arc<Snapshot>,
    /// What was allowed to be recorded then. A later, more generous setting is not applied to it.
    pub(super) exit_flows: ExitFlows,
    /// Whether the deadline holds. It does not while there is nothing but physical traffic: the keepalives of an idle
    /// tunnel must not wake the device once more for their record.
    pub(super) live: AtomicBool,
}

impl WindowStart {
    /// When the counters hand over, if they have to by themselves.
    pub(super) fn due(&self) -> Option<Instant> {
        self.live.load(Ordering::Acquire).then_some(self.deadline)
    }

    /// Makes the deadline hold.
    pub(super) fn wake(&self) {
        self.live.store(true, Ordering::Release);
    }
}

/// What a counter counted in a window.
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) window: Arc<WindowStart>,
    pub(super) layer: Layer,
    pub(super) table: Table,
    /// The states of the network since the window was opened, by epoch.
    pub(super) snapshots: Vec<(u32, Arc<Snapshot>)>,
    pub(super) at: Instant,
    /// How many counters have yet to hand over a table of the same window.
    pub(super) remaining: usize,
}

/// How messages are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordOptions {
    pub(super) exit_flows: ExitFlows,
    pub(super) include_node_info: bool,
    /// Reproduce upstream where tuntrail deliberately differs.
    pub(super) compat: bool,
}

/// One connection of one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) layer: Layer,
    pub(super) connection: Connection,
    pub(super) counts: Counts,
    pub(super) epoch: u32,
    /// Rows in the order of their first packets, as far as that is known.
    pub(super) order: u32,
    class: TrafficClass,
}

impl Row {
    fn key(&self) -> (Layer, Option<SocketAddr>, Option<SocketAddr>, Protocol) {
        let Connection { protocol, src, dst } = self.connection;
        (self.layer, src, dst, protocol)
    }

    pub(super) fn addresses(&self) -> [Option<IpAddr>; 2] {
        let dst = match self.layer {
            Layer::Virtual => self.connection.dst,
            // The endpoint on the Internet is no member of the network, whatever its address.
            Layer::Physical => None,
        };
        [self.connection.src, dst].map(|end| end.map(|end| end.ip()))
    }
}

/// Nodes whose addresses occur in a record.
pub(super) type SeenNodes = HashMap<IpAddr, Owner, RandomState>;

/// What was collected of a window.
#[derive(Debug)]
pub(super) struct Record {
    window: Arc<WindowStart>,
    end: Instant,
    tables: usize,
    rows: Vec<Row>,
    overflow: [Counts; TrafficClass::COUNT],
    snapshots: Vec<(u32, Arc<Snapshot>)>,
}

impl Record {
    /// A record of a window of which nothing is known yet.
    pub(super) fn new(window: Arc<WindowStart>) -> Self {
        Self {
            end: window.opened,
            window,
            tables: 0,
            rows: Vec::new(),
            overflow: Default::default(),
            snapshots: Vec::new(),
        }
    }

    /// The window's identity.
    pub(super) fn window(&self) -> &WindowStart {
        &self.window
    }

    /// Adds what a counter handed over, and gives the table back for reuse.
    pub(super) fn add(&mut self, handover: Handover) -> Table {
        let Handover { layer, table, snapshots, at, .. } = handover;
        self.end = self.end.max(at);
        self.tables += 1;
        for (epoch, snapshot) in snapshots {
            if self.snapshots.last().is_none_or(|&(last, _)| last < epoch) {
                self.snapshots.push((epoch, snapshot));
            }
        }
        let before = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        self.rows.reserve_exact(table.len());
        self.rows.extend(table.iter().map(|(connection, entry)| Row {
            layer,
            connection,
            counts: entry.counts,
            epoch: entry.epoch,
            order: before.saturating_add(entry.order),
            class: TrafficClass::Unknown,
        }));
        for (class, counts) in table.overflow() {
            *class.pick_mut(&mut self.overflow) += counts;
        }
        table.recycle()
    }

    /// The messages of the window in order, none if there is nothing to record.
    pub(super) fn into_messages(
        mut self,
        options: RecordOptions,
        stats: &mut FlowStats,
        mut emit: impl FnMut(Message),
    ) {
        if self.tables > 1 {
            self.merge_equal_rows();
        }
        let options = RecordOptions { exit_flows: options.exit_flows.min(self.window.exit_flows), ..options };
        if options.compat {
            self.rows.sort_unstable_by_key(|row| row.order);
            let self_owner = self.window.snapshot.map.self_owner();
            let mut lookup = |row: &Row, address| self.snapshot(row.epoch).map.owner(address);
            let sizes = estimate::split(&self.rows, self_owner.as_ref(), &mut lookup);
            for size in sizes {
                let later = self.rows.split_off(size.min(self.rows.len()));
                let rows = std::mem::replace(&mut self.rows, later);
                let overflow = if self.rows.is_empty() {
                    std::mem::take(&mut self.overflow)
                } else {
                    Default::default()
                };
                self.group_into_messages(rows, overflow, options, stats, &mut emit);
            }
        } else {
            let rows = std::mem::take(&mut self.rows);
            self.group_into_messages(rows, self.overflow, options, stats, &mut emit);
        }
    }

    /// Adds up what several counters counted for one connection. The first packet decides the class, so the earliest
    /// epoch stays.
    fn merge_equal_rows(&mut self) {
        self.rows.sort_unstable_by_key(Row::key);
        self.rows.dedup_by(|next, row| {
            let equal = next.key() == row.key();
            if equal {
                row.counts += next.counts;
                row.epoch = row.epoch.min(next.epoch);
                row.order = row.order.min(next.order);
            }
            equal
        });
    }

    fn group_into_messages(
        &self,
        mut rows: Vec<Row>,
        overflow: [Counts; TrafficClass::COUNT],
        options: RecordOptions,
        stats: &mut FlowStats,
        emit: &mut impl FnMut(Message),
    ) {
        let self_owner = self.window.snapshot.map.self_owner();
        let self_id = self_owner.as_ref().map(|owner| owner.node.id);
        let seen = self.classify(&mut rows, self_id, options.exit_flows);
        let (lists, overflow_packets) = into_lists(rows, overflow, options.exit_flows, &seen, stats);
        if lists.is_empty() {
            return;
        }
        if options.compat && self_owner.is_none() {
            return emit(empty_message());
        }
        let elapsed = self.end.saturating_duration_since(self.window.opened);
        let header = Header {
            node_id: self_owner.as_ref().map(|owner| owner.node.stable_id.clone()).unwrap_or_default(),
            start: self.window.start,
            end: self.window.start.saturating_add(elapsed).unwrap_or(self.window.start),
            src_node: self_owner.as_ref().filter(|_| options.include_node_info).map(NodeInfo::from),
            self_id,
            overflow_packets: if options.compat { 0 } else { overflow_packets },
        };
        let nodes = options.include_node_info.then_some(&seen);
        let limit = if options.compat { usize::MAX } else { super::MAX_MESSAGE_LEN };
        pack(&header, lists, nodes, limit, emit);
    }

    /// Gives each row its class and tells which nodes were seen. A connection is judged by the state of the network at
    /// its first packet, except that an address once known to be a node's stays one for the rest of the record.
    fn classify(&self, rows: &mut [Row], self_id: Option<NodeId>, exit_flows: ExitFlows) -> SeenNodes {
        let mut seen = SeenNodes::default();
        let epochs: BTreeSet<u32> = rows.iter().map(|row| row.epoch).collect();
        for epoch in epochs {
            let snapshot = self.snapshot(epoch);
            for row in rows.iter_mut().filter(|row| row.epoch == epoch) {
                let [src, dst] = row.addresses().map(|address| {
                    let known = address.and_then(|address| seen.get(&address));
                    let node = known.map(|owner| owner.node.id);
                    node.map_or_else(|| snapshot.endpoint(address), |id| Endpoint { address, node: Some(id) })
                });
                row.class = match row.layer {
                    Layer::Virtual => snapshot.classify(self_id, src, dst),
                    Layer::Physical => TrafficClass::Physical,
                };
                if row.class.is_exit() && exit_flows == ExitFlows::Off {
                    continue;
                }
                for end in [src, dst] {
                    if let (Some(address), Some(_)) = (end.address, end.node)
                        && !seen.contains_key(&address)
                        && let Some(owner) = snapshot.map.owner(address)
                    {
                        seen.insert(address, owner);
                    }
                }
            }
        }
        seen
    }

    /// The state of the network at an epoch. The oldest known one stands in where the network changed too often for
    /// all to be kept.
    fn snapshot(&self, epoch: u32) -> &Snapshot {
        let after = self.snapshots.partition_point(|&(at, _)| at <= epoch);
        let found = after.checked_sub(1).and_then(|at| self.snapshots.get(at));
        found.map_or(&self.window.snapshot, |(_, snapshot)| snapshot)
    }
}

/// Spreads classified rows over the lists of a message, applies the rules for exit traffic and sorts. Also tells how
/// many packets of connections without room are in them.
fn into_lists(
    rows: Vec<Row>,
    overflow: [Counts; TrafficClass::COUNT],
    exit_flows: ExitFlows,
    seen: &SeenNodes,
    stats: &mut FlowStats,
) -> (Lists, u64) {
    let mut lists = Lists::default();
    let mut overflow_packets = 0_u64;
    // Exact sizes: with all flows that fit into a table, doubling would cost megabytes.
    for class in TrafficClass::ALL {
        let same_list = |row: &&Row| row.class == class || (row.class.is_exit() && class.is_exit());
        // Two more for connections that found no room, of up to two classes.
        lists.of_class_mut(class).reserve_exact(rows.iter().filter(same_list).count() + 2);
    }
    let flows = rows.into_iter().map(|row| (row.class, row.connection, row.counts, 1));
    let no_room =
        TrafficClass::ALL.into_iter().zip(overflow).filter(|(_, counts)| *counts != Counts::default());
    let no_room = no_room.map(|(class, counts)| {
        (class, Connection { protocol: Protocol::UNKNOWN, src: None, dst: None }, counts, 0)
    });
    for (class, connection, counts, flows) in flows.chain(no_room) {
        let class_stats = stats.class_mut(class);
        class_stats.flows += flows;
        class_stats.counts += counts;
        let withheld = class.is_exit() && exit_flows == ExitFlows::Off;
        if flows == 0 {
            stats.overflow_packets = stats.overflow_packets.saturating_add(counts.packets());
            if !withheld {
                overflow_packets = overflow_packets.saturating_add(counts.packets());
            }
        } else if class != TrafficClass::Physical && connection.src.is_none() && connection.dst.is_none() {
            stats.undecodable_packets = stats.undecodable_packets.saturating_add(counts.packets());
        }
        if withheld {
            stats.withheld.flows += flows;
            stats.withheld.counts += counts;
            continue;
        }
        let Connection { protocol, src, dst } = connection;
        lists.of_class_mut(class).push(ConnectionCounts { protocol, src, dst, counts });
    }
    if exit_flows == ExitFlows::Aggregated {
        anonymise(&mut lists.exit_traffic, |address| seen.contains_key(&address));
        lists.exit_traffic.shrink_to_fit();
    } else {
        sum_equal(&mut lists.exit_traffic);
    }
    sum_equal(&mut lists.virtual_traffic);
    sum_equal(&mut lists.subnet_traffic);
    sum_equal(&mut lists.physical_traffic);
    (lists, overflow_packets)
}

/// What upstream makes of a record while it does not know its own node.
fn empty_message() -> Message {
    // The zero time of Go, 0001-01-01T00:00:00Z. It is within jiff's range, so the fallback is never taken.
    let zero = Timestamp::from_second(-62_135_596_800).unwrap_or(Timestamp::UNIX_EPOCH);
    Message::new(String::new(), zero, zero)
}
