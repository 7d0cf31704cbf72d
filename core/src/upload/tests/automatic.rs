//! Automatic uploads, as the thread carries them out. The rules themselves are tested in `policy`.

use super::*;

const WIFI: NetworkState =
    NetworkState { connected: true, id: 1, metered: false, roaming: false, low_data: false };
const MINUTE: Duration = Duration::from_secs(60);

struct Auto {
    server: Server,
    source: Arc<FakeSource>,
    uploader: Uploader,
    alarm: ManualAlarm,
}

impl Auto {
    fn new(script: impl IntoIterator<Item = Reply>, policy: AutomaticPolicy) -> Self {
        Self::with(script, policy, FakeSource::new("netlog"), |_| {})
    }

    fn with(
        script: impl IntoIterator<Item = Reply>,
        policy: AutomaticPolicy,
        source: Arc<FakeSource>,
        configure: impl FnOnce(&mut UploadConfig),
    ) -> Self {
        let server = Server::start(script);
        let mut config = UploadConfig::new(&server.url()).unwrap();
        config.policy = UploadPolicy::Automatic(policy);
        configure(&mut config);
        let clock = clock();
        let alarm = ManualAlarm::new(clock.clone());
        let uploader = start(config, &[&source], &clock, alarm.clone());
        assert_eq!(alarm.asleep_after(0), None, "nothing is pending, so there is no timer");
        Self { server, source, uploader, alarm }
    }

    /// Appends a record that makes an upload due.
    fn record(&self) {
        self.source.push(&["{}\n"]);
        self.event(|uploader| uploader.note_pending("netlog", 128 * 1024));
    }

    /// Causes an event that changes when the next pass is due, and says how long the thread sleeps then.
    fn event(&self, event: impl FnOnce(&Uploader)) -> Option<Duration> {
        let count = self.alarm.count();
        let before = self.uploader.stats().next_automatic;
        event(&self.uploader);
        if self.uploader.stats().next_automatic == before {
            return before;
        }
        self.alarm.asleep_after(count)
    }

    fn advance(&self, by: Duration) -> Option<Duration> {
        self.alarm.advance(by, || self.uploader.shared().poke())
    }

    /// Lets time pass until the thread sleeps without a timeout, or for longer than `limit`.
    fn run(&self, mut timeout: Option<Duration>, limit: Duration) -> Option<Duration> {
        while let Some(wait) = timeout.filter(|&wait| wait <= limit) {
            timeout = self.advance(wait);
        }
        timeout
    }
}

#[test]
fn records_are_sent_without_anybody_asking_after_the_network_has_settled() {
    let auto = Auto::new([], AutomaticPolicy::default());
    auto.record();
    assert_eq!(auto.uploader.stats().next_automatic, None, "there is no network");
    let settle = auto.event(|uploader| uploader.set_network_state(WIFI)).unwrap();
    assert!((30..=120).contains(&settle.as_secs()), "{settle:?}");
    assert_eq!(auto.server.connections(), 0);
    assert_eq!(auto.advance(settle), None, "and then nothing is left to wait for");
    assert_eq!((auto.source.pending(), auto.server.connections()), (0, 1));
    let stats = auto.uploader.stats();
    assert_eq!((stats.passes, stats.sent_records, stats.state), (1, 1, UploadState::Idle));
}

#[test]
fn m2_an_idle_uploader_sleeps_without_a_timeout_whatever_happens_around_it() {
    for policy in [UploadPolicy::OnDemand, UploadPolicy::Automatic(AutomaticPolicy::default())] {
        let server = Server::start([]);
        let mut config = UploadConfig::new(&server.url()).unwrap();
        config.policy = policy.clone();
        let clock = clock();
        let alarm = ManualAlarm::new(clock.clone());
        let source = FakeSource::new("netlog");
        let uploader = start(config, &[&source], &clock, alarm.clone());
        assert_eq!(alarm.asleep_after(0), None);
        for id in 1..50 {
            uploader.set_network_state(NetworkState { id, ..WIFI });
            uploader.set_power_state(super::super::PowerState {
                battery_percent: Some(50),
                ..Default::default()
            });
        }
        assert_eq!(alarm.count(), 1, "{policy:?}: the thread was not even woken");
        if policy == UploadPolicy::OnDemand {
            for _ in 0..50 {
                uploader.note_pending("netlog", 1 << 20);
            }
            assert_eq!((alarm.count(), uploader.stats().next_automatic), (1, None));
        }
        drop(uploader);
        assert_eq!(server.connections(), 0);
    }
}

#[test]
fn records_of_every_second_wake_the_thread_once() {
    let auto = Auto::new([], AutomaticPolicy::default());
    auto.event(|uploader| uploader.set_network_state(WIFI));
    let count = auto.alarm.count();
    auto.event(|uploader| uploader.note_pending("netlog", 100));
    for _ in 0..500 {
        auto.uploader.note_pending("netlog", 100);
    }
    assert_eq!(auto.alarm.asleep_after(count).map(|wait| wait.as_secs()), Some(6 * 3600));
    assert_eq!(auto.alarm.count(), count + 1);
}

