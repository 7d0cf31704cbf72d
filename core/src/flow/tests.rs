//! The journey from packet to record, through real counters and a real worker, on a clock that the tests move.

mod stress;

use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;

use super::{
    ConnectionCounts, Counts, ExitFlows, FlowConfig, Layer, MAX_MESSAGE_LEN, Message,
    testing::{Bench, connection, count_number, is_node, nets, udp},
};
use crate::{
    hook::{ConnectionCounter, Direction, Protocol},
    netmap::{NetworkMap, Node, NodeId, Routes},
};

const WINDOW: Duration = Duration::from_secs(5);
const SELF: [u8; 4] = [100, 64, 0, 1];
const PEER: [u8; 4] = [100, 64, 0, 2];

/// The counter updates of the reference run (layer, protocol, src, dst, packets, bytes, direction).
const UPDATES: [(Layer, u8, &str, &str, u64, u64, Direction); 16] = {
    use Direction::{Rx, Tx};
    use Layer::{Physical, Virtual};
    [
        (Virtual, 6, "100.64.0.1:50000", "100.64.0.2:443", 10, 1500, Tx),
        (Virtual, 6, "100.64.0.1:50000", "100.64.0.2:443", 8, 9000, Rx),
        (Virtual, 17, "[fd7a:115c:a1e0::1]:5353", "[fd7a:115c:a1e0::2]:53", 1, 80, Tx),
        (Virtual, 1, "100.64.0.1:0", "100.64.0.10:0", 1, 84, Tx),
        (Virtual, 6, "100.64.0.1:50001", "10.1.2.3:22", 2, 120, Tx),
        (Virtual, 6, "100.64.0.1:50002", "93.184.216.34:443", 3, 300, Tx),
        (Virtual, 17, "100.64.0.1:50003", "1.1.1.1:53", 1, 60, Tx),
        (Virtual, 6, "8.8.8.8:443", "100.64.0.2:40000", 5, 5000, Rx),
        (Virtual, 17, "1.2.3.4:5", "5.6.7.8:9", 1, 40, Tx),
        (Virtual, 17, "100.64.0.1:1", "100.100.100.100:53", 1, 60, Tx),
        (Virtual, 255, "100.64.0.1:0", "100.64.0.2:0", 1, 1280, Tx),
        (Virtual, 0, "", "", 1, 4, Tx),
        (Virtual, 6, "100.64.0.2:443", "100.64.0.10:9", 1, 1, Tx),
        (Virtual, 6, "100.64.0.99:443", "100.64.0.1:9", 1, 1, Rx),
        (Physical, 0, "100.64.0.2:0", "203.0.113.9:41641", 4, 592, Tx),
        (Physical, 0, "100.64.0.10:0", "127.3.3.40:1", 4, 592, Rx),
    ]
};

