//! Deadlines: what is done without packets, and when nothing is.

use super::*;

#[test]
fn one_exchange_leaves_two_deadlines_and_then_none() {
    let mut pair = Pair::connected();
    let wakes = pair.run_until(pair.now + Duration::from_secs(3600));
    // b owes a keepalive after 10 s; both wipe their keys after 540 s, at the same instant.
    assert_eq!(wakes, 2);
    assert_eq!(pair.a.engine.next_deadline(), None);
    assert_eq!(pair.b.engine.next_deadline(), None);
    assert_eq!(pair.a.engine.stats().events.initiations, 1);
}

#[test]
fn persistent_keepalive_wakes_once_per_interval() {
    let mut pair = Pair::with_keepalive(Some(25));
    let start = pair.now;
    assert_eq!(pair.a.engine.next_deadline(), Some(start), "the first keepalive makes the session");
    let wakes = pair.run_until(start + Duration::from_secs(3600));
    assert!((140..=150).contains(&wakes), "{wakes} wake-ups in an hour");
    let events = pair.a.engine.stats().events;
    assert_eq!(events.gave_up, 0);
    assert!(pair.b.engine.stats().peers[0].rx_datagrams >= 140);
}

#[test]
fn an_unanswered_handshake_is_repeated_for_90_seconds_and_given_up() {
    let mut pair = Pair::new();
    pair.a.send(pair.now, &udp_v4(1, 2, b"x"));
    let start = pair.now;
    let mut times = vec![start];
    while let Some(next) = pair.a.engine.next_deadline() {
        pair.a.deadline(next);
        times.push(next);
    }
    let stats = pair.a.engine.stats();
    assert!((17..=18).contains(&stats.events.initiations), "{:?}", stats.events);
    assert_eq!(stats.events.gave_up, 1);
    assert_eq!(stats.drops.staged_expired, 1);
    let mut silent = Vec::new();
    for _ in 0..2 {
        pair.a.engine.take_gave_up(|peer| silent.push(*peer));
    }
    assert_eq!(silent, [stats.peers[0].public_key], "told once");
    let last = times.last().unwrap().saturating_duration_since(start);
    assert!((90..96).contains(&last.as_secs()), "{last:?}");
    for gap in times.array_windows().map(|[a, b]| b.saturating_duration_since(*a)) {
        assert!((5000..=5333).contains(&gap.as_millis()), "{gap:?}");
    }
}

#[test]
fn persistent_keepalive_never_stops_trying_but_backs_off() {
    let now = SystemClock.now();
    let mut a = Node::new(&config(1, 2, Some(25)), &[Some(address(2))], address(1), now);
    let mut wakes = 0;
    let mut at = now;
    while at < now + Duration::from_secs(24 * 3600) {
        at = a.engine.next_deadline().expect("it goes on");
        a.deadline(at);
        wakes += 1;
    }
    let gave_up = a.engine.stats().events.gave_up;
    assert!((100..200).contains(&gave_up), "about every 11 minutes: {gave_up}");
    assert!(wakes < 20 * gave_up + 20, "{wakes}");
}

#[test]
fn data_without_answer_makes_a_handshake_after_15_seconds() {
    let mut pair = Pair::connected();
    pair.run_until(pair.now + Duration::from_secs(60));
    pair.a.send(pair.now, &udp_v4(1, 2, b"lost"));
    pair.a.output.datagrams.clear();
    let due = pair.a.engine.next_deadline().unwrap();
    let after = due.saturating_duration_since(pair.now).as_millis();
    assert!((15_000..=15_333).contains(&after), "{after}");
    pair.now = due;
    pair.a.deadline(due);
    pair.exchange();
    assert_eq!(pair.a.engine.stats().events.sessions, 2);
}

#[test]
fn an_old_session_is_renewed_when_used_and_not_used_beyond_180_seconds() {
    let mut pair = Pair::connected();
    let start = pair.now;
    pair.run_until(start + Duration::from_secs(121));
    pair.a.send(pair.now, &udp_v4(1, 2, b"renews"));
    pair.exchange();
    assert_eq!(pair.b.engine.stats().events.sessions, 2);
    assert_eq!(pair.b.output.packets.pop(), Some(udp_v4(1, 2, b"renews")));
    pair.run_until(start + Duration::from_secs(121 + 181));
    pair.a.send(pair.now, &udp_v4(1, 2, b"waits"));
    assert_eq!(message::kind(&pair.a.output.datagrams[0].1), Kind::Initiation);
    pair.exchange();
    assert_eq!(pair.b.output.packets.pop(), Some(udp_v4(1, 2, b"waits")));
}

#[test]
fn a_counters_deadline_is_the_engines_and_replacing_it_flushes() {
    #[derive(Clone, Default)]
    struct Windowed(Shared<Mutex<(Option<Instant>, usize, usize)>>);
    impl ConnectionCounter for Windowed {
        fn count(&mut self, now: Instant, _: &Connection, _: u64, _: u64, _: Direction) {
            self.0.lock().unwrap().0.get_or_insert(now + Duration::from_secs(5));
        }
        fn next_deadline(&self) -> Option<Instant> {
            self.0.lock().unwrap().0
        }
        fn handle_deadline(&mut self, _: Instant) {
            let mut state = self.0.lock().unwrap();
            state.0 = None;
            state.1 += 1;
        }
        fn flush(&mut self, _: Instant) {
            self.0.lock().unwrap().2 += 1;
        }
    }
    let mut pair = Pair::connected();
    let counter = Windowed::default();
    pair.a.engine.virtual_device().set_connection_counter(pair.now, Some(Box::new(counter.clone())));
    let before = pair.a.engine.next_deadline();
    pair.a.send(pair.now, &udp_v4(1, 2, b"x"));
    let due = pair.now + Duration::from_secs(5);
    assert_ne!(before, Some(due));
    assert_eq!(pair.a.engine.next_deadline(), Some(due));
    pair.a.deadline(pair.now);
    assert_eq!(counter.0.lock().unwrap().1, 0, "not yet");
    pair.a.deadline(due);
    assert_eq!(counter.0.lock().unwrap().1, 1);
    pair.a.engine.flush_counters(due);
    pair.a.engine.virtual_device().set_connection_counter(due, None);
    assert_eq!(counter.0.lock().unwrap().2, 2);
}

#[test]
fn packets_that_wait_for_a_peers_handshake_survive_the_loss_of_its_last_message() {
    let mut pair = Pair::new();
    assert!(pair.b.engine.set_endpoint(pair.now, &key(1).public_key(), address(1)));
    pair.a.send(pair.now, &udp_v4(1, 2, b"waits"));
    pair.a.output.datagrams.clear();
    pair.b.send(pair.now, &udp_v4(2, 1, b"lost"));
    let initiation = pair.b.pop();
    pair.a.receive(pair.now, address(2), &initiation);
    let response = pair.a.pop();
    pair.b.receive(pair.now, address(1), &response);
    pair.b.output.datagrams.clear();
    pair.run_until(pair.now + Duration::from_secs(6));
    assert_eq!(pair.b.output.packets, [udp_v4(1, 2, b"waits")]);
}
