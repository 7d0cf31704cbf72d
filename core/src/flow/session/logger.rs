//! The session logger: a session log, the worker thread that gives its batches to the sink, and the handle that owns
//! both.
//!
//! Calls go straight to the log under a mutex that nobody holds while doing anything that can wait; the log itself is
//! the bounded queue in front of the worker. The worker sleeps until the log's next deadline, or for ever.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::Timestamp;
use tracing::warn;

use super::{
    Delivery, FlowActivity, FlowState, Outcome, ResourceId, ResourceRule, SessionBatch, SessionConfig,
    SessionConfigError, SessionError, SessionId, SessionLog, SessionSink, SessionStats, SinkError,
};
use crate::{
    clock::{Instant, SharedClock},
    flow::{FlowEvent, FlowEventKind, Message},
    hook::{Connection, Protocol},
};

/// Sessions that no sink took before the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} sessions were not delivered before the end: {error}", batch.sessions().len())]
pub struct Undelivered {
    /// The sessions; they are nowhere else.
    pub batch: SessionBatch,
    /// Why the sink did not take them.
    pub error: SinkError,
}

/// Logs access sessions and gives them to a sink.
///
/// Owns one worker thread that is awake only while it ends silent sessions or sends a batch. All methods may be called
/// from any thread except from inside the sink, and, since they take a lock, not for each packet. Dropping a logger shuts
/// it down.
pub struct SessionLogger {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    state: Mutex<State>,
    /// Wakes the worker.
    work: Condvar,
    /// Wakes those who wait in [`SessionLogger::flush`].
    flushed: Condvar,
}

#[derive(Debug)]
struct State {
    log: SessionLog,
    /// The deadline that the worker sleeps until.
    sleeps_until: Option<Instant>,
    /// Numbers of the latest flush that was asked for and that was done.
    flush_wanted: u64,
    flush_done: u64,
    /// How the last batch failed, if no other was taken since.
    error: Option<SinkError>,
    stopping: bool,
    /// The worker is gone.
    ended: bool,
}

impl SessionLogger {
    /// Starts a logger that sends to `sink`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] with a [`SessionConfigError`] inside; or the system's error if it gives no thread.
    pub fn start(config: SessionConfig, clock: SharedClock, sink: Box<dyn SessionSink>) -> io::Result<Self> {
        let invalid = |error: SessionConfigError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let state = State {
            log: SessionLog::new(config).map_err(invalid)?,
            sleeps_until: None,
            flush_wanted: 0,
            flush_done: 0,
            error: None,
            stopping: false,
            ended: false,
        };
        let shared = Arc::new(Shared {
            clock,
            state: Mutex::new(state),
            work: Condvar::new(),
            flushed: Condvar::new(),
        });
        let worker = Worker { shared: Arc::clone(&shared), sink };
        let worker = thread::Builder::new().name("tuntrail-session".into()).spawn(move || worker.run())?;
        Ok(Self { shared, worker: Mutex::new(Some(worker)) })
    }

    /// Sets the rules for flows from now on, see [`SessionLog::set_rules`].
    ///
    /// # Errors
    /// [`SessionConfigError::Prefixes`]; then the old rules stay.
    pub fn set_rules(&self, rules: Vec<ResourceRule>) -> Result<(), SessionConfigError> {
        self.shared.lock().log.set_rules(rules)
    }

    /// The resource that connections to `dest` use, by the rules.
    #[must_use]
    pub fn resource(&self, dest: SocketAddr, protocol: Protocol) -> Option<ResourceId> {
        self.shared.lock().log.resource(dest, protocol)
    }

    /// Starts a session, see [`SessionLog::start_session`].
    ///
    /// # Errors
    /// [`SessionError::ShutDown`], [`SessionError::Random`].
    pub fn start_session(
        &self,
        resource: ResourceId,
        source: SocketAddr,
        dest: SocketAddr,
        protocol: Protocol,
    ) -> Result<SessionId, SessionError> {
        let wall = self.shared.clock.wall();
        self.shared.update(|log, now| log.start_session(now, wall, resource, source, dest, protocol))
    }

    /// Counts bytes from the source to the resource (`tx`) and back (`rx`).
    ///
    /// # Errors
    /// [`SessionError::NotActive`]; the bytes are counted as unattributed.
    pub fn add_bytes(&self, id: SessionId, tx: u64, rx: u64) -> Result<(), SessionError> {
        self.shared.update(|log, now| log.add_bytes(now, id, tx, rx))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`SessionError::NotActive`]; nothing happens.
    pub fn end_session(&self, id: SessionId, outcome: Outcome) -> Result<(), SessionError> {
        self.shared.update(|log, now| log.end_session(now, id, outcome))
    }

    /// Tells what a connection did, see [`SessionLog::observe`].
    pub fn observe(&self, activity: &FlowActivity) -> Option<SessionId> {
        self.shared.update(|log, now| log.observe(now, activity))
    }