const REFERENCE_START: &str = r#"{"nodeId":"n1CNTRL","start":"2026-01-02T03:04:05.12Z","end":"2026-01-02T03:04:10.12Z","srcNode":{"nodeId":"n1CNTRL","name":"self.example.ts.net","addresses":["100.64.0.1","fd7a:115c:a1e0::1"],"os":"linux","user":"a@example.com"},"dstNodes":[{"nodeId":"n10CNTRL","name":"other.example.ts.net","addresses":["100.64.0.10"],"user":"a@example.com"},{"nodeId":"n2CNTRL","name":"peer.example.ts.net","addresses":["100.64.0.2","fd7a:115c:a1e0::2"],"tags":["tag:a","tag:b"]}],"virtualTraffic":[{"proto":255,"src":"100.64.0.1:0","dst":"100.64.0.2:0","txPkts":1,"txBytes":1280},{"proto":1,"src":"100.64.0.1:0","dst":"100.64.0.10:0","txPkts":1,"txBytes":84},{"proto":6,"src":"100.64.0.1:50000","dst":"100.64.0.2:443","txPkts":10,"txBytes":1500,"rxPkts":8,"rxBytes":9000},{"proto":17,"src":"[fd7a:115c:a1e0::1]:5353","dst":"[fd7a:115c:a1e0::2]:53","txPkts":1,"txBytes":80}],"subnetTraffic":[{"proto":6,"src":"100.64.0.1:50001","dst":"10.1.2.3:22","txPkts":2,"txBytes":120},{"proto":6,"src":"100.64.0.2:443","dst":"100.64.0.10:9","txPkts":1,"txBytes":1}],"#;
const REFERENCE_EXIT: &str = r#""exitTraffic":[{"txPkts":1,"txBytes":4},{"proto":17,"src":"1.2.3.4:5","dst":"5.6.7.8:9","txPkts":1,"txBytes":40},{"proto":6,"src":"8.8.8.8:443","dst":"100.64.0.2:40000","rxPkts":5,"rxBytes":5000},{"proto":6,"src":"100.64.0.1:50002","dst":"93.184.216.34:443","txPkts":3,"txBytes":300},{"proto":17,"src":"100.64.0.1:50003","dst":"1.1.1.1:53","txPkts":1,"txBytes":60},{"proto":6,"src":"100.64.0.99:443","dst":"100.64.0.1:9","rxPkts":1,"rxBytes":1}],"#;
const REFERENCE_EXIT_ANONYMISED: &str = r#""exitTraffic":[{"txPkts":2,"txBytes":44},{"dst":"100.64.0.1:0","rxPkts":1,"rxBytes":1},{"dst":"100.64.0.2:0","rxPkts":5,"rxBytes":5000},{"src":"100.64.0.1:0","txPkts":4,"txBytes":360}],"#;
const REFERENCE_END: &str = r#""physicalTraffic":[{"src":"100.64.0.2:0","dst":"203.0.113.9:41641","txPkts":4,"txBytes":592},{"src":"100.64.0.10:0","dst":"127.3.3.40:1","rxPkts":4,"rxBytes":592}]}"#;

/// The records of the reference run.
fn reference_run(exit_flows: ExitFlows) -> (Vec<String>, super::FlowStats) {
    let bench = Bench::new(FlowConfig { exit_flows, ..FlowConfig::default() });
    let mut virt = bench.logger.counter(Layer::Virtual);
    let mut physical = bench.logger.counter(Layer::Physical);
    for (layer, protocol, src, dst, packets, bytes, direction) in UPDATES {
        let counter = if layer == Layer::Virtual { &mut virt } else { &mut physical };
        counter.count(bench.now(), &connection(protocol, src, dst), packets, bytes, direction);
    }
    bench.pass(WINDOW, &mut [&mut virt, &mut physical]);
    (bench.json(), bench.logger.stats())
}

#[test]
fn the_reference_run_gives_upstreams_record() {
    let (json, _) = reference_run(ExitFlows::Full);
    assert_eq!(json, [[REFERENCE_START, REFERENCE_EXIT, REFERENCE_END].concat()]);
    let (json, stats) = reference_run(ExitFlows::Aggregated);
    assert_eq!(json, [[REFERENCE_START, REFERENCE_EXIT_ANONYMISED, REFERENCE_END].concat()]);
    assert_eq!(stats.records, 1);
    assert_eq!(stats.record_bytes, json[0].len() as u64);
    assert_eq!((stats.virtual_traffic.flows, stats.virtual_traffic.counts.packets()), (4, 21));
    assert_eq!((stats.exit_traffic.flows, stats.unknown_traffic.flows), (4, 2));
    assert_eq!(stats.undecodable_packets, 1);
}

#[test]
fn keepalives_alone_arm_nothing_and_are_recorded_with_the_next_packet() {
    let (inner, outer) =
        (connection(6, "100.64.0.1:1", "100.64.0.2:2"), connection(0, "100.64.0.2:0", "203.0.113.9:41641"));
    let bench = Bench::new(FlowConfig::default());
    let (mut virt, mut physical) =
        (bench.logger.counter(Layer::Virtual), bench.logger.counter(Layer::Physical));
    for _ in 0..100 {
        physical.count(bench.now(), &outer, 1, 32, Direction::Tx);
        assert_eq!(physical.next_deadline(), None);
        bench.pass(Duration::from_secs(25), &mut [&mut virt, &mut physical]);
    }
    assert_eq!(bench.json(), Vec::<String>::new());

    // A packet comes out of a datagram: what was quiet until then is a record of its own, at once.
    physical.count(bench.now(), &outer, 1, 100, Direction::Rx);
    virt.count(bench.now(), &inner, 1, 60, Direction::Rx);
    let due = bench.now() + WINDOW;
    assert_eq!(virt.next_deadline(), Some(due));
    assert!(physical.next_deadline().unwrap() <= bench.now());
    physical.handle_deadline(bench.now());
    physical.count(bench.now(), &outer, 1, 96, Direction::Tx);
    assert_eq!(physical.next_deadline(), Some(due), "the new window is one for both");
    bench.pass(WINDOW, &mut [&mut virt, &mut physical]);
    let [quiet, busy] = bench.messages().try_into().unwrap();
    assert_eq!((quiet.virtual_traffic.len(), quiet.physical_traffic.len()), (0, 1));
    let counts = quiet.physical_traffic[0].counts;
    assert_eq!((counts.tx_packets, counts.tx_bytes, counts.rx_packets), (100, 3200, 1));
    assert_eq!(quiet.end.duration_since(quiet.start).as_secs(), 2_500);
    assert_eq!((busy.virtual_traffic.len(), busy.physical_traffic.len()), (1, 1));
}

