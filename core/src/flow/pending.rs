//! Windows of which the worker has some tables but not yet all.
//!
//! A window is finished when its last counter has handed over. A counter whose thread is stuck is not waited for longer
//! than a second past the deadline; what it counted gets a record of its own when it comes.

use std::{collections::VecDeque, time::Duration};

use super::{
    table::Table,
    window::{Handover, Record},
};
use crate::clock::Instant;

/// How long after its deadline a window waits for counters. Packet threads look at their deadlines after each batch
/// of packets, within milliseconds; a second later something holds the thread.
const GRACE: Duration = Duration::from_secs(1);
/// How many windows that were finished without all of their counters are remembered, to count tables that come late.
/// There are as many as counters that are stuck. A late table of a forgotten window still gets its record.
const MAX_INCOMPLETE: usize = 16;

/// The unfinished windows, oldest first.
#[derive(Debug, Default)]
pub(super) struct Pending {
    records: Vec<Record>,
    /// Windows that were finished without all of their counters.
    incomplete: VecDeque<u64>,
}

/// What came of adding a table.
#[derive(Debug)]
pub(super) struct Added {
    /// The table for reuse.
    pub(super) table: Table,
    /// The table came too late for its window.
    pub(super) late: bool,
    /// The record that is complete now.
    pub(super) complete: Option<Record>,
}

impl Pending {
    /// Adds what a counter handed over.
    pub(super) fn add(&mut self, handover: Handover) -> Added {
        let id = handover.window.id;
        let last = handover.remaining == 0;
        let late = self.incomplete.contains(&id);
        if late && last {
            self.incomplete.retain(|&incomplete| incomplete != id);
        }
        let at = self.records.iter().position(|record| record.window().id == id);
        let mut record = match at {
            Some(at) => self.records.remove(at),
            None => Record::new(handover.window.clone()),
        };
        let table = record.add(handover);
        let complete = if last || late {
            Some(record)
        } else {
            let at = self.records.partition_point(|other| other.window().id < id);
            self.records.insert(at, record);
            None
        };
        Added { table, late, complete }
    }

    /// When [`Self::take_due`] has something to give.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.records.iter().map(|record| record.window().deadline + GRACE).min()
    }

    /// The windows that are not waited for any longer.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Record> {
        self.take(|record| record.window().deadline + GRACE <= now)
    }

    /// All windows.
    pub(super) fn take_all(&mut self) -> Vec<Record> {
        self.take(|_| true)
    }

    fn take(&mut self, due: impl FnMut(&mut Record) -> bool) -> Vec<Record> {
        let due: Vec<_> = self.records.extract_if(.., due).collect();
        self.incomplete.extend(due.iter().map(|record| record.window().id));
        while self.incomplete.len() > MAX_INCOMPLETE {
            self.incomplete.pop_front();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flow::{ExitFlows, Layer, window::WindowStart};

    fn window(id: u64, deadline: u64) -> Arc<WindowStart> {
        Arc::new(WindowStart {
            id,
            start: jiff::Timestamp::UNIX_EPOCH,
            opened: Instant::from_nanos(0),
            deadline: Instant::from_nanos(0) + Duration::from_secs(deadline),
            epoch: 0,
            snapshot: Arc::default(),
            exit_flows: ExitFlows::Off,
            live: true.into(),
        })
    }

    fn table(window: &Arc<WindowStart>, remaining: usize) -> Handover {
        Handover {
            window: Arc::clone(window),
            layer: Layer::Virtual,
            table: Table::default(),
            snapshots: Vec::new(),
            at: window.deadline,
            remaining,
        }
    }

    #[test]
    fn a_window_is_complete_with_its_last_table() {
        let (mut pending, window) = (Pending::default(), window(0, 5));
        assert!(pending.add(table(&window, 1)).complete.is_none());
        assert!(pending.add(table(&window, 0)).complete.is_some());
        assert_eq!(pending.next_deadline(), None);
    }

    #[test]
    fn a_window_waits_for_its_counters_until_a_second_after_its_deadline() {
        let (mut pending, window) = (Pending::default(), window(0, 5));
        pending.add(table(&window, 2));
        let due = window.deadline + Duration::from_secs(1);
        assert_eq!(pending.next_deadline(), Some(due));
        assert!(pending.take_due(due - Duration::from_nanos(1)).is_empty());
        assert_eq!(pending.take_due(due).len(), 1);
        assert_eq!(pending.next_deadline(), None);
        for remaining in [1, 0] {
            let added = pending.add(table(&window, remaining));
            assert!(added.late && added.complete.is_some());
        }
        assert!(pending.incomplete.is_empty());
    }

    #[test]
    fn windows_are_waited_for_apart() {
        let (mut pending, one, two) = (Pending::default(), window(0, 5), window(1, 9));
        pending.add(table(&two, 1));
        pending.add(table(&one, 1));
        assert_eq!(pending.next_deadline(), Some(one.deadline + GRACE));
        assert_eq!(pending.take_due(two.deadline).len(), 1);
        assert_eq!(pending.next_deadline(), Some(two.deadline + GRACE));
        let complete = pending.add(table(&two, 0)).complete.unwrap();
        assert_eq!(complete.window().id, 1);
    }
}
