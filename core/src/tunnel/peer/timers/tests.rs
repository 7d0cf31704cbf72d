//! Tests of the timer machine alone, with time that is only passed in.

use proptest::prelude::*;

use super::*;

const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn after(seconds: u64) -> Instant {
    START + Duration::from_secs(seconds)
}

fn machine(persistent: Option<u64>) -> Timers {
    Timers::new(START, persistent.map(Duration::from_secs), 1)
}

/// A machine that initiated a session at the start.
fn initiator(persistent: Option<u64>) -> Timers {
    let mut timers = machine(persistent);
    timers.sent_initiation(START, 7);
    timers.initiated(START, 7);
    timers
}

fn millis_until(timers: &Timers, from: Instant) -> u128 {
    timers.next_deadline().expect("a deadline").saturating_duration_since(from).as_millis()
}

#[test]
fn a_new_peer_waits_for_nothing() {
    assert_eq!(machine(None).next_deadline(), None);
    assert_eq!(machine(Some(25)).next_deadline(), None, "until it is started");
}

#[test]
fn an_initiation_is_repeated_after_5_seconds_and_jitter() {
    let mut timers = machine(None);
    timers.sent_initiation(START, 7);
    let due = timers.next_deadline().unwrap();
    assert!((5000..=5333).contains(&millis_until(&timers, START)));
    assert_eq!(timers.take_attempt(due - Duration::from_millis(1)), Unanswered::Wait);
    assert_eq!(timers.take_attempt(due), Unanswered::Initiate);
    timers.sent_initiation(after(89), 8);
    assert_eq!(timers.take_attempt(after(100)), Unanswered::GaveUp);
    assert_eq!(timers.next_deadline(), None);
}

#[test]
fn a_late_answer_to_an_earlier_initiation_leaves_the_last_one_in_flight() {
    let mut timers = machine(None);
    timers.sent_initiation(START, 7);
    timers.sent_initiation(after(5), 8);
    timers.initiated(after(6), 7);
    assert!(timers.can_send(after(6)) && timers.attempt_in_flight());
    timers.initiated(after(6), 8);
    assert!(!timers.attempt_in_flight());
}

#[test]
fn what_is_received_is_answered_within_10_seconds_and_again_if_more_came() {
    let mut timers = initiator(None);
    timers.received_transport(after(1), 7, true);
    timers.received_transport(after(4), 7, true);
    assert_eq!(timers.next_deadline(), Some(after(11)));
    assert_eq!(timers.take_owed(after(10)), None);
    assert_eq!(timers.take_owed(after(11)), Some(true));
    timers.owe(after(11));
    assert_eq!(timers.take_owed(after(21)), Some(false));
}

#[test]
fn anything_sent_settles_what_is_owed() {
    let mut timers = initiator(None);
    timers.received_transport(after(1), 7, true);
    timers.sent_transport(after(2), false);
    assert_eq!(timers.next_deadline(), Some(after(540)), "only the wiping of keys is left");
}

#[test]
fn keepalives_owe_and_expect_nothing() {
    let mut timers = initiator(None);
    timers.received_transport(after(1), 7, false);
    timers.sent_transport(after(1), false);
    assert_eq!(timers.next_deadline(), Some(after(540)));
}

#[test]
fn data_without_answer_calls_for_a_handshake_15_seconds_after_the_first() {
    let mut timers = initiator(None);
    timers.sent_transport(after(1), true);
    timers.sent_transport(after(9), true);
    assert!((15_000..=15_333).contains(&millis_until(&timers, after(1))));
    assert!(!timers.take_unanswered(after(16) - Duration::from_millis(1)));
    assert!(timers.take_unanswered(after(17)));
    timers.sent_transport(after(20), true);
    timers.received_transport(after(21), 7, false);
    assert!(!timers.take_unanswered(after(100)));
}

#[test]
fn only_initiators_renew_and_only_for_data() {
    let mut timers = initiator(None);
    assert!(!timers.sent_transport(after(119), true));
    assert!(!timers.sent_transport(after(120), false));
    assert!(timers.sent_transport(after(120), true));
    assert!(!timers.received_transport(after(164), 7, true).renew);
    assert!(timers.received_transport(after(165), 7, true).renew);
    timers.sent_initiation(after(165), 8);
    assert!(!timers.sent_transport(after(166), true), "one is in flight");

    let mut responder = machine(None);
    responder.responded(START, 9);
    assert!(!responder.sent_transport(after(170), true));
    assert!(!responder.received_transport(after(170), 9, true).renew);
}

#[test]
fn an_initiator_stops_sending_before_the_other_side_stops_receiving() {
    let timers = initiator(None);
    assert!(timers.can_send(after(174)) && !timers.can_send(after(175)));
}

#[test]
fn a_responder_sends_after_the_first_packet_of_the_session() {
    let mut timers = machine(None);
    timers.responded(START, 9);
    assert!(!timers.can_send(START));
    assert!(!timers.received_transport(after(1), 8, false).can_send, "another session");
    assert!(timers.received_transport(after(1), 9, false).can_send);
    assert!(!timers.received_transport(after(2), 9, false).can_send, "only once");
    assert!(timers.can_send(after(179)) && !timers.can_send(after(180)), "its age counts from the handshake");
}

