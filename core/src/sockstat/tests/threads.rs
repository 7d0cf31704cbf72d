//! The logger with its thread, under the system's clock.

use std::{
    sync::{Arc, Barrier, mpsc},
    thread,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::{
    clock::SystemClock,
    sockstat::{EventSink, SocketStatsLogger, SocketStatsTotals},
};

/// Far above what any step takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(
    counters: &SocketCounters,
    options: SocketStatsOptions,
) -> (SocketStatsLogger, mpsc::Receiver<Value>) {
    let (send, events) = mpsc::channel();
    let sink: EventSink = Box::new(move |_: Timestamp, json: &[u8]| {
        // Nobody listens any more when a test has failed.
        let _ = send.send(serde_json::from_slice(json).unwrap());
    });
    (SocketStatsLogger::start(counters, options, Arc::new(SystemClock), sink).unwrap(), events)
}

fn tx_of(event: &Value, label: u16) -> u64 {
    event["s"][label.to_string()][0].as_u64().unwrap_or(0)
}

#[test]
fn a_change_becomes_an_event_by_itself() {
    let counters = SocketCounters::new();
    let (logger, events) = start(&counters, SocketStatsOptions::default());
    for bytes in [10, 20] {
        counters.counter(app(64)).unwrap().add_tx(bytes);
        let event = events.recv_timeout(PATIENCE).unwrap();
        assert_eq!(tx_of(&event, 64), bytes);
        assert!(event["d"].as_u64().unwrap() >= 100);
    }
    assert_eq!(logger.totals().events, 2);
    assert!(logger.is_recording());
    logger.stop();
    assert!(!logger.is_recording());
    logger.flush();
}

#[test]
fn nothing_is_lost_between_threads_that_add_and_the_one_that_samples() {
    const THREADS: u64 = 4;
    const EACH: u64 = 50_000;
    let counters = SocketCounters::new();
    let (logger, events) = start(&counters, SocketStatsOptions::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let counter = counters.counter(app(64)).unwrap();
            scope.spawn(move || {
                for _ in 0..EACH {
                    counter.add_tx(3);
                }
            });
        }
        for _ in 0..50 {
            logger.flush();
        }
    });
    // Without a flush: what the last addition armed must suffice.
    let mut total = 0;
    while total < THREADS * EACH * 3 {
        total += tx_of(&events.recv_timeout(PATIENCE).unwrap(), 64);
    }
    assert_eq!(total, THREADS * EACH * 3);
    let SocketStatsTotals { events: count, event_bytes } = logger.totals();
    assert!(event_bytes > count);
    logger.stop();
}

#[test]
fn the_end_of_the_time_is_told_after_the_last_event_and_a_stop_is_not() {
    let counters = SocketCounters::new();
    let (told, ended) = mpsc::channel();
    let options = |duration| {
        let told = told.clone();
        let on_end: Box<dyn FnOnce() + Send> = Box::new(move || told.send(()).unwrap());
        SocketStatsOptions { duration, on_end: Some(on_end) }
    };
    let (logger, events) = start(&counters, options(Some(Duration::from_millis(1))));
    counters.counter(Label::NETLOG_LOGGER).unwrap().add_tx(1);
    ended.recv_timeout(PATIENCE).unwrap();
    // The row may have been taken before the end or not at all, but nothing comes after it.
    let last = events.try_iter().count();
    assert!(last <= 1);
    logger.stop();

    let (logger, events) = start(&counters, options(None));
    counters.counter(Label::NETLOG_LOGGER).unwrap().add_tx(2);
    logger.stop();
    logger.stop();
    assert_eq!(tx_of(&events.recv_timeout(PATIENCE).unwrap(), 10), 2, "stopping takes what is left");
    assert!(ended.try_recv().is_err());
}

#[test]
fn a_sink_that_panics_ends_recording_but_nobody_waits_for_ever() {
    let counters = SocketCounters::new();
    let sink: EventSink = Box::new(|_, _| panic!("on purpose"));
    let clock = Arc::new(SystemClock);
    let logger = SocketStatsLogger::start(&counters, SocketStatsOptions::default(), clock, sink).unwrap();
    counters.counter(app(64)).unwrap().add_tx(1);
    logger.flush();
    logger.stop();
    let (again, events) = start(&counters, SocketStatsOptions::default());
    counters.counter(app(64)).unwrap().add_tx(2);
    again.stop();
    assert_eq!(tx_of(&events.recv_timeout(PATIENCE).unwrap(), 64), 2);
}

#[test]
fn a_change_beside_a_sample_is_in_it_or_arms_the_next() {
    const ROUNDS: usize = 20_000;
    let machine = Machine::recording();
    let (counter, shared) = (machine.counter(app(64)), &machine.counters.shared);
    let barrier = Barrier::new(2);
    let (mut unseen, mut total) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                barrier.wait();
                // At each moment of the sample once in a while.
                (0..round % 256).for_each(|_| std::hint::spin_loop());
                counter.add_tx(1);
                barrier.wait();
            }
        });
        for _ in 0..ROUNDS {
            // Armed, as before any sample.
            counter.add_rx(1);
            shared.lock().armed = false;
            barrier.wait();
            let sampled = shared.sample();
            barrier.wait();
            let left = shared.sample();
            let armed = std::mem::take(&mut shared.lock().armed);
            // Judged at the end: the other thread waits for us.
            unseen += usize::from(!armed && !left.is_empty());
            total += sampled.values().chain(left.values()).map(|bytes| bytes.tx + bytes.rx).sum::<u64>();
        }
    });
    assert_eq!(unseen, 0, "changes that nobody would have looked at");
    assert_eq!(total, 2 * ROUNDS as u64);
}
