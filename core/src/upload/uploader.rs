//! The uploader: one thread, and the tickets of those who asked for a pass.
//!
//! The thread `tuntrail-upload` sleeps on its channel until somebody asks; it has no timer, no connection and no
//! runtime between passes. Any thread may call [`Uploader::upload`]. There is one pass at a time: who asks while one is
//! running gets that one's result.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
};

use tokio::sync::watch;

use super::{
    config::{Collection, UploadConfig},
    id::PrivateId,
    pass::{self, Context, Pause, RealPause},
    report::{UploadOutcome, UploadProgress, UploadReport},
    source::SegmentSource,
};
use crate::{clock::SharedClock, store::StreamHandle};

/// A stream of the store, and where it goes.
#[derive(Clone)]
pub struct UploadStream {
    pub(super) source: Arc<dyn SegmentSource>,
    pub(super) collection: Collection,
    pub(super) id: PrivateId,
    pub(super) copy_to: Option<PrivateId>,
}

impl UploadStream {
    /// Sends the records of `stream`, which must be entries as [`encode`](super::encode) makes them without ids, to
    /// the stream named by `id` in `collection`.
    #[must_use]
    pub fn new(stream: StreamHandle, collection: Collection, id: PrivateId) -> Self {
        Self::from_source(Arc::new(stream), collection, id)
    }

    pub(super) fn from_source(source: Arc<dyn SegmentSource>, collection: Collection, id: PrivateId) -> Self {
        Self { source, collection, id, copy_to: None }
    }

    /// Lets the server keep a copy in the stream with this id too (`copyId` in the URL).
    #[must_use]
    pub fn with_copy_to(mut self, id: PrivateId) -> Self {
        self.copy_to = Some(id);
        self
    }
}

impl fmt::Debug for UploadStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadStream")
            .field("name", &self.source.name())
            .field("collection", &self.collection)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Is told how a pass proceeds, on the upload thread, after each confirmed request. Must not block.
pub type ProgressListener = Box<dyn Fn(&UploadProgress) + Send>;

/// What to upload, and whom to tell. The default is every stream, and nobody.
#[derive(Default)]
pub struct UploadOptions {
    /// Names of streams; `None` for all. Ignored when a running pass is joined.
    pub streams: Option<Vec<String>>,
    /// Also told about the rest of a pass that is joined.
    pub progress: Option<ProgressListener>,
}

impl fmt::Debug for UploadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadOptions").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// Sends the streams' records when asked. Dropping it cancels a running pass and ends the thread.
#[derive(Debug)]
pub struct Uploader {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: Mutex<Option<Arc<Ticket>>>,
}

#[derive(Debug)]
enum Command {
    Run(Arc<Ticket>, Option<Vec<String>>),
    Stop,
}

/// The claim to the result of a pass.
#[derive(Debug, Clone)]
pub struct UploadTicket(Arc<Ticket>);

struct Ticket {
    cancel: watch::Sender<bool>,
    listeners: Mutex<Vec<ProgressListener>>,
    report: Mutex<Option<UploadReport>>,
    done: Condvar,
}

impl Uploader {
    /// Starts the upload thread. Nothing is sent before [`Self::upload`] is called. `clock` tells the wall time that a
    /// server's `Retry-After` date is compared with.
    ///
    /// # Errors
    /// The system's error if the thread can't be started.
    pub fn start(
        config: UploadConfig,
        streams: Vec<UploadStream>,
        clock: SharedClock,
    ) -> std::io::Result<Self> {
        Self::start_with(config, streams, clock, Box::new(RealPause))
    }

    pub(super) fn start_with(
        config: UploadConfig,
        streams: Vec<UploadStream>,
        clock: SharedClock,
        pause: Box<dyn Pause>,
    ) -> std::io::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let worker = Worker { config, streams, clock, pause, shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new()
            .name("tuntrail-upload".to_owned())
            .spawn(move || worker.serve(&inbox))?;
        Ok(Self { shared, commands, thread: Some(thread) })
    }

    /// Asks for a pass over everything that is pending now, or joins the one that is running, which may have begun
    /// before the last records came. Returns at once. `reason` goes to the diagnostic log.
    pub fn upload(&self, reason: &str, options: UploadOptions) -> UploadTicket {
        let mut running = lock(&self.shared.running);
        if let Some(ticket) = &*running {
            tracing::info!(reason, "upload asked for while one is running");
            lock(&ticket.listeners).extend(options.progress);
            return UploadTicket(Arc::clone(ticket));
        }
        tracing::info!(reason, "upload asked for");
        let ticket = Arc::new(Ticket::new(options.progress));
        *running = Some(Arc::clone(&ticket));
        if self.commands.send(Command::Run(Arc::clone(&ticket), options.streams)).is_err() {
            *running = None;
            let error = "the upload thread has ended".to_owned();
            ticket.complete(UploadReport::empty(UploadOutcome::SetupFailed { error }));
        }
        UploadTicket(ticket)
    }