#[test]
fn u6_what_a_pass_leaves_in_the_logs_causes_no_pass() {
    let auto = Auto::new([], AutomaticPolicy::default());
    let source = Arc::clone(&auto.source);
    let (noted, note) = mpsc::channel::<()>();
    auto.server.on_request(move || {
        // The flow of this very request is recorded while it runs.
        source.push(&["{\"flow\":\"of the upload\"}\n"]);
        noted.send(()).unwrap();
    });
    auto.record();
    let settle = auto.event(|uploader| uploader.set_network_state(WIFI)).unwrap();
    assert_eq!(auto.advance(settle), None);
    note.recv().unwrap();
    // The window that the traffic of the pass opened closes a few seconds later.
    for seconds in [0, 5, 20] {
        assert_eq!(auto.advance(Duration::from_secs(seconds)), None);
        auto.uploader.note_pending("netlog", 500);
        assert_eq!(auto.uploader.stats().next_automatic, None);
    }
    assert_eq!(auto.advance(Duration::from_secs(86_400)), None);
    assert_eq!((auto.server.connections(), auto.source.pending()), (1, 1));
    // The next record of somebody else's traffic takes it along.
    auto.event(|uploader| uploader.note_pending("netlog", 500));
    assert!(auto.uploader.stats().next_automatic.is_some());
}

#[test]
fn leftovers_of_the_last_run_are_due_as_soon_as_there_is_a_network() {
    let source = FakeSource::new("netlog");
    source.push(&["{}\n"]);
    let auto = Auto::with([], AutomaticPolicy::default(), source, |_| {});
    let settle = auto.event(|uploader| uploader.set_network_state(WIFI)).unwrap();
    assert!(settle <= 2 * MINUTE);
    assert_eq!(auto.advance(settle), None);
    assert_eq!(auto.source.pending(), 0);
}

#[test]
fn refused_credentials_stop_automatic_uploads_until_somebody_says_that_they_changed() {
    let auto = Auto::new([Reply::status(401)], AutomaticPolicy::default());
    auto.record();
    let settle = auto.event(|uploader| uploader.set_network_state(WIFI));
    assert_eq!(auto.run(settle, Duration::MAX), None);
    auto.uploader.note_pending("netlog", 1 << 20);
    let blocked = auto.uploader.stats().blocked;
    assert_eq!((blocked[0].stream.as_str(), blocked[0].reason), ("netlog", BlockReason::Credentials));
    assert_eq!(auto.advance(Duration::from_secs(10 * 86_400)), None);
    assert_eq!(auto.server.requests().len(), 1);

    let count = auto.alarm.count();
    auto.uploader.resume_uploads();
    assert_eq!(auto.alarm.asleep_after(count), None, "the pass was due at once");
    assert_eq!((auto.source.pending(), auto.uploader.stats().blocked.len()), (0, 0));
}

#[test]
fn a_wrong_address_is_tried_again_after_a_day() {
    for status in [301, 404, 410] {
        let auto = Auto::new([Reply::status(status)], AutomaticPolicy::default());
        auto.record();
        let settle = auto.event(|uploader| uploader.set_network_state(WIFI));
        let day = Duration::from_secs(86_400);
        assert_eq!(auto.run(settle, 2 * MINUTE), Some(day), "{status}");
        assert_eq!(auto.uploader.stats().blocked[0].reason, BlockReason::Endpoint { retry_in: day });
        assert_eq!(auto.advance(day), None);
        assert_eq!((auto.source.pending(), auto.server.requests().len()), (0, 2));
    }
}

#[test]
fn an_upload_that_somebody_asks_for_tries_a_blocked_stream_and_unblocks_it() {
    let auto = Auto::new([Reply::status(403)], AutomaticPolicy::default());
    auto.record();
    let settle = auto.event(|uploader| uploader.set_network_state(WIFI));
    assert_eq!(auto.run(settle, Duration::MAX), None);
    assert_eq!(auto.uploader.upload("test", UploadOptions::default()).wait().sent_records, 1);
    assert!(auto.uploader.stats().blocked.is_empty());
}

#[test]
fn a_pass_ends_when_the_budget_for_metered_networks_is_used_up() {
    let policy = AutomaticPolicy { daily_metered_bytes: 1_000, ..AutomaticPolicy::default() };
    let auto = Auto::new([], policy);
    for _ in 0..3 {
        push_numbered(&auto.source, 1, 3_000);
    }
    auto.record();
    let settle = auto.event(|uploader| uploader.set_network_state(NetworkState { metered: true, ..WIFI }));
    let day = Duration::from_secs(86_400);
    assert_eq!(auto.run(settle, 2 * MINUTE), Some(day), "the rest is for tomorrow");
    let stats = auto.uploader.stats();
    assert_eq!(stats.last_report.unwrap().outcome, UploadOutcome::BudgetSpent);
    assert_eq!(auto.source.pending(), 3);
    assert!((1_000..4_000).contains(&stats.wire_bytes), "{}", stats.wire_bytes);
    assert_eq!(
        auto.uploader.upload("asked", UploadOptions::default()).wait().sent_records,
        3,
        "who asks decides"
    );
}

