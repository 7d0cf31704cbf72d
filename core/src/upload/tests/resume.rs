//! The saved request: what an upload that was asked for survives, and what ends it.

use std::{fs, path::PathBuf};

use super::*;
use crate::upload::{forget_request, request::MAX_RESUMPTIONS};

struct Desk {
    dir: tempfile::TempDir,
    server: Server,
    sources: Vec<Arc<FakeSource>>,
    clock: ManualClock,
}

impl Desk {
    fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        let sources = vec![FakeSource::new("one"), FakeSource::new("other")];
        sources[0].push(&["{}\n"]);
        sources[1].push(&["{}\n"]);
        Self { dir: tempfile::tempdir().unwrap(), server: Server::start(script), sources, clock: clock() }
    }

    /// A process of the app begins.
    fn start(&self) -> (Uploader, ManualAlarm) {
        self.start_with(|_| {})
    }

    fn start_with(&self, configure: impl FnOnce(&mut UploadConfig)) -> (Uploader, ManualAlarm) {
        let mut config = UploadConfig::new(&self.server.url()).unwrap();
        config.request_directory = Some(self.dir.path().to_owned());
        configure(&mut config);
        let alarm = ManualAlarm::new(self.clock.clone());
        let sources: Vec<_> = self.sources.iter().collect();
        (start(config, &sources, &self.clock, alarm.clone()), alarm)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("FLUSH")
    }

    fn pending(&self) -> (usize, usize) {
        (self.sources[0].pending(), self.sources[1].pending())
    }

    /// Tells of each request when it has come in.
    fn arrivals(&self) -> mpsc::Receiver<()> {
        let (arrived, arrival) = mpsc::channel();
        self.server.on_request(move || {
            let _ = arrived.send(());
        });
        arrival
    }

    /// Asks, and ends the process while the server is silent.
    fn ask_and_die(&self, streams: Option<Vec<String>>) {
        let arrival = self.arrivals();
        let (uploader, _) = self.start();
        let _ = uploader.upload("support", UploadOptions { streams, ..UploadOptions::default() });
        arrival.recv().unwrap();
    }
}

fn silence() -> Reply {
    Reply::Silence(Vec::new())
}

/// Runs until the thread sleeps without a timeout: nothing is left to do, and no timer is armed.
fn settle(uploader: &Uploader, alarm: &ManualAlarm) {
    let mut timeout = alarm.asleep_after(0);
    while let Some(wait) = timeout {
        timeout = alarm.advance(wait, || uploader.shared().poke());
    }
}

#[test]
fn u4_leftovers_without_a_request_cause_no_connection_and_arm_no_timer() {
    let desk = Desk::new([]);
    let (uploader, alarm) = desk.start();
    assert_eq!(alarm.asleep_after(0), None);
    for days in 0..3 {
        assert_eq!(alarm.advance(Duration::from_secs(days * 86_400), || uploader.shared().poke()), None);
    }
    drop(uploader);
    assert_eq!((desk.server.connections(), desk.pending()), (0, (1, 1)));
}

#[test]
fn an_upload_that_the_process_did_not_survive_is_carried_on_with_u2_by_the_same_request() {
    let desk = Desk::new([silence()]);
    desk.ask_and_die(None);
    assert!(desk.file().exists());
    let (uploader, alarm) = desk.start();
    settle(&uploader, &alarm);
    let requests = desk.server.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert_eq!(requests[0], requests[1], "the same bytes under the same key");
    assert_eq!((desk.pending(), desk.file().exists()), ((0, 0), false));
    assert_eq!(uploader.stats().sent_records, 2);
}

#[test]
fn only_the_streams_that_were_asked_for_are_carried_on_with() {
    let desk = Desk::new([silence()]);
    desk.ask_and_die(Some(vec!["other".to_owned()]));
    let (uploader, alarm) = desk.start();
    settle(&uploader, &alarm);
    assert_eq!(desk.pending(), (1, 0));
    assert!(!desk.file().exists());
}

#[test]
fn a_kill_during_a_pass_forgets_neither_what_it_sends_nor_what_waits() {
    let desk = Desk::new([silence()]);
    let arrival = desk.arrivals();
    let (uploader, _) = desk.start();
    let only =
        |name: &str| UploadOptions { streams: Some(vec![name.into(), name.into()]), ..Default::default() };
    let _one = uploader.upload("test", only("one"));
    arrival.recv().unwrap();
    let _other = uploader.upload("test", only("other"));
    drop(uploader);
    let (uploader, alarm) = desk.start();
    settle(&uploader, &alarm);
    assert_eq!((desk.pending(), desk.file().exists()), ((0, 0), false));
}

#[test]
fn a_request_for_streams_that_are_gone_sends_nothing() {
    let desk = Desk::new([silence()]);
    desk.ask_and_die(Some(vec!["other".to_owned()]));
    let before = desk.server.connections();
    let config = |config: &mut UploadConfig| config.request_directory = Some(desk.dir.path().to_owned());
    let mut without = UploadConfig::new(&desk.server.url()).unwrap();
    config(&mut without);
    let alarm = ManualAlarm::new(desk.clock.clone());
    let uploader = start(without, &[&desk.sources[0]], &desk.clock, alarm.clone());
    settle(&uploader, &alarm);
    assert_eq!((desk.server.connections(), desk.pending()), (before, (1, 1)));
    assert!(!desk.file().exists());
}

