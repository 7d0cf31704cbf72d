//! All flows of one packet thread.
//!
//! Owned by that thread until its counter is dropped; then the logger's worker takes it over to close what is left.
//! Sans-IO: it is told the time and the packets, and gives events in batches. No method blocks, takes a lock or looks
//! at more flows than change. A packet of a known flow allocates nothing: it is one look-up in the index, a sum, and
//! the flow's move to the end of its list.

use std::{hash::BuildHasher, mem};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{
    CloseReason, FlowEvent, FlowEventKind, LifecycleConfig,
    flow::{Flow, Heritage, Opening, Patience},
    grant::{ExitGrants, Grant},
    id::FlowIds,
    list::{Links, List},
    packet::Packet,
    path::{PathEnds, Paths},
};
use crate::{
    clock::Instant,
    flow::{counter::is_service, key::Key, stats::LifecycleStats},
    hook::Connection,
    packet::TcpFlags,
};

/// Events of a batch, about 80 KiB. A device begins and ends a few flows per second; a page of a browser, a hundred.
pub(super) const MAX_BATCH: usize = 256;
/// Deadlines are put off to whole seconds, so that the many flows of a page wake an idle device once and not a hundred
/// times. What happens at a deadline is the same whenever it comes.
const GRAIN_NANOS: u64 = 1_000_000_000;
/// Slots that are kept when no flow is left: about a quarter of a megabyte.
const MAX_KEPT_SLOTS: usize = 1024;

/// An event on its way to the worker.
#[derive(Debug)]
pub(in crate::flow) struct QueuedEvent {
    pub(in crate::flow) grant: Grant,
    pub(in crate::flow) event: FlowEvent,
}

/// What a tracker has to tell.
#[derive(Debug, Default)]
pub(in crate::flow) struct FlowReport {
    pub(in crate::flow) events: Vec<QueuedEvent>,
    /// What was counted since the report before.
    pub(in crate::flow) stats: LifecycleStats,
}

impl FlowReport {
    pub(in crate::flow) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.stats == LifecycleStats::default()
    }
}

/// One list per timeout, the flow that was silent for longest first.
#[derive(Debug, Default)]
struct IdleLists {
    tcp_established: List,
    tcp_other: List,
    tcp_closed: List,
    udp: List,
    dns: List,
    icmp: List,
}

impl IdleLists {
    #[inline]
    fn of(&mut self, patience: Patience) -> &mut List {
        match patience {
            Patience::TcpEstablished => &mut self.tcp_established,
            Patience::TcpOther => &mut self.tcp_other,
            Patience::TcpClosed => &mut self.tcp_closed,
            Patience::Udp => &mut self.udp,
            Patience::Dns => &mut self.dns,
            Patience::Icmp => &mut self.icmp,
        }
    }

    fn heads(&self) -> impl Iterator<Item = u32> {
        let Self { tcp_established, tcp_other, tcp_closed, udp, dns, icmp } = self;
        [tcp_established, tcp_other, tcp_closed, udp, dns, icmp].into_iter().filter_map(List::head)
    }
}

/// See the module.
pub(in crate::flow) struct FlowTracker {
    config: LifecycleConfig,
    grants: ExitGrants,
    hasher: RandomState,
    /// Slots of the open flows by their keys, which stand in the slots.
    index: HashTable<u32>,
    slots: Vec<Option<Flow>>,
    free: Vec<u32>,
    idle_links: Links,
    idle: IdleLists,
    /// Flows that are over but whose events found no room, the oldest first. They use the links of the idle lists.
    waiting: List,
    untold_links: Links,
    /// Flows with packets that no event has told of, the longest untold first.
    untold: List,
    paths: Paths,
    ids: FlowIds,
    report: FlowReport,
}

/// What a packet means for the flow that has its key.
enum Fit {
    Added,
    /// The flow's time was up before.
    Expired,
    /// A new connection took over its addresses and ports.
    Reused,
    /// It takes one path too many.
    TooManyPaths(Heritage),
}

impl FlowTracker {
    pub(in crate::flow) fn new(config: LifecycleConfig, grants: ExitGrants) -> Self {
        Self {
            config,
            grants,
            hasher: RandomState::default(),
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            idle_links: Links::default(),
            idle: IdleLists::default(),
            waiting: List::default(),
            untold_links: Links::default(),
            untold: List::default(),
            paths: Paths::default(),
            ids: FlowIds::new(),
            report: FlowReport::default(),
        }
    }

    /// The path of the packets that follow.
    pub(super) fn set_path(&mut self, ends: PathEnds) {
        self.paths.set(ends);
    }

    /// Takes a packet. `open` is asked only if it begins a flow.
    #[inline]
    pub(super) fn observe(
        &mut self,
        now: Instant,
        packet: &Packet,
        open: impl FnOnce(&Connection) -> Opening,
    ) {
        let hash = self.hasher.hash_one(packet.key);
        let mut heritage = None;
        if let Some(at) = self.find(hash, &packet.key) {
            match self.add(now, at, packet) {
                Fit::Added => return,
                Fit::Expired => self.expire(now),
                Fit::Reused => self.close(at, CloseReason::Split, now),
                Fit::TooManyPaths(of_flow) => {
                    self.close(at, CloseReason::Split, now);
                    heritage = Some(of_flow);
                }
            }
        }
        self.begin(now, hash, packet, heritage, open);
    }