#[test]
fn boringtun_is_told_the_time_when_any_session_it_holds_is_too_old() {
    let mut timers = initiator(None);
    timers.responded(after(100), 8);
    timers.initiated(after(101), 9);
    let mut told = Vec::new();
    for millis in (0..300_000).step_by(500) {
        let now = START + Duration::from_millis(millis);
        if timers.must_reject(now) {
            timers.pumped(now);
            told.push(millis);
        }
    }
    assert_eq!(told, [180_500, 280_500, 281_500]);
    // A slot is used again.
    timers.initiated(after(300), 7);
    timers.initiated(after(310), 15);
    assert!(!timers.must_reject(after(490)) && timers.must_reject(after(491)));
}

#[test]
fn persistent_keepalive_follows_the_last_thing_sent_or_received() {
    let mut timers = initiator(Some(25));
    timers.sent_transport(after(3), false);
    assert_eq!(timers.next_deadline(), Some(after(28)));
    timers.received_transport(after(10), 7, false);
    assert_eq!(timers.next_deadline(), Some(after(35)));
    assert!(!timers.take_persistent(after(34)));
    assert!(timers.take_persistent(after(35)));
    assert_eq!(timers.next_deadline(), Some(after(60)));
}

#[test]
fn back_off_doubles_up_to_ten_minutes_and_ends_when_the_peer_is_heard() {
    let mut timers = machine(Some(25));
    let mut now = START;
    let mut waits = Vec::new();
    for _ in 0..8 {
        timers.sent_initiation(now, 7);
        now = now + Duration::from_secs(91);
        assert_eq!(timers.take_attempt(now), Unanswered::GaveUp);
        waits.push(millis_until(&timers, now) / 1000);
        now = timers.next_deadline().unwrap();
    }
    assert_eq!(waits, [50, 100, 200, 400, 600, 600, 600, 600]);
    timers.sent_initiation(now, 8);
    timers.initiated(now, 8);
    timers.sent_initiation(now, 9);
    assert_eq!(timers.take_attempt(now + Duration::from_secs(91)), Unanswered::GaveUp);
    assert_eq!(millis_until(&timers, now + Duration::from_secs(91)), 50_000);
}

#[test]
fn intervals_beyond_the_longest_back_off_are_kept() {
    let mut timers = machine(Some(3600));
    timers.sent_initiation(START, 7);
    assert_eq!(timers.take_attempt(after(91)), Unanswered::GaveUp);
    assert_eq!(timers.next_deadline(), Some(after(91 + 3600)));
}

#[test]
fn an_attempt_that_boringtun_ended_early_is_started_over() {
    let mut timers = machine(None);
    timers.sent_initiation(START, 7);
    assert_eq!(timers.expired(after(1)), Unanswered::Initiate);
    assert_eq!(timers.next_deadline(), None);
    timers.sent_initiation(after(1), 8);
    assert_eq!(timers.expired(after(90)), Unanswered::GaveUp);
    assert_eq!(timers.expired(after(600)), Unanswered::Wait);
}

#[test]
fn wiping_ends_the_session_and_leaves_an_attempt_in_flight() {
    let mut timers = initiator(None);
    timers.sent_initiation(after(539), 8);
    timers.take_wipe(after(539));
    assert!(timers.last_session().is_some());
    timers.take_wipe(after(540));
    assert!(timers.last_session().is_none() && timers.attempt_in_flight());
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Send(bool),
    Receive(bool, u32),
    Initiate(u32),
    Answered(u32),
    Respond(u32),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..400_000).prop_map(Step::Wait),
        any::<bool>().prop_map(Step::Send),
        (any::<bool>(), 0_u32..3).prop_map(|(data, index)| Step::Receive(data, index)),
        (0_u32..3).prop_map(Step::Initiate),
        (0_u32..3).prop_map(Step::Answered),
        (0_u32..3).prop_map(Step::Respond),
        Just(Step::Expire),
    ]
}

/// What a peer does when its deadlines come.
fn handle(timers: &mut Timers, now: Instant) {
    if timers.take_attempt(now) == Unanswered::Initiate {
        timers.sent_initiation(now, 1);
    }
    if timers.take_unanswered(now) && !timers.attempt_in_flight() {
        timers.sent_initiation(now, 1);
    }
    if timers.take_owed(now) == Some(true) && timers.can_send(now) {
        timers.sent_transport(now, false);
        timers.owe(now);
    }
    if timers.take_persistent(now) && !timers.can_send(now) && !timers.attempt_in_flight() {
        timers.sent_initiation(now, 1);
    }
    timers.take_wipe(now);
}

proptest! {
    #[test]
    fn handled_deadlines_lie_ahead_and_silence_ends_in_none(
        steps in proptest::collection::vec(step(), 0..40),
        persistent in proptest::option::of(1_u64..100),
    ) {
        let mut timers = machine(persistent);
        let mut now = START;
        for step in steps {
            match step {
                Step::Wait(millis) => now = now + Duration::from_millis(millis),
                Step::Send(data) => drop(timers.sent_transport(now, data)),
                Step::Receive(data, index) => drop(timers.received_transport(now, index, data)),
                Step::Initiate(index) => timers.sent_initiation(now, index),
                Step::Answered(index) => timers.initiated(now, index),
                Step::Respond(index) => timers.responded(now, index),
                Step::Expire => drop(timers.expired(now)),
            }
            handle(&mut timers, now);
            prop_assert!(timers.next_deadline().is_none_or(|deadline| deadline > now));
        }
        if persistent.is_none() {
            for _ in 0..50 {
                let Some(next) = timers.next_deadline() else { return Ok(()) };
                handle(&mut timers, next);
            }
            prop_assert_eq!(timers.next_deadline(), None);
        }
    }
}