#[test]
fn a_window_that_a_keepalive_began_ends_with_it_if_a_packet_follows_soon() {
    let bench = Bench::new(FlowConfig::default());
    let (mut virt, mut physical) =
        (bench.logger.counter(Layer::Virtual), bench.logger.counter(Layer::Physical));
    let due = bench.now() + WINDOW;
    physical.count(bench.now(), &connection(0, "100.64.0.2:0", "203.0.113.9:41641"), 1, 96, Direction::Tx);
    bench.pass(Duration::from_secs(2), &mut [&mut virt, &mut physical]);
    virt.count(bench.now(), &connection(6, "100.64.0.1:1", "100.64.0.2:2"), 1, 60, Direction::Tx);
    assert_eq!((virt.next_deadline(), physical.next_deadline()), (Some(due), Some(due)));
    bench.pass(Duration::from_secs(3), &mut [&mut virt, &mut physical]);
    let [message] = bench.messages().try_into().unwrap();
    assert_eq!((message.virtual_traffic.len(), message.physical_traffic.len()), (1, 1));
}

#[test]
fn keepalives_are_recorded_by_a_flush_and_in_compat_mode_as_upstream_does() {
    let outer = connection(0, "100.64.0.2:0", "203.0.113.9:41641");
    let bench = Bench::new(FlowConfig::default());
    let mut physical = bench.logger.counter(Layer::Physical);
    physical.count(bench.now(), &outer, 1, 32, Direction::Tx);
    physical.flush(bench.now());
    bench.logger.flush();
    assert_eq!(bench.messages().len(), 1);

    let bench = Bench::new(FlowConfig { compat: true, ..FlowConfig::default() });
    let mut physical = bench.logger.counter(Layer::Physical);
    physical.count(bench.now(), &outer, 1, 32, Direction::Tx);
    assert_eq!(physical.next_deadline(), Some(bench.now() + WINDOW));
}

#[test]
fn exit_flows_that_are_off_leave_only_their_sums_in_the_statistics() {
    let (json, stats) = reference_run(ExitFlows::Off);
    assert_eq!(json, [[REFERENCE_START, REFERENCE_END].concat()]);
    assert_eq!(stats.withheld.flows, 6);
    assert_eq!(stats.withheld.counts.packets(), 12);
}

#[test]
fn nothing_of_an_exit_connection_but_its_node_is_in_any_record_or_shown_to_an_observer() {
    let bench = Bench::new(FlowConfig::default());
    let shown = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let text = std::sync::Arc::clone(&shown);
    bench.logger.set_observer(Some(Box::new(move |message: &Message| {
        text.lock().unwrap().push_str(&format!("{message:?}"));
    })));
    let mut counter = bench.counter();
    for dst in ["93.184.216.34:48271", "[2001:db8::7a57]:48271"] {
        let src = if dst.starts_with('[') { "[fd7a:115c:a1e0::1]:48272" } else { "100.64.0.1:48272" };
        counter.count(bench.now(), &connection(132, src, dst), 1, 1, Direction::Tx);
    }
    bench.pass(WINDOW, &mut [&mut counter]);
    let mut all = bench.json().concat();
    assert!(all.contains("exitTraffic"));
    all.push_str(&shown.lock().unwrap());
    assert!(shown.lock().unwrap().contains("exit_traffic"));
    for canary in ["93.184", "7a57", "48271", "48272", "132"] {
        assert!(!all.contains(canary), "{canary} in {all}");
    }
}