#[test]
fn a_pass_that_takes_the_process_down_is_tried_a_few_times_only() {
    let desk = Desk::new((0..20).map(|_| silence()));
    desk.ask_and_die(None);
    for _ in 0..MAX_RESUMPTIONS {
        let arrival = desk.arrivals();
        let (uploader, _) = desk.start();
        arrival.recv().unwrap();
        drop(uploader);
        assert!(desk.file().exists());
    }
    let connections = desk.server.connections();
    let (uploader, alarm) = desk.start();
    assert_eq!(alarm.asleep_after(0), None);
    drop(uploader);
    assert_eq!((desk.server.connections(), desk.file().exists()), (connections, false));
}

#[test]
fn a_day_later_nobody_waits_for_it_any_more() {
    let desk = Desk::new([silence()]);
    desk.ask_and_die(None);
    let connections = desk.server.connections();
    desk.clock.advance(Duration::from_secs(86_401));
    let (uploader, alarm) = desk.start();
    assert_eq!(alarm.asleep_after(0), None);
    drop(uploader);
    assert_eq!((desk.server.connections(), desk.file().exists()), (connections, false));
}

#[test]
fn a_foreign_file_in_its_place_is_removed_and_sends_nothing() {
    let desk = Desk::new([]);
    fs::write(desk.file(), "please upload").unwrap();
    let (uploader, alarm) = desk.start();
    assert_eq!(alarm.asleep_after(0), None);
    drop(uploader);
    assert_eq!((desk.server.connections(), desk.file().exists()), (0, false));
}

#[test]
fn the_outcome_decides_whether_the_request_is_kept() {
    let cases: [(Vec<Reply>, bool); 6] = [
        (vec![], false),
        (vec![Reply::status(401), Reply::status(401)], false),
        (vec![Reply::status(404), Reply::status(404)], false),
        (vec![Reply::status(400), Reply::status(400)], false),
        ((0..5).map(|_| Reply::status(503)).collect(), true),
        ((0..5).map(|_| Reply::Hangup).collect(), true),
    ];
    for (script, kept) in cases {
        let desk = Desk::new(script);
        let (there, was_there) = mpsc::channel();
        let file = desk.file();
        desk.server.on_request(move || there.send(file.exists()).unwrap());
        let alarm = VirtualAlarm { clock: desk.clock.clone(), waits: Waits::default() };
        let mut config = UploadConfig::new(&desk.server.url()).unwrap();
        config.request_directory = Some(desk.dir.path().to_owned());
        let uploader = start(config, &[&desk.sources[0], &desk.sources[1]], &desk.clock, alarm);
        let outcome = uploader.upload("test", UploadOptions::default()).wait().outcome;
        let seen: Vec<_> = was_there.try_iter().collect();
        assert!(!seen.is_empty() && seen.iter().all(|&there| there), "written before the first request");
        assert_eq!(desk.file().exists(), kept, "{outcome:?}");
    }
}

#[test]
fn nothing_to_send_leaves_no_request_behind() {
    let desk = Desk::new([]);
    let (uploader, _) = desk.start();
    assert_eq!(uploader.upload("test", UploadOptions::default()).wait().sent_records, 2);
    assert_eq!(
        uploader.upload("test", UploadOptions::default()).wait().outcome,
        UploadOutcome::NothingToSend
    );
    assert!(!desk.file().exists());
}

#[test]
fn u3_cancelling_and_revoking_forget_the_request() {
    let ways: [fn(&Uploader, &super::super::UploadTicket); 2] =
        [|uploader, _| uploader.cancel(), |_, ticket| ticket.cancel()];
    for cancel in ways {
        let desk = Desk::new([silence()]);
        let arrival = desk.arrivals();
        let (uploader, _) = desk.start();
        let ticket = uploader.upload("test", UploadOptions::default());
        arrival.recv().unwrap();
        assert!(desk.file().exists());
        cancel(&uploader, &ticket);
        assert_eq!(ticket.wait().outcome, UploadOutcome::Cancelled);
        drop(uploader);
        assert!(!desk.file().exists());
        let connections = desk.server.connections();
        let (uploader, alarm) = desk.start();
        assert_eq!(alarm.asleep_after(0), None);
        drop(uploader);
        assert_eq!(desk.server.connections(), connections);
    }
}

#[test]
fn consent_that_is_withdrawn_without_an_uploader_forgets_the_request_too() {
    let desk = Desk::new([silence()]);
    desk.ask_and_die(None);
    forget_request(desk.dir.path()).unwrap();
    assert_eq!(fs::read_dir(desk.dir.path()).unwrap().count(), 0);
}

#[test]
fn a_host_is_called_for_a_request_of_the_last_run() {
    let desk = Desk::new([silence()]);
    desk.ask_and_die(None);
    let (uploader, alarm) = desk.start_with(|config| config.transport = Transport::Host);
    assert_eq!(alarm.asleep_after(0), None);
    let Task::Upload(task) = uploader.next_task() else { panic!() };
    let key = task.headers.iter().find(|(name, _)| name == "idempotency-key").map(|(_, key)| key.as_str());
    let first = &desk.server.requests()[0];
    assert_eq!(
        (Some(task.body.as_slice()), key),
        (Some(first.body.as_slice()), first.header("idempotency-key"))
    );
}
