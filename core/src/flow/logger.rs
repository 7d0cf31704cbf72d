//! The flow logger: its worker thread and the handle that owns it.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Layer, Message,
    counter::FlowCounter,
    lifecycle::{self, CloseReason, FlowEvent, FlowEventKind, FlowReport, LifecycleConfig},
    pending::Pending,
    privacy::ExitFlows,
    shared::{FlowJob, Job, Shared},
    stats::{FlowStats, LifecycleStats},
    window::{Record, RecordOptions},
};
use crate::{
    clock::SharedClock,
    netmap::{NetworkMap, Routes},
};

/// Where records go. Called on the worker thread, which waits for it.
pub trait RecordSink: Send {
    /// Takes one record: JSON text of at most [`MAX_MESSAGE_LEN`](super::MAX_MESSAGE_LEN) bytes, written at the
    /// wall-clock time `wall`.
    fn append(&mut self, wall: Timestamp, json: &[u8]);
}

/// How a [`FlowLogger`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowConfig {
    /// Length of a window, from 1 s to 60 s. A window starts with its first packet. Physical traffic alone, such as the
    /// keepalives of an idle tunnel, makes no record by itself, which would wake the device: it waits for the next inner
    /// packet, flush or upload.
    pub window: Duration,
    /// Flows per counter and window, from 1 to 65,536. What is beyond is counted per kind of traffic.
    pub max_flows: usize,
    /// What is recorded of exit traffic.
    pub exit_flows: ExitFlows,
    /// How single flows are followed, or `None` if only windows are wanted. Counters of [`Layer::Virtual`] do it.
    pub lifecycle: Option<LifecycleConfig>,
    /// Whether records say who the nodes are: names, addresses, users, tags.
    pub include_node_info: bool,
    /// Reproduce upstream where tuntrail deliberately differs: records are split by upstream's estimate of their
    /// length, and empty while this device is not known; physical traffic alone makes records. For comparisons only.
    pub compat: bool,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            // What upstream's readers expect.
            window: Duration::from_secs(5),
            // Keeps the table under 2 MiB in an iOS network extension, which may use 50 MB in all.
            max_flows: 16_384,
            exit_flows: ExitFlows::Aggregated,
            lifecycle: None,
            include_node_info: true,
            compat: false,
        }
    }
}

/// A configuration that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlowConfigError {
    /// The window's length is out of range.
    #[error("a flow window of {0:?} is out of range: choose 1 s to 60 s")]
    Window(Duration),
    /// The limit of flows is out of range.
    #[error("a limit of {0} flows is out of range: choose 1 to 65536")]
    MaxFlows(usize),
    /// A timeout of [`LifecycleConfig`] is out of range.
    #[error("a timeout {name} of {value:?} is out of range: choose 1 s to 1 day")]
    Timeout {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: Duration,
    },
}

const WINDOW_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// 65,536 flows take 8 MiB in the table alone; more is for no device that this library is made for.
pub(super) const MAX_FLOWS_RANGE: std::ops::RangeInclusive<usize> = 1..=65_536;

impl FlowConfig {
    /// Whether all values are in range.
    ///
    /// # Errors
    /// [`FlowConfigError`] names the first one that is not.
    pub fn check(&self) -> Result<(), FlowConfigError> {
        if !WINDOW_RANGE.contains(&self.window) {
            return Err(FlowConfigError::Window(self.window));
        }
        if !MAX_FLOWS_RANGE.contains(&self.max_flows) {
            return Err(FlowConfigError::MaxFlows(self.max_flows));
        }
        self.lifecycle.as_ref().map_or(Ok(()), LifecycleConfig::check)
    }
}

/// Is shown each finished message.
pub type MessageObserver = Box<dyn Fn(&Message) + Send>;

/// Is shown each event of a flow, after privacy was applied.
pub type FlowObserver = Box<dyn Fn(&FlowEvent) + Send>;

