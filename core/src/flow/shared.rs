//! What the counters, the worker and the owner of a logger share: one mutex around little state.
//!
//! Packet threads take it when the first packet of a window comes and when they hand over, and nobody holds it while
//! doing anything that can wait. A condition variable wakes the worker, which otherwise sleeps for ever.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    FlowConfig, Layer,
    classify::Snapshot,
    lifecycle::{CloseReason, ExitGrants, FlowEventKind, FlowReport, FlowTracker, QueuedEvent},
    privacy::ExitFlows,
    stats::{FlowStats, LifecycleStats},
    table::Table,
    window::{Handover, WindowStart},
};
use crate::{
    clock::{Instant, SharedClock},
    netmap::{NetworkMap, Routes},
};

/// States of the network kept for open windows. Networks change every few minutes and windows last seconds, so this is
/// reached only when something goes wrong; then the oldest kept state stands in for older ones.
const MAX_SNAPSHOTS: usize = 8;
/// Tables of full size that may wait for the worker: those of one window. The worker needs milliseconds for one, so more
/// wait only if the disk or the processor is stuck, and then memory must stay bounded.
const MAX_QUEUED_FULL_TABLES: usize = 2;
/// Tables of any size that may wait for the worker: of twenty small windows of three counters.
const MAX_QUEUED_TABLES: usize = 64;
/// Empty tables kept for reuse: two counters (virtual and physical) and as many again in flight.
const MAX_SPARE_TABLES: usize = 4;
/// Flow events that may wait for the worker: four full batches, about 300 KiB. It writes thousands in a second.
const MAX_QUEUED_EVENTS: usize = 1024;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: SharedClock,
    window: Duration,
    max_flows: usize,
    /// Whether physical traffic opens windows as any other does, as upstream has it.
    compat: bool,
    /// The current state of the network. Written under the mutex; read alone for each new flow.
    epoch: AtomicU32,
    /// Whether single exit flows may be told of. Written under the mutex.
    pub(super) exit_grants: ExitGrants,
    state: Mutex<State>,
    /// Wakes the worker.
    work: Condvar,
    /// Wakes those who wait for [`Shared::flush`].
    flushed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The latest states of the network by epoch, the current one last. Never empty.
    snapshots: VecDeque<(u32, Arc<Snapshot>)>,
    exit_flows: ExitFlows,
    /// Windows with counters that have yet to hand over, the newest last.
    windows: Vec<OpenWindow>,
    next_window: u64,
    queue: VecDeque<Handover>,
    queued_flows: usize,
    /// What there is to tell of single flows, in order.
    reports: VecDeque<FlowJob>,
    queued_events: usize,
    spare_events: Option<Vec<QueuedEvent>>,
    spare: Vec<Table>,
    stats: FlowStats,
    /// Numbers of the latest flush that was asked for and that was done.
    flush_wanted: u64,
    flush_done: u64,
    stopping: bool,
    /// The worker takes no more tables.
    closed: bool,
    /// The worker is gone.
    ended: bool,
}

#[derive(Debug)]
struct OpenWindow {
    start: Arc<WindowStart>,
    /// Counters that have yet to hand over.
    members: usize,
}

/// What a counter wants told of single flows.
#[derive(Debug)]
pub(super) enum FlowJob {
    /// These events.
    Report(FlowReport),
    /// The end of all that is open: the counter was dropped at this time.
    CloseAll(Box<FlowTracker>, Instant),
}

/// What the worker has to do next.
#[derive(Debug)]
pub(super) enum Job {
    Table(Box<Handover>),
    Flows(FlowJob),
    /// Finish all that was handed over.
    Flush(u64),
    /// A deadline has come.
    Deadline,
    /// Finish all and end.
    Stop,
}

/// What became of a table that a counter wanted to hand over.
#[derive(Debug)]
pub(super) enum Delivery {
    /// Taken; here is an empty one.
    Taken(Table),
    /// The worker is behind: keep the table and go on counting into it.
    Full(Table),
}

/// What became of a report of single flows.
#[derive(Debug)]
pub(super) enum FlowDelivery {
    /// Taken; here is an empty list for more.
    Taken(Vec<QueuedEvent>),
    /// The worker is behind: keep the report and add to it.
    Full(FlowReport),
}

