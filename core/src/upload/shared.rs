//! What the uploader's threads share: who waits for which pass, the pass that runs, and the policy.
//!
//! There is one pass at a time, whoever drives it. Three parties meet here: those who ask (any thread), the driver
//! (the upload thread, or the host's that asks for tasks), and the host that tells events. Two locks, taken in this order:
//!
//! - `engine`: the pass. Held while a segment is read or the store is waited for, only by the driver, and by who
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
//! While another request waits, the file is that one's.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{
    alarm::Alarm,
    config::{Transport, UploadConfig},
    control::{Cause, Control, Request, Running},
    http::{Answer, Outgoing},
    pass::{At, Env, Next, Pass, pending_records},
    policy::{Block, Choice, PassEnd, Policy},
    report::{
        BlockReason, BlockedStream, UploadEvent, UploadOutcome, UploadProgress, UploadReport, UploadState,
        UploadStats,
    },
    request::{RequestFile, SavedRequest},
    rules::UploadPolicy,
    task::TaskError,
    ticket::Ticket,
    uploader::{UploadOptions, UploadStream},
};
use crate::clock::{Instant, SharedClock};

pub(super) type Listener = Arc<dyn Fn(UploadEvent) + Send + Sync>;

pub(super) struct Shared {
    pub(super) config: UploadConfig,
    pub(super) streams: Vec<UploadStream>,
    pub(super) clock: SharedClock,
    alarm: Box<dyn Alarm>,
    control: Mutex<Control>,
    wake: Condvar,
    engine: Mutex<Engine>,
    listener: Mutex<Option<Listener>>,
}

#[derive(Debug, Default)]
struct Engine {
    current: Option<Current>,
    /// The number of the last task.
    last_task: u64,
}

#[derive(Debug)]
struct Current {
    request: Request,
    pass: Pass,
    /// The request that is under way.
    task: Option<u64>,
}

/// What the driver does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this, and [tell](Shared::complete) what came of it. Becomes void when `cancelled` becomes true.
    Send { task: u64, outgoing: Arc<Outgoing>, cancelled: watch::Receiver<bool> },
    /// Come again then.
    Wait(Instant),
    /// There is nothing to do.
    Idle,
}

