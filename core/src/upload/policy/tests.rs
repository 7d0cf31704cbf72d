use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: u64 = 3600;

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(0) + SECOND * u32::try_from(seconds).unwrap()
}

const WIFI: NetworkState =
    NetworkState { connected: true, id: 1, metered: false, roaming: false, low_data: false };

fn automatic() -> Policy {
    Policy::new(Some(AutomaticPolicy::default()), [false; 2].into_iter())
}

fn end<'a>(outcome: &'a UploadOutcome, streams: &'a [usize]) -> PassEnd<'a> {
    PassEnd { outcome, automatic: true, streams, refused: &[], wire_bytes: 0, random: 0 }
}

fn unreachable() -> UploadOutcome {
    UploadOutcome::Unreachable { error: "down".into() }
}

/// A policy on Wi-Fi that has settled, at 1000 s.
fn settled() -> Policy {
    let mut policy = automatic();
    policy.set_network(WIFI, at(0), 0);
    policy
}

/// Begins what is due and ends it.
fn pass(policy: &mut Policy, seconds: u64, outcome: &UploadOutcome) {
    let choice = policy.handle_deadline(at(seconds)).expect("a pass is due");
    policy.begin(&choice.streams, true);
    assert_eq!(policy.next_deadline(), None, "one at a time");
    policy.end(&end(outcome, &choice.streams), at(seconds));
}

#[test]
fn on_demand_never_has_a_deadline() {
    let mut policy = Policy::new(None, [false].into_iter());
    policy.set_network(WIFI, at(0), 0);
    policy.note(0, u64::MAX, at(1));
    policy.note_leftovers(0, u64::MAX, at(1));
    policy.begin(&[0], false);
    policy.end(&PassEnd { automatic: false, ..end(&unreachable(), &[0]) }, at(2));
    assert_eq!(policy.next_deadline(), None);
    assert_eq!(policy.handle_deadline(at(100_000)), None);
}

#[test]
fn a_little_waits_for_six_hours_and_much_for_nothing() {
    let mut policy = settled();
    assert_eq!(policy.next_deadline(), None);
    assert!(policy.note(0, 1, at(1000)));
    assert_eq!(policy.next_deadline(), Some(at(1000 + 6 * HOUR)));
    assert!(!policy.note(0, 1, at(1100)), "later records change nothing");
    assert_eq!(policy.handle_deadline(at(1199)), None);
    assert!(policy.note(1, 128 * 1024, at(1200)));
    assert_eq!(policy.handle_deadline(at(1200)), Some(Choice { streams: vec![0, 1], wire_limit: None }));
}

#[test]
fn streams_are_taken_together() {
    let mut policy = settled();
    policy.note(0, 100 * 1024, at(1000));
    policy.note(1, 28 * 1024, at(1001));
    assert_eq!(policy.next_deadline(), Some(at(1000)));
}

#[test]
fn after_a_pass_there_is_a_quarter_of_an_hour_of_rest() {
    let mut policy = settled();
    policy.note(0, 1 << 20, at(1000));
    pass(&mut policy, 1000, &UploadOutcome::Complete);
    policy.note(0, 1 << 20, at(1100));
    assert_eq!(policy.next_deadline(), Some(at(1000 + 900)));
}

#[test]
fn failures_wait_longer_and_longer_and_after_five_for_an_event() {
    let mut policy = settled();
    policy.note(0, 1 << 20, at(1000));
    let mut now = 1000;
    for bound in [5, 10, 20, 40] {
        let choice = policy.handle_deadline(at(now)).unwrap();
        policy.begin(&choice.streams, true);
        policy.end(&PassEnd { random: u64::MAX, ..end(&unreachable(), &choice.streams) }, at(now));
        let wait = policy.next_deadline().unwrap().saturating_duration_since(at(now));
        assert!(wait <= SECOND * bound && wait + SECOND > SECOND * bound, "{wait:?}");
        now += u64::from(bound);
    }
    pass(&mut policy, now, &unreachable());
    policy.note(0, 1 << 20, at(now + 1));
    assert_eq!(policy.next_deadline(), None);

    let mut other = policy;
    other.set_network(NetworkState { id: 2, ..WIFI }, at(now + 10), 0);
    assert_eq!(other.next_deadline(), Some(at(now + 900)), "another network gets its chance");
}

#[test]
fn a_request_of_somebody_gives_automatic_passes_another_chance() {
    let mut policy = settled();
    policy.note(0, 1 << 20, at(1000));
    for _ in 0..5 {
        pass(&mut policy, 100_000, &unreachable());
    }
    assert_eq!(policy.next_deadline(), None);
    policy.begin(&[0, 1], false);
    policy.end(&PassEnd { automatic: false, ..end(&unreachable(), &[0, 1]) }, at(200_000));
    assert!(policy.next_deadline().is_some());
}

