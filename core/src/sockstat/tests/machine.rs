//! The state machine: when it looks, and that nothing is lost or counted twice.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    sockstat::{InterfaceKind, MAX_LABELS, SAMPLE_AFTER, SocketStatsError},
};

#[test]
fn the_first_change_arms_one_deadline_and_quiet_arms_none() {
    let mut machine = Machine::recording();
    let counter = machine.counter(app(64));
    assert_eq!(machine.run(), Ok(None));
    machine.clock.advance(Duration::from_secs(3600));
    assert_eq!(machine.run(), Ok(None));

    let first = machine.clock.now();
    counter.add_tx(10);
    assert_eq!(machine.run(), Ok(Some(first + SAMPLE_AFTER)));
    machine.clock.advance(Duration::from_millis(60));
    counter.add_rx(20);
    assert_eq!(machine.run(), Ok(Some(first + SAMPLE_AFTER)), "later changes move nothing");
    machine.clock.advance(Duration::from_millis(40));
    assert_eq!(machine.run(), Ok(None));
    let start_ms = machine.clock.wall().as_millisecond() - 100;
    let bytes = BTreeMap::from([(app(64), Bytes { tx: 10, rx: 20 })]);
    assert_eq!(machine.events, [SocketEvent { start_ms, duration_ms: 100, cellular: false, bytes }]);
}

#[test]
fn adding_nothing_arms_nothing() {
    let mut machine = Machine::recording();
    machine.counter(app(64)).add_tx(0);
    assert_eq!(machine.run(), Ok(None));
}

#[test]
fn uploads_of_logs_are_counted_but_cause_no_event() {
    let mut machine = Machine::recording();
    let uploads = [Label::LOGTAIL_LOGGER, Label::NETLOG_LOGGER, Label::SOCKSTATLOG_LOGGER];
    for label in uploads {
        machine.counter(label).add_tx(1000);
        assert_eq!(machine.run(), Ok(None));
    }
    machine.clock.advance(Duration::from_secs(2));
    machine.counter(app(64)).add_tx(1);
    machine.run().unwrap();
    machine.clock.advance(SAMPLE_AFTER);
    assert_eq!(machine.run(), Ok(None));
    assert_eq!(machine.events.len(), 1);
    assert!(uploads.iter().all(|label| machine.events[0].bytes[label].tx == 1000));
}

/// The loop of Tailscale's issue 7719: an event is uploaded, the upload is counted, that is an event.
#[test]
fn recording_does_not_feed_itself() {
    let mut machine = Machine::recording();
    let upload = machine.counter(Label::SOCKSTATLOG_LOGGER);
    machine.counter(app(64)).add_tx(1);
    for _ in 0..100 {
        let known = machine.events.len();
        machine.run().unwrap();
        upload.add_tx(500 * (machine.events.len() - known) as u64);
        machine.clock.advance(SAMPLE_AFTER);
    }
    assert_eq!(machine.run(), Ok(None));
    assert_eq!(machine.events.len(), 1);
}

#[test]
fn a_flush_takes_what_arms_nothing_too_and_says_when_it_may_have_been() {
    let mut machine = Machine::recording();
    let start_ms = machine.clock.wall().as_millisecond();
    machine.counter(Label::NETLOG_LOGGER).add_rx(7);
    machine.clock.advance(Duration::from_secs(9));
    machine.flush();
    let bytes = BTreeMap::from([(Label::NETLOG_LOGGER, Bytes { tx: 0, rx: 7 })]);
    assert_eq!(machine.events, [SocketEvent { start_ms, duration_ms: 9000, cellular: false, bytes }]);
    machine.flush();
    assert_eq!(machine.events.len(), 1, "nothing has changed since");
}

#[test]
fn bytes_belong_to_the_network_they_went_over() {
    let mut machine = Machine::recording();
    let counter = machine.counter(app(64));
    for (kind, tx) in [
        (InterfaceKind::Wifi, 1),
        (InterfaceKind::Cellular, 2),
        (InterfaceKind::Wired, 3),
        (InterfaceKind::Cellular, 4),
    ] {
        machine.counters.set_interface(kind);
        machine.run().unwrap();
        counter.add_tx(tx);
        machine.run().unwrap();
        machine.clock.advance(Duration::from_millis(30));
    }
    machine.flush();
    let seen: Vec<_> =
        machine.events.iter().map(|event| (event.cellular, event.bytes[&app(64)].tx)).collect();
    assert_eq!(seen, [(false, 1), (true, 2), (false, 3), (true, 4)]);
    assert!(machine.events.iter().all(|event| event.duration_ms == 30));
}