/// What the upload thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Drive a pass.
    Drive,
    /// Tell the host that there is work.
    CallHost,
    /// End.
    End,
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
            let wanted = saved.streams.as_deref();
            let known = |name: &String| streams.iter().position(|stream| stream.source.name() == name);
            // A stream that is not configured any more has nothing to send.
            let streams: Vec<_> = match wanted {
                None => (0..streams.len()).collect(),
                Some(names) => names.iter().filter_map(known).collect(),
            };
            tracing::info!(reason = saved.reason, "an upload of the last run is carried on with");
            let request = Request { ticket: Ticket::new(None), streams, cause: Cause::Asked, before: None };
            (!request.streams.is_empty()).then_some(request)
        });
        let call_host = queued.is_some();
        let control = Control {
            queued,
            running: None,
            policy: Policy::new(rules, streams.len()),
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
        }
    }

    /// Queues a request, or joins the one that is queued. Returns the ticket of its pass.
    pub(super) fn ask(&self, reason: &str, options: UploadOptions) -> Arc<Ticket> {
        let UploadOptions { streams, progress } = options;
        let wanted = match self.positions(streams.as_deref()) {
            Ok(wanted) => wanted,
            Err(error) => return failed_ticket(error),
        };
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

    /// Writes the queued request down.
    fn save(&self, control: &Control, reason: &str) {
        let (Some(file), Some(queued)) = (&control.file, &control.queued) else { return };
        let all = queued.streams.len() == self.streams.len();
        let names = queued.streams.iter().filter_map(|&index| self.streams.get(index));
        let names = (!all).then(|| names.map(|stream| stream.source.name().to_owned()).collect());
        if let Err(error) = file.save(&SavedRequest::new(reason, names, self.clock.wall())) {
            tracing::warn!(%error, "the upload request is not saved: a kill would end it");
        }
    }

    fn positions(&self, wanted: Option<&[String]>) -> Result<Vec<usize>, String> {
        let Some(wanted) = wanted else { return Ok((0..self.streams.len()).collect()) };
        let find = |name: &String| {
            let position = self.streams.iter().position(|stream| stream.source.name() == name);
            position.ok_or_else(|| format!("there is no stream {name:?}"))
        };
        wanted.iter().map(find).collect()
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
        if let Some(queued) = queued {
            queued.ticket.complete(UploadReport::empty(outcome));
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

    /// Tells of a change of network or power. An automatic pass that is not allowed any more ends. A pass that waits
    /// looks at the clock: after a suspend, its wait may be over.
    pub(super) fn tell_change(&self, tell: impl FnOnce(&mut Policy, Instant)) {
        self.tell_policy(tell);
        let control = self.control();
        let Some(Running { ticket, cause }) = &control.running else { return };
        let forbidden = *cause != Cause::Asked && !control.policy.is_allowed();
        if forbidden {
            ticket.cancel();
        }
        self.wake.notify_all();
        drop(control);
        if forbidden {
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

    pub(super) fn set_listener(&self, listener: Option<Listener>) {
        *lock(&self.listener) = listener;
    }

    pub(super) fn tell(&self, event: UploadEvent) {
        let listener = lock(&self.listener).clone();
        if let Some(listener) = listener {
            listener(event);
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

    /// Sleeps until the upload thread has something to do.
    pub(super) fn next_turn(&self) -> Turn {
        let built_in = self.config.transport == Transport::BuiltIn;
        let mut control = self.control();
        loop {
            if control.stop {
                return Turn::End;
            }
            let now = self.clock.now();
            let free = control.queued.is_none() && control.running.is_none();
            if free
                && !control.paused
                && let Some(Choice { streams, wire_limit }) = control.policy.handle_deadline(now)
            {
                control.queue(Cause::Automatic { wire_limit }, streams, None);
                control.call_host = true;
            }
            let work = control.queued.is_some() || control.running.is_some();
            let cancelled = control.running.as_ref().is_some_and(|running| running.ticket.is_cancelled());
            if built_in && (cancelled || work && !control.paused) {
                return Turn::Drive;
            }
            if std::mem::take(&mut control.call_host) && work && !built_in && !control.paused {
                return Turn::CallHost;
            }
            let until = if work || control.paused { None } else { control.policy.next_deadline() };
            control = self.sleep(control, now, until);
        }
    }

    /// Sleeps until then, or until the pass is cancelled, paused or to end.
    pub(super) fn sleep_until(&self, until: Instant) {
        let mut control = self.control();
        loop {
            let now = self.clock.now();
            let cancelled = control.running.as_ref().is_none_or(|running| running.ticket.is_cancelled());
            if now >= until || cancelled || control.paused || control.stop {
                return;
            }
            control = self.sleep(control, now, Some(until));
        }
    }

    fn sleep<'g>(
        &self,
        control: MutexGuard<'g, Control>,
        now: Instant,
        until: Option<Instant>,
    ) -> MutexGuard<'g, Control> {
        let timeout = until.map(|until| until.saturating_duration_since(now));
        self.alarm.wait(&self.wake, control, timeout)
    }

    /// What the driver does next. Begins the queued pass if none runs, and ends the one that is done.
    pub(super) fn step(&self) -> Step {
        loop {
            let mut engine = lock(&self.engine);
            if engine.current.is_none() {
                engine.current = self.begin();
            }
            let Engine { current: Some(current), last_task } = &mut *engine else { return Step::Idle };
            let over = if current.request.ticket.is_cancelled() {
                Some(UploadOutcome::Cancelled)
            } else if self.control().paused {
                return Step::Idle;
            } else {
                match current.pass.next(&self.env(), self.clock.now()) {
                    Next::Send(outgoing) => {
                        let task = *current.task.get_or_insert_with(|| {
                            *last_task += 1;
                            *last_task
                        });
                        let cancelled = current.request.ticket.cancelled();
                        return Step::Send { task, outgoing, cancelled };
                    }
                    Next::Wait(until) => return Step::Wait(until),
                    Next::Done => None,
                }
            };
            let ended = engine.current.take();
            drop(engine);
            if let Some(ended) = ended {
                self.finish(ended, over);
            }
        }
    }

    /// What came of a request.
    pub(super) fn complete(&self, task: u64, answer: Answer) -> Result<(), TaskError> {
        let mut engine = lock(&self.engine);
        let under_way = engine.current.as_mut().filter(|current| current.task == Some(task));
        let current = under_way.ok_or(TaskError::NotUnderWay { id: task })?;
        current.task = None;
        let at = At { now: self.clock.now(), wall: self.clock.wall(), random: random() };
        let progress = current.pass.answer(&self.env(), answer, at);
        let ticket = Arc::clone(&current.request.ticket);
        let before = current.request.before.as_ref().map_or((0, 0), |r| (r.sent_records, r.sent_bytes));
        let ended = engine.current.take_if(|current| current.pass.is_ended());
        drop(engine);
        if let Some(progress) = progress {
            self.tell_progress(&ticket, before, progress);
        }
        if let Some(ended) = ended {
            self.finish(ended, None);
        }
        Ok(())
    }

    /// The pass that runs can't be driven.
    pub(super) fn fail(&self, error: String) {
        let current = lock(&self.engine).current.take();
        if let Some(current) = current {
            self.finish(current, Some(UploadOutcome::SetupFailed { error }));
        }
    }

    fn env(&self) -> Env<'_> {
        Env { config: &self.config, streams: &self.streams }
    }

    /// Makes the queued request the running one. Waits for the store.
    fn begin(&self) -> Option<Current> {
        let request = {
            let mut control = self.control();
            if control.paused || control.stop || control.running.is_some() {
                return None;
            }
            let request = control.queued.take()?;
            let automatic = request.cause != Cause::Asked;
            control.policy.begin(&request.streams, automatic);
            control.running = Some(Running { ticket: Arc::clone(&request.ticket), cause: request.cause });
            request
        };
        let wire_limit = if let Cause::Automatic { wire_limit } = request.cause { wire_limit } else { None };
        let pass = Pass::begin(&self.env(), &request.streams, wire_limit);
        Some(Current { request, pass, task: None })
    }

    /// A pass is over: everybody who waits for it hears of it, and perhaps those who wait for the next.
    fn finish(&self, current: Current, outcome: Option<UploadOutcome>) {
        let Current { request, pass, task } = current;
        let ended = pass.end(outcome, task.is_some());
        let report = match &request.before {
            Some(before) => before.followed_by(&ended.report),
            None => ended.report.clone(),
        };
        let outcome = &ended.report.outcome;
        tracing::info!(
            ?outcome,
            sent = report.sent_records,
            remaining = report.remaining_records,
            dropped = report.dropped_records,
            "upload ended"
        );
        let automatic = request.cause != Cause::Asked;
        let end = PassEnd {
            outcome,
            automatic,
            streams: &ended.streams,
            refused: &ended.refused,
            wire_bytes: ended.wire_bytes,
            random: random(),
        };
        let sharer = {
            let mut control = self.control();
            control.running = None;
            control.policy.end(&end, self.clock.now());
            control.count(&ended.report, ended.wire_bytes);
            let sharer = control.queued.take_if(|_| outcome.concerns_everybody());
            if let Some(queued) = &mut control.queued {
                queued.before = Some(report.clone());
                // The host may have gone for good after the last task.
                control.call_host = true;
                self.wake.notify_all();
            }
            let kept = outcome.is_failure_in_passing()
                || (*outcome == UploadOutcome::Cancelled && control.stop)
                // What somebody else asked for before is not done by a part of it.
                || (automatic && !(outcome.reached_server() && ended.streams.len() == self.streams.len()));
            if !kept {
                control.forget_unless_wanted();
            }
            sharer
        };
        request.ticket.complete(report.clone());
        if let Some(sharer) = sharer {
            let remaining_records = pending_records(&self.env(), &sharer.streams);
            sharer.ticket.complete(UploadReport { remaining_records, ..report.clone() });
        }
        self.tell(UploadEvent::Ended(report));
    }

    /// Ends a cancelled pass that the host drives, who may never ask again. The upload thread ends its own, when the
    /// request under way is broken off.
    fn end_cancelled(&self) {
        if self.config.transport == Transport::BuiltIn {
            return;
        }
        let current = lock(&self.engine).current.take_if(|current| current.request.ticket.is_cancelled());
        if let Some(current) = current {
            self.finish(current, Some(UploadOutcome::Cancelled));
        }
    }

    fn tell_progress(&self, ticket: &Ticket, before: (u64, u64), progress: UploadProgress) {
        let progress = UploadProgress {
            sent_records: before.0 + progress.sent_records,
            total_records: before.0 + progress.total_records,
            sent_bytes: before.1 + progress.sent_bytes,
            ..progress
        };
        ticket.tell(&progress);
        let next = self.control().queued.as_ref().map(|queued| Arc::clone(&queued.ticket));
        if let Some(next) = next {
            next.tell(&progress);
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
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

/// Uniformly distributed. Without a random number the longest wait is the safe one.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}

/// No state is ever left half changed under these locks, so a panic elsewhere doesn't spoil them.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
