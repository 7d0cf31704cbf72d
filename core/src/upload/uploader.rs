//! The uploader's face: what the client and hosts call.
//!
//! Any thread may call any method. None waits for a network; [`Uploader::upload`] and [`Uploader::cancel`] write or remove one
//! small file if a directory for it is configured, and [`Uploader::next_task`] and [`Uploader::complete`] read the store.

use std::{fmt, sync::Arc, thread::JoinHandle};

use super::{
    alarm::{Alarm, RealAlarm},
    config::{Collection, UploadConfig},
    driver,
    engine::Step,
    id::PrivateId,
    report::{UploadEvent, UploadStats},
    rules::{NetworkState, PowerState, UploadPolicy},
    shared::{Shared, random},
    source::SegmentSource,
    task::{Task, TaskError, TaskResult, UploadTask},
    ticket::{ProgressListener, UploadTicket},
};
use crate::{clock::SharedClock, sockstat::SocketCounter, store::StreamHandle};

/// A stream of the store, and where it goes.
#[derive(Clone)]
pub struct UploadStream {
    pub(super) source: Arc<dyn SegmentSource>,
    pub(super) collection: Collection,
    pub(super) id: PrivateId,
    pub(super) copy_to: Option<PrivateId>,
    pub(super) counter: Option<SocketCounter>,
    /// Only passes that somebody asked for send it.
    pub(super) only_asked: bool,
}

impl UploadStream {
    /// Sends the records of `stream`, which must be entries as [`encode`](super::encode) makes them without ids, to
    /// the stream named by `id` in `collection`.
    #[must_use]
    pub fn new(stream: StreamHandle, collection: Collection, id: PrivateId) -> Self {
        Self::from_source(Arc::new(stream), collection, id)
    }

    pub(super) fn from_source(source: Arc<dyn SegmentSource>, collection: Collection, id: PrivateId) -> Self {
        Self { source, collection, id, copy_to: None, counter: None, only_asked: false }
    }

    /// Lets the server keep a copy in the stream with this id too (`copyId` in the URL).
    #[must_use]
    pub fn with_copy_to(mut self, id: PrivateId) -> Self {
        self.copy_to = Some(id);
        self
    }

