//! The session log: which sessions are active, and which have ended.
//!
//! Without thread and clock: the time is passed in. `now` never goes back; `wall` may.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use jiff::Timestamp;
use thiserror::Error;

use super::{
    AccessSession, Outcome, ResourceId, ResourceRule, SessionBatch, SessionConfig, SessionConfigError,
    SessionId, SessionStats, consolidate::Completed, outbox::Outbox, rule::Rules,
};
use crate::{
    clock::Instant,
    hook::{Connection, Protocol},
};

/// What is known of a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowState {
    /// Something was counted. Who opened it, and whether it is still open, is not known: the session ends by silence.
    Counted,
    /// It is open; `src` opened it. Its end will be told.
    Open,
    /// It has ended; `src` had opened it.
    Closed,
}

/// What a connection did in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowActivity {
    /// The connection. Where it is known who opened it, that is `src`.
    pub connection: Connection,
    /// What is known of its life.
    pub state: FlowState,
    /// When the span began; for a new connection, the time of its first packet.
    pub first: Instant,
    /// The time of the last packet, or the end of the span if that is not known.
    pub last: Instant,
    /// Wall-clock time of `first`.
    pub started_at: Timestamp,
    /// Bytes from `src` to `dst` in this span.
    pub tx_bytes: u64,
    /// Bytes from `dst` to `src` in this span.
    pub rx_bytes: u64,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The sink has it for good.
    Taken,
    /// It is to be offered again.
    Failed,
}

/// Why a session can't be started, counted for or ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// It has ended, by silence or to make room, or there never was one.
    #[error("session {0} is not active")]
    NotActive(SessionId),
    /// No new sessions are taken.
    #[error("the session log is shut down")]
    ShutDown,
    /// The system gives no random numbers for an ID.
    #[error("can't make a session ID: {0}")]
    Random(#[from] getrandom::Error),
}

/// The sessions of one device. Bounded: see [`SessionConfig`].
///
/// The owner calls [`Self::handle_deadline`] and [`Self::poll_batch`] when [`Self::next_deadline`] has come, gives the
/// batch to a sink, and reports with [`Self::batch_done`] what became of it.
#[derive(Debug)]
pub struct SessionLog {
    config: SessionConfig,
    rules: Rules,
    active: HashMap<SessionId, Active, RandomState>,
    /// The active sessions that were derived from flows.
    derived: HashMap<Parties, SessionId, RandomState>,
    /// When each active session ends by silence.
    deadlines: BTreeSet<(Instant, SessionId)>,
    outbox: Outbox,
    closed: bool,
    stats: SessionStats,
}

/// Who has a session with what. Of these there is at most one that was derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Parties {
    resource: ResourceId,
    source: SocketAddr,
    dest: SocketAddr,
    protocol: Protocol,
}

#[derive(Debug)]
struct Active {
    parties: Parties,
    derived: bool,
    started_at: Timestamp,
    started: Instant,
    /// The last sign of life.
    last: Instant,
    /// When it ends by silence.
    deadline: Instant,
    bytes_tx: u64,
    bytes_rx: u64,
}

/// What the limit of [`SessionConfig::max_active`] is reckoned with.
const _: () = assert!(size_of::<(SessionId, Active)>() + size_of::<(Parties, SessionId)>() <= 256);

impl SessionLog {
    /// An empty log.
    ///
    /// # Errors
    /// [`SessionConfigError`] when a value is out of range, or the rules are too many.
    pub fn new(mut config: SessionConfig) -> Result<Self, SessionConfigError> {
        config.check()?;
        let rules = Rules::new(std::mem::take(&mut config.rules))?;
        Ok(Self {
            outbox: Outbox::new(&config),
            config,
            rules,
            active: HashMap::default(),
            derived: HashMap::default(),
            deadlines: BTreeSet::new(),
            closed: false,
            stats: SessionStats::default(),
        })
    }

    /// Sets the rules for flows from now on. A session whose flow belongs to another resource now, or to none, ends by
    /// silence.
    ///
    /// # Errors
    /// [`SessionConfigError::Prefixes`]; then the old rules stay.
    pub fn set_rules(&mut self, rules: Vec<ResourceRule>) -> Result<(), SessionConfigError> {
        self.rules = Rules::new(rules)?;
        Ok(())
    }

    /// The resource that connections to `dest` use, by the rules.
    #[must_use]
    pub fn resource(&self, dest: SocketAddr, protocol: Protocol) -> Option<ResourceId> {
        self.rules.resource(dest, protocol)
    }