    /// Cancels the running pass, if any: revoked consent must not wait for it.
    pub fn cancel(&self) {
        if let Some(ticket) = &*lock(&self.shared.running) {
            ticket.cancel();
        }
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.cancel();
        // The thread has gone if nobody receives.
        let _ = self.commands.send(Command::Stop);
        // A progress listener may hold the last reference: its thread can't wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic there has ended its pass already; there is nothing left to do about it.
            let _ = thread.join();
        }
    }
}

impl UploadTicket {
    /// Blocks until the pass has ended.
    #[must_use]
    pub fn wait(&self) -> UploadReport {
        let mut report = lock(&self.0.report);
        loop {
            if let Some(report) = &*report {
                return report.clone();
            }
            report = self.0.done.wait(report).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The result, if the pass has ended.
    #[must_use]
    pub fn report(&self) -> Option<UploadReport> {
        lock(&self.0.report).clone()
    }

    /// Ends the pass as soon as possible, also for others who wait for it. A request under way is broken off; whether
    /// the server has taken it remains open, and the next pass repeats it.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl Ticket {
    fn new(listener: Option<ProgressListener>) -> Self {
        Self {
            cancel: watch::Sender::new(false),
            listeners: Mutex::new(listener.into_iter().collect()),
            report: Mutex::new(None),
            done: Condvar::new(),
        }
    }

    fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    fn complete(&self, report: UploadReport) {
        lock(&self.listeners).clear();
        lock(&self.report).get_or_insert(report);
        self.done.notify_all();
    }

    fn tell(&self, progress: &UploadProgress) {
        // Called without the lock: a listener may ask for an upload, or block somebody who does.
        let listeners = std::mem::take(&mut *lock(&self.listeners));
        for listener in &listeners {
            listener(progress);
        }
        lock(&self.listeners).extend(listeners);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("report", &self.report).finish_non_exhaustive()
    }
}

/// What the upload thread owns.
struct Worker {
    config: UploadConfig,
    streams: Vec<UploadStream>,
    clock: SharedClock,
    pause: Box<dyn Pause>,
    shared: Arc<Shared>,
}

impl Worker {
    fn serve(&self, inbox: &mpsc::Receiver<Command>) {
        while let Ok(Command::Run(ticket, streams)) = inbox.recv() {
            let mut ending = Ending { shared: &self.shared, ticket: &ticket, report: None };
            let report = self.run(&ticket, streams.as_deref());
            tracing::info!(
                outcome = ?report.outcome,
                sent = report.sent_records,
                remaining = report.remaining_records,
                dropped = report.dropped_records,
                "upload ended"
            );
            ending.report = Some(report);
        }
    }

    fn run(&self, ticket: &Ticket, wanted: Option<&[String]>) -> UploadReport {
        let streams = match self.select(wanted) {
            Ok(streams) => streams,
            Err(error) => return UploadReport::empty(UploadOutcome::SetupFailed { error }),
        };
        if *ticket.cancel.borrow() {
            return UploadReport::empty(UploadOutcome::Cancelled);
        }
        pass::run(&Context {
            config: &self.config,
            streams,
            clock: &*self.clock,
            pause: &*self.pause,
            cancel: ticket.cancel.subscribe(),
            progress: &|progress| ticket.tell(progress),
        })
    }

    fn select(&self, wanted: Option<&[String]>) -> Result<Vec<&UploadStream>, String> {
        let Some(wanted) = wanted else { return Ok(self.streams.iter().collect()) };
        let find = |name: &String| {
            let stream = self.streams.iter().find(|stream| stream.source.name() == name);
            stream.ok_or_else(|| format!("there is no stream {name:?}"))
        };
        wanted.iter().map(find).collect()
    }
}

/// Sees to it that everybody who waits for a pass gets a report, even if the pass panics.
struct Ending<'a> {
    shared: &'a Shared,
    ticket: &'a Ticket,
    report: Option<UploadReport>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        // First nobody may join any more, then everybody hears of it: who asks after the report is out gets a new pass.
        lock(&self.shared.running).take();
        self.ticket.complete(self.report.take().unwrap_or_else(|| {
            let error = "the upload thread has failed".to_owned();
            UploadReport::empty(UploadOutcome::SetupFailed { error })
        }));
    }
}

/// No state is ever left half changed under these locks, so a panic elsewhere doesn't spoil them.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
