//! A log on a clock of its own.

use std::{net::SocketAddr, time::Duration};

use jiff::Timestamp;

use crate::{
    clock::{Clock, Instant, ManualClock},
    flow::session::{
        AccessSession, Delivery, FlowActivity, FlowState, Outcome, ResourceId, SessionBatch, SessionConfig,
        SessionId, SessionLog,
        testing::{rule, wall},
    },
    hook::{Connection, Protocol},
};

pub(super) const RESOURCE: ResourceId = ResourceId(1);
pub(super) const CLIENT: &str = "100.90.0.1:40000";
pub(super) const SERVER: &str = "10.0.0.1:22";

pub(super) struct Bench {
    pub(super) log: SessionLog,
    pub(super) clock: ManualClock,
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Bench {
    /// With two resources: 10.0.0.0/24 and fd00::/64 are 1, 10.0.1.0/24 is 2.
    pub(super) fn new(config: SessionConfig) -> Self {
        let rules = vec![rule(1, &["10.0.0.0/24", "fd00::/64"]), rule(2, &["10.0.1.0/24"])];
        let log = SessionLog::new(SessionConfig { rules, ..config }).unwrap();
        Self { log, clock: ManualClock::new(wall()) }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Lets time pass, as a driver that calls at each deadline in between would see it.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now() + duration;
        while let Some(deadline) = self.log.next_deadline()
            && deadline < end
            && deadline > self.now()
        {
            self.clock.advance(deadline.saturating_duration_since(self.now()));
            self.log.handle_deadline(self.now());
        }
        self.clock.advance(end.saturating_duration_since(self.now()));
        self.log.handle_deadline(self.now());
    }

    pub(super) fn start(&mut self, source: &str, dest: &str) -> SessionId {
        let (now, wall) = (self.now(), self.clock.wall());
        self.log.start_session(now, wall, RESOURCE, end(source), end(dest), Protocol::TCP).unwrap()
    }

    pub(super) fn end(&mut self, id: SessionId) {
        let now = self.now();
        self.log.end_session(now, id, Outcome::Established).unwrap();
    }

    /// A session without length, from a port of its own to a destination of its own.
    pub(super) fn distinct(&mut self, number: u16) {
        let id = self.start(CLIENT, &format!("10.0.0.1:{number}"));
        self.end(id);
    }

    /// A flow between two ends that was active during the last `span`.
    pub(super) fn observe(
        &mut self,
        state: FlowState,
        protocol: Protocol,
        src: &str,
        dst: &str,
        span: Duration,
    ) -> Option<SessionId> {
        let activity = self.activity(state, protocol, src, dst, span);
        self.log.observe(self.now(), &activity)
    }

    pub(super) fn activity(
        &self,
        state: FlowState,
        protocol: Protocol,
        src: &str,
        dst: &str,
        span: Duration,
    ) -> FlowActivity {
        FlowActivity {
            connection: Connection { protocol, src: src.parse().ok(), dst: dst.parse().ok() },
            state,
            first: self.now() - span,
            last: self.now(),
            started_at: self.clock.wall().checked_sub(span).unwrap_or(Timestamp::MIN),
            tx_bytes: 1,
            rx_bytes: 10,
        }
    }

    pub(super) fn poll(&mut self) -> Option<SessionBatch> {
        self.log.poll_batch(self.clock.now())
    }

    pub(super) fn done(&mut self, delivery: Delivery) {
        self.log.batch_done(self.clock.now(), delivery);
    }

    /// Everything that has ended, taken by the sink.
    pub(super) fn flushed(&mut self) -> Vec<AccessSession> {
        self.log.flush(self.clock.now());
        let batch = self.poll().unwrap_or_default();
        self.done(Delivery::Taken);
        batch.sessions().to_vec()
    }
}