#[test]
fn a_server_that_asks_for_patience_gets_it() {
    let mut policy = settled();
    policy.note(0, 1 << 20, at(1000));
    let outcome = UploadOutcome::RetryLater { after: SECOND * 1234, status: 503 };
    pass(&mut policy, 1000, &outcome);
    assert_eq!(policy.next_deadline(), Some(at(2234)));
}

#[test]
fn only_the_refused_stream_is_left_out() {
    let mut policy = settled();
    policy.note(0, 1 << 20, at(1000));
    policy.note(1, 1 << 20, at(1000));
    let choice = policy.handle_deadline(at(1000)).unwrap();
    policy.begin(&choice.streams, true);
    let outcome = UploadOutcome::Rejected { stream: "x".into(), status: 404, message: String::new() };
    let refused = [(1, Refusal::Endpoint)];
    policy.end(&PassEnd { refused: &refused, ..end(&outcome, &choice.streams) }, at(1000));
    assert_eq!(policy.next_deadline(), Some(at(1000 + 24 * HOUR)), "the other stream was sent");
    policy.note(0, 1 << 20, at(5000));
    assert_eq!(policy.handle_deadline(at(5000)), Some(Choice { streams: vec![0], wire_limit: None }));
    assert_eq!(
        policy.handle_deadline(at(1000 + 24 * HOUR)),
        Some(Choice { streams: vec![0, 1], wire_limit: None })
    );
}

#[test]
fn the_budget_of_a_day_is_for_automatic_passes_on_metered_networks() {
    let rules = AutomaticPolicy { daily_metered_bytes: 1000, ..AutomaticPolicy::default() };
    let mut policy = Policy::new(Some(rules), [false].into_iter());
    policy.set_network(NetworkState { metered: true, ..WIFI }, at(0), 0);
    let used = |policy: &mut Policy, seconds, wire_bytes, limit| {
        policy.note(0, 1 << 20, at(seconds));
        let choice = policy.handle_deadline(at(seconds)).unwrap();
        assert_eq!(choice.wire_limit, Some(limit));
        policy.begin(&choice.streams, true);
        policy.end(&PassEnd { wire_bytes, ..end(&UploadOutcome::Complete, &choice.streams) }, at(seconds));
    };
    used(&mut policy, 1000, 600, 1000);
    used(&mut policy, 5000, 700, 400);
    policy.note(0, 1 << 20, at(9000));
    assert_eq!(policy.next_deadline(), Some(at(1000 + 24 * HOUR)));
    let mut unmetered = WIFI;
    unmetered.id = 7;
    policy.set_network(unmetered, at(9000), 0);
    assert_eq!(policy.next_deadline(), Some(at(9030)), "other networks don't care");
    policy.set_network(NetworkState { metered: true, ..WIFI }, at(9100), 0);
    used(&mut policy, 1000 + 24 * HOUR, 1, 1000);
}

#[test]
fn a_flapping_network_is_no_reason_to_send_more_often() {
    let mut policy = settled();
    let mut passes = 0;
    for seconds in (1000..1000 + 2 * HOUR).step_by(200) {
        policy.note(0, 1 << 20, at(seconds));
        policy.set_network(NetworkState { connected: false, ..WIFI }, at(seconds), 0);
        policy.set_network(NetworkState { id: seconds, ..WIFI }, at(seconds + 1), 0);
        if policy.next_deadline().is_some_and(|deadline| deadline <= at(seconds + 199)) {
            passes += 1;
            pass(&mut policy, seconds + 199, &unreachable());
        }
    }
    assert!(passes <= 9, "{passes} in two hours");
}

/// The policy again, as simply as it can be said: asked each second whether a pass is to begin.
#[derive(Debug, Default)]
struct Model {
    notes: Vec<(u64, u64, bool)>,
    connected: bool,
    id: u64,
    forbidden: bool,
    powered: bool,
    settled: u64,
    rest_until: u64,
    last_end: Option<u64>,
    failures: u32,
}

impl Model {
    fn wants(&self, now: u64) -> bool {
        let bytes: u64 = self.notes.iter().map(|note| note.1).sum();
        let Some(oldest) = self.notes.iter().filter(|note| !note.2).map(|note| note.0).min() else {
            return false;
        };
        let enough = bytes >= 128 * 1024 || now >= oldest + 6 * HOUR;
        let allowed = self.connected && !self.forbidden && self.powered;
        enough && allowed && self.failures < 5 && now >= self.settled && now >= self.rest_until
    }
}

