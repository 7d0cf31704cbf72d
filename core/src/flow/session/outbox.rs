//! Finished sessions that wait for the sink: when a batch is due, what is in it, what is given up.
//!
//! Part of the session log. At most one batch is on its way at any time.

use std::{collections::BTreeMap, time::Duration};

use super::{
    DropCount, SessionBatch, SessionConfig,
    consolidate::{CONSOLIDATION_GAP, Completed, merge},
};
use crate::clock::Instant;

/// How long to wait after the first batch that was not taken; doubled for each further one in a row. As long as a
/// batch waits anyway.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// A server that is back is noticed within this time, and one that is away costs four attempts an hour.
const MAX_RETRY: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub(super) struct Outbox {
    interval: Duration,
    flush_sessions: usize,
    max_waiting: usize,
    /// By their ends, the first to end first; numbered, because several may end at once.
    waiting: BTreeMap<(Instant, u64), Completed>,
    next_number: u64,
    /// Sessions that came since the waiting ones were consolidated.
    unmerged: usize,
    /// When a batch is due.
    due: Option<Instant>,
    /// The next batch takes all, also what may yet go on.
    take_all: bool,
    /// What the sink has.
    in_flight: Option<InFlight>,
    /// No batch before this time, after one that was not taken.
    not_before: Option<Instant>,
    retry: Duration,
    /// What was given up and not told yet.
    dropped: DropCount,
}

#[derive(Debug)]
struct InFlight {
    sessions: Vec<Completed>,
    dropped: DropCount,
}

impl Outbox {
    pub(super) fn new(config: &SessionConfig) -> Self {
        Self {
            interval: config.flush_interval,
            flush_sessions: config.flush_sessions,
            max_waiting: config.max_waiting,
            waiting: BTreeMap::new(),
            next_number: 0,
            unmerged: 0,
            due: None,
            take_all: false,
            in_flight: None,
            not_before: None,
            retry: FIRST_RETRY,
            dropped: DropCount::default(),
        }
    }

    /// Adds a session that has ended, and tells what was given up for it.
    pub(super) fn push(&mut self, now: Instant, completed: Completed) -> DropCount {
        self.insert(completed);
        self.due.get_or_insert(now + self.interval);
        self.unmerged += 1;
        if self.unmerged >= self.flush_sessions {
            // Many short sessions between the same parties are few records, and no reason to hurry.
            self.merge_waiting();
            if 2 * self.waiting.len() > self.flush_sessions {
                self.due = Some(now);
                self.take_all = true;
            }
        }
        self.enforce_limit()
    }

    /// When [`Self::poll`] has something to give.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.in_flight.is_some() {
            return None;
        }
        self.due.max(self.not_before.filter(|_| self.due.is_some()))
    }

    /// Makes everything due at once, also after a failure.
    pub(super) fn flush(&mut self, now: Instant) {
        if !self.waiting.is_empty() {
            self.due = Some(now);
            self.not_before = None;
            self.take_all = true;
        }
    }

    /// The batch that is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<SessionBatch> {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return None;
        }
        self.merge_waiting();
        let hold = |completed: &Completed| !self.take_all && self.may_go_on(now, completed);
        let (held, ready): (Vec<_>, Vec<_>) = self.waiting.values().copied().partition(hold);
        self.take_all = false;
        self.waiting.clear();
        self.due = (!held.is_empty()).then(|| now + self.interval);
        held.into_iter().for_each(|completed| self.insert(completed));
        if ready.is_empty() {
            return None;
        }
        let ready = merge(ready);
        let sessions = ready.iter().map(|completed| completed.session).collect();
        self.in_flight = Some(InFlight { sessions: ready, dropped: self.dropped });
        Some(SessionBatch::new(sessions, self.dropped))
    }

    /// The batch was taken. Gives what was in it.
    pub(super) fn taken(&mut self) -> Option<SessionBatch> {
        let batch = self.in_flight.take()?;
        self.dropped = self.dropped.without(batch.dropped);
        self.not_before = None;
        self.retry = FIRST_RETRY;
        let sessions = batch.sessions.iter().map(|completed| completed.session).collect();
        Some(SessionBatch::new(sessions, batch.dropped))
    }

    /// The batch was not taken: it waits again. Tells what was given up for it.
    pub(super) fn failed(&mut self, now: Instant) -> Option<DropCount> {
        let batch = self.in_flight.take()?;
        batch.sessions.into_iter().for_each(|completed| self.insert(completed));
        self.merge_waiting();
        self.due = Some(now);
        self.not_before = Some(now + self.retry);
        self.retry = (2 * self.retry).min(MAX_RETRY);
        Some(self.enforce_limit())
    }

    /// Takes out everything, the batch that the sink has included.
    pub(super) fn take_all(&mut self) -> SessionBatch {
        let mut all: Vec<_> = self.in_flight.take().map(|batch| batch.sessions).unwrap_or_default();
        all.extend(std::mem::take(&mut self.waiting).into_values());
        self.due = None;
        self.unmerged = 0;
        let sessions = merge(all).iter().map(|completed| completed.session).collect();
        SessionBatch::new(sessions, std::mem::take(&mut self.dropped))
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.as_ref().map_or(0, |batch| batch.sessions.len())
    }

    /// Whether sessions may yet come that belong to the same record. One that has waited for a whole interval more than
    /// it had to is not held any longer.
    fn may_go_on(&self, now: Instant, completed: &Completed) -> bool {
        completed.ended + CONSOLIDATION_GAP >= now && completed.waits_since + 2 * self.interval > now
    }

    fn merge_waiting(&mut self) {
        self.unmerged = 0;
        let waiting = std::mem::take(&mut self.waiting).into_values().collect();
        merge(waiting).into_iter().for_each(|completed| self.insert(completed));
    }

    fn insert(&mut self, completed: Completed) {
        self.waiting.insert((completed.ended, self.next_number), completed);
        self.next_number += 1;
    }

    /// Gives up those that ended first. Not those in the sink's hands: if it doesn't take them, they are judged with the
    /// others, so that it is always the oldest that go.
    fn enforce_limit(&mut self) -> DropCount {
        let mut dropped = DropCount::default();
        while self.waiting.len() > self.max_waiting
            && let Some((_, oldest)) = self.waiting.pop_first()
        {
            dropped.add(&oldest.session);
        }
        self.dropped += dropped;
        dropped
    }
}
