//! Spreads a window over as few messages as their length limit allows.
//!
//! The length is exact, not estimated: a message is closed when the next connection, with the nodes it is the first
//! to mention, would not fit. Every message names the nodes of its own connections, so each can be read alone.

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;

use super::{
    classify::TrafficClass,
    json::{self, MAX_ROW_LEN, list_overhead, node_len, row_len},
    message::{ConnectionCounts, Message, NodeInfo},
    window::SeenNodes,
};
use crate::netmap::NodeId;

/// What all messages of a window have in common.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) node_id: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) src_node: Option<NodeInfo>,
    pub(super) self_id: Option<NodeId>,
    /// Reported in the first message.
    pub(super) overflow_packets: u64,
}

/// The lists of connections of a message.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) virtual_traffic: Vec<ConnectionCounts>,
    pub(super) subnet_traffic: Vec<ConnectionCounts>,
    pub(super) exit_traffic: Vec<ConnectionCounts>,
    pub(super) physical_traffic: Vec<ConnectionCounts>,
}

impl Lists {
    pub(super) fn of_class_mut(&mut self, class: TrafficClass) -> &mut Vec<ConnectionCounts> {
        match class {
            TrafficClass::Virtual => &mut self.virtual_traffic,
            TrafficClass::Subnet => &mut self.subnet_traffic,
            TrafficClass::Exit | TrafficClass::Unknown => &mut self.exit_traffic,
            TrafficClass::Physical => &mut self.physical_traffic,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.virtual_traffic.is_empty()
            && self.subnet_traffic.is_empty()
            && self.exit_traffic.is_empty()
            && self.physical_traffic.is_empty()
    }
}

impl Message {
    /// A message without nodes and connections.
    pub(super) fn new(node_id: String, start: Timestamp, end: Timestamp) -> Self {
        Self {
            node_id,
            start,
            end,
            src_node: None,
            dst_nodes: Vec::new(),
            virtual_traffic: Vec::new(),
            subnet_traffic: Vec::new(),
            exit_traffic: Vec::new(),
            physical_traffic: Vec::new(),
            overflow_packets: 0,
        }
    }

    fn list_mut(&mut self, class: TrafficClass) -> (&'static str, &mut Vec<ConnectionCounts>) {
        match class {
            TrafficClass::Virtual => (json::VIRTUAL, &mut self.virtual_traffic),
            TrafficClass::Subnet => (json::SUBNET, &mut self.subnet_traffic),
            TrafficClass::Exit | TrafficClass::Unknown => (json::EXIT, &mut self.exit_traffic),
            TrafficClass::Physical => (json::PHYSICAL, &mut self.physical_traffic),
        }
    }
}

/// Emits messages with all connections, none longer than `limit` bytes of JSON. A message has at least one connection;
/// the limits of [`netmap`](crate::netmap) see to it that one with its nodes always fits.
pub(super) fn pack(
    header: &Header,
    lists: Lists,
    nodes: Option<&SeenNodes>,
    limit: usize,
    emit: &mut impl FnMut(Message),
) {
    let Lists { virtual_traffic, subnet_traffic, exit_traffic, physical_traffic } = lists;
    let mut known = KnownNodes { seen: nodes, self_id: header.self_id, infos: HashMap::default() };
    let mut draft = Draft::new(header, header.overflow_packets);
    for (class, rows) in [
        (TrafficClass::Virtual, virtual_traffic),
        (TrafficClass::Subnet, subnet_traffic),
        (TrafficClass::Exit, exit_traffic),
        (TrafficClass::Physical, physical_traffic),
    ] {
        for row in rows {
            if !draft.try_push(class, row, &mut known, limit) {
                let full = std::mem::replace(&mut draft, Draft::new(header, 0));
                emit(full.finish());
                draft.try_push(class, row, &mut known, usize::MAX);
            }
        }
    }
    if !draft.is_empty {
        emit(draft.finish());
    }
}

/// The nodes of a window as they appear in messages, with the lengths of their JSON.
struct KnownNodes<'a> {
    seen: Option<&'a SeenNodes>,
    self_id: Option<NodeId>,
    infos: HashMap<NodeId, (NodeInfo, usize), RandomState>,
}

