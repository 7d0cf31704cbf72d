//! When to look, and what an interval is. A state machine without threads, clocks or counters.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Bytes, InterfaceKind, Label, SocketEvent};
use crate::clock::Instant;

/// From the first change to the sample: upstream's interval, so that its tools see what they know.
pub const SAMPLE_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Sampler {
    /// The first change of the open interval.
    armed: Option<(Instant, Timestamp)>,
    /// The last sample, or the start of recording.
    last: Instant,
    interface: InterfaceKind,
    /// When recording is over.
    end: Option<Instant>,
}

impl Sampler {
    pub(super) const fn new(now: Instant, interface: InterfaceKind, end: Option<Instant>) -> Self {
        Self { armed: None, last: now, interface, end }
    }

    /// Something has changed.
    pub(super) fn arm(&mut self, now: Instant, wall: Timestamp) {
        self.armed.get_or_insert((now, wall));
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_sample().is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| end <= now)
    }

    fn next_sample(&self) -> Option<Instant> {
        self.armed.map(|(since, _)| since + SAMPLE_AFTER)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.next_sample(), self.end].into_iter().flatten().min()
    }

    /// From the next interval on.
    pub(super) const fn set_interface(&mut self, interface: InterfaceKind) {
        self.interface = interface;
    }

    /// Ends the interval with a sample: what has moved since the one before, over the network in use.
    pub(super) fn take_now(
        &mut self,
        now: Instant,
        wall: Timestamp,
        bytes: BTreeMap<Label, Bytes>,
    ) -> Option<SocketEvent> {
        let nothing = BTreeMap::new();
        match self.interface {
            InterfaceKind::Cellular => self.take(now, wall, nothing, bytes),
            _ => self.take(now, wall, bytes, nothing),
        }
        .next()
    }

    /// Ends the interval with a sample: an event for each of the two kinds of network that has moved something.
    pub(super) fn take(
        &mut self,
        now: Instant,
        wall: Timestamp,
        other: BTreeMap<Label, Bytes>,
        cellular: BTreeMap<Label, Bytes>,
    ) -> impl Iterator<Item = SocketEvent> + use<> {
        let armed = self.armed.take();
        let last = std::mem::replace(&mut self.last, now);
        let (duration, start) = match armed {
            Some((since, start)) => (now.saturating_duration_since(since), start),
            // Nobody knows when it moved: at some time since the last sample.
            None => {
                let duration = now.saturating_duration_since(last);
                (duration, wall.saturating_sub(duration).unwrap_or(wall))
            }
        };
        let event = move |cellular, bytes| SocketEvent {
            start_ms: start.as_millisecond(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            cellular,
            bytes,
        };
        [event(false, other), event(true, cellular)].into_iter().filter(|event| !event.bytes.is_empty())
    }
}