/// Turns what counters count into records.
///
/// Owns one worker thread that sleeps until a counter hands over a table. All methods may be called from any thread.
/// Dropping a logger shuts it down.
pub struct FlowLogger {
    shared: Arc<Shared>,
    observer: Arc<Mutex<Option<MessageObserver>>>,
    flow_observer: Arc<Mutex<Option<FlowObserver>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
    lifecycle: Option<LifecycleConfig>,
}

impl fmt::Debug for FlowLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowLogger").field("stats", &self.shared.stats()).finish_non_exhaustive()
    }
}

impl FlowLogger {
    /// Starts a logger that writes into `sink`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] with a [`FlowConfigError`] inside; or the system's error if it gives no thread.
    pub fn start(config: FlowConfig, clock: SharedClock, sink: Box<dyn RecordSink>) -> io::Result<Self> {
        Self::start_with_flows(config, clock, sink, None)
    }

    /// Starts a logger that writes windows into `sink` and the events of single flows into `flow_sink`: one
    /// [`FlowEvent`](super::FlowEvent) per record. With [`FlowConfig::lifecycle`] but without `flow_sink` they go to
    /// `tracing` only.
    ///
    /// # Errors
    ///
    /// Those of [`Self::start`].
    pub fn start_with_flows(
        config: FlowConfig,
        clock: SharedClock,
        sink: Box<dyn RecordSink>,
        flow_sink: Option<Box<dyn RecordSink>>,
    ) -> io::Result<Self> {
        config.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let shared = Arc::new(Shared::new(clock, &config));
        let observer = Arc::new(Mutex::new(None));
        let flow_observer = Arc::new(Mutex::new(None));
        let worker = Worker {
            shared: Arc::clone(&shared),
            observer: Arc::clone(&observer),
            flow_observer: Arc::clone(&flow_observer),
            sink,
            flow_sink,
            config,
            pending: Pending::default(),
            json: Vec::new(),
        };
        let worker = thread::Builder::new().name("tuntrail-flow".into()).spawn(move || worker.run())?;
        let worker = Mutex::new(Some(worker));
        Ok(Self { shared, observer, flow_observer, worker, lifecycle: config.lifecycle })
    }

    /// A counter for one packet thread. The windows of all counters of a logger go into common records.
    #[must_use]
    pub fn counter(&self, layer: Layer) -> FlowCounter {
        let lifecycle = self.lifecycle.filter(|_| layer == Layer::Virtual);
        FlowCounter::new(Arc::clone(&self.shared), layer, lifecycle)
    }

    /// Sets nodes, users and routes. Connections whose first packet came before keep the kind of traffic they have.
    pub fn set_network(&self, map: NetworkMap, routes: Routes) {
        self.shared.set_network(map, routes);
    }

    /// Sets what is recorded of exit traffic. Recording less takes effect at once; recording more, from the next
    /// window on.
    pub fn set_exit_flows(&self, exit_flows: ExitFlows) {
        self.shared.set_exit_flows(exit_flows);
    }

    /// Sets who is shown each finished message, exactly as it is recorded, or nobody. Called on the worker thread;
    /// it must not call methods of the logger that wait for that thread (`set_observer`, `flush`, `shutdown`).
    pub fn set_observer(&self, observer: Option<MessageObserver>) {
        *self.observer.lock().unwrap_or_else(PoisonError::into_inner) = observer;
    }

    /// Sets who is shown each event of a flow, or nobody, under the rules of [`Self::set_observer`].
    pub fn set_flow_observer(&self, observer: Option<FlowObserver>) {
        *self.flow_observer.lock().unwrap_or_else(PoisonError::into_inner) = observer;
    }

    /// Waits until every table that was handed over is in the sink. Windows whose other counters have yet to hand
    /// over are finished without them. Returns at once after [`Self::shutdown`].
    pub fn flush(&self) {
        self.shared.flush();
    }

