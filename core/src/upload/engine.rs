//! Driving passes: what the upload thread and a host's thread do with what is asked for.
//!
//! The driver takes a [`Step`], carries it out and comes back; there is one driver. Ending a pass is here too: who hears of
//! it, and what becomes of the saved request.

use std::sync::{Arc, MutexGuard};

use tokio::sync::watch;

use super::{
    config::Transport,
    control::{Cause, Control, Request, Running},
    http::{Answer, Outgoing},
    pass::{At, Env, Next, Pass, pending_records},
    policy::{Choice, PassEnd},
    report::{UploadEvent, UploadOutcome, UploadProgress, UploadReport},
    shared::{Shared, lock, random},
    task::TaskError,
    ticket::Ticket,
};
use crate::clock::Instant;

#[derive(Debug, Default)]
pub(super) struct Engine {
    pub(super) current: Option<Current>,
    /// The number of the last task.
    last_task: u64,
}

#[derive(Debug)]
pub(super) struct Current {
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
    pub(super) fn complete(&self, task: u64, mut answer: Answer) -> Result<(), TaskError> {
        let mut engine = lock(&self.engine);
        let under_way = engine.current.as_mut().filter(|current| current.task == Some(task));
        let current = under_way.ok_or(TaskError::NotUnderWay { id: task })?;
        current.task = None;
        let commands = match &mut answer {
            Answer::Status { commands, .. } => std::mem::take(commands),
            Answer::Failed(_) => Vec::new(),
        };
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
        self.tell_commands(commands);
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
            control.running = Some(Running {
                ticket: Arc::clone(&request.ticket),
                streams: request.streams.clone(),
                cause: request.cause,
            });
            request
        };
        let wire_limit = if let Cause::Automatic { wire_limit } = request.cause { wire_limit } else { None };
        let pass = Pass::begin(&self.env(), &request.streams, wire_limit);
        Some(Current { request, pass, task: None })
    }

    /// A pass is over: everybody who waits for it hears of it, and perhaps those who wait for the next.
    pub(super) fn finish(&self, current: Current, outcome: Option<UploadOutcome>) {
        let Current { request, pass, task } = current;
        let ended = pass.end(outcome, task.is_some());
        let report = match &request.before {
            Some(before) => before.followed_by(&ended.report),
            None => ended.report.clone(),
        };
        let outcome = &ended.report.outcome;
        // What server and system say about a failure may name hosts and addresses.
        tracing::debug!(%outcome, "upload outcome");
        tracing::info!(
            outcome = outcome.name(),
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
    pub(super) fn end_cancelled(&self) {
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
}
