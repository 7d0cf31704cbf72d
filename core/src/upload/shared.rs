//! What the uploader's threads share: who waits for which pass, the pass that runs, and the policy.
//!
//! There is one pass at a time, whoever drives it. Three parties meet here: those who ask (any thread), the driver
//! (the upload thread, or the host's that asks for tasks), and the host that tells events. Two locks, taken in this order:
//!
//! - `engine`: the pass ([`super::engine`]). Held while a segment is read or the store is waited for, only by the driver, and by who
//!   cancels a pass that the host drives.
//! - `control`: everything else. Held for moments, and for one small file when a request is saved or forgotten.
//!
//! Listeners are called without either.
//!
//! **Who asks while a pass runs** waits for the next one, which begins right after it: what was recorded before the call
//! must be sent, and the running pass may have begun before that. All who ask meanwhile share that one pass, so any
//! number of callers cause two passes at most. Their report covers both. If the running pass finds no way to the server,
//! they get that answer at once.
//!
//! **The saved request** ([`super::request`]) is written when somebody asks. What becomes of it when the pass ends:
//!
//! | outcome | file |
//! |---|---|
//! | complete, nothing to send | removed: it is done |
//! | cancelled | removed: nobody wants it any more |
//! | cancelled because the uploader is dropped | kept: the process ends, and the next one carries on |
//! | rejected, unauthorised | removed: the server's word is final, and who asked has it |
//! | unreachable, retry later, store failed, setup failed | kept: the next start tries again |
//!
//! While another request waits, the file stays. It names all streams of which something is wanted.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    alarm::Alarm,
    config::UploadConfig,
    control::{Cause, Control, Request, Running},
    engine::Engine,
    policy::{Block, Policy},
    report::{
        BlockReason, BlockedStream, UploadEvent, UploadOutcome, UploadReport, UploadState, UploadStats,
    },
    request::{RequestFile, SavedRequest},
    rules::UploadPolicy,
    ticket::Ticket,
    uploader::{UploadOptions, UploadStream},
};
use crate::clock::{Instant, SharedClock};

pub(super) type Listener = Arc<dyn Fn(UploadEvent) + Send + Sync>;
/// Is told the commands of one answer.
pub(super) type CommandListener = Arc<dyn Fn(Vec<String>) + Send + Sync>;

pub(super) struct Shared {
    pub(super) config: UploadConfig,
    pub(super) streams: Vec<UploadStream>,
    pub(super) clock: SharedClock,
    pub(super) alarm: Box<dyn Alarm>,
    control: Mutex<Control>,
    pub(super) wake: Condvar,
    pub(super) engine: Mutex<Engine>,
    listener: Mutex<Option<Listener>>,
    command_listener: Mutex<Option<CommandListener>>,
}

impl Shared {
    /// Reads the request that an earlier process left, if a directory for it is configured. Sends nothing.
    pub(super) fn new(
        config: UploadConfig,
        streams: Vec<UploadStream>,
        clock: SharedClock,
        alarm: Box<dyn Alarm>,
    ) -> Self {
        let rules = match &config.policy {
            UploadPolicy::OnDemand => None,
            UploadPolicy::Automatic(rules) => Some(rules.clone()),
        };
        let file = config.request_directory.as_deref().map(RequestFile::new);
        let saved = file.as_ref().and_then(|file| file.resume(clock.wall()));
        let queued = saved.and_then(|saved| {
            let streams = positions(&streams, saved.streams.as_deref());
            if streams.is_empty() {
                // They are not configured any more, so there is nothing to send.
                let removed = file.as_ref().map(RequestFile::remove);
                tracing::info!(reason = saved.reason, ?removed, "an upload of the last run is dropped");
                return None;
            }
            tracing::info!(reason = saved.reason, "an upload of the last run is carried on with");
            Some(Request { ticket: Ticket::new(None), streams, cause: Cause::Asked, before: None })
        });
        let call_host = queued.is_some();
        let only_asked = streams.iter().map(|stream| stream.only_asked);
        let policy = Policy::new(rules, only_asked);
        let control = Control {
            queued,
            running: None,
            policy,
            file,
            paused: false,
            call_host,
            stop: false,
            dead: false,
            stats: UploadStats::default(),
        };
        Self {
            config,
            streams,
            clock,
            alarm,
            control: Mutex::new(control),
            wake: Condvar::new(),
            engine: Mutex::default(),
            listener: Mutex::default(),
            command_listener: Mutex::default(),
        }
    }