#[test]
fn a_more_generous_setting_is_not_applied_to_what_was_counted_before() {
    let bench = Bench::new(FlowConfig::default());
    let mut counter = bench.counter();
    let mut window = |setting| {
        counter.count(bench.now(), &connection(6, "100.64.0.1:5", "8.8.8.8:443"), 1, 1, Direction::Tx);
        bench.logger.set_exit_flows(setting);
        bench.pass(WINDOW, &mut [&mut counter]);
        bench.messages().last().unwrap().exit_traffic[0].dst
    };
    assert_eq!(window(ExitFlows::Full), None);
    assert_eq!(window(ExitFlows::Full), "8.8.8.8:443".parse().ok());
    assert_eq!(window(ExitFlows::Aggregated), None, "less takes effect at once");
}

#[test]
fn no_deadline_exists_while_nothing_was_counted() {
    let bench = Bench::new(FlowConfig::default());
    let mut counter = bench.counter();
    assert_eq!(counter.next_deadline(), None);
    counter.count_packet(bench.now(), &udp(SELF, 1, [100, 100, 100, 100], 53), Direction::Tx);
    assert_eq!(counter.next_deadline(), None, "service traffic opens no window");
    let opened = bench.now();
    counter.count_packet(opened, &udp(SELF, 1, PEER, 53), Direction::Tx);
    assert_eq!(counter.next_deadline(), Some(opened + WINDOW));
    bench.pass(WINDOW - Duration::from_nanos(1), &mut [&mut counter]);
    assert_eq!(counter.next_deadline(), Some(opened + WINDOW));
    bench.pass(Duration::from_nanos(1), &mut [&mut counter]);
    assert_eq!(counter.next_deadline(), None);
    assert_eq!(bench.json().len(), 1);
}

#[test]
fn steps_of_the_wall_clock_change_neither_the_window_nor_its_length() {
    let bench = Bench::new(FlowConfig::default());
    let mut counter = bench.counter();
    for year in ["2031-05-06T00:00:00Z", "1999-01-01T00:00:00Z"] {
        let start = crate::clock::Clock::wall(&bench.clock);
        count_number(&mut counter, bench.now(), 1);
        bench.clock.set_wall(year.parse().unwrap());
        bench.pass(WINDOW, &mut [&mut counter]);
        let messages = bench.messages();
        let message = messages.last().unwrap();
        assert_eq!(message.start, start);
        assert_eq!(message.end, start + WINDOW);
    }
    assert_eq!(bench.json().len(), 2);
}

#[test]
fn a_connection_keeps_the_class_of_its_first_packet_when_routes_change() {
    let bench = Bench::new(FlowConfig { exit_flows: ExitFlows::Full, ..FlowConfig::default() });
    let mut counter = bench.counter();
    counter.count_packet(bench.now(), &udp(SELF, 1, [172, 16, 0, 1], 1), Direction::Tx);
    let (map, _) = super::testing::network();
    bench.logger.set_network(map, Routes::new([], nets(&["172.16.0.0/12"]), []));
    for port in [1, 2] {
        counter.count_packet(bench.now(), &udp(SELF, port, [172, 16, 0, 1], port), Direction::Tx);
    }
    bench.pass(WINDOW, &mut [&mut counter]);
    let message = bench.messages().remove(0);
    assert_eq!(message.exit_traffic.len(), 1);
    assert_eq!(message.exit_traffic[0].counts.tx_packets, 2);
    assert_eq!(message.subnet_traffic.len(), 1);
    assert_eq!(message.subnet_traffic[0].src, "100.64.0.1:2".parse().ok());
}

#[test]
fn a_device_that_becomes_unknown_mid_window_keeps_its_name_in_the_record() {
    let bench = Bench::new(FlowConfig::default());
    let mut counter = bench.counter();
    count_number(&mut counter, bench.now(), 1);
    bench.logger.set_network(NetworkMap::default(), Routes::default());
    bench.pass(WINDOW, &mut [&mut counter]);
    assert_eq!(bench.messages()[0].node_id, "n1CNTRL");
    count_number(&mut counter, bench.now(), 1);
    bench.pass(WINDOW, &mut [&mut counter]);
    let message = bench.messages().remove(1);
    assert_eq!(message.node_id, "", "kept without a name");
    assert_eq!(message.exit_traffic[0].counts.tx_packets, 1);
}

