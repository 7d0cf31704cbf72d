//! The life of sessions that are driven.

use super::support::{Bench, CLIENT, RESOURCE, SERVER, end, millis, secs};
use crate::{
    clock::Clock,
    flow::session::{Outcome, SessionConfig, SessionError, SessionLog, testing::wall},
    hook::Protocol,
};

#[test]
fn a_log_without_sessions_has_no_deadline() {
    let mut bench = Bench::new(SessionConfig::default());
    assert_eq!(bench.log.next_deadline(), None);
    bench.log.flush(bench.now());
    bench.log.handle_deadline(bench.now());
    assert!(bench.poll().is_none());
    assert_eq!(bench.log.next_deadline(), None);
    bench.distinct(1);
    assert!(bench.log.next_deadline().is_some());
    bench.flushed();
    assert_eq!(bench.log.next_deadline(), None);
}

#[test]
fn a_session_has_its_times_and_its_bytes() {
    let mut bench = Bench::new(SessionConfig::default());
    let id = bench.start(CLIENT, SERVER);
    bench.pass(secs(1));
    bench.log.add_bytes(bench.now(), id, 5, 700).unwrap();
    bench.log.add_bytes(bench.now(), id, 6, 0).unwrap();
    bench.pass(millis(500));
    bench.end(id);
    let [session] = bench.flushed()[..] else { panic!("one session") };
    assert_eq!((session.session_id, session.resource_id), (id, RESOURCE));
    assert_eq!(
        (session.source_addr.to_string(), session.dest_addr.to_string()),
        (CLIENT.into(), SERVER.into())
    );
    assert_eq!((session.started_at, session.ended_at), (wall(), wall() + millis(1_500)));
    assert_eq!((session.bytes_tx, session.bytes_rx, session.connection_count), (11, 700, 0));
}

#[test]
fn sessions_of_the_same_parties_are_told_apart_also_those_of_udp() {
    let mut bench = Bench::new(SessionConfig::default());
    let (now, wall) = (bench.now(), wall());
    let [one, two] = [RESOURCE, crate::flow::session::ResourceId(2)].map(|resource| {
        bench.log.start_session(now, wall, resource, end(CLIENT), end(SERVER), Protocol::UDP).unwrap()
    });
    bench.log.add_bytes(now, one, 1, 1).unwrap();
    bench.end(one);
    bench.log.add_bytes(now, two, 2, 2).unwrap();
    bench.end(two);
    let mut sessions = bench.flushed();
    sessions.sort_by_key(|session| session.resource_id);
    let bytes: Vec<_> = sessions.iter().map(|s| (s.resource_id.0, s.bytes_tx)).collect();
    assert_eq!(bytes, [(1, 1), (2, 2)]);
}

#[test]
fn a_failed_dial_is_no_session_like_others() {
    let mut bench = Bench::new(SessionConfig::default());
    for outcome in [Outcome::Failed, Outcome::Established, Outcome::Failed] {
        let id = bench.start(CLIENT, SERVER);
        bench.pass(millis(10));
        bench.log.end_session(bench.now(), id, outcome).unwrap();
    }
    let mut counts: Vec<_> = bench.flushed().iter().map(|s| (s.outcome, s.connections())).collect();
    counts.sort_unstable();
    assert_eq!(counts, [(Outcome::Established, 1), (Outcome::Failed, 2)]);
}

#[test]
fn a_session_that_ended_can_be_neither_ended_nor_counted_for() {
    let mut bench = Bench::new(SessionConfig::default());
    let id = bench.start(CLIENT, SERVER);
    bench.end(id);
    let not_active = Err(SessionError::NotActive(id));
    assert_eq!(bench.log.end_session(bench.now(), id, Outcome::Established), not_active);
    assert_eq!(bench.log.add_bytes(bench.now(), id, 3, 4), not_active);
    assert_eq!(bench.log.stats().unattributed_bytes, 7);
    assert_eq!(bench.flushed().len(), 1);
}

#[test]
fn a_session_whose_end_is_lost_ends_by_silence_at_its_last_sign_of_life() {
    let mut bench = Bench::new(SessionConfig::default());
    let id = bench.start(CLIENT, SERVER);
    bench.pass(secs(3_600));
    bench.log.add_bytes(bench.now(), id, 1, 1).unwrap();
    bench.pass(SessionConfig::default().lost_silence - millis(1));
    assert_eq!(bench.log.stats().active, 1);
    bench.pass(millis(1));
    assert_eq!((bench.log.stats().active, bench.log.stats().ended_by_silence), (0, 1));
    assert_eq!(bench.flushed()[0].ended_at, wall() + secs(3_600));
}

#[test]
fn a_step_of_the_wall_clock_changes_no_length_and_no_deadline() {
    let mut bench = Bench::new(SessionConfig::default());
    let id = bench.start(CLIENT, SERVER);
    let deadline = bench.log.next_deadline();
    bench.clock.set_wall("1999-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(bench.log.next_deadline(), deadline);
    bench.pass(secs(2));
    bench.end(id);
    // By its wall-clock time this one is 27 years earlier.
    let id = bench.start(CLIENT, SERVER);
    bench.pass(secs(1));
    bench.end(id);
    let [session] = bench.flushed()[..] else { panic!("one session: the gap is monotonic") };
    assert_eq!((session.started_at, session.ended_at), (wall(), wall() + secs(3)));
    assert_eq!(session.connection_count, 2);
}

#[test]
fn beyond_the_limit_the_most_silent_session_makes_room_and_is_recorded() {
    let mut bench = Bench::new(SessionConfig { max_active: 2, ..SessionConfig::default() });
    let [one, two] = ["10.0.0.1:1", "10.0.0.1:2"].map(|dest| {
        bench.pass(secs(1));
        bench.start(CLIENT, dest)
    });
    bench.pass(secs(1));
    bench.log.add_bytes(bench.now(), one, 1, 1).unwrap();
    bench.start(CLIENT, "10.0.0.1:3");
    let stats = bench.log.stats();
    assert_eq!((stats.active, stats.started, stats.evicted, stats.waiting), (2, 3, 1, 1));
    assert_eq!(bench.flushed()[0].session_id, two);
}

#[test]
fn shutting_down_ends_all_sessions_and_refuses_new_ones() {
    let mut bench = Bench::new(SessionConfig::default());
    bench.start(CLIENT, SERVER);
    bench.start("[fd7a::1]:1", "[fd00::1]:22");
    bench.pass(secs(7));
    bench.log.shut_down(bench.now());
    let (now, wall_now) = (bench.now(), bench.clock.wall());
    let refused = bench.log.start_session(now, wall_now, RESOURCE, end(CLIENT), end(SERVER), Protocol::TCP);
    assert_eq!(refused, Err(SessionError::ShutDown));
    assert_eq!((bench.log.stats().active, bench.log.stats().refused), (0, 1));
    let sessions = bench.flushed();
    assert_eq!(sessions.len(), 2);
    assert!(sessions.iter().all(|session| session.ended_at == wall() + secs(7)));
}

#[test]
fn a_configuration_out_of_range_makes_no_log() {
    assert!(SessionLog::new(SessionConfig { max_active: 0, ..SessionConfig::default() }).is_err());
}
