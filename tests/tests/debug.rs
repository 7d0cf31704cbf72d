//! Debug uploads, our own log as a stream, and what is only sent when somebody asks.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{fs, path::Path, sync::Arc, sync::mpsc, time::Duration};

use serde_json::Value;
use support::{
    COLLECTION, PATIENCE,
    app::{App, bytes_at},
    client_config, collections, files,
};
use tracing::{debug, info, warn};
use tracing_subscriber::layer::SubscriberExt;
use tuntrail::{
    client::{Client, ClientConfig, ClientError, DebugRequest, SocketStats, StreamKind},
    clock::{ManualClock, SystemClock},
    consent::Consent,
    diagnostics::Diagnostics,
    upload::{AutomaticPolicy, NetworkState, UploadEvent, UploadOptions, UploadOutcome, UploadPolicy},
};
use tuntrail_logserver::{Fault, Server, ServerConfig, Times};

const OWN_LOG: &str = "diagnostics.log.test.example";

/// A server, a directory, and a log that this thread's lines go to.
struct Bench {
    server: Server,
    directory: tempfile::TempDir,
    log: Diagnostics,
    _subscriber: tracing::subscriber::DefaultGuard,
}

impl Bench {
    fn new() -> Self {
        let log = Diagnostics::new("debug", Arc::new(SystemClock)).unwrap();
        let subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.layer()));
        let server = Server::start(ServerConfig::default()).unwrap();
        Self { server, directory: tempfile::tempdir().unwrap(), log, _subscriber: subscriber }
    }

    fn config(&self) -> ClientConfig {
        let mut config = client_config(self.directory.path(), &self.server.base_url());
        config.diagnostics = Some(self.log.clone());
        config.upload.max_wait = Duration::ZERO;
        config
    }

    fn start(&self) -> App {
        App::of(Client::start(self.config()).unwrap())
    }

    fn lines(&self) -> Vec<Value> {
        lines(&self.server)
    }
}

/// Everything of our own log at the server.
fn lines(server: &Server) -> Vec<Value> {
    let entries = server.entries(OWN_LOG).unwrap();
    entries.iter().map(|entry| serde_json::from_str(&entry.payload).unwrap()).collect()
}

/// What a test has logged.
fn said(lines: &[Value]) -> Vec<&str> {
    let messages = lines.iter().map(|line| line["message"].as_str().unwrap());
    let mut said: Vec<_> = messages.filter_map(|message| message.strip_prefix("test says ")).collect();
    // The server orders runs of a process as it likes.
    said.sort_unstable();
    said
}

fn request(streams: &[StreamKind]) -> DebugRequest {
    DebugRequest { streams: streams.to_vec(), ..DebugRequest::default() }
}

#[test]
fn a_debug_upload_is_found_at_the_server_by_its_marker() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.app_version = Some("Example VPN\n3.2 (417)".to_owned());
    let mut app = App::of(Client::start(config).unwrap());
    app.record(1, 100);
    warn!("test says hello");
    let request = DebugRequest {
        note: "no network\r\nafter \u{202e}sleep\u{0}".to_owned() + &" é".repeat(600),
        window: Some(Duration::from_secs(3600)),
        ..DebugRequest::default()
    };
    let (told, progress) = mpsc::channel();
    let tell = move |progress: &tuntrail::upload::UploadProgress| told.send(progress.clone()).unwrap();
    let debug = app.client.request_debug_upload(&request, Some(Box::new(tell))).unwrap();
    let report = debug.upload.wait();
    assert_eq!((report.outcome, report.remaining_records), (UploadOutcome::Complete, 0));
    assert_eq!(progress.iter().last().unwrap().sent_records, report.sent_records);

    let log_id = app.client.log_id().unwrap().to_string();
    let parts: Vec<_> = debug.marker.as_str().split('-').collect();
    assert_eq!(parts[..2], ["BUG", &log_id]);
    assert_eq!((parts[2].len(), parts[3].len(), parts.len()), (15, 16, 4));
    let entries = bench.server.entries(OWN_LOG).unwrap();
    assert!(entries.iter().all(|entry| entry.public_id == log_id && entry.client_time.is_some()));
    let lines = bench.lines();
    let found: Vec<_> = lines.iter().filter(|line| line["marker"] == debug.marker.as_str()).collect();
    let record = *found.last().unwrap();
    assert_eq!(record["message"], format!("user bugreport: {}", debug.marker));
    let note = record["note"].as_str().unwrap();
    assert!(note.starts_with("no network after sleep é é") && note.len() <= 1024, "{note}");
    assert!(record["note_cut_bytes"].as_u64().unwrap() > 700);
    assert_eq!(record["app"], "Example VPN 3.2 (417)");
    assert_eq!((&record["os"], &record["role"]), (&std::env::consts::OS.into(), &"ext".into()));
    assert_eq!((&record["consent"], &record["severity"]), (&"granted".into(), &"INFO".into()));
    assert_eq!(
        record["streams"],
        serde_json::json!(["windows", "flows", "sessions", "sockets", "diagnostics"])
    );
    assert!(record["since"].as_str().unwrap() < record["until"].as_str().unwrap());
    assert_eq!(record["stats"]["store"]["netlog"]["appended"], 1);
    assert_eq!(said(&lines), ["hello"]);
    assert_eq!(bytes_at(&bench.server), 100, "what was recorded before the request is there, too");
}

