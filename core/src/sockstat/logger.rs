//! The logger: its thread, and what it does when it is woken.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    SocketCounters, SocketEvent, SocketStatsError,
    sampler::Sampler,
    shared::{Shared, lock},
};
use crate::clock::{Instant, SharedClock};

/// Where events go: JSON text and the wall-clock time of writing. Called on the logger's thread, which waits for it.
pub type EventSink = Box<dyn FnMut(Timestamp, &[u8]) + Send>;

/// How long to record, and what to do then.
#[derive(Default)]
pub struct SocketStatsOptions {
    /// For how long, suspend included; `None`: until [`SocketStatsLogger::stop`].
    pub duration: Option<Duration>,
    /// Called on the logger's thread when `duration` has passed and the last event is in the sink; not when the logger is
    /// stopped. Must not wait for the logger.
    pub on_end: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for SocketStatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketStatsOptions").field("duration", &self.duration).finish_non_exhaustive()
    }
}

/// What was recorded since the logger started. No event is ever dropped here: what the sink does not take is counted
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketStatsTotals {
    /// Events given to the sink.
    pub events: u64,
    /// Their JSON text, in bytes.
    pub event_bytes: u64,
}

/// Records what [`SocketCounters`] count, from its start to [`Self::stop`] or the end of its time.
///
/// Any thread may call any method. Dropping it stops it.
pub struct SocketStatsLogger {
    shared: Arc<Shared>,
    generation: u64,
    totals: Arc<Mutex<SocketStatsTotals>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for SocketStatsLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketStatsLogger").field("totals", &self.totals()).finish_non_exhaustive()
    }
}

impl SocketStatsLogger {
    /// Starts the thread `tuntrail-socket`. Counts begin at zero; registered sockets count from here.
    ///
    /// # Errors
    /// [`SocketStatsError::AlreadyRecording`], [`SocketStatsError::Thread`].
    pub fn start(
        counters: &SocketCounters,
        options: SocketStatsOptions,
        clock: SharedClock,
        sink: EventSink,
    ) -> Result<Self, SocketStatsError> {
        let shared = Arc::clone(&counters.shared);
        let core = Core::attach(&shared, &options, clock.now())?;
        let (generation, totals) = (core.generation, Arc::default());
        let worker = Worker {
            core,
            clock,
            sink,
            on_end: options.on_end,
            totals: Arc::clone(&totals),
            json: Vec::new(),
        };
        let thread = thread::Builder::new()
            // Linux shows 15 bytes.
            .name("tuntrail-socket".to_owned())
            .spawn(move || worker.run())
            .map_err(SocketStatsError::Thread)?;
        Ok(Self { shared, generation, totals, thread: Mutex::new(Some(thread)) })
    }

    /// Gives everything counted so far to the sink, also what would not have caused an event, and waits for that. Returns
    /// at once when recording is over.
    pub fn flush(&self) {
        self.shared.flush();
    }

    /// Whether it still records: it was not stopped, and its end has not been noticed.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        lock(&self.thread).as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// What was recorded so far.
    #[must_use]
    pub fn totals(&self) -> SocketStatsTotals {
        *lock(&self.totals)
    }

    /// Gives what was counted to the sink and ends the thread. Waits for it. Harmless when repeated.
    pub fn stop(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        if thread.thread().id() == thread::current().id() || thread.is_finished() {
            return;
        }
        self.shared.stop(self.generation);
        // A panic of the sink has ended the thread; it was reported by the panic hook.
        let _ = thread.join();
    }
}

impl Drop for SocketStatsLogger {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Give this to the sink, and ask again.
    Event(SocketEvent),
    /// Sleep until this deadline or a signal.
    Wait(Option<Instant>),
    /// Recording is over.
    End(Why),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Stopped,
    Expired,
}

/// The logger without thread and clock.
#[derive(Debug)]
pub(super) struct Core {
    shared: Arc<Shared>,
    pub(super) generation: u64,
    sampler: Sampler,
    /// Events of one step that wait for the next ones: at most three.
    ready: VecDeque<SocketEvent>,
    /// The number of the last flush whose sample was taken.
    flushed: u64,
    ended: Option<Why>,
}

impl Core {
    pub(super) fn attach(
        shared: &Arc<Shared>,
        options: &SocketStatsOptions,
        now: Instant,
    ) -> Result<Self, SocketStatsError> {
        let (generation, interface) = shared.attach()?;
        let end = options.duration.map(|duration| now + duration);
        Ok(Self {
            shared: Arc::clone(shared),
            generation,
            sampler: Sampler::new(now, interface, end),
            ready: VecDeque::new(),
            flushed: 0,
            ended: None,
        })
    }

    pub(super) fn step(&mut self, now: Instant, wall: Timestamp) -> Step {
        if let Some(event) = self.ready.pop_front() {
            return Step::Event(event);
        }
        if let Some(why) = self.ended {
            return Step::End(why);
        }
        let mut signal = self.shared.lock();
        let why =
            if signal.stop { Some(Why::Stopped) } else { self.sampler.is_over(now).then_some(Why::Expired) };
        let armed = std::mem::take(&mut signal.armed);
        let before_change = signal.before_change.take();
        let (interface, wanted, done) = (signal.interface, signal.flush_wanted, signal.flush_done);
        drop(signal);

        if let Some(moved) = before_change {
            if moved.armed {
                self.sampler.arm(now, wall);
            }
            self.ready.extend(self.sampler.take(now, wall, moved.other, moved.cellular));
        }
        self.sampler.set_interface(interface);
        if armed {
            self.sampler.arm(now, wall);
        }
        if why.is_some() {
            self.shared.close();
            self.ended = why;
        }
        let flush = wanted > self.flushed;
        if why.is_some() || flush || self.sampler.is_due(now) {
            self.flushed = wanted;
            self.ready.extend(self.sampler.take_now(now, wall, self.shared.sample()));
        }
        if let Some(event) = self.ready.pop_front() {
            return Step::Event(event);
        }
        if let Some(why) = why {
            return Step::End(why);
        }
        // The event of a flush, if it had one, is in the sink: that was a step ago.
        if self.flushed > done {
            self.shared.flush_done(self.flushed);
        }
        Step::Wait(self.sampler.next_deadline())
    }
}

impl Drop for Core {
    /// Also when the sink panics: nobody shall wait for a logger that is gone, and the next one may start.
    fn drop(&mut self) {
        self.shared.detach();
    }
}

struct Worker {
    core: Core,
    clock: SharedClock,
    sink: EventSink,
    on_end: Option<Box<dyn FnOnce() + Send>>,
    totals: Arc<Mutex<SocketStatsTotals>>,
    json: Vec<u8>,
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.core.step(self.clock.now(), self.clock.wall()) {
                Step::Event(event) => self.write(&event),
                Step::Wait(deadline) => self.core.shared.wait(deadline, &*self.clock),
                Step::End(why) => {
                    if why == Why::Expired
                        && let Some(on_end) = self.on_end.take()
                    {
                        on_end();
                    }
                    return;
                }
            }
        }
    }

    fn write(&mut self, event: &SocketEvent) {
        self.json.clear();
        event.write_json(&mut self.json);
        let mut totals = lock(&self.totals);
        totals.events += 1;
        totals.event_bytes += self.json.len() as u64;
        drop(totals);
        (self.sink)(self.clock.wall(), &self.json);
    }
}
