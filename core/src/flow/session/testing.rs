//! Helpers of the tests of sessions.

use std::time::Duration;

use jiff::Timestamp;

use super::{AccessSession, Outcome, ResourceId, ResourceRule, SessionId};
use crate::{flow::testing::nets, hook::Protocol};

pub(super) fn wall() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// A TCP session of resource 1 from `start` to `end`, in milliseconds after [`wall`].
pub(super) fn session(source: &str, dest: &str, start: u64, end: u64) -> AccessSession {
    let at = |millis| wall() + Duration::from_millis(millis);
    AccessSession {
        session_id: SessionId::generate().unwrap(),
        resource_id: ResourceId(1),
        source_addr: source.parse().unwrap(),
        dest_addr: dest.parse().unwrap(),
        protocol: Protocol::TCP,
        started_at: at(start),
        ended_at: at(end),
        bytes_tx: 0,
        bytes_rx: 0,
        connection_count: 0,
        outcome: Outcome::Established,
    }
}

/// Source, times in milliseconds after [`wall`], and count of a session.
pub(super) fn short(session: &AccessSession) -> String {
    let millis = |time: Timestamp| time.duration_since(wall()).as_millis();
    format!(
        "{} {}-{} x{}",
        session.source_addr,
        millis(session.started_at),
        millis(session.ended_at),
        session.connection_count
    )
}

/// All connections to these prefixes.
pub(super) fn rule(id: u64, prefixes: &[&str]) -> ResourceRule {
    ResourceRule { id: Some(ResourceId(id)), prefixes: nets(prefixes), ports: vec![], protocol: None }
}
