//! Consent: nothing is written or sent without it, and what the user refuses is gone, wherever a kill comes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use support::{
    COLLECTION, PATIENCE,
    app::{App, bytes_at},
    client_config, files,
};
use tuntrail::{
    client::{Client, ClientConfig, ClientError},
    clock::{Clock, SystemClock},
    consent::Consent,
    flow::Layer,
    store::Role,
    upload::UploadOutcome,
};
use tuntrail_logserver::{Fault, Server, ServerConfig, Times};

/// What a denial has to remove: every file but the one that says so.
fn records_and_ids(directory: &Path) -> Vec<PathBuf> {
    let is_decision = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with("CONSENT");
    files(directory).into_iter().map(|(path, _)| path).filter(|path| !is_decision(path)).collect()
}

fn config(directory: &Path, server: &Server, role: Role, consent: Consent) -> ClientConfig {
    let mut config = client_config(directory, &server.base_url());
    config.role = role;
    config.consent = consent;
    config
}

/// The names of the logs that records arrived in.
fn logs(server: &Server) -> HashSet<String> {
    server.entries(COLLECTION).unwrap().into_iter().map(|entry| entry.public_id).collect()
}

#[test]
fn withdrawn_consent_deletes_everything_and_starts_over_under_a_new_name() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    app.record(2, 200);
    app.client.set_consent(Consent::Denied).unwrap();
    assert_eq!(records_and_ids(directory.path()), Vec::<PathBuf>::new(), "only the denial is left on disk");
    assert!(matches!(app.client.upload("test"), Err(ClientError::NoConsent(Consent::Denied))));
    assert!(app.client.counter(Layer::Virtual).unwrap().is_none());

    app.record(3, 300);
    app.client.set_consent(Consent::Granted).unwrap();
    app.counter = app.client.counter(Layer::Virtual).unwrap().unwrap();
    app.record(4, 400);
    assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    assert_eq!(bytes_at(&server), 500, "what was counted without consent is in no record");
    let names: HashSet<_> =
        server.entries(COLLECTION).unwrap().into_iter().map(|entry| entry.public_id).collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn consent_withdrawn_during_an_upload_breaks_it_off_and_nothing_of_it_is_sent_later() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    server.inject(Fault::Slow(Duration::from_secs(3_600)), Times::ONCE).unwrap();
    let ticket = app.client.upload("test").unwrap();
    server.wait_for(|stats| stats.faults == 1, PATIENCE).expect("the request is at the server");
    app.client.set_consent(Consent::Denied).unwrap();
    assert_eq!(records_and_ids(directory.path()), Vec::<PathBuf>::new());
    assert_eq!(ticket.wait().outcome, UploadOutcome::Cancelled);
    server.wait_for(|stats| stats.requests == 1, PATIENCE).expect("the server sees that the client has gone");
    assert!(server.entries(COLLECTION).unwrap().is_empty());

    app.client.shutdown();
    let mut app = App::start(directory.path(), &server);
    app.record(2, 200);
    assert_eq!(app.upload().sent_records, 1);
    assert_eq!((bytes_at(&server), server.stats().requests), (200, 2));
}

#[test]
fn without_consent_nothing_touches_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(ServerConfig::default()).unwrap();
    let mut config = client_config(directory.path(), &server.base_url());
    config.consent = Consent::Unknown;
    let client = Client::start(config).unwrap();
    assert!(client.counter(Layer::Physical).unwrap().is_none());
    client.shutdown();
    assert_eq!(files(directory.path()), Vec::new());
    assert_eq!(server.stats().requests, 0);
}

#[test]
fn denied_consent_at_start_deletes_what_an_earlier_run_left() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(ServerConfig::default()).unwrap();
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    app.client.shutdown();
    assert!(files(directory.path()).iter().any(|(path, _)| path.extension().is_some_and(|e| e == "seg")));
    // Not ours, and so not ours to delete.
    let foreign = directory.path().join("netlog/w-ext/notes.txt");
    fs::write(&foreign, "the app's own").unwrap();

    let mut config = client_config(directory.path(), &server.base_url());
    config.consent = Consent::Denied;
    Client::start(config).unwrap();
    assert_eq!(records_and_ids(directory.path()), vec![foreign]);
    assert_eq!(server.stats().requests, 0);
}

