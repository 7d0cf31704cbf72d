//! When batches are made, and what becomes of them.

use super::support::{Bench, CLIENT, SERVER, millis, secs};
use crate::flow::session::{AccessSession, Delivery, DropCount, SessionConfig};

fn connections(sessions: &[AccessSession]) -> u64 {
    sessions.iter().map(AccessSession::connections).sum()
}

fn ports(sessions: &[AccessSession]) -> Vec<u16> {
    let mut ports: Vec<_> = sessions.iter().map(|session| session.dest_addr.port()).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn a_batch_is_due_a_minute_after_the_first_session_ended() {
    let mut bench = Bench::new(SessionConfig::default());
    bench.distinct(1);
    let due = bench.now() + secs(60);
    bench.pass(secs(30));
    bench.distinct(2);
    assert_eq!(bench.log.next_deadline(), Some(due));
    bench.pass(millis(29_999));
    assert!(bench.poll().is_none());
    bench.pass(millis(1));
    assert_eq!(ports(bench.poll().unwrap().sessions()), [1, 2]);
    bench.done(Delivery::Taken);
    assert_eq!(bench.log.next_deadline(), None, "no ticker");
}

#[test]
fn a_hundred_sessions_are_a_batch_at_once() {
    let mut bench = Bench::new(SessionConfig::default());
    (0..99).for_each(|number| bench.distinct(number));
    assert!(bench.poll().is_none());
    bench.distinct(99);
    assert_eq!(bench.log.next_deadline(), Some(bench.now()));
    assert_eq!(bench.poll().unwrap().sessions().len(), 100);
}

#[test]
fn a_hundred_sessions_that_are_one_record_are_no_reason_to_hurry() {
    let mut bench = Bench::new(SessionConfig::default());
    for _ in 0..1_000 {
        let id = bench.start(CLIENT, SERVER);
        bench.pass(millis(10));
        bench.end(id);
    }
    assert!(bench.poll().is_none());
    assert!(bench.log.stats().waiting <= 100, "{} wait", bench.log.stats().waiting);
    let sessions = bench.flushed();
    assert_eq!((sessions.len(), sessions[0].connection_count), (1, 1_000));
}

#[test]
fn a_burst_across_two_batches_is_one_record() {
    let mut bench = Bench::new(SessionConfig::default());
    bench.distinct(1);
    bench.pass(secs(57));
    // Ends 1 s before the batch is due; its sequel starts 1 s after.
    for _ in 0..2 {
        let id = bench.start(CLIENT, SERVER);
        bench.pass(secs(2));
        bench.end(id);
        bench.pass(secs(1));
        let early = bench.poll();
        assert!(early.is_none_or(|batch| ports(batch.sessions()) == [1]));
        bench.done(Delivery::Taken);
    }
    bench.pass(secs(60));
    let batch = bench.poll().unwrap();
    assert_eq!((batch.sessions().len(), connections(batch.sessions())), (1, 2));
}

#[test]
fn a_burst_without_end_is_recorded_every_two_minutes() {
    let mut bench = Bench::new(SessionConfig::default());
    let mut batches = Vec::new();
    for second in 0..600 {
        let id = bench.start(CLIENT, SERVER);
        bench.pass(secs(1));
        bench.end(id);
        if let Some(batch) = bench.poll() {
            bench.done(Delivery::Taken);
            batches.push((second, connections(batch.sessions())));
        }
    }
    let sent: u64 = batches.iter().map(|(_, connections)| connections).sum();
    assert!(batches.len() >= 4 && sent >= 480, "{batches:?}");
    assert_eq!(sent + bench.flushed()[0].connections(), 600);
}

#[test]
fn counts_survive_failed_batches() {
    let mut bench = Bench::new(SessionConfig::default());
    for round in 0..23_u16 {
        let id = bench.start(&format!("100.90.0.1:{round}"), SERVER);
        bench.log.add_bytes(bench.now(), id, 1, 2).unwrap();
        bench.pass(millis(100));
        bench.end(id);
        bench.log.flush(bench.now());
        assert!(bench.poll().is_some());
        bench.done(Delivery::Failed);
    }
    let [session] = bench.flushed()[..] else { panic!("one record") };
    assert_eq!((session.connection_count, session.bytes_tx, session.bytes_rx), (23, 23, 46));
}

#[test]
fn an_unmerged_session_keeps_its_count_over_a_failure() {
    let mut bench = Bench::new(SessionConfig::default());
    for _ in 0..2 {
        bench.distinct(7);
    }
    bench.log.flush(bench.now());
    assert_eq!(bench.poll().unwrap().sessions()[0].connection_count, 2);
    bench.done(Delivery::Failed);
    assert_eq!(bench.flushed()[0].connection_count, 2);
}

#[test]
fn failed_batches_back_off_whatever_ends_meanwhile() {
    let mut bench = Bench::new(SessionConfig::default());
    let mut attempts = Vec::new();
    let start = bench.now();
    // A session ends each second for two hours, and the server is down.
    for number in 0..7_200_u64 {
        bench.distinct(number as u16);
        bench.pass(secs(1));
        if bench.poll().is_some() {
            attempts.push(bench.now().saturating_duration_since(start).as_secs());
            bench.done(Delivery::Failed);
        }
    }
    let waits: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(attempts[0], 60);
    assert_eq!(waits[..6], [60, 120, 240, 480, 900, 900], "{attempts:?}");
    assert!(attempts.len() <= 12, "{attempts:?}");
}

#[test]
fn after_a_success_the_next_failure_backs_off_from_the_start() {
    let mut bench = Bench::new(SessionConfig::default());
    for delivery in [Delivery::Failed, Delivery::Failed, Delivery::Taken, Delivery::Failed] {
        bench.distinct(1);
        bench.log.flush(bench.now());
        assert!(bench.poll().is_some(), "an explicit flush does not wait");
        bench.done(delivery);
    }
    assert_eq!(bench.log.next_deadline(), Some(bench.now() + secs(60)));
}

#[test]
fn the_oldest_are_given_up_when_a_failed_batch_comes_back() {
    let mut bench = Bench::new(SessionConfig::default());
    (0..480).for_each(|number| {
        bench.pass(millis(1));
        bench.distinct(number);
    });
    let batch = bench.poll().unwrap();
    assert_eq!(batch.sessions().len(), 480);
    for number in 480..560 {
        bench.pass(millis(1));
        bench.distinct(number);
    }
    bench.done(Delivery::Failed);
    let dropped = DropCount { sessions: 60, connections: 60, bytes: 0 };
    assert_eq!(bench.log.stats().dropped, dropped);
    bench.log.flush(bench.now());
    let batch = bench.poll().unwrap();
    assert_eq!(ports(batch.sessions()), (60..560).collect::<Vec<_>>());
    assert_eq!(batch.dropped(), dropped, "the reader is told");
}

#[test]
fn losses_are_told_until_a_batch_is_taken_and_then_no_more() {
    let mut bench =
        Bench::new(SessionConfig { max_waiting: 1, flush_sessions: 1, ..SessionConfig::default() });
    bench.distinct(1);
    assert!(bench.poll().is_some());
    bench.distinct(2);
    bench.done(Delivery::Failed);
    for delivery in [Delivery::Failed, Delivery::Taken] {
        bench.log.flush(bench.now());
        assert_eq!(bench.poll().unwrap().dropped().sessions, 1);
        bench.done(delivery);
    }
    bench.distinct(3);
    assert_eq!(bench.poll().unwrap().dropped().sessions, 0);
}

#[test]
fn what_waits_is_bounded_also_while_the_sink_is_stuck() {
    let mut bench = Bench::new(SessionConfig::default());
    (0..100).for_each(|number| bench.distinct(number));
    assert_eq!(bench.poll().unwrap().sessions().len(), 100);
    for number in 0..10_000 {
        bench.pass(millis(1));
        bench.distinct(number);
        assert!(bench.poll().is_none(), "one batch at a time");
    }
    assert_eq!(bench.log.next_deadline(), None, "nothing to do before the sink is back");
    assert_eq!(bench.log.stats().waiting, 600);
    assert_eq!(bench.log.stats().dropped.sessions, 9_500);
    bench.done(Delivery::Taken);
    assert_eq!(ports(&bench.flushed()), (9_500..10_000).collect::<Vec<_>>());
}

#[test]
fn a_report_without_a_batch_changes_nothing() {
    let mut bench = Bench::new(SessionConfig::default());
    for delivery in [Delivery::Taken, Delivery::Failed] {
        bench.done(delivery);
    }
    assert_eq!(bench.log.stats(), Default::default());
    assert_eq!(bench.log.next_deadline(), None);
}