    /// Counts the bodies of its requests, as they are sent: compressed, without HTTP and TLS around them, repetitions
    /// included. A body whose request failed counts whole.
    #[must_use]
    pub fn counted_by(mut self, counter: SocketCounter) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Leaves it out of [automatic](UploadPolicy::Automatic) uploads: its records wait until somebody asks.
    #[must_use]
    pub fn only_when_asked(mut self) -> Self {
        self.only_asked = true;
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

/// What to upload, and whom to tell. The default is every stream, and nobody.
#[derive(Default)]
pub struct UploadOptions {
    /// Names of streams; `None` for all. Who shares a pass gets what any of them wants.
    pub streams: Option<Vec<String>>,
    /// Also told about the rest of a pass that runs already.
    pub progress: Option<ProgressListener>,
}

impl fmt::Debug for UploadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadOptions").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// Sends the streams' records when asked, and if the [policy](UploadConfig::policy) says so by itself. Dropping it breaks
/// off a pass that runs and ends the thread; a saved request stays for the next start.
#[derive(Debug)]
pub struct Uploader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Uploader {
    /// Starts the upload thread. On demand nothing is sent before [`Self::upload`] is called, except that an upload which
    /// the death of the last process ended is carried on with, if [`UploadConfig::request_directory`] is set: its small
    /// file is read here.
    ///
    /// `clock` is the one that deadlines are on; its wall time is compared with a server's `Retry-After` date and dates
    /// a saved request.
    ///
    /// # Errors
    /// The system's error if the thread can't be started.
    pub fn start(
        config: UploadConfig,
        streams: Vec<UploadStream>,
        clock: SharedClock,
    ) -> std::io::Result<Self> {
        Self::start_with(config, streams, clock, Box::new(RealAlarm))
    }

    pub(super) fn start_with(
        config: UploadConfig,
        streams: Vec<UploadStream>,
        clock: SharedClock,
        alarm: Box<dyn Alarm>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(config, streams, clock, alarm));
        let thread = std::thread::Builder::new().name("tuntrail-upload".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || driver::run(&shared)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks for everything that was recorded before this call to be sent. Returns at once; the ticket gives the report.
    /// `reason` goes to the diagnostic log.
    ///
    /// Who asks before the pass has begun shares it. Who asks while one runs shares the one that follows right after, and
    /// its report covers both; if the running one can't reach the server, that is the answer at once.
    ///
    /// With [`UploadConfig::request_directory`] the request outlives the process: see there. While
    /// [paused](Self::pause_uploads) it waits.
    pub fn upload(&self, reason: &str, options: UploadOptions) -> UploadTicket {
        UploadTicket::new(self.shared.ask(reason, options), &self.shared)
    }

    /// Cancels everything: the pass that runs, requests that wait, and the saved request. This is what revoked consent
    /// calls for; it waits for no network. Without an uploader,
    /// [`forget_request`](super::forget_request) does the same.
    pub fn cancel(&self) {
        self.shared.cancel_all();
    }

    /// Lets nothing be sent until [`Self::resume_uploads`]: a request under way is finished, the rest of its pass waits,
    /// as does whatever is asked for meanwhile.
    pub fn pause_uploads(&self) {
        self.shared.set_paused(true);
    }

    /// Ends the pause. Also tells that things have changed for the better, paused or not: streams that automatic passes
    /// left out because of refused credentials or a wrong address are tried again.
    pub fn resume_uploads(&self) {
        self.shared.set_paused(false);
    }

    /// Tells the state of the network, whenever it changes and after the device has slept. The rules of automatic uploads
    /// depend on it, and a wait within any pass that a sleep has made longer ends.
    pub fn set_network_state(&self, network: NetworkState) {
        self.shared.tell_change(|policy, now| policy.set_network(network, now, random()));
    }

    /// Tells the state of the power supply, whenever it changes; a change of a few percent of charge is not worth a call.
    /// Only automatic uploads care.
    pub fn set_power_state(&self, power: PowerState) {
        self.shared.tell_change(|policy, _| policy.set_power(power));
    }

    /// Tells that a record of `bytes` was appended to the stream of this name. Cheap, and nothing at all on demand; for
    /// any thread but that of packets. A name that no stream has is ignored.
    pub fn note_pending(&self, stream: &str, bytes: u64) {
        if self.shared.config.policy == UploadPolicy::OnDemand {
            return;
        }
        if let Some(index) = self.shared.streams.iter().position(|other| other.source.name() == stream) {
            self.shared.tell_policy(|policy, now| {
                policy.note(index, bytes, now);
            });
        }
    }

    /// With [`Transport::Host`](super::Transport::Host): what the host is to do next. Reads a segment of the store, so call
    /// it on a thread that may wait for a disk. With the built-in transport it is always [`Task::Done`].
    ///
    /// There is one task at a time. A task that nobody completed, because its worker was killed, comes again with the same
    /// id and the same bytes. After the process has died, the same records make the same request under a new id, with the
    /// same `Idempotency-Key`.
    #[must_use]
    pub fn next_task(&self) -> Task {
        if self.shared.config.transport != super::Transport::Host {
            return Task::Done;
        }
        match self.shared.step() {
            Step::Send { task, outgoing, .. } => Task::Upload(UploadTask::new(task, &outgoing)),
            Step::Wait(until) => Task::Wait(until.saturating_duration_since(self.shared.clock.now())),
            Step::Idle => Task::Done,
        }
    }

    /// Tells what came of a task of [`Self::next_task`]. Delivered segments leave the store before this returns.
    ///
    /// # Errors
    /// [`TaskError::NotUnderWay`] if it is not the task that is out; nothing happens then.
    pub fn complete(&self, task: u64, result: TaskResult) -> Result<(), TaskError> {
        if self.shared.config.transport != super::Transport::Host {
            return Err(TaskError::NotUnderWay { id: task });
        }
        self.shared.complete(task, result.into_answer())
    }

    /// What the uploader is doing and has done.
    #[must_use]
    pub fn stats(&self) -> UploadStats {
        self.shared.stats()
    }

    /// Tells `listener` what happens without anybody waiting for it; in place of the one before. With work for the host waiting,
    /// it is told of that first. Called on the upload thread, or on the one that completes a task or cancels; it may call the
    /// uploader, and must not block.
    pub fn set_listener(&self, listener: impl Fn(UploadEvent) + Send + Sync + 'static) {
        self.shared.set_listener(Some(Arc::new(listener)));
    }

    /// Hands the commands of a server's answers to `listener`, in place of the one before: see
    /// [`UploadConfig::accept_commands`]. Called on the thread that completes a request; it must not block, and must not call
    /// the uploader.
    pub(crate) fn set_command_listener(&self, listener: impl Fn(Vec<String>) + Send + Sync + 'static) {
        self.shared.set_command_listener(Arc::new(listener));
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.shared.stop();
        // A listener may hold the last reference: its thread can't wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic there has ended its pass already; there is nothing left to do about it.
            let _ = thread.join();
        }
    }
}