#[test]
fn a_kill_in_the_middle_of_a_revocation_leaves_nothing_that_is_kept_or_sent() {
    /// How far the deletion had come when the process was killed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Step {
        DenialWritten,
        SomeRecordsDeleted,
        RecordsDeleted,
        AllDeleted,
    }
    for step in [Step::DenialWritten, Step::SomeRecordsDeleted, Step::RecordsDeleted, Step::AllDeleted] {
        for next in [Consent::Unknown, Consent::Granted, Consent::Denied] {
            let server = Server::start(ServerConfig::default()).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let mut app = App::start(directory.path(), &server);
            app.record(1, 100);
            assert_eq!(app.upload().outcome, UploadOutcome::Complete);
            app.record(2, 200);
            drop(app);
            fs::write(
                directory.path().join("CONSENT"),
                "{\"version\":1,\"consent\":\"denied\",\"denials\":1}\n",
            )
            .unwrap();
            // Somebody had asked for an upload just before.
            let request = directory.path().join("upload/w-ext/FLUSH");
            fs::create_dir_all(request.parent().unwrap()).unwrap();
            let now = SystemClock.wall().as_millisecond();
            let asked = format!("{{\"version\":1,\"requested_ms\":{now},\"resumed\":0,\"reason\":\"test\"}}");
            fs::write(request, asked).unwrap();
            let gone = |name: &Path| match step {
                Step::DenialWritten => false,
                Step::SomeRecordsDeleted => name.starts_with("flowlog") || name.starts_with("sessions"),
                Step::RecordsDeleted => name.parent() != Some(Path::new("")),
                Step::AllDeleted => true,
            };
            for path in records_and_ids(directory.path()) {
                if gone(path.strip_prefix(directory.path()).unwrap()) {
                    fs::remove_file(path).unwrap();
                }
            }

            let client = Client::start(config(directory.path(), &server, Role::Extension, next)).unwrap();
            if next == Consent::Granted {
                let mut app = App { counter: client.counter(Layer::Virtual).unwrap().unwrap(), client };
                app.record(3, 400);
                assert_eq!(app.upload().sent_records, 1, "{step:?}");
                assert_eq!(bytes_at(&server), 500, "{step:?}: what was denied is in no record");
                assert_eq!(logs(&server).len(), 2, "{step:?}: the new log can't be linked to the old one");
                drop(app);
                // The deletion is not repeated.
                let mut app = App::start(directory.path(), &server);
                app.record(4, 800);
                drop(app);
                let app = App::start(directory.path(), &server);
                assert_eq!(app.upload().sent_records, 1, "{step:?}");
                assert_eq!(logs(&server).len(), 2, "{step:?}");
            } else {
                assert!(client.upload("test").is_err());
                drop(client);
                assert_eq!(records_and_ids(directory.path()), Vec::<PathBuf>::new(), "{step:?}, {next:?}");
                assert_eq!(server.stats().requests, 1, "{step:?}, {next:?}");
            }
        }
    }
}

#[test]
fn what_one_process_denies_goes_in_the_others_too() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut extension = App::start(directory.path(), &server);
    extension.record(1, 100);
    drop(extension);

    // The user withdraws consent in the app while the extension does not run, and agrees again later.
    let app = Client::start(config(directory.path(), &server, Role::App, Consent::Granted)).unwrap();
    app.set_consent(Consent::Denied).unwrap();
    app.set_consent(Consent::Granted).unwrap();
    let mut app = App { counter: app.counter(Layer::Virtual).unwrap().unwrap(), client: app };
    assert_eq!(app.client.claim(&Role::Extension).unwrap(), 0, "what was denied is nobody's to take over");
    app.record(2, 200);
    assert_eq!(app.upload().sent_records, 1);

    let mut extension = App::start(directory.path(), &server);
    extension.record(3, 400);
    assert_eq!(extension.upload().sent_records, 1);
    assert_eq!(bytes_at(&server), 600);
    assert_eq!(logs(&server).len(), 1, "both write to the log that was made at the new grant");
}

#[test]
fn a_denial_without_records_before_it_leaves_no_trace() {
    let (server, parent) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let directory = parent.path().join("never-made");
    let client = Client::start(config(&directory, &server, Role::Extension, Consent::Denied)).unwrap();
    client.set_consent(Consent::Denied).unwrap();
    drop(client);
    assert!(!directory.exists());
}
