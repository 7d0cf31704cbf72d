//! Sleeping by a clock that is moved by hand.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use super::super::{alarm::Alarm, control::Control};
use crate::clock::{Clock, ManualClock};

/// Long enough for any machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Timeouts take no real time: the clock jumps to their end. Remembers all waits.
pub(in super::super) struct VirtualAlarm {
    pub(in super::super) clock: ManualClock,
    pub(in super::super) waits: Arc<Mutex<Vec<Option<Duration>>>>,
}

impl Alarm for VirtualAlarm {
    fn wait<'g>(
        &self,
        wake: &Condvar,
        guard: MutexGuard<'g, Control>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'g, Control> {
        self.waits.lock().unwrap().push(timeout);
        match timeout {
            Some(timeout) => {
                self.clock.advance(timeout);
                guard
            }
            None => wake.wait(guard).unwrap(),
        }
    }
}

/// The thread sleeps until the test has moved the clock and notifies it; the test learns when it sleeps again.
#[derive(Clone)]
pub(in super::super) struct ManualAlarm {
    clock: ManualClock,
    sleeps: Arc<(Mutex<Sleeps>, Condvar)>,
}

#[derive(Default)]
struct Sleeps {
    count: u64,
    timeout: Option<Duration>,
}

impl ManualAlarm {
    pub(in super::super) fn new(clock: ManualClock) -> Self {
        Self { clock, sleeps: Arc::default() }
    }

    /// How often the thread has gone to sleep.
    pub(in super::super) fn count(&self) -> u64 {
        self.sleeps.0.lock().unwrap().count
    }

    /// Waits until the thread has gone to sleep more than `count` times, and says for how long at most.
    pub(in super::super) fn asleep_after(&self, count: u64) -> Option<Duration> {
        let (sleeps, changed) = &*self.sleeps;
        let sleeps = sleeps.lock().unwrap();
        let (sleeps, result) = changed.wait_timeout_while(sleeps, PATIENCE, |s| s.count <= count).unwrap();
        assert!(!result.timed_out(), "the upload thread doesn't go to sleep");
        sleeps.timeout
    }

    /// Lets time pass in one piece, lets the thread see it, and waits until it sleeps again.
    pub(in super::super) fn advance(&self, by: Duration, poke: impl FnOnce()) -> Option<Duration> {
        let count = self.count();
        self.clock.advance(by);
        poke();
        self.asleep_after(count)
    }

    pub(in super::super) fn now(&self) -> crate::clock::Instant {
        self.clock.now()
    }
}

impl Alarm for ManualAlarm {
    fn wait<'g>(
        &self,
        wake: &Condvar,
        guard: MutexGuard<'g, Control>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'g, Control> {
        // The control lock is held from here until the wait has begun, so a notification that comes after this count was
        // seen can't be lost.
        let (sleeps, changed) = &*self.sleeps;
        let mut sleeps = sleeps.lock().unwrap();
        sleeps.count += 1;
        sleeps.timeout = timeout;
        changed.notify_all();
        drop(sleeps);
        wake.wait(guard).unwrap()
    }
}
