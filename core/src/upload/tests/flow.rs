//! What starts, joins, limits and ends a pass.

use super::*;

#[test]
fn nothing_is_sent_unless_somebody_asks() {
    let bench = Bench::new([]);
    bench.source.push(&["{\"left\":\"over\"}\n"]);
    let Bench { server, source, uploader, .. } = bench;
    drop(uploader);
    assert_eq!((server.connections(), source.pending()), (0, 1));
}

#[test]
fn nothing_pending_opens_no_connection() {
    let bench = Bench::new([]);
    let report = bench.upload();
    assert_eq!(report, UploadReport::empty(UploadOutcome::NothingToSend));
    assert_eq!(bench.server.connections(), 0);
}

#[test]
fn pending_segments_are_sent_oldest_first_over_one_connection_and_deleted() {
    let bench = Bench::new([]);
    bench.source.push(&["{\"logtail\":{\"client_time\":\"2026-01-02T03:04:05Z\"},\"a\":1}\n", "{\"b\":2}\n"]);
    bench.source.push_kind(RecordKind::Meta, &["{\"drops\":[]}"]);
    let report = bench.upload();

    let requests = bench.requests();
    let bodies: Vec<_> = requests.iter().map(|request| String::from_utf8(request.json()).unwrap()).collect();
    assert_eq!(
        bodies,
        [
            format!(
                "[{{\"logtail\":{{\"client_time\":\"2026-01-02T03:04:05Z\",\"proc_id\":{PROC_ID},\"proc_seq\":1}},\"a\":1}}\n,\
                 {{\"logtail\":{{\"proc_id\":{PROC_ID},\"proc_seq\":2}},\"b\":2}}\n]"
            ),
            format!(
                "[{{\"logtail\":{{\"proc_id\":{PROC_ID},\"proc_seq\":3}},\"tuntrail\":{{\"drops\":[]}}}}\n]"
            ),
        ]
    );
    let wire: usize = requests.iter().map(|request| request.body.len()).sum();
    assert_eq!(
        report,
        UploadReport {
            sent_records: 3,
            sent_bodies: 2,
            sent_bytes: wire as u64,
            raw_bytes: bodies.iter().map(|body| body.len() as u64).sum(),
            attempts: 2,
            ..UploadReport::empty(UploadOutcome::Complete)
        }
    );
    assert_eq!((bench.server.connections(), bench.source.pending()), (1, 0));
}

#[test]
fn a_request_has_the_headers_of_logtail_and_no_others_that_tell_who_we_are() {
    let bench = Bench::with([], |config| config.add_header("X-App", "demo").unwrap());
    bench.source.push(&[&format!("{{\"fill\":\"{}\"}}\n", "x".repeat(1_000))]);
    bench.upload();
    let request = &bench.requests()[0];
    let hex = "ab".repeat(32);
    assert_eq!(request.line, format!("POST /c/flows.log.example.com/{hex} HTTP/1.1"));
    let mut names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "content-encoding",
            "content-length",
            "host",
            "idempotency-key",
            "orig-content-length",
            "x-app"
        ]
    );
    assert_eq!(request.header("idempotency-key"), Some("netlog-0000000000000001-9f3c21aa-1-1"));
    assert_eq!(request.header("orig-content-length"), Some(request.json().len().to_string().as_str()));
}

#[test]
fn cancelling_breaks_off_a_request_under_way_and_keeps_the_data() {
    let bench = Bench::new([Reply::Silence(Vec::new())]);
    bench.source.push(&["{}\n"]);
    let (arrived, arrival) = mpsc::channel();
    bench.server.on_request(move || arrived.send(()).unwrap());
    let ticket = bench.uploader.upload("test", UploadOptions::default());
    arrival.recv().unwrap();
    assert_eq!(ticket.report(), None);
    ticket.cancel();
    let report = ticket.wait();
    assert_eq!((report.outcome, report.remaining_records), (UploadOutcome::Cancelled, 1));
    assert_eq!(bench.source.pending(), 1);
    assert_eq!(bench.upload().outcome, UploadOutcome::Complete, "the next pass is not affected");
}

#[test]
fn cancelling_ends_a_wait_at_once() {
    let server = Server::start([Reply::status(503)]);
    let source = FakeSource::new("netlog");
    source.push(&["{}\n"]);
    let (began, beginning) = mpsc::channel();
    let config = UploadConfig::new(&server.url()).unwrap();
    let uploader = start(config, &[&source], &clock(), EndlessAlarm(began));
    let ticket = uploader.upload("test", UploadOptions::default());
    beginning.recv().unwrap();
    uploader.cancel();
    assert_eq!(ticket.wait().outcome, UploadOutcome::Cancelled);
}

