//! Commands from afar: who may give them, how often, and what a hostile sender gets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use support::{PATIENCE, app::App, client_config, files};
use tuntrail::{
    client::{Client, ClientConfig, ClientError, CommandError, CommandOutcome, RemoteCommands, SocketStats},
    clock::ManualClock,
    consent::Consent,
    upload::UploadOutcome,
};
use tuntrail_logserver::{Fault, Server, ServerConfig, Times};

const OWN_LOG: &str = "diagnostics.log.test.example";

struct Bench {
    server: Server,
    directory: tempfile::TempDir,
    clock: ManualClock,
}

impl Bench {
    fn new() -> Self {
        Self {
            server: Server::start(ServerConfig::default()).unwrap(),
            directory: tempfile::tempdir().unwrap(),
            clock: ManualClock::new("2026-01-02T03:00:00Z".parse().unwrap()),
        }
    }

    fn config(&self, commands: RemoteCommands) -> ClientConfig {
        let mut config = client_config(self.directory.path(), &self.server.base_url());
        config.remote_commands = commands;
        config.clock = Arc::new(self.clock.clone());
        config
    }

    fn start(&self, commands: RemoteCommands) -> Client {
        Client::start(self.config(commands)).unwrap()
    }

    /// The records of debug uploads at the server.
    fn bug_reports(&self) -> Vec<Value> {
        let entries = self.server.entries(OWN_LOG).unwrap();
        entries.iter().map(|entry| serde_json::from_str(&entry.payload).unwrap()).collect()
    }
}

fn debug_upload(id: &str) -> String {
    json!({ "v": 1, "id": id, "kind": "debug_upload", "note": "asked for from afar" }).to_string()
}

fn socket_stats(id: &str, seconds: u64) -> String {
    json!({ "v": 1, "id": id, "kind": "socket_stats", "seconds": seconds }).to_string()
}

#[test]
fn a_command_is_obeyed_once_and_leaves_a_marker_at_the_server() {
    let bench = Bench::new();
    let client = bench.start(RemoteCommands::Allowed);
    let Ok(CommandOutcome::DebugUpload(debug)) = client.handle_command(debug_upload("a")) else { panic!() };
    assert_eq!(debug.upload.wait().outcome, UploadOutcome::Complete);
    assert_eq!(bench.bug_reports()[0]["marker"], debug.marker.as_str());
    assert_eq!(bench.bug_reports()[0]["note"], "asked for from afar");
    assert!(matches!(client.handle_command(debug_upload("a")), Ok(CommandOutcome::Duplicate)));
    assert!(matches!(
        client.handle_command(debug_upload("b")),
        Err(CommandError::TooSoon { wait }) if wait == Duration::from_secs(60)
    ));
    // A restart changes nothing about it.
    drop(client);
    bench.clock.advance(Duration::from_secs(59));
    let client = bench.start(RemoteCommands::Allowed);
    assert!(matches!(client.handle_command(debug_upload("a")), Ok(CommandOutcome::Duplicate)));
    assert!(matches!(client.handle_command(debug_upload("b")), Err(CommandError::TooSoon { .. })));
    bench.clock.advance(Duration::from_secs(1));
    let Ok(CommandOutcome::DebugUpload(debug)) = client.handle_command(debug_upload("b")) else { panic!() };
    assert_eq!(debug.upload.wait().outcome, UploadOutcome::Complete);
    assert_eq!(bench.bug_reports().len(), 2);
}

#[test]
fn socket_statistics_are_switched_on_for_an_hour_at_most_and_off() {
    let bench = Bench::new();
    let client = bench.start(RemoteCommands::Allowed);
    let on = client.handle_command(socket_stats("a", 3600)).unwrap();
    assert!(matches!(on, CommandOutcome::SocketStats { duration } if duration == Duration::from_secs(3600)));
    assert!(client.stats().sockets.is_some());
    client.handle_command(socket_stats("b", 0)).unwrap();
    assert!(client.stats().sockets.is_none());
    assert!(matches!(client.handle_command(socket_stats("c", 3601)), Err(CommandError::Malformed { .. })));
    drop(client);

    let mut config = bench.config(RemoteCommands::Allowed);
    config.socket_stats = SocketStats::Always;
    let client = Client::start(config).unwrap();
    // What can't be done does not use its ID up.
    for _ in 0..2 {
        let refused = client.handle_command(socket_stats("d", 60));
        assert!(matches!(refused, Err(CommandError::Client(ClientError::SocketStatsAlways))), "{refused:?}");
    }
}

