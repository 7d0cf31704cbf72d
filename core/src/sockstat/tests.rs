//! What must hold of counters, machine and thread together.

mod machine;
#[cfg(unix)]
mod sockets;
mod threads;

use std::collections::BTreeMap;

use super::{
    Bytes, Label, SocketCounter, SocketCounters, SocketEvent, SocketStatsOptions,
    logger::{Core, Step, Why},
};
use crate::clock::{Clock, Instant, ManualClock};

fn app(number: u16) -> Label {
    Label::app(number).unwrap()
}

fn sum<'a>(events: impl IntoIterator<Item = &'a SocketEvent>) -> BTreeMap<Label, Bytes> {
    let mut all = BTreeMap::<_, Bytes>::new();
    for event in events {
        for (&label, &bytes) in &event.bytes {
            *all.entry(label).or_default() += bytes;
        }
    }
    all
}

/// A logger without a thread, under a clock that is moved by hand.
struct Machine {
    clock: ManualClock,
    counters: SocketCounters,
    core: Core,
    events: Vec<SocketEvent>,
}

impl Machine {
    fn new(options: &SocketStatsOptions) -> Self {
        let clock = ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap());
        let counters = SocketCounters::new();
        let core = Core::attach(&counters.shared, options, clock.now()).unwrap();
        Self { clock, counters, core, events: Vec::new() }
    }

    fn recording() -> Self {
        Self::new(&SocketStatsOptions::default())
    }

    fn counter(&self, label: Label) -> SocketCounter {
        self.counters.counter(label).unwrap()
    }

    /// Runs until there is nothing more to do now. `Err` when recording is over.
    fn run(&mut self) -> Result<Option<Instant>, Why> {
        loop {
            match self.core.step(self.clock.now(), self.clock.wall()) {
                Step::Event(event) => self.events.push(event),
                Step::Wait(deadline) => return Ok(deadline),
                Step::End(why) => return Err(why),
            }
        }
    }

    /// As the logger's flush does, without waiting.
    fn flush(&mut self) {
        self.counters.shared.lock().flush_wanted += 1;
        self.run().unwrap();
    }
}