#[test]
fn an_automatic_pass_ends_when_the_network_begins_to_cost_money_and_one_that_was_asked_for_does_not() {
    let costly = NetworkState { metered: true, id: 2, ..WIFI };
    let auto = Auto::new([Reply::Silence(Vec::new())], AutomaticPolicy::default());
    auto.record();
    let settle = auto.event(|uploader| uploader.set_network_state(WIFI)).unwrap();
    let (arrived, arrival) = mpsc::channel();
    auto.server.on_request(move || arrived.send(()).unwrap());
    let count = auto.alarm.count();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| auto.advance(settle));
        arrival.recv().unwrap();
        auto.uploader.set_network_state(costly);
        assert_eq!(waits.join().unwrap(), None);
    });
    assert!(auto.alarm.count() > count);
    assert_eq!(auto.uploader.stats().last_report.unwrap().outcome, UploadOutcome::Cancelled);
    assert_eq!(auto.source.pending(), 1);

    let ticket = auto.uploader.upload("asked", UploadOptions::default());
    arrival.recv().unwrap();
    auto.uploader.set_network_state(NetworkState { id: 3, ..costly });
    assert_eq!(ticket.wait().outcome, UploadOutcome::Complete);
}

#[test]
fn an_unlimited_pass_does_not_go_on_where_data_cost_money_even_if_there_is_a_budget() {
    let policy = AutomaticPolicy { daily_metered_bytes: 1 << 20, ..AutomaticPolicy::default() };
    let auto = Auto::new([Reply::Silence(Vec::new())], policy);
    auto.record();
    let settle = auto.event(|uploader| uploader.set_network_state(WIFI)).unwrap();
    let (arrived, arrival) = mpsc::channel();
    auto.server.on_request(move || arrived.send(()).unwrap());
    std::thread::scope(|scope| {
        let sleeps = scope.spawn(|| auto.advance(settle));
        arrival.recv().unwrap();
        auto.uploader.set_network_state(NetworkState { metered: true, id: 2, ..WIFI });
        assert!(sleeps.join().unwrap().is_some(), "it is due again, within the budget");
    });
    assert_eq!(auto.uploader.stats().last_report.unwrap().outcome, UploadOutcome::Cancelled);
}

#[test]
fn a_host_that_comes_late_finds_no_task_that_is_forbidden_by_now() {
    let source = FakeSource::new("netlog");
    let auto =
        Auto::with([], AutomaticPolicy::default(), source, |config| config.transport = Transport::Host);
    auto.record();
    let settle = auto.event(|uploader| uploader.set_network_state(WIFI)).unwrap();
    let (heard, calls) = mpsc::channel();
    auto.uploader.set_listener(move |event| heard.send(event).unwrap());
    auto.advance(settle);
    assert_eq!(calls.recv().unwrap(), UploadEvent::WorkWaiting);
    auto.uploader.set_network_state(NetworkState { roaming: true, id: 2, ..WIFI });
    assert_eq!(auto.uploader.next_task(), Task::Done);

    let ticket = auto.uploader.upload("asked", UploadOptions::default());
    assert!(matches!(auto.uploader.next_task(), Task::Upload(_)), "who asks decides");
    ticket.cancel();
    assert_eq!(auto.uploader.next_task(), Task::Done);
}

#[test]
fn nothing_is_due_while_paused() {
    let auto = Auto::new([], AutomaticPolicy::default());
    auto.record();
    auto.event(|uploader| uploader.set_network_state(WIFI));
    let count = auto.alarm.count();
    auto.uploader.pause_uploads();
    assert_eq!(auto.alarm.asleep_after(count), None);
    assert_eq!(auto.advance(Duration::from_secs(86_400)), None);
    assert_eq!(auto.server.connections(), 0);
    let count = auto.alarm.count();
    auto.uploader.resume_uploads();
    assert_eq!(auto.alarm.asleep_after(count), None);
    assert_eq!(auto.source.pending(), 0);
}

#[test]
fn a_host_is_called_when_an_automatic_pass_is_due() {
    let source = FakeSource::new("netlog");
    let auto =
        Auto::with([], AutomaticPolicy::default(), source, |config| config.transport = Transport::Host);
    let (heard, calls) = mpsc::channel();
    auto.uploader.set_listener(move |event| heard.send(event).unwrap());
    auto.record();
    let settle = auto.event(|uploader| uploader.set_network_state(WIFI)).unwrap();
    assert_eq!(auto.uploader.next_task(), Task::Done);
    auto.advance(settle);
    assert_eq!(calls.recv().unwrap(), UploadEvent::WorkWaiting);
    let Task::Upload(task) = auto.uploader.next_task() else { panic!() };
    auto.uploader.complete(task.id, carry(&task, MINUTE)).unwrap();
    assert_eq!(auto.source.pending(), 0);
}