#[test]
fn a_logger_that_comes_late_still_tells_networks_apart() {
    let mut machine = Machine::recording();
    let counter = machine.counter(app(64));
    for (kind, tx) in [
        (InterfaceKind::Wifi, 1),
        (InterfaceKind::Cellular, 10),
        (InterfaceKind::Wifi, 100),
        (InterfaceKind::Cellular, 1000),
    ] {
        machine.counters.set_interface(kind);
        counter.add_tx(tx);
    }
    machine.run().unwrap();
    machine.clock.advance(SAMPLE_AFTER);
    assert_eq!(machine.run(), Ok(None));
    let seen: Vec<_> =
        machine.events.iter().map(|event| (event.cellular, event.bytes[&app(64)].tx)).collect();
    assert_eq!(seen, [(false, 101), (true, 10), (true, 1000)]);
}

#[test]
fn the_network_said_before_recording_holds() {
    let mut machine = Machine::recording();
    drop(machine.core);
    machine.counters.set_interface(InterfaceKind::Cellular);
    machine.core =
        Core::attach(&machine.counters.shared, &SocketStatsOptions::default(), machine.clock.now()).unwrap();
    machine.counter(app(64)).add_tx(1);
    machine.flush();
    assert!(machine.events[0].cellular);
}

#[test]
fn recording_ends_on_time_with_what_is_left_and_nothing_counts_before_and_after() {
    let duration = Some(Duration::from_millis(250));
    let mut machine = Machine::new(&SocketStatsOptions { duration, ..SocketStatsOptions::default() });
    let end = machine.clock.now() + Duration::from_millis(250);
    let counter = machine.counter(app(64));
    assert_eq!(machine.run(), Ok(Some(end)), "the only deadline of a quiet recording");
    machine.clock.advance(Duration::from_millis(200));
    counter.add_tx(5);
    assert_eq!(machine.run(), Ok(Some(end)), "the end comes before the sample");
    machine.clock.advance(Duration::from_millis(50));
    assert_eq!(machine.run(), Err(Why::Expired));
    counter.add_tx(1000);
    assert_eq!(machine.run(), Err(Why::Expired));
    assert_eq!(sum(&machine.events), BTreeMap::from([(app(64), Bytes { tx: 5, rx: 0 })]));

    drop(machine.core);
    counter.add_tx(1000);
    machine.core =
        Core::attach(&machine.counters.shared, &SocketStatsOptions::default(), machine.clock.now()).unwrap();
    machine.events.clear();
    counter.add_tx(3);
    machine.flush();
    assert_eq!(sum(&machine.events)[&app(64)].tx, 3);
}

#[test]
fn counters_have_one_logger_at_a_time() {
    let machine = Machine::recording();
    let second = Core::attach(&machine.counters.shared, &SocketStatsOptions::default(), machine.clock.now());
    assert!(matches!(second, Err(SocketStatsError::AlreadyRecording)));
}

#[test]
fn rows_are_bounded() {
    let counters = SocketCounters::new();
    let mut labels = (0..).map(|index| app(Label::FIRST_APP + index));
    for label in labels.clone().take(MAX_LABELS) {
        counters.counter(label).unwrap();
        counters.counter(label).unwrap();
    }
    counters.counter(Label::DNS_FORWARDER_TCP).unwrap();
    let more = counters.counter(labels.nth(MAX_LABELS).unwrap());
    assert!(matches!(more, Err(SocketStatsError::TooManyLabels { .. })));
}

