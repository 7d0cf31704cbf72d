//! Sessions derived from flows.

use super::support::{Bench, CLIENT, SERVER, secs};
use crate::{
    clock::Clock,
    flow::session::{FlowState, SessionConfig, testing::wall},
    hook::Protocol,
};

/// The length of a window of flow records.
const WINDOW: u64 = 5;

fn udp_window(bench: &mut Bench) {
    bench.pass(secs(WINDOW));
    bench.observe(FlowState::Counted, Protocol::UDP, CLIENT, SERVER, secs(WINDOW)).unwrap();
}

#[test]
fn a_flow_to_no_resource_is_no_session() {
    let mut bench = Bench::new(SessionConfig::default());
    for (src, dst) in [(CLIENT, "10.9.0.1:22"), (CLIENT, ""), ("", SERVER), ("", "")] {
        let id = bench.observe(FlowState::Counted, Protocol::TCP, src, dst, secs(WINDOW));
        assert_eq!((id, bench.log.next_deadline()), (None, None), "{src} {dst}");
    }
}

#[test]
fn udp_ends_by_silence_and_not_by_age() {
    let mut bench = Bench::new(SessionConfig::default());
    // Half an hour with pauses of 55 s.
    for _ in 0..30 {
        udp_window(&mut bench);
        bench.pass(secs(55));
    }
    let stats = bench.log.stats();
    assert_eq!((stats.started, stats.active), (1, 1));
    bench.pass(secs(10));
    let [session] = bench.flushed()[..] else { panic!("one session") };
    assert_eq!((session.bytes_tx, session.bytes_rx), (30, 300));
    let last = 29 * (WINDOW + 55) + WINDOW;
    assert_eq!((session.started_at, session.ended_at), (wall(), wall() + secs(last)), "without the silence");
}

#[test]
fn silence_shorter_than_the_limit_never_splits_however_late_it_is_looked_at() {
    let mut bench = Bench::new(SessionConfig::default());
    udp_window(&mut bench);
    // The next packet comes after 59 s, and is reported at the end of its window.
    bench.pass(secs(59));
    udp_window(&mut bench);
    assert_eq!(bench.log.stats().started, 1);
    // Nobody looks at the deadline, then a flow is active again.
    bench.clock.advance(secs(61 + WINDOW));
    bench.observe(FlowState::Counted, Protocol::UDP, CLIENT, SERVER, secs(WINDOW)).unwrap();
    let stats = bench.log.stats();
    assert_eq!((stats.started, stats.ended_by_silence), (2, 1));
}

#[test]
fn udp_flows_to_different_resources_are_different_sessions() {
    let mut bench = Bench::new(SessionConfig::default());
    for dst in [SERVER, "10.0.1.1:22", SERVER] {
        bench.observe(FlowState::Counted, Protocol::UDP, CLIENT, dst, secs(WINDOW)).unwrap();
    }
    bench.pass(secs(70));
    let mut sessions: Vec<_> = bench.flushed().iter().map(|s| (s.resource_id.0, s.bytes_tx)).collect();
    sessions.sort_unstable();
    assert_eq!(sessions, [(1, 2), (2, 1)]);
}

#[test]
fn tcp_ends_when_its_end_is_told_however_silent_it_was() {
    let mut bench = Bench::new(SessionConfig::default());
    let opened = bench.observe(FlowState::Open, Protocol::TCP, CLIENT, SERVER, secs(0)).unwrap();
    bench.pass(secs(3_600));
    let closed = bench.observe(FlowState::Closed, Protocol::TCP, CLIENT, SERVER, secs(0)).unwrap();
    assert_eq!((opened, bench.log.stats().active), (closed, 0));
    let [session] = bench.flushed()[..] else { panic!("one session") };
    assert_eq!((session.ended_at, session.bytes_rx), (wall() + secs(3_600), 20));
}

#[test]
fn a_tcp_connection_on_the_same_ports_is_a_new_session() {
    let mut bench = Bench::new(SessionConfig::default());
    for _ in 0..2 {
        bench.observe(FlowState::Closed, Protocol::TCP, CLIENT, SERVER, secs(1)).unwrap();
        bench.pass(secs(10));
    }
    assert_eq!(bench.log.stats().started, 2);
    assert_eq!(bench.flushed().len(), 2);
}

#[test]
fn a_lost_end_of_tcp_is_made_up_for_by_silence() {
    let mut bench = Bench::new(SessionConfig::default());
    bench.observe(FlowState::Open, Protocol::TCP, CLIENT, SERVER, secs(0)).unwrap();
    // What is only counted meanwhile does not make an end by silence of it.
    bench.observe(FlowState::Counted, Protocol::TCP, CLIENT, SERVER, secs(0)).unwrap();
    bench.pass(SessionConfig::default().lost_silence - secs(1));
    assert_eq!(bench.log.stats().active, 1);
    bench.pass(secs(1));
    assert_eq!(bench.log.stats().active, 0);
}

#[test]
fn a_device_that_offers_a_resource_sees_it_at_its_own_side() {
    let mut bench = Bench::new(SessionConfig::default());
    bench.observe(FlowState::Counted, Protocol::TCP, SERVER, CLIENT, secs(0)).unwrap();
    bench.pass(secs(70));
    let [session] = bench.flushed()[..] else { panic!("one session") };
    assert_eq!(
        (session.source_addr.to_string(), session.dest_addr.to_string()),
        (CLIENT.into(), SERVER.into())
    );
    assert_eq!((session.bytes_tx, session.bytes_rx), (10, 1), "tx is towards the resource");
}

#[test]
fn a_connection_that_a_resource_opened_itself_is_no_session() {
    let mut bench = Bench::new(SessionConfig::default());
    assert_eq!(bench.observe(FlowState::Open, Protocol::TCP, SERVER, CLIENT, secs(0)), None);
}

#[test]
fn ipv6_flows_are_sessions_with_bracketed_addresses() {
    let mut bench = Bench::new(SessionConfig::default());
    bench.observe(FlowState::Closed, Protocol::TCP, "[fd7a::1]:1", "[fd00::1]:22", secs(0)).unwrap();
    let json = serde_json::to_string(&bench.flushed()).unwrap();
    assert!(json.contains(r#""sourceAddr":"[fd7a::1]:1","destAddr":"[fd00::1]:22""#), "{json}");
}

#[test]
fn new_rules_hold_for_flows_from_now_on() {
    let mut bench = Bench::new(SessionConfig::default());
    udp_window(&mut bench);
    bench.log.set_rules(vec![crate::flow::session::testing::rule(7, &["10.0.0.0/8"])]).unwrap();
    udp_window(&mut bench);
    bench.pass(secs(70));
    let mut resources: Vec<_> = bench.flushed().iter().map(|session| session.resource_id.0).collect();
    resources.sort_unstable();
    assert_eq!(resources, [1, 7]);
}

#[test]
fn flows_after_the_end_are_refused_and_their_bytes_counted() {
    let mut bench = Bench::new(SessionConfig::default());
    bench.log.shut_down(bench.clock.now());
    assert_eq!(bench.observe(FlowState::Counted, Protocol::UDP, CLIENT, SERVER, secs(5)), None);
    let stats = bench.log.stats();
    assert_eq!((stats.refused, stats.unattributed_bytes), (1, 11));
}