    /// Queues a request, or joins the one that is queued. Returns the ticket of its pass.
    pub(super) fn ask(&self, reason: &str, options: UploadOptions) -> Arc<Ticket> {
        let UploadOptions { streams, progress } = options;
        let is_known =
            |name: &&String| self.streams.iter().any(|stream| stream.source.name() == name.as_str());
        if let Some(name) = streams.iter().flatten().find(|name| !is_known(name)) {
            return failed_ticket(format!("there is no stream {name:?}"));
        }
        let wanted = positions(&self.streams, streams.as_deref());
        let mut control = self.control();
        if control.dead || control.stop {
            return failed_ticket("the upload thread has ended".to_owned());
        }
        let running = control.running.is_some();
        tracing::info!(reason, running, "upload asked for");
        let ticket = control.queue(Cause::Asked, wanted, progress);
        self.save(&control, reason);
        control.call_host = true;
        self.wake.notify_all();
        ticket
    }

    /// Writes down what is asked for and not finished.
    fn save(&self, control: &Control, reason: &str) {
        let Some(file) = &control.file else { return };
        let names: Vec<_> = self
            .streams
            .iter()
            .enumerate()
            .filter(|(index, _)| control.is_wanted(*index))
            .map(|(_, stream)| stream.source.name().to_owned())
            .collect();
        let names = (names.len() < self.streams.len()).then_some(names);
        if let Err(error) = file.save(&SavedRequest::new(reason, names, self.clock.wall())) {
            tracing::warn!(%error, "the upload request is not saved: a kill would end it");
        }
    }

    /// Ends the pass of this ticket, whether it runs or is queued.
    pub(super) fn cancel_ticket(&self, ticket: &Arc<Ticket>) {
        let mut control = self.control();
        // Under the lock, so that a driver that is about to sleep can't miss it.
        ticket.cancel();
        let queued = control.queued.take_if(|queued| Arc::ptr_eq(&queued.ticket, ticket));
        if queued.is_some() {
            control.forget_unless_wanted();
        }
        self.wake.notify_all();
        drop(control);
        if let Some(queued) = queued {
            queued.ticket.complete(UploadReport::empty(UploadOutcome::Cancelled));
        }
        self.end_cancelled();
    }

    /// Ends the pass that runs, the one that is queued, and forgets the saved request.
    pub(super) fn cancel_all(&self) {
        let mut control = self.control();
        let queued = control.queued.take();
        if let Some(running) = &control.running {
            running.ticket.cancel();
        }
        control.forget();
        self.wake.notify_all();
        drop(control);
        if let Some(queued) = queued {
            queued.ticket.complete(UploadReport::empty(UploadOutcome::Cancelled));
        }
        self.end_cancelled();
    }

    /// Lets the upload thread end; the pass that runs ends with it. The saved request is kept.
    pub(super) fn stop(&self) {
        let mut control = self.control();
        control.stop = true;
        if let Some(running) = &control.running {
            running.ticket.cancel();
        }
        self.wake.notify_all();
    }

    /// The upload thread has ended, perhaps by a panic: whoever waits must hear of it.
    pub(super) fn thread_ended(&self) {
        let (outcome, queued) = {
            let mut control = self.control();
            control.dead = true;
            let error = || "the upload thread has failed".to_owned();
            let outcome = if control.stop {
                UploadOutcome::Cancelled
            } else {
                UploadOutcome::SetupFailed { error: error() }
            };
            (outcome, control.queued.take())
        };
        let current = lock(&self.engine).current.take();
        if let Some(current) = current {
            self.finish(current, Some(outcome.clone()));
        }
        // One that failed before it had begun properly.
        let running = self.control().running.take();
        for ticket in
            running.map(|running| running.ticket).into_iter().chain(queued.map(|queued| queued.ticket))
        {
            ticket.complete(UploadReport::empty(outcome.clone()));
        }
    }

    pub(super) fn set_paused(&self, paused: bool) {
        let mut control = self.control();
        control.paused = paused;
        if !paused {
            control.policy.forgive();
            control.call_host = control.queued.is_some() || control.running.is_some();
        }
        self.wake.notify_all();
    }