#[test]
fn the_tunnels_datagrams_are_counted_by_family_and_passed_on() {
    #[derive(Default)]
    struct Inner(u64);
    impl ConnectionCounter for &mut Inner {
        fn count(&mut self, _: Instant, _: &Connection, packets: u64, bytes: u64, _: Direction) {
            assert_eq!(packets, 1);
            self.0 += bytes;
        }
    }
    let mut machine = Machine::recording();
    let mut inner = Inner::default();
    let mut tunnel = machine.counters.tunnel(&mut inner);
    let now = machine.clock.now();
    for (dst, bytes, direction) in [
        ("203.0.113.9:51820", 148, Direction::Tx),
        ("203.0.113.9:51820", 92, Direction::Rx),
        ("[2001:db8::9]:51820", 32, Direction::Tx),
        ("[::ffff:203.0.113.9]:51820", 1000, Direction::Tx),
    ] {
        let connection = Connection { protocol: Protocol::UNKNOWN, src: None, dst: dst.parse().ok() };
        tunnel.count(now, &connection, 1, bytes, direction);
    }
    drop(tunnel);
    assert_eq!(inner.0, 1272);
    assert!(machine.run().unwrap().is_some());
    machine.clock.advance(SAMPLE_AFTER);
    machine.run().unwrap();
    let expected = BTreeMap::from([
        (Label::MAGICSOCK_CONN_UDP4, Bytes { tx: 1148, rx: 92 }),
        (Label::MAGICSOCK_CONN_UDP6, Bytes { tx: 32, rx: 0 }),
    ]);
    assert_eq!(machine.events[0].bytes, expected);
}

#[derive(Debug, Clone)]
enum Action {
    Add(usize, u64, u64),
    Activity,
    Pass(u64),
    Network(InterfaceKind),
    Flush,
}

const LABELS: [Label; 3] = [Label::MAGICSOCK_CONN_UDP4, Label::DNS_FORWARDER_TCP, Label::LOGTAIL_LOGGER];

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..LABELS.len(), 0..3_u64, 0..3_u64).prop_map(|(label, tx, rx)| Action::Add(label, tx, rx)),
        1 => Just(Action::Activity),
        4 => (0..250_u64).prop_map(Action::Pass),
        1 => prop_oneof![Just(InterfaceKind::Wifi), Just(InterfaceKind::Cellular)].prop_map(Action::Network),
        1 => Just(Action::Flush),
    ]
}

proptest! {
    #[test]
    fn every_byte_is_in_one_event_and_deadlines_exist_only_after_changes(
        actions in prop::collection::vec(action(), 0..100),
    ) {
        let mut machine = Machine::recording();
        let counters = LABELS.map(|label| machine.counter(label));
        let mut model = BTreeMap::<Label, Bytes>::new();
        // The first change that waits for its sample, and the network.
        let (mut open, mut network) = (None, InterfaceKind::Other);
        for action in actions {
            let (known, now) = (machine.events.len(), machine.clock.now());
            match action {
                Action::Add(index, tx, rx) => {
                    counters[index].add_tx(tx);
                    counters[index].add_rx(rx);
                    *model.entry(LABELS[index]).or_default() += Bytes { tx, rx };
                    if !LABELS[index].is_log_upload() && tx + rx > 0 {
                        open = open.or(Some(now));
                    }
                }
                Action::Activity => {
                    machine.counters.activity();
                    open = open.or(Some(now));
                }
                Action::Pass(ms) => {
                    machine.clock.advance(Duration::from_millis(ms));
                    if open.is_some_and(|since| since + SAMPLE_AFTER <= machine.clock.now()) {
                        open = None;
                    }
                }
                Action::Network(kind) => {
                    machine.counters.set_interface(kind);
                    if kind != network {
                        open = None;
                    }
                }
                Action::Flush => {
                    machine.flush();
                    open = None;
                }
            }
            prop_assert_eq!(machine.run(), Ok(open.map(|since| since + SAMPLE_AFTER)));
            for event in &machine.events[known..] {
                prop_assert_eq!(event.cellular, network == InterfaceKind::Cellular);
                prop_assert!(event.bytes.values().all(|bytes| !bytes.is_zero()));
                let end = i128::from(event.start_ms) + i128::from(event.duration_ms);
                prop_assert_eq!(end, i128::from(machine.clock.wall().as_millisecond()));
            }
            if let Action::Network(kind) = action {
                network = kind;
            }
        }
        machine.flush();
        model.retain(|_, bytes| !bytes.is_zero());
        prop_assert_eq!(sum(&machine.events), model);
    }
}