    /// Finishes all that was handed over and ends the worker thread. Waits for it. Harmless when repeated.
    ///
    /// Counters should be flushed or dropped before: what they count afterwards is discarded, and reported so in
    /// [`FlowStats::discarded`].
    pub fn shutdown(&self) {
        self.shared.stop();
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = worker.take() {
            // A panic of the sink or the observer has ended the worker; it was reported by the panic hook.
            let _ = worker.join();
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> FlowStats {
        self.shared.stats()
    }
}

impl Drop for FlowLogger {
    fn drop(&mut self) {
        self.shutdown();
    }
}

struct Worker {
    shared: Arc<Shared>,
    observer: Arc<Mutex<Option<MessageObserver>>>,
    flow_observer: Arc<Mutex<Option<FlowObserver>>>,
    sink: Box<dyn RecordSink>,
    flow_sink: Option<Box<dyn RecordSink>>,
    config: FlowConfig,
    pending: Pending,
    /// Reused for all messages; never larger than the longest.
    json: Vec<u8>,
}

impl Drop for Worker {
    /// Also when the sink panics: nobody shall wait for a worker that is gone.
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.shared.next_job(self.pending.next_deadline()) {
                Job::Table(handover) => {
                    let added = self.pending.add(*handover);
                    self.shared.reuse(added.table);
                    if added.late {
                        self.shared.update_stats(|stats| stats.late_tables += 1);
                    }
                    self.write(added.complete);
                    self.write_due();
                }
                Job::Flows(FlowJob::Report(report)) => {
                    let spare = self.write_flows(report);
                    self.shared.reuse_events(spare);
                    self.write_due();
                }
                Job::Flows(FlowJob::CloseAll(mut tracker, at)) => {
                    tracker.close_all(at, CloseReason::Shutdown);
                    loop {
                        let report = tracker.take_report();
                        if report.is_empty() {
                            break;
                        }
                        let spare = self.write_flows(report);
                        tracker.refill(spare);
                    }
                }
                Job::Deadline => self.write_due(),
                Job::Flush(number) => {
                    let all = self.pending.take_all();
                    self.write(all);
                    self.shared.flush_done(number);
                }
                Job::Stop => {
                    let all = self.pending.take_all();
                    self.write(all);
                    return;
                }
            }
        }
    }

    /// Writes what there is to tell of single flows. Returns the empty list for reuse.
    fn write_flows(&mut self, report: FlowReport) -> Vec<lifecycle::QueuedEvent> {
        let FlowReport { mut events, mut stats } = report;
        let mut done = LifecycleStats::default();
        for queued in events.drain(..) {
            // The permission may have been withdrawn while it waited.
            if !self.shared.exit_grants.allows(queued.grant) {
                if queued.event.kind == FlowEventKind::Close {
                    done.withheld += 1;
                    done.withheld_counts += queued.event.local_counts();
                }
                continue;
            }
            if let Some(sink) = &mut self.flow_sink {
                self.json.clear();
                queued.event.write_json(&mut self.json);
                sink.append(self.shared.clock.wall(), &self.json);
                done.events += 1;
                done.event_bytes += self.json.len() as u64;
            }
            if let Some(observer) = &*self.flow_observer.lock().unwrap_or_else(PoisonError::into_inner) {
                observer(&queued.event);
            }
            lifecycle::emit(&queued.event);
        }
        stats += done;
        self.shared.update_stats(|all| all.lifecycle += stats);
        events
    }

    fn write_due(&mut self) {
        let due = self.pending.take_due(self.shared.clock.now());
        self.write(due);
    }

    fn write(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            let options = RecordOptions {
                exit_flows: self.shared.exit_flows(),
                include_node_info: self.config.include_node_info,
                compat: self.config.compat,
            };
            let mut done = FlowStats::default();
            let (mut records, mut bytes) = (0, 0);
            record.into_messages(options, &mut done, |message| {
                self.json.clear();
                message.write_json(&mut self.json);
                self.sink.append(self.shared.clock.wall(), &self.json);
                if let Some(observer) = &*self.observer.lock().unwrap_or_else(PoisonError::into_inner) {
                    observer(&message);
                }
                records += 1;
                bytes += self.json.len() as u64;
            });
            done.records = records;
            done.record_bytes = bytes;
            self.shared.update_stats(|stats| *stats += done);
        }
    }
}
