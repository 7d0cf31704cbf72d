//! Makes one record of several short sessions between the same two parties.
//!
//! Sessions belong together if source address (whatever the port), destination, protocol, resource and outcome are the
//! same, and no more than [`CONSOLIDATION_GAP`] lies between the end of one and the start of the next. What comes out
//! does not depend on the order, nor on whether some of them were consolidated before.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use jiff::Timestamp;

use super::{AccessSession, Outcome, ResourceId};
use crate::{clock::Instant, hook::Protocol};

/// Longest time without any session that one record spans. newt's.
pub const CONSOLIDATION_GAP: Duration = Duration::from_secs(5);

/// A session that has ended, on the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Completed {
    pub(super) session: AccessSession,
    pub(super) started: Instant,
    pub(super) ended: Instant,
    /// When it began to wait; of several that were consolidated, the first.
    pub(super) waits_since: Instant,
}

/// What the limit of [`SessionConfig::max_waiting`](super::SessionConfig::max_waiting) is reckoned with.
const _: () = assert!(size_of::<Completed>() <= 256);

type Group = (IpAddr, SocketAddr, Protocol, ResourceId, Outcome);

impl Completed {
    fn group(&self) -> Group {
        let session = &self.session;
        (session.source_addr.ip, session.dest_addr, session.protocol, session.resource_id, session.outcome)
    }

    fn absorb(&mut self, next: &Self) {
        self.ended = self.ended.max(next.ended);
        self.waits_since = self.waits_since.min(next.waits_since);
        let (session, next) = (&mut self.session, &next.session);
        let length = self.ended.saturating_duration_since(self.started);
        session.ended_at = session.started_at.saturating_add(length).unwrap_or(Timestamp::MAX);
        session.bytes_tx = session.bytes_tx.saturating_add(next.bytes_tx);
        session.bytes_rx = session.bytes_rx.saturating_add(next.bytes_rx);
        session.connection_count = session.connections().saturating_add(next.connections());
        if session.source_addr.port != next.source_addr.port {
            session.source_addr.port = None;
        }
    }
}

/// Consolidates sessions by their wall-clock times, and sorts them by their starts.
///
/// As newt does it: a session with nothing else in its group is left alone; one whose group has others, all too far
/// away, gets a `connectionCount` of 1.
#[must_use]
pub fn consolidate(sessions: Vec<AccessSession>) -> Vec<AccessSession> {
    let Some(origin) = sessions.iter().map(|session| session.started_at.min(session.ended_at)).min() else {
        return sessions;
    };
    let instant = |time: Timestamp| Instant::from_nanos(0) + time.duration_since(origin).unsigned_abs();
    let completed = sessions.into_iter().map(|session| {
        let [started, ended] = [session.started_at, session.ended_at].map(instant);
        Completed { session, started, ended, waits_since: ended }
    });
    merge(completed.collect()).into_iter().map(|completed| completed.session).collect()
}

