//! From packets to records, through a counter and a worker.

use std::sync::{Arc, Condvar, Mutex};

use super::*;
use crate::{
    clock::{Clock, ManualClock},
    flow::{
        ExitFlows, FlowConfig, FlowCounter, FlowLogger, Layer, RecordSink,
        testing::{self, count_number, udp},
    },
    hook::ConnectionCounter,
};

/// Keeps events; can be closed, and then the worker waits.
#[derive(Clone, Default)]
struct Keep(Arc<(Mutex<Kept>, Condvar)>);

#[derive(Default)]
struct Kept {
    records: Vec<Vec<u8>>,
    waiting: bool,
    closed: bool,
}

impl RecordSink for Keep {
    fn append(&mut self, _wall: Timestamp, json: &[u8]) {
        let (kept, changed) = &*self.0;
        let mut kept = kept.lock().unwrap();
        while kept.closed {
            kept.waiting = true;
            changed.notify_all();
            kept = changed.wait(kept).unwrap();
        }
        kept.records.push(json.to_vec());
    }
}

impl Keep {
    fn set_closed(&self, closed: bool) {
        self.0.0.lock().unwrap().closed = closed;
        self.0.1.notify_all();
    }

    /// Returns when the worker waits here.
    fn wait_for_worker(&self) {
        let kept = self.0.0.lock().unwrap();
        let (kept, result) = self.0.1.wait_timeout_while(kept, seconds(60), |kept| !kept.waiting).unwrap();
        drop(kept);
        assert!(!result.timed_out(), "the worker had nothing to write");
    }
}

struct Bench {
    clock: ManualClock,
    logger: FlowLogger,
    windows: Keep,
    flows: Keep,
}

impl Bench {
    fn new(exit_flows: ExitFlows) -> Self {
        let clock = ManualClock::new(start());
        let config =
            FlowConfig { exit_flows, lifecycle: Some(LifecycleConfig::default()), ..FlowConfig::default() };
        let (windows, flows) = (Keep::default(), Keep::default());
        let logger = FlowLogger::start_with_flows(
            config,
            Arc::new(clock.clone()),
            Box::new(windows.clone()),
            Some(Box::new(flows.clone())),
        )
        .unwrap();
        let (map, routes) = testing::network();
        logger.set_network(map, routes);
        Self { clock, logger, windows, flows }
    }

    fn counter(&self) -> FlowCounter {
        self.logger.counter(Layer::Virtual)
    }

    fn pass(&self, duration: Duration, counter: &mut FlowCounter) {
        self.clock.advance(duration);
        counter.handle_deadline(self.clock.now());
    }

    fn events(&self) -> Vec<FlowEvent> {
        self.logger.flush();
        let kept = self.flows.0.0.lock().unwrap();
        kept.records.iter().map(|json| serde_json::from_slice(json).unwrap()).collect()
    }

    fn kinds(&self) -> Vec<FlowEventKind> {
        self.events().iter().map(|event| event.kind).collect()
    }
}

const SELF: [u8; 4] = [100, 64, 0, 1];
const PEER: [u8; 4] = [100, 64, 0, 2];
const OUTSIDE: [u8; 4] = [8, 8, 4, 4];

#[test]
fn events_go_with_their_window_and_closes_come_at_their_own_deadline() {
    let bench = Bench::new(ExitFlows::Aggregated);
    let mut counter = bench.counter();
    assert_eq!(counter.next_deadline(), None);
    counter.path(bench.clock.now(), None, "203.0.113.9:41641".parse().unwrap());
    let began = bench.clock.now();
    counter.count_packet(began, &udp(SELF, 1, PEER, 9), Direction::Tx);
    assert_eq!(counter.next_deadline(), Some(began + seconds(5)));
    bench.pass(seconds(5), &mut counter);
    assert_eq!(bench.kinds(), [FlowEventKind::Open]);
    assert_eq!(counter.next_deadline(), Some(began + seconds(120)));
    bench.pass(seconds(115), &mut counter);
    assert_eq!(bench.kinds(), [FlowEventKind::Open, FlowEventKind::Close]);
    assert_eq!(counter.next_deadline(), None);
    let close = bench.events().remove(1);
    assert_eq!(close.reason, Some(CloseReason::Idle));
    assert_eq!((close.start, close.end), (start(), Some(start() + seconds(120))));
    assert_eq!((close.counts.tx_packets, close.counts.tx_bytes, close.tx_payload), (1, 28, 0));
    assert_eq!(close.outer[0].remote, "203.0.113.9:41641".parse().unwrap());
    let stats = bench.logger.stats();
    assert_eq!((stats.lifecycle.flows, stats.lifecycle.events, stats.records), (1, 2, 1));
    assert!(stats.lifecycle.event_bytes > 200);
    assert_eq!(bench.windows.0.0.lock().unwrap().records.len(), 1, "windows have their own sink");
}