    /// Starts a session, which is told apart from every other one, whatever its parties. It ends with
    /// [`Self::end_session`]; if that is lost, when nothing was counted for `lost_silence`.
    ///
    /// # Errors
    /// [`SessionError::ShutDown`], [`SessionError::Random`].
    pub fn start_session(
        &mut self,
        now: Instant,
        wall: Timestamp,
        resource: ResourceId,
        source: SocketAddr,
        dest: SocketAddr,
        protocol: Protocol,
    ) -> Result<SessionId, SessionError> {
        let parties = Parties { resource, source, dest, protocol };
        let deadline = now + self.config.lost_silence;
        let active = Active {
            parties,
            derived: false,
            started_at: wall,
            started: now,
            last: now,
            deadline,
            bytes_tx: 0,
            bytes_rx: 0,
        };
        self.start(now, active)
    }

    /// Counts bytes from the source to the resource (`tx`) and back (`rx`): a sign of life.
    ///
    /// # Errors
    /// [`SessionError::NotActive`]; the bytes are counted as unattributed.
    pub fn add_bytes(&mut self, now: Instant, id: SessionId, tx: u64, rx: u64) -> Result<(), SessionError> {
        let deadline = now + self.config.lost_silence;
        if self.touch(id, now, deadline, tx, rx) { Ok(()) } else { Err(SessionError::NotActive(id)) }
    }

    /// Ends a session now.
    ///
    /// # Errors
    /// [`SessionError::NotActive`]; nothing happens.
    pub fn end_session(&mut self, now: Instant, id: SessionId, outcome: Outcome) -> Result<(), SessionError> {
        if self.end(now, id, Some(now), outcome) { Ok(()) } else { Err(SessionError::NotActive(id)) }
    }

    /// Tells what a connection did. If a rule says that it uses a resource, it is a session: there is one at any time for
    /// each resource, source, destination and protocol, and its ID is returned.
    ///
    /// With [`FlowState::Counted`] either side may be the resource, the remote one first: a device that offers a resource
    /// sees it at its own side.
    pub fn observe(&mut self, now: Instant, activity: &FlowActivity) -> Option<SessionId> {
        let (parties, tx, rx) = self.parties(activity)?;
        let last = activity.last.max(activity.first);
        let deadline = match activity.state {
            // The next report covers as long a span as this one, so silence shows that much later.
            FlowState::Counted => last + self.config.silence + last.saturating_duration_since(activity.first),
            FlowState::Open | FlowState::Closed => last + self.config.lost_silence,
        };
        let mut known = self.derived.get(&parties).copied();
        if let Some(id) = known
            && activity.state == FlowState::Counted
            && self.active.get(&id).is_some_and(|active| active.last + self.config.silence < activity.first)
        {
            // It had ended before, only nobody has looked since.
            self.stats.ended_by_silence += 1;
            self.end(now, id, None, Outcome::Established);
            known = None;
        }
        let id = match known {
            Some(id) => {
                self.touch(id, last, deadline, tx, rx);
                id
            }
            None => {
                let active = Active {
                    parties,
                    derived: true,
                    started_at: activity.started_at,
                    started: activity.first,
                    last,
                    deadline,
                    bytes_tx: tx,
                    bytes_rx: rx,
                };
                self.start(now, active).ok()?
            }
        };
        if activity.state == FlowState::Closed {
            self.end(now, id, None, Outcome::Established);
        }
        Some(id)
    }