#[test]
fn nobody_commands_without_permission_and_consent() {
    let bench = Bench::new();
    let client = bench.start(RemoteCommands::Refused);
    assert!(matches!(client.handle_command("\0"), Err(CommandError::NotAllowed)));
    assert!(matches!(client.handle_command(debug_upload("a")), Err(CommandError::NotAllowed)));
    drop(client);

    let mut config = bench.config(RemoteCommands::Allowed);
    config.consent = Consent::Unknown;
    let client = Client::start(config).unwrap();
    let refused = client.handle_command(debug_upload("a"));
    assert!(matches!(refused, Err(CommandError::Client(ClientError::NoConsent(Consent::Unknown)))));
    assert_eq!(bench.server.stats().uploads, 0);
    client.set_consent(Consent::Granted).unwrap();
    assert!(matches!(client.handle_command(debug_upload("a")), Ok(CommandOutcome::DebugUpload(_))));
    assert!(bench.directory.path().join("commands-ext").exists());
    client.set_consent(Consent::Denied).unwrap();
    let left = files(bench.directory.path());
    assert!(!left.iter().any(|(path, _)| path.ends_with("commands-ext")), "{left:?}");
    client.shutdown();
    assert!(matches!(
        client.handle_command(debug_upload("b")),
        Err(CommandError::Client(ClientError::ShutDown))
    ));
}

#[test]
fn what_is_refused_does_nothing() {
    let bench = Bench::new();
    let client = bench.start(RemoteCommands::Allowed);
    let unknown = r#"{"v":1,"id":"a","kind":"wipe"}"#;
    assert!(matches!(client.handle_command(unknown), Err(CommandError::Kind { kind }) if kind == "wipe"));
    assert!(matches!(
        client.handle_command(r#"{"v":9,"id":"a"}"#),
        Err(CommandError::Version { version: 9 })
    ));
    let huge = format!(r#"{{"v":1,"id":"a","kind":"debug_upload","note":"{}"}}"#, "x".repeat(5000));
    assert!(matches!(client.handle_command(huge), Err(CommandError::Malformed { .. })));
    assert!(matches!(client.handle_command([0xff, 0xfe]), Err(CommandError::Malformed { .. })));
    assert_eq!(bench.server.stats().requests, 0);
    assert!(!bench.directory.path().join("commands-ext").exists());
}

#[test]
fn the_server_commands_through_its_answers_if_it_may_and_once_per_command() {
    for (allowed, expected) in [(RemoteCommands::FromServer, 1), (RemoteCommands::Allowed, 0)] {
        let bench = Bench::new();
        let command: Value = serde_json::from_str(&debug_upload("from-the-server")).unwrap();
        let commands = vec![json!({ "v": 1, "kind": 7 }), command];
        bench.server.inject(Fault::Commands(commands), Times::Forever).unwrap();
        let mut app = App::of(bench.start(allowed));
        app.record(1, 100);
        assert_eq!(app.upload().outcome, UploadOutcome::Complete);
        if expected > 0 {
            let obeyed = bench.server.wait_for(|_| !bench.bug_reports().is_empty(), PATIENCE);
            assert!(obeyed.is_some(), "{:?}", bench.server.requests());
        }
        // Told again with every answer, also with that to the debug upload itself.
        for port in 2..6 {
            bench.clock.advance(Duration::from_secs(120));
            app.record(port, 100);
            assert_eq!(app.upload().outcome, UploadOutcome::Complete);
        }
        app.client.shutdown();
        assert_eq!(bench.bug_reports().len(), expected, "{allowed:?}");
    }
}
