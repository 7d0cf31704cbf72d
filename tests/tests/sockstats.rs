//! Socket statistics in a whole client: against the kernel's own counts, over restarts, under consent.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use support::{client_config, collections, read};
use tuntrail::{
    client::{AtEnd, Client, ClientConfig, ClientError, SocketStats},
    clock::ManualClock,
    consent::Consent,
    sockstat::{InterfaceKind, Label},
    upload::UploadOutcome,
};
use tuntrail_logserver::{Server, ServerConfig};

const HOUR: Duration = Duration::from_secs(3600);

fn app() -> Label {
    Label::app(64).unwrap()
}

fn add(client: &Client, bytes: u64) {
    client.socket_counters().unwrap().counter(app()).unwrap().add_tx(bytes);
}

/// Bytes sent under `label`, over all events at the server.
fn sent(server: &Server, label: Label) -> u64 {
    let events: Vec<Value> = read(server, &collections()[3]);
    events.iter().filter_map(|event| event["s"][label.number().to_string()][0].as_u64()).sum()
}

fn config(directory: &Path, server: &Server) -> ClientConfig {
    client_config(directory, &server.base_url())
}

/// A client whose time is `clock`'s.
fn start_by(clock: &ManualClock, directory: &Path, server: &Server) -> Client {
    let mut config = config(directory, server);
    config.clock = Arc::new(clock.clone());
    Client::start(config).unwrap()
}

fn period_file(directory: &Path) -> PathBuf {
    directory.join("sockstats-ext")
}

#[test]
fn events_arrive_in_a_log_of_their_own_and_only_when_recording_was_asked_for() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let client = Client::start(config(directory.path(), &server)).unwrap();
    add(&client, 1000);
    assert!(client.stats().sockets.is_none(), "off by default");
    client.enable_socket_stats(HOUR, AtEnd::Keep).unwrap();
    client.socket_counters().unwrap().set_interface(InterfaceKind::Cellular);
    add(&client, 10);
    assert_eq!(client.upload("test").unwrap().wait().outcome, UploadOutcome::Complete);
    client.disable_socket_stats().unwrap();
    add(&client, 1000);
    assert_eq!(client.upload("test").unwrap().wait().remaining_records, 0);

    assert_eq!(sent(&server, app()), 10);
    let events: Vec<Value> = read(&server, &collections()[3]);
    assert!(events.iter().all(|event| event["c"] == 1), "{events:?}");
    let entries = server.entries(&collections()[3]).unwrap();
    let log = client.log_id().unwrap().sockstat_private().public().to_string();
    assert!(entries.iter().all(|entry| entry.public_id == log), "derived as upstream does");
    assert!(!period_file(directory.path()).exists());
}

#[test]
fn an_upload_is_counted_but_feeds_nothing() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(directory.path(), &server);
    config.socket_stats = SocketStats::Always;
    let client = Client::start(config).unwrap();
    assert!(matches!(client.enable_socket_stats(HOUR, AtEnd::Keep), Err(ClientError::SocketStatsAlways)));
    add(&client, 1);
    let first = client.upload("test").unwrap().wait();
    assert_eq!((first.sent_records, first.remaining_records), (1, 0));
    let second = client.upload("test").unwrap().wait();
    assert_eq!(second.sent_records, 1, "the event of the flush before it");
    assert_eq!(sent(&server, Label::SOCKSTATLOG_LOGGER), first.sent_bytes);
    let totals = client.stats().sockets.unwrap();
    assert_eq!(totals.events, 2, "nothing but what was asked for");
}

#[test]
fn a_recording_goes_on_after_a_restart_until_its_time_is_over() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let clock = ManualClock::new("2026-01-02T03:00:00Z".parse().unwrap());
    let start = || start_by(&clock, directory.path(), &server);
    let client = start();
    client.enable_socket_stats(HOUR, AtEnd::Keep).unwrap();
    add(&client, 1);
    client.shutdown();

    clock.advance(Duration::from_secs(1800));
    // The wall clock is set back: that gives no more time than was left.
    clock.set_wall("2020-01-01T00:00:00Z".parse().unwrap());
    let client = start();
    add(&client, 10);
    assert!(client.stats().sockets.is_some());
    client.shutdown();

    clock.advance(HOUR + Duration::from_secs(1));
    let client = start();
    add(&client, 100);
    assert!(client.stats().sockets.is_none());
    assert!(!period_file(directory.path()).exists());
    assert_eq!(client.upload("test").unwrap().wait().remaining_records, 0);
    assert_eq!(sent(&server, app()), 11);

    fs::write(period_file(directory.path()), "no period").unwrap();
    drop(client);
    assert!(start().stats().sockets.is_none(), "what can't be read is off");
}

#[test]
fn the_end_uploads_if_that_was_asked_for() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let client = Client::start(config(directory.path(), &server)).unwrap();
    client.enable_socket_stats(Duration::from_millis(300), AtEnd::Upload).unwrap();
    add(&client, 7);
    let deadline = std::time::Instant::now() + support::PATIENCE;
    // The request is the event; the server has nobody to tell.
    while sent(&server, app()) < 7 {
        assert!(std::time::Instant::now() < deadline, "no upload");
        std::thread::yield_now();
    }
    assert!(server.entries(&collections()[0]).unwrap().is_empty(), "only what was recorded for a time");
    assert!(!period_file(directory.path()).exists());
    while client.stats().sockets.is_some() {
        assert!(std::time::Instant::now() < deadline, "it says that it records");
        std::thread::yield_now();
    }
}

#[test]
fn an_end_that_the_process_missed_is_made_up_for_within_a_day() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let clock = ManualClock::new("2026-01-02T03:00:00Z".parse().unwrap());
    let start = || start_by(&clock, directory.path(), &server);
    for (late, expected) in [(HOUR, 7), (25 * HOUR, 0)] {
        let client = start();
        client.enable_socket_stats(HOUR, AtEnd::Upload).unwrap();
        add(&client, 7);
        client.shutdown();
        clock.advance(HOUR + late);
        let before = sent(&server, app());
        let client = start();
        assert!(client.stats().sockets.is_none(), "its time is over");
        assert!(!period_file(directory.path()).exists());
        if expected == 0 {
            assert_eq!(client.stats().uploads.unwrap().passes, 0, "too late to be expected");
        }
        let deadline = std::time::Instant::now() + support::PATIENCE;
        while sent(&server, app()) < before + expected {
            assert!(std::time::Instant::now() < deadline, "no upload");
            std::thread::yield_now();
        }
        client.clear().unwrap();
    }
}

#[test]
fn without_consent_nothing_is_recorded_and_a_denial_ends_the_recording() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut unasked = config(directory.path(), &server);
    unasked.consent = Consent::Unknown;
    let client = Client::start(unasked).unwrap();
    let refused = client.enable_socket_stats(HOUR, AtEnd::Upload);
    assert!(matches!(refused, Err(ClientError::NoConsent(Consent::Unknown))));
    client.set_consent(Consent::Granted).unwrap();
    client.enable_socket_stats(HOUR, AtEnd::Upload).unwrap();
    add(&client, 1);
    client.flush().unwrap();
    client.set_consent(Consent::Denied).unwrap();
    assert!(!period_file(directory.path()).exists());
    client.set_consent(Consent::Granted).unwrap();
    assert!(client.stats().sockets.is_none(), "a new consent is no order to record");
    assert_eq!(client.upload("test").unwrap().wait().outcome, UploadOutcome::NothingToSend);
    assert_eq!(server.entries(&collections()[3]).unwrap().len(), 0);
}