#[test]
fn a_step_of_the_wall_clock_moves_no_flow_in_time() {
    let bench = Bench::new(ExitFlows::Aggregated);
    let mut counter = bench.counter();
    counter.count_packet(bench.clock.now(), &udp(SELF, 1, PEER, 9), Direction::Tx);
    bench.clock.set_wall("2031-01-01T00:00:00Z".parse().unwrap());
    bench.clock.advance(seconds(2));
    counter.count_packet(bench.clock.now(), &udp(SELF, 2, PEER, 9), Direction::Tx);
    bench.pass(seconds(3600), &mut counter);
    bench.clock.set_wall("1999-01-01T00:00:00Z".parse().unwrap());
    counter.count_packet(bench.clock.now(), &udp(SELF, 3, PEER, 9), Direction::Tx);
    drop(counter);
    let times: Vec<_> = bench
        .events()
        .into_iter()
        .filter(|event| event.kind == FlowEventKind::Close)
        .map(|event| (event.start.to_string(), event.end.unwrap().duration_since(event.start).as_secs()))
        .collect();
    let expected =
        [("2026-01-02T03:04:05Z", 120), ("2026-01-02T03:04:07Z", 120), ("1999-01-01T00:00:00Z", 0)];
    assert_eq!(times, expected.map(|(text, seconds)| (text.to_owned(), seconds)));
}

#[test]
fn a_dropped_counter_closes_all_its_flows_however_many() {
    let bench = Bench::new(ExitFlows::Aggregated);
    let mut counter = bench.counter();
    (0..3000).for_each(|number| count_number(&mut counter, bench.clock.now(), number));
    drop(counter);
    bench.logger.shutdown();
    let closes: Vec<_> =
        bench.events().into_iter().filter(|event| event.kind == FlowEventKind::Close).collect();
    assert_eq!(closes.len(), 3000);
    assert!(closes.iter().all(|close| close.reason == Some(CloseReason::Shutdown)));
    let stats = bench.logger.stats().lifecycle;
    assert_eq!((stats.flows, stats.lost), (3000, 0));
}

#[test]
fn a_worker_that_is_stuck_for_long_loses_no_close() {
    let bench = Bench::new(ExitFlows::Aggregated);
    let mut counter = bench.counter();
    bench.flows.set_closed(true);
    count_number(&mut counter, bench.clock.now(), 0);
    counter.flush(bench.clock.now());
    bench.flows.wait_for_worker();
    (1..4000).for_each(|number| count_number(&mut counter, bench.clock.now(), number));
    bench.pass(seconds(200), &mut counter);
    assert!(bench.logger.stats().lifecycle.deferred_handovers > 0);
    assert!(counter.next_deadline().is_some(), "it is tried again");
    bench.flows.set_closed(false);
    bench.logger.flush();
    for _ in 0..20 {
        bench.pass(seconds(5), &mut counter);
        bench.logger.flush();
    }
    assert_eq!(counter.next_deadline(), None);
    let closes = bench.kinds().iter().filter(|kind| **kind == FlowEventKind::Close).count();
    let stats = bench.logger.stats().lifecycle;
    assert_eq!((closes, stats.lost), (4000, 0));
    assert_eq!(stats.events + stats.skipped, 8000);
}