/// Consolidates and sorts by starts.
pub(super) fn merge(mut completed: Vec<Completed>) -> Vec<Completed> {
    // The ID makes the order total: of sessions that started together it is always the same whose ID survives.
    completed.sort_unstable_by_key(|completed| {
        (completed.group(), completed.started, completed.session.session_id)
    });
    let mut merged: Vec<Completed> = Vec::new();
    for group in completed.chunk_by(|a, b| a.group() == b.group()) {
        let Some((&first, rest)) = group.split_first() else { continue };
        let mut current = first;
        if rest.is_empty() {
            merged.push(current);
            continue;
        }
        current.session.connection_count = current.session.connections();
        for next in rest {
            if next.started.saturating_duration_since(current.ended) <= CONSOLIDATION_GAP {
                current.absorb(next);
            } else {
                merged.push(current);
                current = *next;
                current.session.connection_count = current.session.connections();
            }
        }
        merged.push(current);
    }
    merged.sort_unstable_by_key(|completed| (completed.started, completed.session.session_id));
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::session::testing::{session, short};

    fn shapes(sessions: Vec<AccessSession>) -> Vec<String> {
        consolidate(sessions).iter().map(short).collect()
    }

    #[test]
    fn five_seconds_apart_is_together_and_more_is_not() {
        let at = |start, end| session("100.90.0.1:1", "10.0.0.1:22", start, end);
        assert_eq!(shapes(vec![at(0, 1_000), at(6_000, 7_000)]), ["100.90.0.1:1 0-7000 x2"]);
        assert_eq!(
            shapes(vec![at(0, 1_000), at(6_001, 7_000)]),
            ["100.90.0.1:1 0-1000 x1", "100.90.0.1:1 6001-7000 x1"]
        );
    }

    #[test]
    fn the_gap_is_measured_from_the_latest_end_so_far() {
        let at = |start, end| session("100.90.0.1:1", "10.0.0.1:22", start, end);
        let sessions = vec![at(0, 60_000), at(1_000, 2_000), at(64_000, 65_000)];
        assert_eq!(shapes(sessions), ["100.90.0.1:1 0-65000 x3"]);
    }

    #[test]
    fn a_session_alone_in_its_group_has_no_count() {
        let sessions = vec![session("100.90.0.1:1", "10.0.0.1:22", 0, 1_000)];
        assert_eq!(consolidate(sessions.clone()), sessions);
        assert_eq!(consolidate(vec![]), []);
    }

    #[test]
    fn the_source_port_stays_if_all_have_the_same() {
        let from = |port, start| session(&format!("100.90.0.1:{port}"), "10.0.0.1:22", start, start + 10);
        assert_eq!(shapes(vec![from(7, 0), from(7, 100)]), ["100.90.0.1:7 0-110 x2"]);
        assert_eq!(shapes(vec![from(7, 0), from(8, 100)]), ["100.90.0.1 0-110 x2"]);
    }

    #[test]
    fn ipv6_sessions_consolidate() {
        let from = |port, start| session(&format!("[fd7a::1]:{port}"), "[fd00::1]:22", start, start + 10);
        assert_eq!(shapes((0..5_u64).map(|n| from(n + 1, n * 100)).collect()), ["fd7a::1 0-410 x5"]);
    }

    #[test]
    fn other_parties_protocols_resources_and_outcomes_stay_apart() {
        let one = session("100.90.0.1:1", "10.0.0.1:22", 0, 10);
        let others = [
            session("100.90.0.2:1", "10.0.0.1:22", 1, 10),
            session("100.90.0.1:1", "10.0.0.2:22", 2, 10),
            session("100.90.0.1:1", "10.0.0.1:23", 3, 10),
            AccessSession { protocol: Protocol::UDP, ..one },
            AccessSession { resource_id: ResourceId(9), ..one },
            AccessSession { outcome: Outcome::Failed, ..one },
        ];
        assert_eq!(consolidate([vec![one], others.to_vec()].concat()).len(), 7);
    }

    #[test]
    fn the_first_id_survives_and_bytes_are_summed() {
        let mut first = session("100.90.0.1:1", "10.0.0.1:22", 0, 10);
        let mut second = session("100.90.0.1:2", "10.0.0.1:22", 20, 30);
        (first.bytes_tx, first.bytes_rx) = (1, u64::MAX);
        (second.bytes_tx, second.bytes_rx) = (2, 1);
        let merged = consolidate(vec![second, first])[0];
        assert_eq!(merged.session_id, first.session_id);
        assert_eq!((merged.bytes_tx, merged.bytes_rx), (3, u64::MAX));
    }

    prop_compose! {
        /// Few parties and a minute of time, so that much belongs together.
        fn any_session()(
            v6 in any::<bool>(), source in 1..3_u8, port in 1..3_u16, dest in 1..3_u8, udp in any::<bool>(),
            start in 0..60_000_u64, length in 0..4_000_u64, tx in 0..1_000_u64, rx in 0..1_000_u64,
            count in 0..3_u64,
        ) -> AccessSession {
            let (source, dest) = if v6 {
                (format!("[fd7a::{source}]:{port}"), format!("[fd00::{dest}]:443"))
            } else {
                (format!("100.90.0.{source}:{port}"), format!("10.0.0.{dest}:443"))
            };
            let protocol = if udp { Protocol::UDP } else { Protocol::TCP };
            let session = session(&source, &dest, start, start + length);
            AccessSession { protocol, bytes_tx: tx, bytes_rx: rx, connection_count: count, ..session }
        }
    }

    fn sums(sessions: &[AccessSession]) -> (u64, u64, u64) {
        let sum = |of: fn(&AccessSession) -> u64| sessions.iter().map(of).sum();
        (sum(|s| s.bytes_tx), sum(|s| s.bytes_rx), sum(AccessSession::connections))
    }

    /// Whether a count of one is written depends on what else there was.
    fn counted(mut sessions: Vec<AccessSession>) -> Vec<AccessSession> {
        sessions.iter_mut().for_each(|session| session.connection_count = session.connections());
        sessions
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_what_is_left_is_apart(
            sessions in prop::collection::vec(any_session(), 0..60),
        ) {
            let merged = consolidate(sessions.clone());
            prop_assert_eq!(sums(&merged), sums(&sessions));
            prop_assert!(merged.is_sorted_by_key(|session| session.started_at));
            for (at, one) in merged.iter().enumerate() {
                for two in &merged[at + 1..] {
                    let group = |s: &AccessSession| (s.source_addr.ip, s.dest_addr, s.protocol);
                    let gap = two.started_at.duration_since(one.ended_at);
                    prop_assert!(group(one) != group(two) || gap > CONSOLIDATION_GAP.try_into().unwrap());
                }
            }
            for session in &sessions {
                let covering = merged.iter().filter(|m| {
                    m.source_addr.ip == session.source_addr.ip
                        && (m.dest_addr, m.protocol) == (session.dest_addr, session.protocol)
                        && m.started_at <= session.started_at
                        && m.ended_at >= session.ended_at
                });
                prop_assert_eq!(covering.count(), 1);
            }
        }

        #[test]
        fn the_order_does_not_matter(
            (sessions, shuffled) in prop::collection::vec(any_session(), 0..60)
                .prop_flat_map(|sessions| (Just(sessions.clone()), Just(sessions).prop_shuffle())),
        ) {
            prop_assert_eq!(consolidate(sessions), consolidate(shuffled));
        }

        #[test]
        fn consolidating_again_with_more_is_as_consolidating_all_at_once(
            sessions in prop::collection::vec(any_session(), 0..60),
            at in 0..60_usize,
        ) {
            let (early, late) = sessions.split_at(at.min(sessions.len()));
            let again = [consolidate(early.to_vec()), late.to_vec()].concat();
            prop_assert_eq!(counted(consolidate(again)), counted(consolidate(sessions)));
        }
    }
}
