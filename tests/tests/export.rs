//! The export that a user mails instead of uploading, and the deletion of everything recorded.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read,
    path::Path,
    sync::Arc,
};

use serde_json::Value;
use support::{
    COLLECTION,
    app::{App, bytes_at},
    client_config, files,
};
use tracing_subscriber::layer::SubscriberExt;
use tuntrail::{
    client::{Client, ClientError},
    clock::SystemClock,
    consent::Consent,
    diagnostics::Diagnostics,
    upload::UploadOutcome,
};
use tuntrail_logserver::{Server, ServerConfig};

fn unpack(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(path).unwrap()).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        (name, content)
    });
    entries.collect()
}

#[test]
fn an_export_holds_what_an_upload_would_send_and_the_log() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let place = tempfile::tempdir().unwrap();
    let log = Diagnostics::new("info", Arc::new(SystemClock)).unwrap();
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.layer()));
    let mut config = client_config(directory.path(), &server.base_url());
    config.diagnostics = Some(log);
    // Two runs, so that there are two segments.
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    drop(app);
    let client = Client::start(config).unwrap();
    let mut app = App::of(client);
    app.record(2, 200);
    tracing::warn!("the user opens the help page");

    let path = place.path().join("logs.tar.zst");
    let report = app.client.export(&path).unwrap();
    assert_eq!((report.records, report.segments, report.unreadable, report.log_files), (2, 2, 0, 1));
    assert_eq!(report.bytes, path.metadata().unwrap().len());
    assert_eq!(files(place.path()).len(), 1, "no draft is left");
    assert!(matches!(app.client.export(&path), Err(ClientError::Export { .. })), "nothing is overwritten");

    let files = unpack(&path);
    let manifest: Value = serde_json::from_str(&files["tuntrail/manifest.json"]).unwrap();
    assert_eq!(manifest["version"], 1);
    assert_eq!(manifest["log_id"], app.client.log_id().unwrap().to_string());
    assert_eq!(manifest["streams"][0], serde_json::json!({ "name": "netlog", "collection": COLLECTION }));
    let summary: Value = serde_json::from_str(&files["tuntrail/summary.json"]).unwrap();
    assert_eq!(summary["records"], 2);
    assert!(files["tuntrail/diagnostics/0000000000.log"].contains("the user opens the help page"));
    let lines: Vec<Value> = files
        .iter()
        .filter(|(name, _)| name.starts_with("tuntrail/netlog/"))
        .flat_map(|(_, content)| content.lines().map(|line| serde_json::from_str(line).unwrap()))
        .collect();

    assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    assert_eq!(bytes_at(&server), 300);
    let ids = |line: &Value| (line["logtail"]["proc_id"].as_u64(), line["logtail"]["proc_seq"].as_u64());
    let sent: BTreeSet<_> = server
        .entries(COLLECTION)
        .unwrap()
        .iter()
        .map(|entry| (entry.proc_id.map(u64::from), entry.proc_seq))
        .collect();
    assert_eq!(lines.iter().map(ids).collect::<BTreeSet<_>>(), sent, "numbered as in the upload");
}

#[test]
fn an_export_needs_consent_and_a_place() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    let missing = directory.path().join("no/such/place/logs.tar.zst");
    assert!(matches!(app.client.export(&missing), Err(ClientError::Export { .. })));
    app.client.set_consent(Consent::Denied).unwrap();
    let place = tempfile::tempdir().unwrap();
    let error = app.client.export(&place.path().join("logs.tar.zst")).unwrap_err();
    assert!(matches!(error, ClientError::NoConsent(Consent::Denied)), "{error}");
    assert_eq!(files(place.path()), Vec::new());
    assert_eq!(app.client.log_id(), None);
}

#[test]
fn what_a_killed_export_left_is_in_nobodys_way_and_one_under_way_is_left_alone() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("logs.tar.zst");
    let draft = place.path().join("logs.tar.zst.part");
    fs::write(&draft, "half an export").unwrap();
    let other = File::open(&draft).unwrap();
    other.try_lock().unwrap();
    let error = app.client.export(&path).unwrap_err();
    assert!(error.to_string().contains("being written by another export"), "{error}");
    assert_eq!(fs::read_to_string(&draft).unwrap(), "half an export");
    drop(other);
    assert_eq!(app.client.export(&path).unwrap().records, 1);
    assert!(path.exists() && !draft.exists());
    assert!(app.client.export(&path).is_err(), "nothing is overwritten");
}

#[test]
fn cleared_records_are_not_sent_and_recording_goes_on() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    app.client.flush().unwrap();
    app.record(2, 200);
    let log_id = app.client.log_id();
    app.client.clear().unwrap();
    app.record(3, 400);
    assert_eq!(app.upload().sent_records, 1);
    assert_eq!(bytes_at(&server), 400);
    assert_eq!(app.client.log_id(), log_id, "the same log goes on");
}
