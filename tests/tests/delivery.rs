//! What becomes of records when the server or the app gets in the way: nothing is lost, and nothing is sent unasked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{collections::HashSet, fs, time::Duration};

use support::{
    COLLECTION, PHONE, ROUTER, addr,
    app::{App, bytes_at},
    client_config, map, messages, routes,
};
use tuntrail::{
    client::{Client, ClientError},
    clock::{Clock, SystemClock},
    consent::Consent,
    flow::Layer,
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    store::StoreError,
    upload::{AutomaticPolicy, NetworkState, UploadOutcome, UploadPolicy},
};
use tuntrail_logserver::{Fault, Server, ServerConfig, Times};

#[test]
fn every_fault_of_the_server_leaves_each_record_delivered_once() {
    let status = |code: u16| Fault::Status { code, retry_after: None, body: "no\u{202e} thanks".to_owned() };
    let busy =
        |after: &str| Fault::Status { code: 429, retry_after: Some(after.to_owned()), body: String::new() };
    for fault in [
        status(301),
        status(401),
        status(403),
        status(404),
        status(408),
        status(410),
        status(500),
        status(503),
        busy("3600"),
        busy("Wed, 21 Oct 2099 07:28:00 GMT"),
        busy("soon"),
        Fault::CloseBeforeResponse,
        Fault::Garbage(b"\xff\0SSH-2.0".to_vec()),
    ] {
        let (server, directory) =
            (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
        let mut app = App::start(directory.path(), &server);
        app.record(1, 100);
        server.inject(fault.clone(), Times::Forever).unwrap();
        let report = app.upload();
        assert!(!matches!(report.outcome, UploadOutcome::Complete), "{fault:?} gave {report:?}");
        assert_eq!(
            (report.sent_records, report.remaining_records, report.dropped_records),
            (0, 1, 0),
            "{fault:?}"
        );

        server.clear_faults();
        app.record(2, 200);
        let report = app.upload();
        assert_eq!(report.outcome, UploadOutcome::Complete, "{fault:?}");
        assert_eq!(report.sent_records, 2, "{fault:?}");
        assert_eq!(bytes_at(&server), 300, "{fault:?}");
    }
}

#[test]
fn a_lost_response_is_repeated_and_stored_once() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    server.inject(Fault::LostResponse, Times::ONCE).unwrap();
    let report = app.upload();
    assert_eq!((report.outcome, report.sent_records, report.attempts), (UploadOutcome::Complete, 1, 2));
    assert_eq!(bytes_at(&server), 100);
    assert_eq!(server.stats().duplicates, 1, "the server had taken it the first time");
    let keys: HashSet<_> = server
        .requests()
        .iter()
        .map(|request| request.header("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 1, "the repetition is recognisable");
}

#[test]
fn a_record_that_the_server_refuses_for_ever_is_dropped_and_the_reader_of_the_log_hears_of_it() {
    for (code, reason) in [(400, "rejected"), (413, "too_large"), (422, "rejected")] {
        let (server, directory) =
            (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
        let mut app = App::start(directory.path(), &server);
        app.record(1, 100);
        let refusal = Fault::Status { code, retry_after: None, body: "no".to_owned() };
        server.inject(refusal, Times::ONCE).unwrap();
        let report = app.upload();
        assert_eq!(
            (report.sent_records, report.dropped_records, report.remaining_records),
            (0, 1, 0),
            "{code}"
        );
        assert_eq!(report.rejection.unwrap().status, code);

        app.client.shutdown();
        let app = App::start(directory.path(), &server);
        assert_eq!(app.upload().outcome, UploadOutcome::Complete, "{code}");
        let payloads: Vec<_> =
            server.entries(COLLECTION).unwrap().into_iter().map(|entry| entry.payload).collect();
        let expected = format!(r#""reason":"{reason}","records":1,"#);
        assert!(matches!(&payloads[..], [report] if report.contains(&expected)), "{code}: {payloads:?}");
    }
}

#[test]
fn an_answer_cut_after_its_status_counts() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    server.inject(Fault::CutBody, Times::ONCE).unwrap();
    assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    assert_eq!((bytes_at(&server), server.stats().duplicates), (100, 0));
}

#[test]
fn nothing_is_sent_unless_somebody_asks_also_after_a_restart_with_leftovers() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    for round in 1..=3 {
        let mut app = App::start(directory.path(), &server);
        app.record(round, 100);
        let report = app.client.shutdown();
        assert_eq!(report.error, None);
        assert_eq!(report.stats.store.unwrap().appended(), 1);
    }
    assert_eq!(server.stats().requests, 0);

    let app = App::start(directory.path(), &server);
    let report = app.upload();
    assert_eq!((report.outcome, report.sent_records), (UploadOutcome::Complete, 3));
    assert_eq!(bytes_at(&server), 300);
    assert_eq!(app.upload().outcome, UploadOutcome::NothingToSend);
    // Each process numbers its records anew under its own number, and all write to one log.
    let entries = server.entries(COLLECTION).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.proc_id).collect::<HashSet<_>>().len(), 3);
    assert_eq!(entries.iter().map(|entry| entry.public_id.clone()).collect::<HashSet<_>>().len(), 1);
}