#[test]
fn nothing_but_what_was_chosen_is_sent_and_the_rest_waits() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.socket_stats = SocketStats::Always;
    let mut app = App::of(Client::start(config).unwrap());
    app.record(1, 100);
    app.client
        .socket_counters()
        .unwrap()
        .counter(tuntrail::sockstat::Label::app(64).unwrap())
        .unwrap()
        .add_tx(5);
    info!("test says not me");
    let debug = app.client.request_debug_upload(&request(&[StreamKind::Sockets]), None).unwrap();
    assert_eq!(debug.upload.wait().outcome, UploadOutcome::Complete);
    assert_eq!(bench.server.entries(&collections()[3]).unwrap().len(), 1);
    assert!(bench.server.entries(COLLECTION).unwrap().is_empty());
    let lines = bench.lines();
    assert_eq!(lines.len(), 1, "the record alone: {lines:?}");
    assert_eq!(lines[0]["marker"], debug.marker.as_str());

    let ticket = app.client.upload("the rest").unwrap();
    assert_eq!(ticket.wait().outcome, UploadOutcome::Complete);
    assert_eq!(bytes_at(&bench.server), 100);
    assert_eq!(said(&bench.lines()), ["not me"]);
}

#[test]
fn each_line_goes_once_and_those_below_info_only_to_who_asks_for_them() {
    let bench = Bench::new();
    let app = bench.start();
    info!("test says one");
    debug!("test says secret");
    let own = || request(&[StreamKind::Diagnostics]);
    let send = |request: &DebugRequest| {
        let debug = app.client.request_debug_upload(request, None).unwrap();
        assert_eq!(debug.upload.wait().outcome, UploadOutcome::Complete);
    };
    send(&own());
    assert_eq!(said(&bench.lines()), ["one"]);
    info!("test says two");
    send(&own());
    assert_eq!(said(&bench.lines()), ["one", "two"]);
    send(&DebugRequest { verbose: true, ..own() });
    assert_eq!(said(&bench.lines()), ["one", "secret", "two"]);
    send(&DebugRequest { verbose: true, ..own() });
    assert_eq!(said(&bench.lines()).len(), 3);
    // Also after a restart, and from an ordinary upload.
    drop(app);
    let app = bench.start();
    info!("test says three");
    assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    assert_eq!(said(&bench.lines()), ["one", "secret", "three", "two"]);
    let only = UploadOptions { streams: Some(vec!["netlog".to_owned()]), progress: None };
    info!("test says four");
    let _ = app.client.upload_with("windows only", only).unwrap().wait();
    assert_eq!(said(&bench.lines()).len(), 4);
}

#[test]
fn a_window_leaves_older_lines_behind_for_later() {
    let clock = ManualClock::new("2026-01-02T03:00:00Z".parse().unwrap());
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let log = Diagnostics::new("info", Arc::new(clock.clone())).unwrap();
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.layer()));
    let mut config = client_config(directory.path(), &server.base_url());
    (config.diagnostics, config.clock) = (Some(log), Arc::new(clock.clone()));
    let client = Client::start(config).unwrap();
    for word in ["old", "new"] {
        clock.advance(Duration::from_secs(600));
        info!("test says {word}");
    }
    let recent = DebugRequest { window: Some(Duration::from_secs(300)), ..DebugRequest::default() };
    let debug = client.request_debug_upload(&recent, None).unwrap();
    assert_eq!(debug.upload.wait().outcome, UploadOutcome::Complete);
    assert_eq!(said(&lines(&server)), ["new"]);
    let record = lines(&server).into_iter().rfind(|line| line["until"].is_string()).unwrap();
    assert_eq!(record["since"], "2026-01-02T03:15:00.000Z");
    let ticket = client.upload("all of it").unwrap();
    assert_eq!(ticket.wait().outcome, UploadOutcome::Complete);
    assert_eq!(said(&lines(&server)), ["new", "old"]);
}

#[test]
fn what_an_upload_logs_is_no_reason_for_another() {
    let bench = Bench::new();
    let app = bench.start();
    assert_eq!(app.upload().outcome, UploadOutcome::Complete, "the lines of the start");
    let sent = bench.lines().len();
    for _ in 0..5 {
        assert_eq!(app.upload().outcome, UploadOutcome::NothingToSend);
    }
    assert_eq!((bench.lines().len(), bench.server.stats().uploads), (sent, 1));
    warn!("test says something else");
    assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    let asked = bench.lines().iter().filter(|line| line["message"] == "upload asked for").count();
    assert_eq!(asked, 6, "and then they come along");
}