impl Shared {
    pub(super) fn new(clock: SharedClock, config: &FlowConfig) -> Self {
        let FlowConfig { window, max_flows, exit_flows, compat, .. } = *config;
        let snapshots = VecDeque::from([(0, Arc::new(Snapshot::default()))]);
        let exit_grants = ExitGrants::default();
        exit_grants.set(exit_flows == ExitFlows::Full);
        Self {
            clock,
            window,
            max_flows,
            compat,
            epoch: AtomicU32::new(0),
            exit_grants,
            state: Mutex::new(State { snapshots, exit_flows, ..State::default() }),
            work: Condvar::new(),
            flushed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// Whether physical traffic alone lets a window wait for other traffic.
    pub(super) fn lets_keepalives_rest(&self) -> bool {
        !self.compat
    }

    pub(super) fn max_flows(&self) -> usize {
        self.max_flows
    }

    /// The number of the current state of the network.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The current state of the network with its number.
    pub(super) fn current(&self) -> (u32, Arc<Snapshot>) {
        self.lock().current()
    }

    pub(super) fn set_network(&self, map: NetworkMap, routes: Routes) {
        let snapshot = Arc::new(Snapshot { map, routes });
        let mut state = self.lock();
        let epoch = state.current().0.wrapping_add(1);
        state.snapshots.push_back((epoch, snapshot));
        state.forget_snapshots();
        self.epoch.store(epoch, Ordering::Release);
    }

    pub(super) fn set_exit_flows(&self, exit_flows: ExitFlows) {
        let mut state = self.lock();
        state.exit_flows = exit_flows;
        self.exit_grants.set(exit_flows == ExitFlows::Full);
    }

    pub(super) fn exit_flows(&self) -> ExitFlows {
        self.lock().exit_flows
    }

    /// Makes the caller a member of the open window, or opens one. The window's deadline holds from the first member on
    /// that is not `quiet`.
    pub(super) fn join(&self, now: Instant, quiet: bool) -> Arc<WindowStart> {
        let mut state = self.lock();
        if !quiet {
            // Also windows that were quiet until now, and are over: who is awake hands over.
            state.windows.iter().for_each(|open| open.start.wake());
        }
        if let Some(open) = state.windows.last_mut()
            && now < open.start.deadline
        {
            open.members += 1;
            return Arc::clone(&open.start);
        }
        let (epoch, snapshot) = state.current();
        let start = Arc::new(WindowStart {
            id: state.next_window,
            start: self.clock.wall(),
            opened: now,
            deadline: now + self.window,
            epoch,
            snapshot,
            exit_flows: state.exit_flows,
            live: AtomicBool::new(!quiet),
        });
        state.next_window += 1;
        state.windows.push(OpenWindow { start: Arc::clone(&start), members: 1 });
        start
    }

    /// Gives the table of a member of a window to the worker. A table that `must` go, because its counter is dropped,
    /// is taken even if the worker is behind; there are no more of these than counters. After the logger was shut down
    /// the counts end here, and are reported as discarded.
    pub(super) fn hand_over(
        &self,
        window: &Arc<WindowStart>,
        layer: Layer,
        table: Table,
        at: Instant,
        must: bool,
    ) -> Delivery {
        let mut state = self.lock();
        let flows = table.len();
        let full = state.queued_flows + flows > MAX_QUEUED_FULL_TABLES * self.max_flows
            || state.queue.len() >= MAX_QUEUED_TABLES;
        if full && !must && !state.closed {
            state.stats.deferred_handovers += 1;
            return Delivery::Full(table);
        }
        let remaining = state.leave(window.id);
        if state.closed {
            state.stats.discarded += table.sum();
            return Delivery::Taken(table.recycle());
        }
        let since = |&&(epoch, _): &&(u32, Arc<Snapshot>)| epoch >= window.epoch;
        let snapshots = state.snapshots.iter().filter(since).cloned().collect();
        state.forget_snapshots();
        state.queued_flows += flows;
        let window = Arc::clone(window);
        state.queue.push_back(Handover { window, layer, table, snapshots, at, remaining });
        self.work.notify_one();
        Delivery::Taken(state.spare.pop().unwrap_or_default())
    }

    /// Gives what there is to tell of single flows to the worker. After the logger was shut down it is counted as lost.
    pub(super) fn hand_over_flows(&self, report: FlowReport) -> FlowDelivery {
        let mut state = self.lock();
        if state.closed {
            state.lose(report);
            return FlowDelivery::Taken(Vec::new());
        }
        let events = report.events.len();
        if state.queued_events + events > MAX_QUEUED_EVENTS {
            state.stats.lifecycle.deferred_handovers += 1;
            return FlowDelivery::Full(report);
        }
        if events == 0 {
            // Nothing but sums.
            state.stats.lifecycle += report.stats;
            return FlowDelivery::Taken(report.events);
        }
        state.queued_events += events;
        state.reports.push_back(FlowJob::Report(report));
        self.work.notify_one();
        FlowDelivery::Taken(state.spare_events.take().unwrap_or_default())
    }

    /// Gives the flows of a dropped counter to the worker, which closes them. There are no more of these than counters.
    pub(super) fn hand_over_tracker(&self, tracker: Box<FlowTracker>, at: Instant) {
        let mut state = self.lock();
        if state.closed {
            return state.lose_all(tracker, at);
        }
        state.reports.push_back(FlowJob::CloseAll(tracker, at));
        self.work.notify_one();
    }

    /// Takes back an empty list of events.
    pub(super) fn reuse_events(&self, events: Vec<QueuedEvent>) {
        self.lock().spare_events = Some(events);
    }

    /// Waits for something to do. Called by the worker.
    pub(super) fn next_job(&self, deadline: Option<Instant>) -> Job {
        let mut state = self.lock();
        loop {
            if let Some(handover) = state.queue.pop_front() {
                state.queued_flows -= handover.table.len().min(state.queued_flows);
                return Job::Table(Box::new(handover));
            }
            if let Some(job) = state.reports.pop_front() {
                if let FlowJob::Report(report) = &job {
                    state.queued_events -= report.events.len().min(state.queued_events);
                }
                return Job::Flows(job);
            }
            if state.stopping {
                state.closed = true;
                return Job::Stop;
            }
            if state.flush_done < state.flush_wanted {
                return Job::Flush(state.flush_wanted);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(self.clock.now())) {
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Job::Deadline,
                Some(left) => self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Takes back an empty table.
    pub(super) fn reuse(&self, table: Table) {
        let mut state = self.lock();
        if state.spare.len() < MAX_SPARE_TABLES {
            state.spare.push(table);
        }
    }

    /// Reports that the flush with this number is done.
    pub(super) fn flush_done(&self, number: u64) {
        self.lock().flush_done = number;
        self.flushed.notify_all();
    }

    /// Waits until all that was handed over before is in the sink.
    pub(super) fn flush(&self) {
        let mut state = self.lock();
        state.flush_wanted += 1;
        let number = state.flush_wanted;
        self.work.notify_one();
        while state.flush_done < number && !state.ended {
            state = self.flushed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Asks the worker to finish all and end.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_one();
    }

    /// The worker ends: no more tables are taken, nobody shall wait for it.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ended = true;
        // Tables are left here only if the sink has panicked.
        let left: Vec<_> = state.queue.drain(..).map(|handover| handover.table.sum()).collect();
        left.into_iter().for_each(|counts| state.stats.discarded += counts);
        let left: Vec<_> = state.reports.drain(..).collect();
        for job in left {
            match job {
                FlowJob::Report(report) => state.lose(report),
                FlowJob::CloseAll(tracker, at) => state.lose_all(tracker, at),
            }
        }
        drop(state);
        self.flushed.notify_all();
    }

    pub(super) fn stats(&self) -> FlowStats {
        self.lock().stats.clone()
    }

    pub(super) fn update_stats(&self, update: impl FnOnce(&mut FlowStats)) {
        update(&mut self.lock().stats);
    }
}

impl State {
    fn current(&self) -> (u32, Arc<Snapshot>) {
        self.snapshots.back().cloned().unwrap_or_default()
    }

    /// Counts events that nobody will write.
    fn lose(&mut self, report: FlowReport) {
        let mut lost = LifecycleStats::default();
        for queued in &report.events {
            match queued.event.kind {
                FlowEventKind::Close => {
                    lost.lost += 1;
                    // As this device sees it, like all sums in the statistics.
                    lost.lost_counts += queued.event.local_counts();
                }
                FlowEventKind::Open | FlowEventKind::Update => lost.skipped += 1,
            }
        }
        self.stats.lifecycle += report.stats;
        self.stats.lifecycle += lost;
    }

    fn lose_all(&mut self, mut tracker: Box<FlowTracker>, at: Instant) {
        tracker.close_all(at, CloseReason::Shutdown);
        loop {
            let report = tracker.take_report();
            if report.is_empty() {
                return;
            }
            self.lose(report);
            tracker.refill(Vec::new());
        }
    }

    /// Takes a member out of its window and tells how many are left.
    fn leave(&mut self, window: u64) -> usize {
        let Some(at) = self.windows.iter().position(|open| open.start.id == window) else {
            return 0;
        };
        let Some(open) = self.windows.get_mut(at) else { return 0 };
        open.members = open.members.saturating_sub(1);
        let left = open.members;
        if left == 0 {
            self.windows.remove(at);
        }
        left
    }

    /// Drops states of the network that no open window can refer to.
    fn forget_snapshots(&mut self) {
        let current = self.current().0;
        let oldest = self.windows.iter().map(|open| open.start.epoch).min().unwrap_or(current);
        while self.snapshots.len() > MAX_SNAPSHOTS
            || (self.snapshots.len() > 1 && self.snapshots.front().is_some_and(|&(epoch, _)| epoch < oldest))
        {
            self.snapshots.pop_front();
        }
    }
}