    /// Derives sessions from the life cycle of flows: call it from a [`FlowObserver`](crate::flow::FlowObserver). A
    /// session is as long as its flow and has the flow's payload bytes, which is what newt counts. Not to be mixed with
    /// [`Self::observe_message`], which would count the same flows again.
    pub fn observe_flow(&self, event: &FlowEvent) {
        let span = |from: Timestamp, to: Timestamp| to.duration_since(from).unsigned_abs();
        let connection = Connection { protocol: event.protocol, src: Some(event.src), dst: Some(event.dst) };
        let last_packet = event.last_packet.unwrap_or(event.start);
        let (state, silent, tx_bytes, rx_bytes) = match event.kind {
            // The bytes of an update come again with the end.
            FlowEventKind::Open | FlowEventKind::Update => (FlowState::Open, Duration::ZERO, 0, 0),
            FlowEventKind::Close => {
                let silent = span(last_packet, event.end.unwrap_or(last_packet));
                (FlowState::Closed, silent, event.tx_payload, event.rx_payload)
            }
        };
        self.shared.update(|log, now| {
            let last = now - silent;
            let first = last - span(event.start, last_packet);
            let started_at = event.start;
            log.observe(
                now,
                &FlowActivity { connection, state, first, last, started_at, tx_bytes, rx_bytes },
            );
        });
    }

    /// Derives sessions from a flow record: call it from a [`MessageObserver`](crate::flow::MessageObserver). What privacy
    /// has removed from the record is in no session either. Sessions found in this way end by silence, and their times are
    /// those of the windows: up to a window's length before the first packet and after the last.
    pub fn observe_message(&self, message: &Message) {
        let length = message.end.duration_since(message.start).unsigned_abs();
        let lists = [&message.virtual_traffic, &message.subnet_traffic, &message.exit_traffic];
        self.shared.update(|log, now| {
            for row in lists.into_iter().flatten() {
                let connection = Connection { protocol: row.protocol, src: row.src, dst: row.dst };
                let (tx_bytes, rx_bytes) = (row.counts.tx_bytes, row.counts.rx_bytes);
                let (first, started_at) = (now - length, message.start);
                let state = FlowState::Counted;
                log.observe(
                    now,
                    &FlowActivity { connection, state, first, last: now, started_at, tx_bytes, rx_bytes },
                );
            }
        });
    }

    /// Sends all sessions that have ended, at once and also while failed batches back off, and waits for it. Returns at once
    /// after [`Self::shutdown`].
    ///
    /// # Errors
    /// [`SinkError`] if the sink did not take them; they wait for the next attempt.
    pub fn flush(&self) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        if state.ended {
            return Ok(());
        }
        state.flush_wanted += 1;
        let number = state.flush_wanted;
        self.shared.work.notify_one();
        while state.flush_done < number && !state.ended {
            state = self.shared.flushed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.error.clone().map_or(Ok(()), Err)
    }

    /// Ends all sessions, sends them, and ends the worker thread. Waits for it. Sessions can't be started any more.
    /// Harmless when repeated.
    ///
    /// # Errors
    /// [`Undelivered`] with the sessions that the sink did not take; nobody else has them. Only the first call gets it.
    pub fn shutdown(&self) -> Result<(), Undelivered> {
        self.shared.lock().stopping = true;
        self.shared.work.notify_one();
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = worker.take() {
            // A panic of the sink has ended the worker; it was reported by the panic hook.
            let _ = worker.join();
        }
        let mut state = self.shared.lock();
        // Nothing is active unless the sink has panicked.
        state.log.shut_down(self.shared.clock.now());
        let batch = state.log.take_waiting();
        if batch.sessions().is_empty() {
            return Ok(());
        }
        let error = state.error.clone().unwrap_or_else(|| SinkError::new("the sink panicked"));
        Err(Undelivered { batch, error })
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        self.shared.lock().log.stats()
    }
}

impl Drop for SessionLogger {
    fn drop(&mut self) {
        if let Err(undelivered) = self.shutdown() {
            warn!(sessions = undelivered.batch.sessions().len(), error = %undelivered.error, "sessions lost");
        }
    }
}

impl fmt::Debug for SessionLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLogger").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the log, and wakes the worker if it would sleep for too long now.
    fn update<T>(&self, change: impl FnOnce(&mut SessionLog, Instant) -> T) -> T {
        let mut state = self.lock();
        // Read under the lock, so that the log's time never goes back.
        let result = change(&mut state.log, self.clock.now());
        let (deadline, sleeps_until) = (state.log.next_deadline(), state.sleeps_until);
        drop(state);
        if deadline.is_some_and(|deadline| sleeps_until.is_none_or(|until| deadline < until)) {
            self.work.notify_one();
        }
        result
    }
}

struct Worker {
    shared: Arc<Shared>,
    sink: Box<dyn SessionSink>,
}

impl Drop for Worker {
    /// Also when the sink panics: nobody shall wait for a worker that is gone.
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.flushed.notify_all();
    }
}

impl Worker {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            let now = shared.clock.now();
            state.log.handle_deadline(now);
            let (stopping, flush) = (state.stopping, state.flush_wanted);
            if stopping {
                state.log.shut_down(now);
            }
            let forced = stopping || state.flush_done < flush;
            if forced {
                state.log.flush(now);
            }
            if let Some(batch) = state.log.poll_batch(now) {
                drop(state);
                let sent = self.sink.send(&batch);
                state = shared.lock();
                let delivery = if sent.is_ok() { Delivery::Taken } else { Delivery::Failed };
                state.log.batch_done(shared.clock.now(), delivery);
                state.error = sent.err();
                if state.error.is_none() {
                    continue;
                }
            } else if forced {
                state.error = None;
            }
            if forced {
                state.flush_done = flush;
                shared.flushed.notify_all();
                if stopping {
                    return;
                }
            }
            if state.stopping || state.flush_done < state.flush_wanted {
                // Asked for while a batch was being sent.
                continue;
            }
            let deadline = state.log.next_deadline();
            state.sleeps_until = deadline;
            state = match deadline.map(|deadline| deadline.saturating_duration_since(shared.clock.now())) {
                None => shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => state,
                Some(left) => shared.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}