#[derive(Debug, Clone)]
enum Event {
    Note(u64),
    Network { connected: bool, id: u64, metered: bool, roaming: bool },
    Power { percent: u8, charging: bool },
    Pass(u64),
}

fn event() -> impl Strategy<Value = (Event, bool)> {
    let event = prop_oneof![
        4 => prop_oneof![Just(100_u64), Just(70_000), Just(200_000)].prop_map(Event::Note),
        1 => (any::<bool>(), 1..3_u64, any::<bool>(), any::<bool>()).prop_map(|(connected, id, metered, roaming)| {
            Event::Network { connected, id, metered: metered && roaming, roaming: roaming && !metered }
        }),
        2 => (1..3_u64).prop_map(|id| Event::Network { connected: true, id, metered: false, roaming: false }),
        1 => (0..100_u8, any::<bool>()).prop_map(|(percent, charging)| Event::Power { percent, charging }),
        4 => prop_oneof![1..90_u64, 500..3_000_u64, 10_000..30_000_u64].prop_map(Event::Pass),
    ];
    // The flag: passes that begin after this event succeed.
    (event, proptest::bool::weighted(0.6))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn deadlines_are_met_exactly_when_asking_each_second_would_find_them(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut policy = Policy::new(Some(AutomaticPolicy::default()), [false].into_iter());
        let mut model = Model { powered: true, ..Model::default() };
        let mut now = 10_000;
        for (event, succeeds) in events {
            match event {
                Event::Note(bytes) => {
                    policy.note(0, bytes, at(now));
                    let echo = model.last_end.is_some_and(|end| now < end + 30);
                    model.notes.push((now, bytes, echo));
                }
                Event::Network { connected, id, metered, roaming } => {
                    let state = NetworkState { connected, id, metered, roaming, low_data: false };
                    policy.set_network(state, at(now), 0);
                    if connected && (!model.connected || model.id != id) {
                        model.settled = now + 30;
                        model.failures = 0;
                        model.rest_until = model.last_end.map_or(now, |end| end + 900);
                    }
                    (model.connected, model.id, model.forbidden) = (connected, id, metered || roaming);
                }
                Event::Power { percent, charging } => {
                    policy.set_power(PowerState { battery_percent: Some(percent), charging, low_power: false });
                    model.powered = charging || percent > 15;
                }
                Event::Pass(seconds) => {
                    let until = now + seconds;
                    while now <= until {
                        let deadline = policy.next_deadline();
                        prop_assert_eq!(
                            deadline.is_some_and(|deadline| deadline <= at(now)),
                            model.wants(now),
                            "at {} s: {:?} {:?}", now, deadline, model
                        );
                        if let Some(choice) = policy.handle_deadline(at(now)) {
                            let outcome = if succeeds { UploadOutcome::Complete } else { unreachable() };
                            policy.begin(&choice.streams, true);
                            // No wait of chance, for the model's sake.
                            let random = 0;
                            policy.end(&PassEnd { random, ..end(&outcome, &choice.streams) }, at(now));
                            model.last_end = Some(now);
                            if succeeds {
                                model.notes.clear();
                                model.failures = 0;
                                model.rest_until = now + 900;
                            } else {
                                model.failures += 1;
                                model.rest_until = now;
                            }
                            continue;
                        }
                        if !model.wants(now) && policy.next_deadline().is_none() {
                            // Only an event changes that: no need to ask each second.
                            prop_assert!(!model.wants(until));
                            now = until;
                        }
                        now += 1;
                    }
                }
            }
        }
    }
}

#[test]
fn a_stream_that_is_only_sent_when_asked_for_makes_no_deadline_and_takes_no_part() {
    let mut policy = Policy::new(Some(AutomaticPolicy::default()), [false, true].into_iter());
    policy.set_network(WIFI, at(0), 0);
    assert!(!policy.note(1, 1 << 20, at(1000)), "a full segment of it changes nothing");
    policy.note_leftovers(1, 1 << 20, at(1000));
    assert_eq!(policy.next_deadline(), None);
    assert!(policy.note(0, 128 * 1024, at(1001)));
    assert_eq!(policy.handle_deadline(at(1001)), Some(Choice { streams: vec![0], wire_limit: None }));
    // Somebody asks for all, and the server would not have it: that is no block of an automatic upload.
    policy.begin(&[0, 1], false);
    let outcome = UploadOutcome::Complete;
    let refused = [(1, Refusal::Credentials)];
    policy.end(&PassEnd { refused: &refused, automatic: false, ..end(&outcome, &[0, 1]) }, at(1002));
    assert!(policy.blocks().all(|block| block == Block::None));
}