#[test]
fn automatic_uploads_leave_out_what_is_only_sent_on_demand() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.socket_stats = SocketStats::Always;
    let clock = ManualClock::new("2026-01-02T03:00:00Z".parse().unwrap());
    config.clock = Arc::new(clock.clone());
    config.upload.policy = UploadPolicy::Automatic(AutomaticPolicy {
        min_pending_bytes: 1,
        settle: (Duration::ZERO, Duration::ZERO),
        min_interval: Duration::ZERO,
        ..AutomaticPolicy::default()
    });
    let mut app = App::of(Client::start(config).unwrap());
    app.client
        .socket_counters()
        .unwrap()
        .counter(tuntrail::sockstat::Label::app(64).unwrap())
        .unwrap()
        .add_tx(5);
    // Both streams have something to send: a debug upload that the server was too busy for.
    bench.server.inject(status(503), Times::Forever).unwrap();
    let debug = app.client.request_debug_upload(&request(&[StreamKind::Sockets]), None).unwrap();
    assert!(matches!(debug.upload.wait().outcome, UploadOutcome::RetryLater { .. }));
    bench.server.clear_faults();
    // Records that come sooner are taken for an echo of that upload, and the server is left alone for a while.
    clock.advance(Duration::from_secs(600));
    let refused = bench.server.stats().uploads;

    let (ended, ends) = mpsc::channel();
    app.client
        .set_upload_listener(move |event| {
            if let UploadEvent::Ended(report) = event {
                ended.send(report).unwrap();
            }
        })
        .unwrap();
    app.client.set_network_state(NetworkState { connected: true, id: 1, ..NetworkState::default() }).unwrap();
    assert_eq!(bench.server.stats().uploads, refused, "nothing is due for their sake");
    app.record(1, 100);
    let mut report = ends.recv_timeout(PATIENCE).unwrap();
    if report.outcome != UploadOutcome::Complete {
        // The listener may still have heard of the end that its ticket told of before.
        report = ends.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!((report.outcome, report.sent_records), (UploadOutcome::Complete, 1));
    assert_eq!(bytes_at(&bench.server), 100);
    assert!(bench.lines().is_empty() && bench.server.entries(&collections()[3]).unwrap().is_empty());

    assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    assert!(!bench.server.entries(&collections()[3]).unwrap().is_empty());
    assert!(bench.lines().iter().any(|line| line["marker"] == debug.marker.as_str()));
}

fn status(code: u16) -> Fault {
    Fault::Status { code, retry_after: None, body: String::new() }
}

#[test]
fn a_request_outlives_the_process() {
    let bench = Bench::new();
    let mut app = bench.start();
    app.client.pause_uploads().unwrap();
    app.record(1, 100);
    let debug = app.client.request_debug_upload(&DebugRequest::default(), None).unwrap();
    // What a kill at this moment leaves, in the next process.
    let after = tempfile::tempdir().unwrap();
    copy(bench.directory.path(), after.path());
    let next = Client::start(client_config(after.path(), &bench.server.base_url())).unwrap();
    let arrived = bench.server.wait_for(
        |_| lines(&bench.server).iter().any(|line| line["marker"] == debug.marker.as_str()),
        PATIENCE,
    );
    assert!(arrived.is_some(), "{:?}", bench.lines());
    drop(next);
    assert_eq!(bytes_at(&bench.server), 100);
}

fn copy(from: &Path, to: &Path) {
    for (path, content) in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, content).unwrap();
    }
}

#[test]
fn without_consent_there_is_no_debug_upload_and_a_denial_leaves_none() {
    let bench = Bench::new();
    let app = bench.start();
    let too_long = DebugRequest { note: "x".repeat(65 * 1024), ..DebugRequest::default() };
    let refused = app.client.request_debug_upload(&too_long, None);
    assert!(matches!(refused, Err(ClientError::NoteTooLong { bytes: 66_560 })));
    assert_eq!(bench.server.stats().uploads, 0);

    app.client.pause_uploads().unwrap();
    let debug = app.client.request_debug_upload(&DebugRequest::default(), None).unwrap();
    assert!(app.client.stats().store.unwrap().diagnostics.appended > 1);
    app.client.set_consent(Consent::Denied).unwrap();
    assert_eq!(debug.upload.wait().outcome, UploadOutcome::Cancelled);
    for (path, content) in files(bench.directory.path()) {
        let content = String::from_utf8_lossy(&content).into_owned();
        assert!(!content.contains("BUG-") && !path.ends_with("SENT"), "{}", path.display());
    }
    for consent in [Consent::Denied, Consent::Unknown] {
        app.client.set_consent(consent).unwrap();
        let refused = app.client.request_debug_upload(&DebugRequest::default(), None);
        assert!(matches!(refused, Err(ClientError::NoConsent(is)) if is == consent));
    }
    assert_eq!(bench.server.stats().uploads, 0);

    // Lines from before the denial are gone, and new ones are not taken for old ones.
    app.client.set_consent(Consent::Granted).unwrap();
    app.client.resume_uploads().unwrap();
    info!("test says again");
    assert_eq!(app.client.upload("test").unwrap().wait().outcome, UploadOutcome::Complete);
    assert_eq!(said(&bench.lines()), ["again"]);
}