#[test]
fn counters_of_several_threads_meet_in_one_record() {
    let bench = Bench::new(FlowConfig::default());
    let mut one = bench.counter();
    count_number(&mut one, bench.now(), 1);
    bench.clock.advance(Duration::from_secs(2));
    let now = bench.now();
    let mut two = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut two = bench.counter();
            count_number(&mut two, now, 1);
            count_number(&mut two, now, 2);
            two
        });
        other.join().unwrap()
    });
    assert_eq!(one.next_deadline(), two.next_deadline());
    bench.pass(Duration::from_secs(3), &mut [&mut one, &mut two]);
    let messages = bench.messages();
    assert_eq!(messages.len(), 1);
    let packets: Vec<_> = messages[0].virtual_traffic.iter().map(|row| row.counts.tx_packets).collect();
    assert_eq!(packets, [2, 1]);
}

#[test]
fn a_stuck_counter_is_not_waited_for_and_its_counts_get_a_record_of_their_own() {
    let bench = Bench::new(FlowConfig::default());
    let (mut healthy, mut stuck) = (bench.counter(), bench.counter());
    count_number(&mut healthy, bench.now(), 1);
    count_number(&mut stuck, bench.now(), 2);
    bench.pass(WINDOW, &mut [&mut healthy]);
    bench.pass(Duration::from_secs(2), &mut []);
    assert_eq!(bench.messages().len(), 1);
    bench.pass(Duration::from_secs(60), &mut [&mut stuck]);
    let messages = bench.messages();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1].start, messages[0].start);
    assert_eq!(messages[1].virtual_traffic[0].src, "100.64.0.1:2".parse().ok());
    assert_eq!(bench.logger.stats().late_tables, 1);
}

#[test]
fn a_dropped_counter_and_a_shut_down_logger_lose_nothing() {
    let bench = Bench::new(FlowConfig::default());
    let (mut dropped, mut open) = (bench.counter(), bench.counter());
    count_number(&mut dropped, bench.now(), 1);
    count_number(&mut open, bench.now(), 2);
    drop(dropped);
    bench.logger.shutdown();
    bench.logger.shutdown();
    let messages = bench.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].virtual_traffic.len(), 1);
    count_number(&mut open, bench.now(), 2);
    drop(open);
    assert_eq!(bench.messages().len(), 1);
    let discarded = bench.logger.stats().discarded;
    assert_eq!(discarded, Counts { tx_packets: 2, tx_bytes: 56, ..Counts::default() });
}

#[test]
fn a_worker_that_is_behind_defers_tables_and_loses_none() {
    let bench = Bench::new(FlowConfig { max_flows: 10, ..FlowConfig::default() });
    // The worker waits in the observer until the test lets it go.
    let (entered, is_in) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    bench.logger.set_observer(Some(Box::new(move |_| {
        entered.send(()).unwrap();
        let _ = released.recv();
    })));
    let mut counter = bench.counter();
    let mut total = 0;
    let mut window = |flows: u32| {
        (0..flows).for_each(|number| count_number(&mut counter, bench.now(), number));
        total += u64::from(flows);
        bench.pass(WINDOW, &mut [&mut counter]);
    };
    window(1);
    is_in.recv().unwrap();
    window(8);
    window(8);
    assert_eq!(bench.logger.stats().deferred_handovers, 0, "two full tables may wait");
    window(8);
    assert_eq!(bench.logger.stats().deferred_handovers, 1);
    window(8);
    assert_eq!(counter.next_deadline(), Some(bench.now() + WINDOW), "tried again a window later");
    drop(release);
    bench.pass(WINDOW, &mut [&mut counter]);
    drop(counter);
    let counted: u64 = bench.messages().iter().map(|message| sum(message).tx_packets).sum();
    assert_eq!(counted, total);
}

#[test]
fn a_sink_that_panics_blocks_nobody() {
    struct Broken;
    impl super::RecordSink for Broken {
        fn append(&mut self, _: jiff::Timestamp, _: &[u8]) {
            std::panic::resume_unwind(Box::new("broken"));
        }
    }
    let clock = std::sync::Arc::new(crate::clock::SystemClock);
    let logger = super::FlowLogger::start(FlowConfig::default(), clock, Box::new(Broken)).unwrap();
    let mut counter = logger.counter(Layer::Virtual);
    let now = crate::clock::Clock::now(&crate::clock::SystemClock);
    count_number(&mut counter, now, 1);
    counter.flush(now);
    logger.flush();
    count_number(&mut counter, now, 1);
    counter.flush(now);
    logger.shutdown();
    assert_eq!(logger.stats().discarded.tx_packets, 1);
}

