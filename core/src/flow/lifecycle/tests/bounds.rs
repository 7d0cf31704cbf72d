//! What happens at the limits: nothing that isn't counted.

use super::*;
use crate::flow::lifecycle::{flow::Flow, tracker::MAX_BATCH};
use CloseReason::{Evicted, Idle, Shutdown};
use Direction::Tx;

fn remote(number: usize) -> String {
    format!("100.64.{}.{}:443", number / 250, number % 250)
}

fn rig(max_flows: usize) -> Rig {
    Rig::new(LifecycleConfig { max_flows, ..LifecycleConfig::default() })
}

#[test]
fn no_flow_has_no_deadline_and_deadlines_come_at_whole_seconds() {
    let mut rig = Rig::default();
    assert_eq!(rig.tracker.next_deadline(), None);
    for number in 0..100 {
        rig.sleep(Duration::from_millis(9));
        rig.udp(LOCAL, &remote(number), Tx);
    }
    let mut calls = 0;
    while let Some(deadline) = rig.tracker.next_deadline() {
        assert_eq!(deadline.as_nanos() % 1_000_000_000, 0);
        rig.now = deadline;
        rig.tracker.handle_deadline(deadline);
        calls += 1;
    }
    assert_eq!((calls, rig.closes().len()), (1, 100), "a hundred flows of one second wake the device once");
}

#[test]
fn beyond_the_limit_the_flow_that_was_silent_for_longest_makes_room() {
    let mut rig = rig(3);
    for (number, protocol) in [Protocol::UDP, Protocol::TCP, Protocol::ICMPV4].into_iter().enumerate() {
        rig.sleep(seconds(1));
        rig.observe(&packet(protocol, LOCAL, &remote(number), Tx, SYN, 0));
    }
    rig.sleep(seconds(1));
    rig.udp(LOCAL, &remote(0), Tx);
    rig.udp(LOCAL, &remote(3), Tx);
    assert_eq!(rig.reasons(), [Evicted]);
    let close = rig.closes().remove(0);
    assert_eq!((close.protocol, close.end), (Protocol::TCP, Some(start() + seconds(4))));
    assert_eq!((rig.tracker.len(), rig.stats().evicted), (3, 1));
}

#[test]
fn a_full_batch_costs_openings_but_no_close() {
    let mut rig = rig(10_000);
    let flows = 3 * MAX_BATCH;
    (0..flows).for_each(|number| rig.udp(LOCAL, &remote(number), Tx));
    assert!(rig.tracker.is_full());
    rig.pass(seconds(120));
    assert_eq!(rig.tracker.len(), flows, "the flows that are over wait");
    assert_eq!(rig.tracker.next_deadline(), None, "but not for a deadline");
    assert_eq!((rig.opens().len(), rig.closes().len()), (MAX_BATCH, flows));
    assert!(rig.reasons().iter().all(|reason| *reason == Idle));
    let stats = rig.stats();
    assert_eq!((stats.skipped, stats.lost), ((flows - MAX_BATCH) as u64, 0));
    assert_eq!(rig.tracker.len(), 0);
}

#[test]
fn flows_beyond_all_limits_are_counted_as_lost() {
    let mut rig = rig(MAX_BATCH);
    let flows = 3 * MAX_BATCH;
    (0..flows).for_each(|number| rig.udp(LOCAL, &remote(number), Tx));
    assert_eq!(rig.tracker.len(), MAX_BATCH, "memory stays bounded");
    rig.tracker.close_all(rig.now, Shutdown);
    let told = rig.closes().len() as u64;
    let stats = rig.stats();
    assert_eq!((stats.flows, told + stats.lost), (flows as u64, flows as u64));
    assert_eq!(stats.lost_counts.tx_packets, stats.lost);
    assert!(stats.lost > 0);
}

#[test]
fn a_path_flapper_and_a_scan_leave_no_memory_behind() {
    let mut rig = Rig::default();
    for number in 0..5000 {
        rig.path(number as u16);
        rig.udp(LOCAL, &remote(number), Tx);
        rig.drain();
    }
    rig.pass(seconds(121));
    assert_eq!(rig.closes().len(), 5000);
    assert_eq!(rig.tracker.capacity(), 0);
    rig.udp(LOCAL, REMOTE, Tx);
    assert_eq!(rig.opens().len(), 5001);
}

#[test]
fn all_flows_take_less_than_four_and_a_half_megabytes() {
    // A slot, its links in two lists, its place in the list of free slots, and the index at its emptiest.
    let of_flow = size_of::<Option<Flow>>() + 2 * 8 + 4 + 2 * 5;
    assert!(of_flow * LifecycleConfig::default().max_flows <= 9 << 19, "{of_flow} bytes per flow");
}

#[test]
fn values_out_of_range_are_named() {
    let good = LifecycleConfig::default();
    assert_eq!(good.check(), Ok(()));
    assert_eq!(LifecycleConfig { active: Duration::ZERO, ..good }.check(), Ok(()));
    for (name, config) in [
        ("limit of 0 flows", LifecycleConfig { max_flows: 0, ..good }),
        ("limit of 65537 flows", LifecycleConfig { max_flows: 65_537, ..good }),
        ("udp", LifecycleConfig { udp: Duration::ZERO, ..good }),
        ("dns", LifecycleConfig { dns: Duration::from_millis(999), ..good }),
        ("icmp", LifecycleConfig { icmp: seconds(86_401), ..good }),
        ("tcp_established", LifecycleConfig { tcp_established: Duration::MAX, ..good }),
        ("tcp_other", LifecycleConfig { tcp_other: Duration::ZERO, ..good }),
        ("active", LifecycleConfig { active: Duration::from_millis(1), ..good }),
    ] {
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