impl KnownNodes<'_> {
    /// The nodes besides this device that a connection mentions.
    fn of_row(&self, class: TrafficClass, row: &ConnectionCounts) -> [Option<NodeId>; 2] {
        let dst = row.dst.filter(|_| class != TrafficClass::Physical);
        let [src, dst] = [row.src, dst].map(|end| {
            let owner = self.seen?.get(&end?.ip())?;
            Some(owner.node.id).filter(|&id| Some(id) != self.self_id)
        });
        [src, dst.filter(|_| dst != src)]
    }

    /// A node that a connection mentions.
    fn info(&mut self, id: NodeId, row: &ConnectionCounts) -> Option<&(NodeInfo, usize)> {
        if !self.infos.contains_key(&id) {
            let mut ends = [row.src, row.dst].into_iter().flatten();
            let owner = ends.find_map(|end| self.seen?.get(&end.ip()).filter(|owner| owner.node.id == id))?;
            let info = NodeInfo::from(owner);
            let len = node_len(&info);
            self.infos.insert(id, (info, len));
        }
        self.infos.get(&id)
    }
}

/// A message that is being filled.
struct Draft {
    message: Message,
    /// Its length, or an upper bound of it while connections were not measured.
    len: usize,
    /// Whether connections are measured. Most messages are so far below the limit that none need be.
    exact: bool,
    nodes: HashSet<NodeId, RandomState>,
    is_empty: bool,
}

impl Draft {
    fn new(header: &Header, overflow_packets: u64) -> Self {
        let mut message = Message::new(header.node_id.clone(), header.start, header.end);
        message.src_node.clone_from(&header.src_node);
        message.overflow_packets = overflow_packets;
        let len = message.to_json().len();
        Self { message, len, exact: false, nodes: HashSet::default(), is_empty: true }
    }

    /// Adds a connection unless the message would become longer than `limit`. The first always goes in.
    fn try_push(
        &mut self,
        class: TrafficClass,
        row: ConnectionCounts,
        known: &mut KnownNodes<'_>,
        limit: usize,
    ) -> bool {
        let nodes = known.of_row(class, &row).map(|id| id.filter(|id| !self.nodes.contains(id)));
        let mut len = self.len + if self.exact { row_len(&row) } else { MAX_ROW_LEN };
        let mut no_nodes = self.message.dst_nodes.is_empty();
        let (name, rows) = self.message.list_mut(class);
        len += if rows.is_empty() { list_overhead(name) } else { ",".len() };
        for id in nodes.into_iter().flatten() {
            let node = known.info(id, &row).map_or(0, |(_, len)| *len);
            len += node + if no_nodes { list_overhead(json::DST_NODES) } else { ",".len() };
            no_nodes = false;
        }
        if len > limit && !self.is_empty {
            if self.exact {
                return false;
            }
            self.measure();
            return self.try_push(class, row, known, limit);
        }
        rows.push(row);
        for id in nodes.into_iter().flatten() {
            if let Some((info, _)) = known.info(id, &row) {
                self.message.dst_nodes.push(info.clone());
            }
            self.nodes.insert(id);
        }
        self.len = len;
        self.is_empty = false;
        true
    }

    /// Replaces the upper bound by the length.
    fn measure(&mut self) {
        let message = &self.message;
        let lists = [
            &message.virtual_traffic,
            &message.subnet_traffic,
            &message.exit_traffic,
            &message.physical_traffic,
        ];
        let spare: usize =
            lists.into_iter().flatten().map(|row| MAX_ROW_LEN.saturating_sub(row_len(row))).sum();
        self.len -= spare;
        self.exact = true;
    }

    fn finish(self) -> Message {
        let mut message = self.message;
        message.dst_nodes.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        message
    }
}
