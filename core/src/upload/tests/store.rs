//! The uploader with a real store.

use super::*;

/// A store in a temporary directory with one stream, and an uploader for it.
fn with_store(server: &Server) -> (tempfile::TempDir, Store, StreamHandle, Uploader) {
    let dir = tempfile::tempdir().unwrap();
    let (store, handle, uploader) = open_store(dir.path(), server);
    (dir, store, handle, uploader)
}

/// A process of the app begins: it opens its store and its uploader.
fn open_store(dir: &std::path::Path, server: &Server) -> (Store, StreamHandle, Uploader) {
    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    let name = StreamName::new("netlog").unwrap();
    let config = StoreConfig { root: dir.to_owned(), role: Role::Service, clock: clock.clone() };
    let store = Store::open(config, vec![StreamConfig::new(name.clone())]).unwrap();
    let handle = store.stream(&name).unwrap();
    let collection = "flows.log.example.com".parse().unwrap();
    let stream = UploadStream::new(handle.clone(), collection, PrivateId::from_bytes(ID));
    let config = UploadConfig::new(&server.url()).unwrap();
    let alarm = VirtualAlarm { clock: (*clock).clone(), waits: Waits::default() };
    let uploader = Uploader::start_with(config, vec![stream], clock, Box::new(alarm)).unwrap();
    (store, handle, uploader)
}

pub(super) fn append_entry(handle: &StreamHandle, object: &str) {
    let mut entry = Vec::new();
    let time = Some("2026-01-02T03:04:05.5Z".parse().unwrap());
    encode_trusted_object(object.as_bytes(), &Envelope { client_time: time, ids: None }, &mut entry);
    handle.append(&entry).unwrap();
}

#[test]
fn what_the_store_holds_arrives_and_leaves_the_store() {
    let server = Server::start([]);
    let (_dir, store, handle, uploader) = with_store(&server);
    for number in 1..=3_000 {
        append_entry(&handle, payload(number, 100).trim_end());
        if number % 200 == 0 {
            // The queue in front of the disk is bounded.
            handle.flush().unwrap();
        }
    }
    let segments = handle.seal().unwrap().len();
    let report = uploader.upload("test", UploadOptions::default()).wait();
    assert_eq!((report.outcome, report.sent_records), (UploadOutcome::Complete, 3_000));
    let requests = server.requests();
    assert_eq!(requests.iter().flat_map(Received::seqs).collect::<Vec<_>>(), (1..=3_000).collect::<Vec<_>>());
    assert_eq!(requests.len(), segments, "one request for each segment");
    assert!(segments > 1);
    let head = format!(
        "[{{\"logtail\":{{\"client_time\":\"2026-01-02T03:04:05.5Z\",\"proc_id\":{},\"proc_seq\":1}},\"n\":1,",
        handle.proc_id().get()
    );
    assert!(requests[0].json().starts_with(head.as_bytes()));
    assert!(handle.seal().unwrap().is_empty());
    store.shutdown().unwrap();
}

#[test]
fn what_the_server_refuses_is_in_a_drop_report_of_the_next_pass() {
    let judge = |json: &[u8]| if json.windows(6).any(|text| text == b"poison") { 422 } else { 200 };
    let server = Server::start([Reply::Judge(Box::new(judge))]);
    let (_dir, store, handle, uploader) = with_store(&server);
    for word in ["good", "poison", "fine"] {
        append_entry(&handle, &format!("{{\"word\":\"{word}\"}}"));
    }
    let first = uploader.upload("test", UploadOptions::default()).wait();
    assert_eq!((first.outcome, first.sent_records, first.dropped_records), (UploadOutcome::Complete, 2, 1));
    let second = uploader.upload("test", UploadOptions::default()).wait();
    assert_eq!((second.outcome, second.sent_records), (UploadOutcome::Complete, 1));
    let json = server.requests().last().unwrap().json();
    let entries: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let drop = &entries[0]["tuntrail"]["drops"][0];
    assert_eq!((&drop["reason"], &drop["records"]), (&"rejected".into(), &1.into()));
    assert_eq!((&drop["from_seq"], &drop["to_seq"]), (&2.into(), &2.into()));
    store.shutdown().unwrap();
}

#[test]
fn u2_a_segment_that_two_processes_send_is_the_same_request() {
    let server = Server::start([Reply::Hangup, Reply::status(403)]);
    let (dir, store, handle, uploader) = with_store(&server);
    for number in 1..=200 {
        append_entry(&handle, payload(number, 100).trim_end());
    }
    let report = uploader.upload("test", UploadOptions::default()).wait();
    assert_eq!((report.sent_records, report.remaining_records), (0, 200));
    drop(uploader);
    store.shutdown().unwrap();

    let (store, handle, uploader) = open_store(dir.path(), &server);
    append_entry(&handle, "{\"of\":\"the next process\"}");
    assert_eq!(uploader.upload("test", UploadOptions::default()).wait().sent_records, 201);
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[1..3].iter().all(|request| *request == requests[0]), "key and bytes");
    assert_ne!(requests[3].header("idempotency-key"), requests[0].header("idempotency-key"));
    store.shutdown().unwrap();
}

#[test]
fn u4_leftovers_in_a_real_store_stay_there_until_somebody_asks() {
    let server = Server::start([]);
    let (dir, store, handle, uploader) = with_store(&server);
    append_entry(&handle, "{}");
    drop(uploader);
    store.shutdown().unwrap();

    let (store, handle, uploader) = open_store(dir.path(), &server);
    uploader.set_network_state(NetworkState { connected: true, id: 1, ..NetworkState::default() });
    uploader.note_pending("netlog", 1 << 30);
    assert_eq!(handle.seal().unwrap().len(), 1);
    drop(uploader);
    assert_eq!(server.connections(), 0);
    store.shutdown().unwrap();
}