#[test]
fn the_largest_window_is_spread_over_messages_that_fit() {
    let bench = Bench::new(FlowConfig { exit_flows: ExitFlows::Full, ..FlowConfig::default() });
    // Rows as long as they get, each with a node of its own.
    let address =
        |number: u16| std::net::Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0xaaaa, 0xbbbb, 0xcccc, 0xdddd, number);
    let nodes = (0x1000..0x2000).map(|number| Node {
        id: NodeId(number.into()),
        stable_id: format!("n{number}\u{1}"),
        name: "\u{2}".repeat(20),
        addresses: vec![std::net::IpAddr::from(address(number)).into()],
        os: String::new(),
        user: None,
        tags: vec![],
    });
    bench.logger.set_network(NetworkMap::new(None, nodes, []).unwrap(), Routes::default());
    let mut counter = bench.counter();
    for number in 0x1000..0x2000 {
        let end = Some(SocketAddr::new(address(number).into(), 65_535));
        let connection = crate::hook::Connection { protocol: Protocol::FRAGMENT, src: end, dst: end };
        for direction in [Direction::Tx, Direction::Rx] {
            counter.count(bench.now(), &connection, u64::MAX, u64::MAX, direction);
        }
    }
    bench.pass(WINDOW, &mut [&mut counter]);
    let json = bench.json();
    let messages = bench.messages();
    assert!(json.iter().all(|json| json.len() <= MAX_MESSAGE_LEN));
    // A row with its node and their commas takes less than 700 bytes: messages are closed only when full.
    assert!(json.iter().rev().skip(1).all(|json| json.len() > MAX_MESSAGE_LEN - 700));
    assert!(messages.len() > 4);
    assert_eq!(messages.iter().map(|message| message.exit_traffic.len()).sum::<usize>(), 0x1000);
    for message in &messages {
        assert_eq!((message.start, message.end), (messages[0].start, messages[0].end));
        assert_eq!(message.dst_nodes.len(), message.exit_traffic.len(), "each names its own nodes");
    }
}

#[test]
fn upstreams_estimate_splits_where_upstream_does() {
    let bench = Bench::new(FlowConfig { compat: true, ..FlowConfig::default() });
    let mut counter = bench.counter();
    let flows = 2_000;
    (0..flows).for_each(|number| count_number(&mut counter, bench.now(), number));
    bench.pass(WINDOW, &mut [&mut counter]);
    let sizes: Vec<_> = bench.messages().iter().map(|message| message.virtual_traffic.len()).collect();
    // (262144 − 219 − 161 for this device − 161 and 150 for the nodes seen) / 247
    assert_eq!(sizes, [1_058, 942]);
}

#[test]
fn a_network_that_changes_all_the_time_costs_no_counts() {
    let bench = Bench::new(FlowConfig::default());
    let mut counter = bench.counter();
    for number in 0..100 {
        let (map, routes) = super::testing::network();
        bench.logger.set_network(map, routes);
        count_number(&mut counter, bench.now(), number);
    }
    bench.pass(WINDOW, &mut [&mut counter]);
    let messages = bench.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].virtual_traffic.len(), 100);
}

#[test]
fn records_without_node_info_name_only_this_device() {
    let bench = Bench::new(FlowConfig { include_node_info: false, ..FlowConfig::default() });
    let mut counter = bench.counter();
    count_number(&mut counter, bench.now(), 1);
    bench.pass(WINDOW, &mut [&mut counter]);
    let message = bench.messages().remove(0);
    assert_eq!((message.node_id.as_str(), message.src_node), ("n1CNTRL", None));
    assert!(message.dst_nodes.is_empty());
    assert_eq!(message.virtual_traffic.len(), 1);
}