    /// When [`Self::handle_deadline`] and [`Self::poll_batch`] have something to do. `None` while no session is active and
    /// none waits, and while a batch is with the sink and no session is active.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let silence = self.deadlines.first().map(|&(deadline, _)| deadline);
        match (silence, self.outbox.next_deadline()) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        }
    }

    /// Ends the sessions that have been silent for too long. Early and late calls are harmless.
    pub fn handle_deadline(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.stats.ended_by_silence += 1;
            self.end(now, id, None, Outcome::Established);
        }
    }

    /// The batch that is due, if no other is with the sink.
    pub fn poll_batch(&mut self, now: Instant) -> Option<SessionBatch> {
        self.outbox.poll(now)
    }

    /// Tells what became of the batch that was polled last. After a failure its sessions wait again, and further batches
    /// back off, from 1 min to 15 min.
    pub fn batch_done(&mut self, now: Instant, delivery: Delivery) {
        match delivery {
            Delivery::Taken => {
                let Some(batch) = self.outbox.taken() else { return };
                let connections: u64 = batch.sessions().iter().map(AccessSession::connections).sum();
                self.stats.batches += 1;
                self.stats.sent += batch.sessions().len() as u64;
                self.stats.sent_connections += connections;
            }
            Delivery::Failed => {
                let Some(dropped) = self.outbox.failed(now) else { return };
                self.stats.failed_batches += 1;
                self.stats.dropped += dropped;
            }
        }
    }

    /// Makes a batch of all sessions that have ended due at once, also after a failure.
    pub fn flush(&mut self, now: Instant) {
        self.outbox.flush(now);
    }

    /// Ends every session, those that are driven now, the others at their last signs of life, and refuses new ones.
    pub fn shut_down(&mut self, now: Instant) {
        self.closed = true;
        while let Some(&(_, id)) = self.deadlines.first() {
            let derived = self.active.get(&id).is_some_and(|active| active.derived);
            self.end(now, id, (!derived).then_some(now), Outcome::Established);
        }
    }

    /// Takes out all sessions that have ended, those of a batch that is with the sink included.
    pub fn take_waiting(&mut self) -> SessionBatch {
        self.outbox.take_all()
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        SessionStats { active: self.active.len(), waiting: self.outbox.len(), ..self.stats }
    }

    /// Who has a session by this activity, with the bytes from source to resource and back.
    fn parties(&self, activity: &FlowActivity) -> Option<(Parties, u64, u64)> {
        let Connection { protocol, src: Some(src), dst: Some(dst) } = activity.connection else {
            return None;
        };
        let (tx, rx) = (activity.tx_bytes, activity.rx_bytes);
        if let Some(resource) = self.rules.resource(dst, protocol) {
            return Some((Parties { resource, source: src, dest: dst, protocol }, tx, rx));
        }
        if activity.state != FlowState::Counted {
            return None;
        }
        let resource = self.rules.resource(src, protocol)?;
        Some((Parties { resource, source: dst, dest: src, protocol }, rx, tx))
    }

    fn start(&mut self, now: Instant, active: Active) -> Result<SessionId, SessionError> {
        let id = match self.new_id() {
            Ok(id) => id,
            Err(error) => {
                self.stats.refused += 1;
                self.count_unattributed(active.bytes_tx, active.bytes_rx);
                return Err(error);
            }
        };
        if self.active.len() >= self.config.max_active
            && let Some(&(_, silent)) = self.deadlines.first()
        {
            self.stats.evicted += 1;
            self.end(now, silent, None, Outcome::Established);
        }
        self.stats.started += 1;
        self.deadlines.insert((active.deadline, id));
        if active.derived {
            self.derived.insert(active.parties, id);
        }
        self.active.insert(id, active);
        Ok(id)
    }

    fn new_id(&self) -> Result<SessionId, SessionError> {
        if self.closed {
            return Err(SessionError::ShutDown);
        }
        loop {
            let id = SessionId::generate()?;
            if !self.active.contains_key(&id) {
                return Ok(id);
            }
        }
    }

    fn touch(&mut self, id: SessionId, last: Instant, deadline: Instant, tx: u64, rx: u64) -> bool {
        let Some(active) = self.active.get_mut(&id) else {
            self.count_unattributed(tx, rx);
            return false;
        };
        active.bytes_tx = active.bytes_tx.saturating_add(tx);
        active.bytes_rx = active.bytes_rx.saturating_add(rx);
        active.last = active.last.max(last);
        // Never earlier: an end that will be told is waited for, also when something else is counted meanwhile.
        if deadline > active.deadline {
            self.deadlines.remove(&(active.deadline, id));
            self.deadlines.insert((deadline, id));
            active.deadline = deadline;
        }
        true
    }

    /// Ends a session at `at`, or at its last sign of life.
    fn end(&mut self, now: Instant, id: SessionId, at: Option<Instant>, outcome: Outcome) -> bool {
        let Some(active) = self.active.remove(&id) else { return false };
        let parties = active.parties;
        self.deadlines.remove(&(active.deadline, id));
        if active.derived {
            self.derived.remove(&parties);
        }
        let ended = at.unwrap_or(active.last).max(active.started);
        let length: Duration = ended.saturating_duration_since(active.started);
        let session = AccessSession {
            session_id: id,
            resource_id: parties.resource,
            source_addr: parties.source.into(),
            dest_addr: parties.dest,
            protocol: parties.protocol,
            started_at: active.started_at,
            ended_at: active.started_at.saturating_add(length).unwrap_or(Timestamp::MAX),
            bytes_tx: active.bytes_tx,
            bytes_rx: active.bytes_rx,
            connection_count: 0,
            outcome,
        };
        let completed = Completed { session, started: active.started, ended, waits_since: now };
        let dropped = self.outbox.push(now, completed);
        self.stats.dropped += dropped;
        true
    }

    fn count_unattributed(&mut self, tx: u64, rx: u64) {
        let bytes = &mut self.stats.unattributed_bytes;
        *bytes = bytes.saturating_add(tx).saturating_add(rx);
    }
}