#[test]
fn flows_of_a_counter_that_outlives_its_logger_are_counted_as_lost() {
    let bench = Bench::new(ExitFlows::Aggregated);
    let mut counter = bench.counter();
    bench.logger.shutdown();
    (0..600).for_each(|number| count_number(&mut counter, bench.clock.now(), number));
    drop(counter);
    let stats = bench.logger.stats().lifecycle;
    assert_eq!((stats.flows, stats.lost, stats.events), (600, 600, 0));
    assert_eq!(stats.lost_counts.tx_packets, 600);
}

#[test]
fn nothing_is_told_of_an_exit_flow_without_opt_in() {
    for setting in [ExitFlows::Aggregated, ExitFlows::Off] {
        let bench = Bench::new(setting);
        let mut counter = bench.counter();
        counter.count_packet(bench.clock.now(), &udp(SELF, 48_271, OUTSIDE, 48_272), Direction::Tx);
        counter.count_packet(bench.clock.now(), &udp(OUTSIDE, 48_272, [1, 2, 3, 4], 48_271), Direction::Rx);
        counter.count_packet(bench.clock.now(), &udp(SELF, 1, PEER, 9), Direction::Tx);
        drop(counter);
        let events = bench.events();
        assert!(events.iter().all(|event| event.dst == "100.64.0.2:9".parse().unwrap()), "{events:?}");
        assert_eq!(events.len(), 2);
        let stats = bench.logger.stats().lifecycle;
        assert_eq!((stats.withheld, stats.withheld_counts.packets()), (2, 2));
    }
}

#[test]
fn an_opt_in_that_is_withdrawn_also_holds_back_what_is_on_its_way() {
    let bench = Bench::new(ExitFlows::Full);
    let mut counter = bench.counter();
    counter.count_packet(bench.clock.now(), &udp(SELF, 1, OUTSIDE, 2), Direction::Tx);
    counter.flush(bench.clock.now());
    assert_eq!(bench.kinds(), [FlowEventKind::Open]);

    // One event is held by the sink, the other waits behind it.
    bench.flows.set_closed(true);
    counter.count_packet(bench.clock.now(), &udp(SELF, 1, PEER, 2), Direction::Tx);
    counter.count_packet(bench.clock.now(), &udp(SELF, 3, OUTSIDE, 2), Direction::Tx);
    counter.flush(bench.clock.now());
    bench.flows.wait_for_worker();
    bench.logger.set_exit_flows(ExitFlows::Aggregated);
    bench.flows.set_closed(false);
    drop(counter);
    let told: Vec<_> = bench.events().iter().map(|event| event.dst.to_string()).collect();
    assert_eq!(told, ["8.8.4.4:2", "100.64.0.2:2", "100.64.0.2:2"]);
}

#[test]
fn service_traffic_is_no_flow() {
    let bench = Bench::new(ExitFlows::Full);
    let mut counter = bench.counter();
    let service = udp(SELF, 1, [100, 100, 100, 100], 53);
    counter.count_packet(bench.clock.now(), &service, Direction::Tx);
    assert_eq!(counter.next_deadline(), None);
    counter.count_packet(bench.clock.now(), &udp(SELF, 1, PEER, 9), Direction::Tx);
    counter.count_packet(bench.clock.now(), &service, Direction::Tx);
    drop(counter);
    assert_eq!(bench.events().len(), 2);
    assert_eq!(bench.logger.stats().lifecycle.stray.packets(), 0);
}

#[test]
fn the_window_is_the_same_with_and_without_life_cycles() {
    let window = |lifecycle| {
        let bench = testing::Bench::new(FlowConfig { lifecycle, ..FlowConfig::default() });
        let mut counter = bench.counter();
        for number in 0..50 {
            count_number(&mut counter, bench.now(), number % 10);
        }
        counter.count(bench.now(), &connection(6, LOCAL, REMOTE), 3, 300, Direction::Rx);
        counter.count_packet(bench.now(), &[0x45, 0], Direction::Rx);
        bench.pass(seconds(5), &mut [&mut counter]);
        bench.json()
    };
    let json = window(Some(LifecycleConfig::default()));
    assert_eq!(json.len(), 1);
    assert_eq!(json, window(None));
}
