//! A client with everything switched on leaves the processor alone when nothing happens.
//!
//! `cargo run -p tuntrail-tests --bin idle` shows the same after traffic, once WireGuard has wiped its keys.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use tuntrail::{
    client::Client,
    clock::{Clock, ManualClock, SharedClock, SystemClock},
    diagnostics::Diagnostics,
    flow::{ExitFlows, Layer},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    sockstat::Label,
};
use tuntrail_tests::idle::{Lab, Waits, everything_on, threads, wait_for_rest};

/// Far above what any step takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for twenty ticks of upstream's socket statistics, and eight of a WireGuard implementation's timers.
const WATCHED: Duration = Duration::from_secs(2);

/// The tests look at all threads of the process: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn two_tunnels_with_every_feature_on_do_not_run_without_traffic() {
    let _alone = alone();
    let lab = Lab::start(None, true).unwrap();
    wait_for_rest(PATIENCE).unwrap();
    let before = threads().unwrap();
    let names: BTreeSet<_> = before.iter().map(|thread| thread.name.as_str()).collect();
    for feature in ["tunnel", "flow", "sessio", "socket", "store", "upload", "log"] {
        assert!(names.contains(format!("tuntrail-{feature}").as_str()), "{feature} is on: {names:?}");
    }
    // The time itself is what is watched.
    sleep(WATCHED);
    assert_eq!(threads().unwrap(), before, "no thread has run, and none waits for a time");
    assert!(lab.phone().client.stats().tunnel.is_some());
}

#[test]
fn traffic_arms_deadlines_and_they_do_not_arm_others_for_ever() {
    let _alone = alone();
    let clock = ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap());
    let shared: SharedClock = Arc::new(clock.clone());
    let directory = tempfile::tempdir().unwrap();
    let diagnostics = Diagnostics::new("info", Arc::new(SystemClock)).unwrap();
    let mut config = everything_on(directory.path(), &shared, &diagnostics).unwrap();
    // Without a network map all traffic is exit traffic, of which flows and sessions would not be told.
    config.flow.exit_flows = ExitFlows::Full;
    let client = Client::start(config).unwrap();
    wait_for_rest(PATIENCE).unwrap();

    let mut counters = [Layer::Virtual, Layer::Physical].map(|layer| client.counter(layer).unwrap().unwrap());
    let socket = client.socket_counters().unwrap().counter(Label::app(64).unwrap()).unwrap();
    for (protocol, port) in [(Protocol::TCP, 443), (Protocol::UDP, 53), (Protocol::UDP, 4500)] {
        let connection = Connection {
            protocol,
            src: "100.64.0.1:1000".parse().ok(),
            dst: format!("100.64.0.2:{port}").parse().ok(),
        };
        for counter in &mut counters {
            counter.count(clock.now(), &connection, 1, 100, Direction::Tx);
        }
    }
    socket.add_tx(100);
    assert!(counters.iter().all(|counter| counter.next_deadline().is_some()));
    // The clock stands still, so the sample stays armed: the kernel must show that, or it would not show idleness either.
    let begin = Instant::now();
    while !threads().unwrap().iter().any(|thread| thread.waits == Waits::Until) {
        assert!(begin.elapsed() < PATIENCE, "no thread waits for a time");
        std::thread::yield_now();
    }

    // Three hours are longer than any timeout of a flow. Each deadline comes on time; a second pass finds none.
    let end = clock.now() + Duration::from_secs(3 * 3600);
    let mut passed = 0;
    while let Some(deadline) = counters.iter().filter_map(|counter| counter.next_deadline()).min() {
        assert!(deadline <= end && passed < 100, "{passed} deadlines, and one at {deadline:?}");
        clock.advance(deadline.saturating_duration_since(clock.now()));
        counters.iter_mut().for_each(|counter| counter.handle_deadline(clock.now()));
        passed += 1;
    }
    clock.advance(end.saturating_duration_since(clock.now()));
    // The threads sleep by the system's clock: a flush has them look at this one.
    client.flush().unwrap();
    client.flush().unwrap();
    wait_for_rest(PATIENCE).unwrap();
    let before = threads().unwrap();
    sleep(WATCHED);
    assert_eq!(threads().unwrap(), before);
    let store = client.stats().store.unwrap();
    let kinds = [store.windows, store.flows, store.sessions, store.sockets].map(|stream| stream.appended);
    assert!(
        kinds.iter().all(|&appended| appended > 0),
        "there was something of each kind to record: {kinds:?}"
    );
}