#[test]
fn connections_without_room_are_counted_by_kind_and_reported() {
    let bench = Bench::new(FlowConfig { max_flows: 1, ..FlowConfig::default() });
    let mut counter = bench.counter();
    for dst in [PEER, PEER, [10, 0, 0, 1], [8, 8, 8, 8]] {
        counter.count_packet(bench.now(), &udp(SELF, 7, dst, 7), Direction::Tx);
        counter.count_packet(bench.now(), &udp(SELF, 8, dst, 8), Direction::Tx);
    }
    bench.pass(WINDOW, &mut [&mut counter]);
    let message = bench.messages().remove(0);
    let rows = |list: &[ConnectionCounts]| {
        list.iter().map(|row| (row.src.map(|src| src.port()), row.counts.tx_packets)).collect::<Vec<_>>()
    };
    assert_eq!(rows(&message.virtual_traffic), [(None, 2), (Some(7), 2)]);
    assert_eq!(rows(&message.subnet_traffic), [(None, 2)]);
    assert_eq!(rows(&message.exit_traffic), [(None, 2)]);
    assert_eq!(message.overflow_packets, 6);
    assert_eq!(bench.logger.stats().overflow_packets, 6);
}

/// The sum of all rows of a message.
fn sum(message: &Message) -> Counts {
    let lists =
        [&message.virtual_traffic, &message.subnet_traffic, &message.exit_traffic, &message.physical_traffic];
    let mut sum = Counts::default();
    lists.into_iter().flatten().for_each(|row| sum += row.counts);
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_that_is_counted_is_in_the_records(
        updates in prop::collection::vec(
            (any::<bool>(), 0..6_u8, 0..6_u8, 0..3_u16, 0..1000_u64, any::<bool>(), 0..40_u8), 1..200),
        max_flows in 1..40_usize,
        full in any::<bool>(),
    ) {
        let exit_flows = if full { ExitFlows::Full } else { ExitFlows::Aggregated };
        let bench = Bench::new(FlowConfig { max_flows, exit_flows, ..FlowConfig::default() });
        let mut counters = [bench.logger.counter(Layer::Virtual), bench.logger.counter(Layer::Physical)];
        let end = |number, port: u16| match number {
            0 => None,
            1 => Some(SocketAddr::from((SELF, port))),
            2 => Some(SocketAddr::from((PEER, port))),
            3 => Some(SocketAddr::from(([10, 0, 0, 1], port))),
            4 => Some(SocketAddr::from(([8, 8, 8, 8], port))),
            _ => Some("[2001:db8::1]:7".parse().unwrap()),
        };
        let mut counted = Counts::default();
        for (physical, src, dst, port, bytes, rx, pause) in updates {
            let connection = crate::hook::Connection { protocol: Protocol::UDP, src: end(src, port), dst: end(dst, port) };
            let direction = if rx { Direction::Rx } else { Direction::Tx };
            counters[usize::from(physical)].count(bench.now(), &connection, 1, bytes, direction);
            counted.add(1, bytes, direction);
            if pause == 0 {
                let [a, b] = &mut counters;
                bench.pass(Duration::from_secs(3), &mut [a, b]);
            }
        }
        drop(counters);
        let messages = bench.messages();
        let mut recorded = Counts::default();
        messages.iter().for_each(|message| recorded += sum(message));
        prop_assert_eq!(recorded, counted);
        let overflow: u64 = messages.iter().map(|message| message.overflow_packets).sum();
        prop_assert_eq!(overflow, bench.logger.stats().overflow_packets);
        for message in &messages {
            let lists = [&message.virtual_traffic, &message.subnet_traffic, &message.exit_traffic];
            for list in lists {
                prop_assert!(list.is_sorted_by(|a, b| a.compare(b).is_lt()));
            }
            if !full {
                prop_assert!(message.exit_traffic.iter().all(is_anonymous));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_packet(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..20)) {
        let bench = Bench::new(FlowConfig::default());
        let mut counter = bench.counter();
        let mut counted = Counts::default();
        for packet in &packets {
            counter.count_packet(bench.now(), packet, Direction::Rx);
            counted.add(1, packet.len() as u64, Direction::Rx);
        }
        drop(counter);
        let messages = bench.messages();
        prop_assert_eq!(sum(&messages[0]), counted);
    }
}

fn is_anonymous(row: &ConnectionCounts) -> bool {
    let hidden = |end: Option<SocketAddr>| end.is_none_or(|end| end.port() == 0 && is_node(end.ip()));
    row.protocol == Protocol::UNKNOWN && hidden(row.src) && hidden(row.dst)
}
