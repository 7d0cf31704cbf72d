//! Whatever happens in whatever order: nothing is lost without being counted.

use proptest::prelude::*;

use super::support::{Bench, CLIENT, end, millis};
use crate::{
    clock::Clock,
    flow::session::{Delivery, FlowState, Outcome, SessionBatch, SessionConfig, SessionId},
    hook::Protocol,
};

#[derive(Debug, Clone)]
enum Action {
    Start(u16),
    AddBytes(usize, u64, u64),
    End(usize),
    Observe(FlowState, bool, u16),
    Pass(u64),
    StepWall(i64),
    Flush,
    Poll,
    Done(Delivery),
}

fn action() -> impl Strategy<Value = Action> {
    let state = prop_oneof![Just(FlowState::Counted), Just(FlowState::Open), Just(FlowState::Closed)];
    let delivery = prop_oneof![Just(Delivery::Taken), Just(Delivery::Failed)];
    prop_oneof![
        3 => (1..5_u16).prop_map(Action::Start),
        2 => (any::<usize>(), 0..100_u64, 0..100_u64).prop_map(|(at, tx, rx)| Action::AddBytes(at, tx, rx)),
        3 => any::<usize>().prop_map(Action::End),
        3 => (state, any::<bool>(), 1..5_u16).prop_map(|(state, v6, dest)| Action::Observe(state, v6, dest)),
        3 => prop_oneof![0..5_000_u64, 0..400_000_u64].prop_map(Action::Pass),
        1 => (0..4_000_000_000_i64).prop_map(Action::StepWall),
        1 => Just(Action::Flush),
        2 => Just(Action::Poll),
        2 => delivery.prop_map(Action::Done),
    ]
}

#[derive(Debug, Default)]
struct Received {
    connections: u64,
    bytes: u64,
    /// Sessions that are said to have been given up.
    told: u64,
}

impl Received {
    fn add(&mut self, batch: &SessionBatch) {
        self.told += batch.dropped().connections;
        for session in batch.sessions() {
            assert!(session.ended_at >= session.started_at);
            self.connections += session.connections();
            self.bytes += session.bytes_tx + session.bytes_rx;
        }
    }
}

proptest! {
    #[test]
    fn every_session_and_every_byte_is_received_dropped_or_unattributed(
        actions in prop::collection::vec(action(), 0..150),
    ) {
        let config =
            SessionConfig { max_active: 6, max_waiting: 5, flush_sessions: 4, ..SessionConfig::default() };
        let mut bench = Bench::new(config);
        let (mut ids, mut received, mut counted) = (Vec::<SessionId>::new(), Received::default(), 0);
        let mut in_flight: Option<SessionBatch> = None;
        for action in actions {
            match action {
                Action::Start(dest) => ids.push(bench.start(CLIENT, &format!("10.0.0.1:{dest}"))),
                Action::AddBytes(at, tx, rx) => {
                    if let Some(&id) = ids.get(at % ids.len().max(1)) {
                        let _ = bench.log.add_bytes(bench.clock.now(), id, tx, rx);
                        counted += tx + rx;
                    }
                }
                Action::End(at) => {
                    if !ids.is_empty() {
                        let id = ids.swap_remove(at % ids.len());
                        let _ = bench.log.end_session(bench.clock.now(), id, Outcome::Established);
                    }
                }
                Action::Observe(state, v6, port) => {
                    let (src, dst) = if v6 { ("[fd7a::1]:9", "[fd00::1]:0") } else { (CLIENT, "10.0.1.1:0") };
                    let mut dst = end(dst);
                    dst.set_port(port);
                    bench.observe(state, Protocol::UDP, src, &dst.to_string(), millis(5_000)).unwrap();
                    counted += 11;
                }
                Action::Pass(time) => bench.pass(millis(time)),
                Action::StepWall(second) => bench.clock.set_wall(jiff::Timestamp::new(second, 0).unwrap()),
                Action::Flush => bench.log.flush(bench.clock.now()),
                Action::Poll => {
                    if let Some(batch) = bench.poll() {
                        prop_assert!(in_flight.replace(batch).is_none(), "one batch at a time");
                    }
                }
                Action::Done(delivery) => {
                    let batch = in_flight.take().unwrap_or_default();
                    if delivery == Delivery::Taken {
                        received.add(&batch);
                    }
                    bench.done(delivery);
                }
            }
            let stats = bench.log.stats();
            prop_assert!(stats.active <= 6 && stats.waiting <= 10);
            let busy = stats.active > 0 || (in_flight.is_none() && stats.waiting > 0);
            prop_assert_eq!(bench.log.next_deadline().is_some(), busy);
        }
        received.add(&in_flight.unwrap_or_default());
        bench.done(Delivery::Taken);
        bench.log.shut_down(bench.clock.now());
        bench.log.flush(bench.clock.now());
        received.add(&bench.poll().unwrap_or_default());
        bench.done(Delivery::Taken);
        let stats = bench.log.stats();
        prop_assert_eq!((stats.active, stats.waiting), (0, 0));
        prop_assert_eq!(bench.log.next_deadline(), None);
        prop_assert_eq!(received.connections, stats.sent_connections);
        prop_assert_eq!(received.connections + stats.dropped.connections, stats.started);
        prop_assert_eq!(received.bytes + stats.dropped.bytes + stats.unattributed_bytes, counted);
        prop_assert_eq!(received.told, stats.dropped.connections, "every loss is told exactly once");
    }
}
