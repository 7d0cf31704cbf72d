//! The deadline queue.
//!
//! A thread with several parts that each have a deadline keeps them here and sleeps until [`Deadlines::next`];
//! `None` means sleep until something else happens. There are no periodic timers anywhere: a part arms its
//! deadline when an event makes it necessary, and after it has passed the part says when it wants the next one.

use crate::clock::Instant;

/// The next deadline of each of a set of parts, named by small integers.
///
/// A binary heap that knows where each part stands in it: moving a deadline is O(log n) and allocates only when a
/// larger part number than ever before appears, so it may be called for every packet.
#[derive(Debug, Clone, Default)]
pub struct Deadlines {
    /// A binary min-heap by time.
    heap: Vec<(Instant, usize)>,
    /// Where part `i` stands in `heap`, or `ABSENT`.
    position: Vec<usize>,
}

const ABSENT: usize = usize::MAX;

impl Deadlines {
    /// A queue without deadlines.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets, moves or (with `None`) removes the deadline of `part`.
    pub fn set(&mut self, part: usize, deadline: Option<Instant>) {
        if part >= self.position.len() {
            if deadline.is_none() {
                return;
            }
            self.position.resize(part + 1, ABSENT);
        }
        let at = self.position.get(part).copied().unwrap_or(ABSENT);
        match (at, deadline) {
            (ABSENT, None) => {}
            (ABSENT, Some(deadline)) => {
                self.heap.push((deadline, part));
                let last = self.heap.len() - 1;
                self.place(last);
                self.sift_up(last);
            }
            (at, None) => self.remove(at),
            (at, Some(deadline)) => {
                if let Some(entry) = self.heap.get_mut(at) {
                    entry.0 = deadline;
                }
                let at = self.sift_up(at);
                self.sift_down(at);
            }
        }
    }

    /// The earliest deadline, or `None` if nothing is waited for.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.0)
    }

    /// Takes out one part whose deadline is at or before `now`, the earliest first.
    pub fn pop_due(&mut self, now: Instant) -> Option<usize> {
        let (deadline, part) = *self.heap.first()?;
        if deadline > now {
            return None;
        }
        self.remove(0);
        Some(part)
    }

    fn remove(&mut self, at: usize) {
        let last = self.heap.len() - 1;
        self.swap(at, last);
        if let Some((_, part)) = self.heap.pop()
            && let Some(position) = self.position.get_mut(part)
        {
            *position = ABSENT;
        }
        if at < self.heap.len() {
            let at = self.sift_up(at);
            self.sift_down(at);
        }
    }

    fn sift_up(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.time(parent) <= self.time(at) {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
        at
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            let right = left + 1;
            let child =
                if right < self.heap.len() && self.time(right) < self.time(left) { right } else { left };
            if child >= self.heap.len() || self.time(at) <= self.time(child) {
                return;
            }
            self.swap(at, child);
            at = child;
        }
    }

    fn time(&self, at: usize) -> Option<Instant> {
        self.heap.get(at).map(|entry| entry.0)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place(a);
        self.place(b);
    }

    fn place(&mut self, at: usize) {
        if let Some(&(_, part)) = self.heap.get(at)
            && let Some(position) = self.position.get_mut(part)
        {
            *position = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_queue_has_no_deadline() {
        let mut deadlines = Deadlines::new();
        assert_eq!(deadlines.next(), None);
        assert_eq!(deadlines.pop_due(Instant::from_nanos(u64::MAX)), None);
        deadlines.set(9, None);
        assert_eq!(deadlines.next(), None);
    }

    #[derive(Debug, Clone)]
    enum Action {
        Set(usize, u64),
        Clear(usize),
        Pop(u64),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..20_usize, 0..100_u64).prop_map(|(part, at)| Action::Set(part, at)),
            (0..20_usize).prop_map(Action::Clear),
            (0..100_u64).prop_map(Action::Pop),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(actions in prop::collection::vec(action(), 0..200)) {
            let mut deadlines = Deadlines::new();
            let mut model = BTreeMap::new();
            for action in actions {
                match action {
                    Action::Set(part, at) => {
                        deadlines.set(part, Some(Instant::from_nanos(at)));
                        model.insert(part, at);
                    }
                    Action::Clear(part) => {
                        deadlines.set(part, None);
                        model.remove(&part);
                    }
                    Action::Pop(now) => {
                        let popped = deadlines.pop_due(Instant::from_nanos(now));
                        let due = model.values().min().is_some_and(|&at| at <= now);
                        prop_assert_eq!(popped.is_some(), due);
                        if let Some(part) = popped {
                            let at = model.remove(&part);
                            prop_assert!(model.values().all(|&other| Some(other) >= at));
                        }
                    }
                }
                prop_assert_eq!(deadlines.next().map(Instant::as_nanos), model.values().min().copied());
            }
        }
    }
}