    /// Tells of a change of network or power. An automatic pass that was decided on under other circumstances ends: it may
    /// be due again at once, under the present ones. A pass that waits looks at the clock: after a suspend, its wait may be
    /// over.
    pub(super) fn tell_change(&self, tell: impl FnOnce(&mut Policy, Instant)) {
        self.tell_policy(tell);
        let mut control = self.control();
        // Nobody has its ticket.
        let undecided = control.queued.take_if(|queued| queued.cause != Cause::Asked).is_some();
        let ends = match &control.running {
            Some(Running { ticket, cause: Cause::Automatic { wire_limit }, .. })
                if !control.policy.is_allowed_with(*wire_limit) =>
            {
                ticket.cancel();
                true
            }
            _ => false,
        };
        if undecided || control.running.is_some() {
            self.wake.notify_all();
        }
        drop(control);
        if ends {
            self.end_cancelled();
        }
    }

    /// Tells the policy of an event, and lets the thread look at its deadline again if it has changed.
    pub(super) fn tell_policy(&self, tell: impl FnOnce(&mut Policy, Instant)) {
        let mut control = self.control();
        let before = control.policy.next_deadline();
        tell(&mut control.policy, self.clock.now());
        if before != control.policy.next_deadline() {
            self.wake.notify_all();
        }
    }

    /// A new listener is told of work that waits, of which the one before may have been told.
    pub(super) fn set_listener(&self, listener: Option<Listener>) {
        *lock(&self.listener) = listener;
        let mut control = self.control();
        control.call_host = control.queued.is_some() || control.running.is_some();
        self.wake.notify_all();
    }

    pub(super) fn tell(&self, event: UploadEvent) {
        let listener = lock(&self.listener).clone();
        if let Some(listener) = listener {
            listener(event);
        }
    }

    pub(super) fn set_command_listener(&self, listener: CommandListener) {
        *lock(&self.command_listener) = Some(listener);
    }

    pub(super) fn tell_commands(&self, commands: Vec<String>) {
        let listener = lock(&self.command_listener).clone();
        if let Some(listener) = listener.filter(|_| !commands.is_empty()) {
            listener(commands);
        }
    }

    pub(super) fn stats(&self) -> UploadStats {
        let now = self.clock.now();
        let control = self.control();
        let state = match &*control {
            Control { paused: true, .. } => UploadState::Paused,
            Control { queued: None, running: None, .. } => UploadState::Idle,
            _ => UploadState::Running,
        };
        let blocked = self.streams.iter().zip(control.policy.blocks()).filter_map(|(stream, block)| {
            let reason = match block {
                Block::None => return None,
                Block::Credentials => BlockReason::Credentials,
                Block::Until(until) => {
                    BlockReason::Endpoint { retry_in: until.saturating_duration_since(now) }
                }
            };
            Some(BlockedStream { stream: stream.source.name().to_owned(), reason })
        });
        let next = if state == UploadState::Idle { control.policy.next_deadline() } else { None };
        UploadStats {
            state,
            blocked: blocked.collect(),
            next_automatic: next.map(|next| next.saturating_duration_since(now)),
            ..control.stats.clone()
        }
    }

    pub(super) fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }

    /// Lets the thread look at its deadlines again, as it does after a real timeout.
    #[cfg(test)]
    pub(super) fn poke(&self) {
        drop(self.control());
        self.wake.notify_all();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("streams", &self.streams).finish_non_exhaustive()
    }
}

fn failed_ticket(error: String) -> Arc<Ticket> {
    let ticket = Ticket::new(None);
    ticket.complete(UploadReport::empty(UploadOutcome::SetupFailed { error }));
    ticket
}

/// The positions of the streams of these names; of all without names.
fn positions(streams: &[UploadStream], names: Option<&[String]>) -> Vec<usize> {
    let is_wanted = |stream: &UploadStream| {
        names.is_none_or(|names| names.iter().any(|name| name == stream.source.name()))
    };
    streams.iter().enumerate().filter(|(_, stream)| is_wanted(stream)).map(|(index, _)| index).collect()
}

/// Uniformly distributed. Without a random number the longest wait is the safe one.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}

/// No state is ever left half changed under these locks, so a panic elsewhere doesn't spoil them.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