    #[inline]
    fn find(&self, hash: u64, key: &Key) -> Option<u32> {
        let has_key = |&at: &u32| self.flow(at).is_some_and(|flow| flow.key == *key);
        self.index.find(hash, has_key).copied()
    }

    #[inline]
    fn flow(&self, at: u32) -> Option<&Flow> {
        self.slots.get(at as usize).and_then(Option::as_ref)
    }

    #[inline]
    fn add(&mut self, now: Instant, at: u32, packet: &Packet) -> Fit {
        let Some(flow) = self.slots.get_mut(at as usize).and_then(Option::as_mut) else {
            return Fit::Expired;
        };
        if now >= flow.expiry(&self.config) {
            return Fit::Expired;
        }
        if flow.is_ended_by(packet) {
            return Fit::Reused;
        }
        if !flow.paths.is_current(&self.paths) && !flow.paths.follow(now, &self.paths) {
            return Fit::TooManyPaths(flow.heritage());
        }
        let before = flow.patience;
        flow.add(now, packet);
        let after = flow.patience;
        if before == after {
            self.idle_links.move_to_back(self.idle.of(after), at);
        } else {
            self.idle_links.remove(self.idle.of(before), at);
            self.idle_links.push_back(self.idle.of(after), at);
        }
        if flow.untold_since().is_none() && !self.config.active.is_zero() {
            flow.set_untold_since(Some(now));
            self.untold_links.push_back(&mut self.untold, at);
        }
        if packet.has(TcpFlags::RST) {
            self.close(at, CloseReason::Rst, now);
        }
        Fit::Added
    }

    #[cold]
    #[inline(never)]
    fn begin(
        &mut self,
        now: Instant,
        hash: u64,
        packet: &Packet,
        heritage: Option<Heritage>,
        open: impl FnOnce(&Connection) -> Opening,
    ) {
        let connection = packet.key.connection();
        if is_service(&connection) {
            return;
        }
        let (Some(local), Some(remote)) = (connection.src, connection.dst) else {
            return self.stray(packet);
        };
        if heritage.is_none() && packet.is_tail() {
            return self.stray(packet);
        }
        self.make_room(now);
        let opening = open(&connection);
        let id = self.ids.next();
        let mut flow = Flow::new(now, packet, [local.port(), remote.port()], id, opening, heritage);
        // It is the first one and finds room.
        flow.paths.follow(now, &self.paths);
        let patience = flow.patience;
        let at = self.insert(hash, flow);
        self.idle_links.push_back(self.idle.of(patience), at);
        self.report.stats.flows += 1;
        self.tell(at, FlowEventKind::Open);
        self.add(now, at, packet);
    }

    fn stray(&mut self, packet: &Packet) {
        self.report.stats.stray.add(packet.packets, packet.bytes, packet.direction);
    }