#[test]
fn a_wait_that_a_suspend_has_made_longer_ends_with_the_first_event_after_it() {
    let server = Server::start([Reply::Status(503, "Retry-After: 20\r\n", String::new())]);
    let source = FakeSource::new("netlog");
    source.push(&["{}\n"]);
    let (began, beginning) = mpsc::channel();
    let clock = clock();
    let config = UploadConfig::new(&server.url()).unwrap();
    let uploader = start(config, &[&source], &clock, EndlessAlarm(began));
    let ticket = uploader.upload("test", UploadOptions::default());
    beginning.recv().unwrap();
    // Too early: it looks at the clock and goes on waiting.
    clock.advance(Duration::from_secs(19));
    uploader.set_network_state(NetworkState::default());
    beginning.recv().unwrap();
    assert_eq!(server.requests().len(), 1);
    // The system's timeout stood still, the clock did not.
    clock.advance(Duration::from_secs(3600));
    uploader.set_network_state(NetworkState::default());
    assert_eq!(ticket.wait().outcome, UploadOutcome::Complete);
}

#[test]
fn dropping_the_uploader_ends_a_running_pass() {
    let Bench { server, source, uploader, .. } = Bench::new([Reply::Silence(Vec::new())]);
    source.push(&["{}\n"]);
    let (arrived, arrival) = mpsc::channel();
    server.on_request(move || arrived.send(()).unwrap());
    let ticket = uploader.upload("test", UploadOptions::default());
    arrival.recv().unwrap();
    drop(uploader);
    assert_eq!(ticket.wait().outcome, UploadOutcome::Cancelled);
    assert_eq!(source.pending(), 1);
}

#[test]
fn records_that_come_during_a_pass_wait_for_the_next() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    let source = Arc::clone(&bench.source);
    let mut once = true;
    bench.server.on_request(move || {
        if std::mem::take(&mut once) {
            source.push(&["{}\n"]);
        }
    });
    assert_eq!(bench.upload().sent_records, 1);
    assert_eq!(bench.source.pending(), 1);
    assert_eq!(bench.upload().sent_records, 1);
}

#[test]
fn a_failing_stream_does_not_hold_up_the_others() {
    let server = Server::start([Reply::status(404)]);
    let (broken, refused, fine) =
        (FakeSource::new("broken"), FakeSource::new("refused"), FakeSource::new("fine"));
    broken.fail_seal();
    refused.push(&["{}\n"]);
    fine.push(&["{}\n"]);
    let config = UploadConfig::new(&server.url()).unwrap();
    let uploader = uploader(config, &[&broken, &refused, &fine]);
    let report = uploader.upload("test", UploadOptions::default()).wait();
    let failure = UploadOutcome::StoreFailed { stream: "broken".into(), error: "the disk is gone".into() };
    assert_eq!(report.outcome, failure);
    assert_eq!((report.sent_records, report.remaining_records), (1, 1));
    assert_eq!((refused.pending(), fine.pending()), (1, 0));
}

#[test]
fn only_the_wanted_streams_are_sent() {
    let server = Server::start([]);
    let (one, other) = (FakeSource::new("one"), FakeSource::new("other"));
    one.push(&["{}\n"]);
    other.push(&["{}\n"]);
    let config = UploadConfig::new(&server.url()).unwrap();
    let uploader = uploader(config, &[&one, &other]);
    let wanted = |name: &str| UploadOptions { streams: Some(vec![name.into()]), ..UploadOptions::default() };
    assert_eq!(uploader.upload("test", wanted("other")).wait().sent_records, 1);
    assert_eq!((one.pending(), other.pending()), (1, 0));
    let UploadOutcome::SetupFailed { error } = uploader.upload("test", wanted("third")).wait().outcome else {
        panic!()
    };
    assert_eq!(error, "there is no stream \"third\"");
}

#[test]
fn unreadable_segments_are_passed_over_by_their_kind() {
    let cases = [
        (ReadFailure::Gone, UploadOutcome::Complete, 0, 1, 1),
        (ReadFailure::Corrupt("bad checksum".into()), UploadOutcome::Complete, 1, 1, 0),
        (
            ReadFailure::Unavailable("locked".into()),
            UploadOutcome::StoreFailed { stream: "netlog".into(), error: "locked".into() },
            0,
            1,
            1,
        ),
    ];
    for (failure, outcome, dropped, sent, pending) in cases {
        let bench = Bench::new([]);
        bench.source.push(&["{}\n"]);
        bench.source.push(&["{}\n"]);
        bench.source.fail_read(failure);
        let report = bench.upload();
        assert_eq!((report.outcome, report.dropped_records, report.sent_records), (outcome, dropped, sent));
        assert_eq!(bench.source.pending(), pending);
    }
}

#[test]
fn a_store_that_can_not_delete_is_reported_and_the_stream_stops() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    bench.source.push(&["{}\n"]);
    bench.source.fail_acknowledge();
    let report = bench.upload();
    let error = "read-only file system".to_owned();
    assert_eq!(report.outcome, UploadOutcome::StoreFailed { stream: "netlog".into(), error });
    assert_eq!((report.attempts, report.remaining_records), (1, 2));
}