#[test]
fn shutdown_loses_no_packet_at_whatever_moment_it_comes() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut counted = 0;
    for round in 0..20 {
        let App { client, mut counter } = App::start(directory.path(), &server);
        let connection = Connection {
            protocol: Protocol::UDP,
            src: Some(addr("100.64.0.1:5000")),
            dst: Some(addr("100.64.0.2:53")),
        };
        for _ in 0..=round {
            counter.count(SystemClock.now(), &connection, 1, 10, Direction::Tx);
            counted += 10;
        }
        // The window is open and the record unwritten; the packet thread ends as the client does.
        drop(counter);
        client.shutdown();
    }
    let app = App::start(directory.path(), &server);
    assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    assert_eq!(bytes_at(&server), counted);
}

#[test]
fn an_app_with_its_own_tunnel_counts_in_batches_on_several_threads() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let client = Client::start(client_config(directory.path(), &server.base_url())).unwrap();
    client.set_network(map(1, PHONE, 2, ROUTER), routes(PHONE, &[], &[])).unwrap();
    // UDP from 100.64.0.1:5000 to 100.64.0.2:53, with nothing in it.
    let mut packet = [0_u8; 28];
    packet[..4].copy_from_slice(&[0x45, 0, 0, 28]);
    packet[8..10].copy_from_slice(&[64, 17]);
    packet[12..20].copy_from_slice(&[100, 64, 0, 1, 100, 64, 0, 2]);
    packet[20..24].copy_from_slice(&[0x13, 0x88, 0, 53]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut counter = client.counter(Layer::Virtual).unwrap().unwrap();
            scope.spawn(move || {
                for _ in 0..100 {
                    counter.count_batch(SystemClock.now(), &[&packet[..]; 32], Direction::Tx);
                }
            });
        }
    });
    assert_eq!(client.upload("test").unwrap().wait().outcome, UploadOutcome::Complete);
    let rows: Vec<_> = messages(&server).into_iter().flat_map(|message| message.virtual_traffic).collect();
    assert_eq!(rows.iter().map(|row| row.counts.tx_packets).sum::<u64>(), 2 * 100 * 32);
    assert!(rows.iter().all(|row| row.src == Some(addr("100.64.0.1:5000"))), "{rows:?}");
}

#[test]
fn a_second_client_in_the_same_role_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(ServerConfig::default()).unwrap();
    let _first = App::start(directory.path(), &server);
    let second = Client::start(client_config(directory.path(), &server.base_url()));
    assert!(matches!(second, Err(ClientError::Store(StoreError::InUse { .. }))), "{second:?}");
}

#[test]
fn a_directory_that_cannot_be_used_is_a_typed_error() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(ServerConfig::default()).unwrap();
    let occupied = directory.path().join("file");
    fs::write(&occupied, "").unwrap();
    let error = Client::start(client_config(&occupied, &server.base_url())).unwrap_err();
    assert!(matches!(error, ClientError::Store(_) | ClientError::Io(_)), "{error:?}");
    assert!(error.to_string().contains("can't"), "{error}");
}

#[test]
fn after_shutdown_every_call_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(ServerConfig::default()).unwrap();
    let app = App::start(directory.path(), &server);
    app.client.shutdown();
    app.client.shutdown();
    assert!(matches!(app.client.upload("test"), Err(ClientError::ShutDown)));
    assert!(matches!(app.client.set_consent(Consent::Granted), Err(ClientError::ShutDown)));
    assert!(matches!(app.client.counter(Layer::Virtual), Err(ClientError::ShutDown)));
}

#[test]
fn an_upload_that_the_end_of_the_process_interrupts_goes_on_at_the_next_start() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut app = App::start(directory.path(), &server);
    app.record(1, 100);
    let (entered, patience) = (server.stats().faults, Duration::from_secs(60));
    server.inject(Fault::Slow(patience), Times::ONCE).unwrap();
    let ticket = app.client.upload("test").unwrap();
    server.wait_for(|stats| stats.faults > entered, patience).unwrap();
    app.client.shutdown();
    assert_eq!(ticket.wait().outcome, UploadOutcome::Cancelled);
    assert_eq!(bytes_at(&server), 0);

    // Nobody asks again.
    let _app = App::start(directory.path(), &server);
    server.wait_for(|stats| stats.stored == 1, patience).unwrap();
    assert_eq!(bytes_at(&server), 100);
}

#[test]
fn automatic_uploads_send_what_is_recorded_when_the_rules_are_met() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut config = client_config(directory.path(), &server.base_url());
    config.upload.policy = UploadPolicy::Automatic(AutomaticPolicy {
        min_pending_bytes: 1,
        settle: (Duration::ZERO, Duration::ZERO),
        ..AutomaticPolicy::default()
    });
    let client = Client::start(config).unwrap();
    let mut app = App::of(client);
    app.record(1, 100);
    app.client.flush().unwrap();
    assert_eq!(server.stats().requests, 0, "nobody has said that there is a network");
    let wifi = NetworkState { connected: true, id: 1, ..NetworkState::default() };
    app.client.set_network_state(wifi).unwrap();
    let patience = Duration::from_secs(60);
    server.wait_for(|stats| stats.stored == 1, patience).unwrap();
    assert_eq!(bytes_at(&server), 100);
}