    fn insert(&mut self, hash: u64, flow: Flow) -> u32 {
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                // At most 65,536, by the configuration.
                let at = self.slots.len() as u32;
                self.slots.push(None);
                self.idle_links.add_slot();
                self.untold_links.add_slot();
                at
            }
        };
        if let Some(slot) = self.slots.get_mut(at as usize) {
            *slot = Some(flow);
        }
        let Self { index, slots, hasher, .. } = self;
        index.insert_unique(hash, at, |&at| {
            let flow = slots.get(at as usize).and_then(Option::as_ref);
            flow.map_or(0, |flow| hasher.hash_one(flow.key))
        });
        at
    }

    /// Flows in slots, those that wait for room in a batch included.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    fn make_room(&mut self, now: Instant) {
        while self.len() >= self.config.max_flows {
            if let Some(at) = self.waiting.head() {
                self.lose(at);
                continue;
            }
            let last = |at: &u32| self.flow(*at).map(|flow| flow.last);
            let Some(at) = self.idle.heads().min_by_key(last) else { return };
            self.report.stats.evicted += 1;
            self.close(at, CloseReason::Evicted, now);
        }
    }

    /// Gives up a flow that is over and whose event can't be told for want of room. It is in the statistics.
    fn lose(&mut self, at: u32) {
        self.idle_links.remove(&mut self.waiting, at);
        if let Some(flow) = self.release(at) {
            self.report.stats.lost += 1;
            self.report.stats.lost_counts += flow.local_counts();
        }
    }

    fn release(&mut self, at: u32) -> Option<Flow> {
        let flow = self.slots.get_mut(at as usize)?.take();
        if flow.is_some() {
            self.free.push(at);
        }
        flow
    }

    /// Puts an event into the batch, if it may be told and there is room.
    fn tell(&mut self, at: u32, kind: FlowEventKind) {
        let Some(flow) = self.slots.get(at as usize).and_then(Option::as_ref) else { return };
        if !self.grants.allows(flow.grant) {
            return;
        }
        if self.is_full() {
            self.report.stats.skipped += 1;
        } else if let Some(event) = flow.event(kind) {
            self.report.events.push(QueuedEvent { grant: flow.grant, event });
        }
    }

    /// Ends an open flow, at `end` if its reason doesn't say otherwise.
    fn close(&mut self, at: u32, reason: CloseReason, end: Instant) {
        let Some(flow) = self.slots.get_mut(at as usize).and_then(Option::as_mut) else { return };
        let (patience, untold) = (flow.patience, flow.untold_since());
        flow.end(reason, end);
        let hash = self.hasher.hash_one(flow.key);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        self.idle_links.remove(self.idle.of(patience), at);
        if untold.is_some() {
            self.untold_links.remove(&mut self.untold, at);
        }
        if self.is_full() && self.flow(at).is_some_and(|flow| self.grants.allows(flow.grant)) {
            self.idle_links.push_back(&mut self.waiting, at);
        } else {
            self.tell_end(at);
        }
    }

    /// Tells of the end of a flow that is in no list any more. There is room in the batch, or nothing to tell.
    fn tell_end(&mut self, at: u32) {
        let Some(flow) = self.release(at) else { return };
        if !self.grants.allows(flow.grant) {
            self.report.stats.withheld += 1;
            self.report.stats.withheld_counts += flow.local_counts();
        } else if let Some(event) = flow.event(FlowEventKind::Close) {
            self.report.events.push(QueuedEvent { grant: flow.grant, event });
        }
    }

    /// Closes the flows that were silent for too long.
    fn expire(&mut self, now: Instant) {
        for patience in Patience::ALL {
            while let Some(at) = self.idle.of(patience).head() {
                let Some(expiry) = self.flow(at).map(|flow| flow.expiry(&self.config)) else { break };
                if expiry > now {
                    break;
                }
                self.close(at, CloseReason::Idle, expiry);
            }
        }
    }

    fn update(&mut self, now: Instant) {
        while let Some(at) = self.untold.head() {
            if self.update_due(at).is_none_or(|due| due > now) {
                return;
            }
            self.untold_links.remove(&mut self.untold, at);
            if let Some(flow) = self.slots.get_mut(at as usize).and_then(Option::as_mut) {
                flow.set_untold_since(None);
            }
            self.tell(at, FlowEventKind::Update);
        }
    }

    fn update_due(&self, at: u32) -> Option<Instant> {
        self.flow(at)?.untold_since().map(|since| since + self.config.active)
    }

    /// When [`Self::handle_deadline`] must be called, or `None` if no flow is open.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let expiries = self.idle.heads().filter_map(|at| Some(self.flow(at)?.expiry(&self.config)));
        let update = self.untold.head().and_then(|at| self.update_due(at));
        let exact = expiries.chain(update).min()?.as_nanos();
        Some(Instant::from_nanos(exact.div_ceil(GRAIN_NANOS).saturating_mul(GRAIN_NANOS)))
    }

    /// Closes the flows that were silent for too long, and updates those that went on for long.
    pub(super) fn handle_deadline(&mut self, now: Instant) {
        self.expire(now);
        self.update(now);
        self.shrink();
    }

    /// Gives memory back that a burst has left behind.
    fn shrink(&mut self) {
        if self.len() == 0 && self.slots.len() > MAX_KEPT_SLOTS {
            self.slots = Vec::new();
            self.free = Vec::new();
            self.index = HashTable::new();
            self.idle_links = Links::default();
            self.untold_links = Links::default();
        }
    }

    /// Closes all flows. Those whose events find no room in the batch wait for [`Self::refill`].
    pub(in crate::flow) fn close_all(&mut self, now: Instant, reason: CloseReason) {
        self.expire(now);
        for patience in Patience::ALL {
            while let Some(at) = self.idle.of(patience).head() {
                self.close(at, reason, now);
            }
        }
    }

    /// Whether the batch takes no more events.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.report.events.len() >= MAX_BATCH
    }

    /// Whether there are events in the batch.
    #[inline]
    pub(super) fn has_events(&self) -> bool {
        !self.report.events.is_empty()
    }

    /// Takes what there is to tell. Give it back with [`Self::put_back`], or go on with [`Self::refill`].
    pub(in crate::flow) fn take_report(&mut self) -> FlowReport {
        mem::take(&mut self.report)
    }

    /// Takes back a report for which there was no room.
    pub(super) fn put_back(&mut self, report: FlowReport) {
        self.report = report;
    }

    /// Begins the next batch with the flows that waited for it. `spare` is an empty list, for its memory.
    pub(in crate::flow) fn refill(&mut self, spare: Vec<QueuedEvent>) {
        self.report.events = spare;
        while !self.is_full()
            && let Some(at) = self.waiting.head()
        {
            self.idle_links.remove(&mut self.waiting, at);
            self.tell_end(at);
        }
        self.shrink();
    }
}

impl std::fmt::Debug for FlowTracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowTracker").field("flows", &self.len()).finish_non_exhaustive()
    }
}
