//! The uploader as a whole, against a real server on loopback: one test for each row of the outcome table.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use super::{
    Envelope, PinnedRoots, Trust, UploadConfig, UploadOptions, UploadOutcome, UploadReport, UploadStream,
    Uploader, encode_trusted_object,
    id::PrivateId,
    pass::Pause,
    source::{DroppedRange, ReadFailure},
    testing::{FakeSource, PROC_ID, Received, Reply, Server},
};
use crate::{
    clock::ManualClock,
    store::{
        DropReason, ProcId, ProcSeq, RecordKind, Role, Store, StoreConfig, StreamConfig, StreamHandle,
        StreamName,
    },
};

const ID: [u8; 32] = [0xab; 32];

/// What a test needs: a server, a stream and an uploader whose waits are recorded and take no time.
struct Bench {
    server: Server,
    source: Arc<FakeSource>,
    uploader: Uploader,
    waits: Arc<Mutex<Vec<Duration>>>,
}

impl Bench {
    fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(script, |_| {})
    }

    fn with(script: impl IntoIterator<Item = Reply>, configure: impl FnOnce(&mut UploadConfig)) -> Self {
        let server = Server::start(script);
        let mut config = UploadConfig::new(&server.url()).unwrap();
        configure(&mut config);
        let source = FakeSource::new("netlog");
        let waits = Arc::default();
        let pause = RecordedPause(Arc::clone(&waits));
        let uploader = uploader(config, &[&source], pause);
        Self { server, source, uploader, waits }
    }

    fn upload(&self) -> UploadReport {
        self.uploader.upload("test", UploadOptions::default()).wait()
    }

    fn requests(&self) -> Vec<Received> {
        self.server.requests()
    }

    fn waits(&self) -> Vec<u64> {
        self.waits.lock().unwrap().iter().map(Duration::as_secs).collect()
    }
}

fn uploader(config: UploadConfig, sources: &[&Arc<FakeSource>], pause: impl Pause + 'static) -> Uploader {
    let stream = |source: &&Arc<FakeSource>| {
        let collection = "flows.log.example.com".parse().unwrap();
        UploadStream::from_source(Arc::clone(source) as _, collection, PrivateId::from_bytes(ID))
    };
    let clock = Arc::new(ManualClock::new("1994-11-06T08:49:30Z".parse().unwrap()));
    let streams = sources.iter().map(stream).collect();
    Uploader::start_with(config, streams, clock, Box::new(pause)).unwrap()
}

struct RecordedPause(Arc<Mutex<Vec<Duration>>>);

impl Pause for RecordedPause {
    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.0.lock().unwrap().push(duration);
        Box::pin(async {})
    }
}

/// A pause that says that it has begun, and never ends.
struct EndlessPause(mpsc::Sender<()>);

impl Pause for EndlessPause {
    fn pause(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.0.send(()).unwrap();
        Box::pin(pending())
    }
}

/// A payload that compresses badly, so that sizes mean something.
fn payload(number: usize, len: usize) -> String {
    let mut state = u32::try_from(number).unwrap() + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    format!("{{\"n\":{number},\"fill\":\"{}\"}}\n", (0..len).map(|_| next()).collect::<String>())
}

fn push_numbered(source: &FakeSource, count: usize, len: usize) {
    let payloads: Vec<_> = (1..=count).map(|number| payload(number, len)).collect();
    source.push(&payloads.iter().map(String::as_str).collect::<Vec<_>>());
}

fn dropped(reason: DropReason, from_seq: u64, to_seq: u64, bytes: u64) -> DroppedRange {
    let proc_id = ProcId::new(PROC_ID).unwrap();
    let seqs = (ProcSeq::new(from_seq), ProcSeq::new(to_seq));
    DroppedRange { reason, proc_id, seqs, records: to_seq + 1 - from_seq, bytes }
}

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
fn a_lost_answer_is_repeated_with_the_same_key_and_bytes() {
    let bench = Bench::new([Reply::Hangup]);
    push_numbered(&bench.source, 20, 100);
    let report = bench.upload();
    let requests = bench.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], requests[1]);
    assert_eq!((report.outcome, report.attempts, report.sent_records), (UploadOutcome::Complete, 2, 20));
}

#[test]
fn transient_statuses_are_repeated_with_growing_jitter_and_then_given_up() {
    let bench = Bench::new([408, 425, 429, 500, 503, 503].map(Reply::status));
    bench.source.push(&["{}\n"]);
    let report = bench.upload();
    assert!(matches!(report.outcome, UploadOutcome::RetryLater { status: 503, .. }), "{report:?}");
    assert_eq!((report.attempts, report.remaining_records, bench.source.pending()), (5, 1, 1));
    let waits = bench.waits();
    assert_eq!(waits.len(), 4);
    assert!(waits.iter().zip([5, 10, 20, 30]).all(|(wait, bound)| *wait <= bound), "{waits:?}");

    assert_eq!(bench.upload().sent_records, 1, "the next pass has its own patience");
}

#[test]
fn a_server_that_recovers_gets_everything() {
    let bench = Bench::new([Reply::status(503), Reply::Hangup, Reply::Raw(b"garbage\r\n\r\n".to_vec())]);
    bench.source.push(&["{}\n"]);
    bench.source.push(&["{}\n"]);
    let report = bench.upload();
    assert_eq!((report.outcome, report.attempts, report.sent_records), (UploadOutcome::Complete, 5, 2));
}

#[test]
fn an_unreachable_server_is_reported_without_the_url() {
    let Bench { server, .. } = Bench::new([]);
    let url = server.url();
    drop(server);
    let source = FakeSource::new("netlog");
    source.push(&["{}\n"]);
    let waits = Arc::default();
    let uploader = uploader(UploadConfig::new(&url).unwrap(), &[&source], RecordedPause(waits));
    let report = uploader.upload("test", UploadOptions::default()).wait();
    let UploadOutcome::Unreachable { error } = &report.outcome else { panic!("{report:?}") };
    assert!(error.contains("refused"), "{error}");
    assert!(!error.contains("/c/") && !error.contains("abab"), "{error}");
    assert_eq!((report.attempts, source.pending()), (5, 1));
}

#[test]
fn a_silent_server_costs_no_more_than_the_timeout() {
    let short = |config: &mut UploadConfig| config.request_timeout = Duration::from_millis(50);
    let bench = Bench::with((0..5).map(|_| Reply::Silence), short);
    bench.source.push(&["{}\n"]);
    let report = bench.upload();
    assert!(matches!(report.outcome, UploadOutcome::Unreachable { .. }), "{report:?}");
    assert_eq!((report.attempts, bench.source.pending()), (5, 1));
}

#[test]
fn server_garbage_is_a_transport_failure() {
    let garbage: [&[u8]; 5] = [
        b"\0\xff\xfe",
        b"HTTP/1.1 2\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, \r\n",
    ];
    let bench = Bench::new(garbage.map(|bytes| Reply::Raw(bytes.to_vec())));
    bench.source.push(&["{}\n"]);
    let report = bench.upload();
    assert!(matches!(report.outcome, UploadOutcome::Unreachable { .. }), "{report:?}");
    assert_eq!((report.attempts, bench.source.pending()), (5, 1));
}

#[test]
fn a_cut_answer_counts_by_its_status() {
    let cut = |status: u16| {
        Reply::Raw(format!("HTTP/1.1 {status} x\r\nContent-Length: 500\r\n\r\npart").into_bytes())
    };
    let bench = Bench::new([cut(500), cut(200)]);
    bench.source.push(&["{}\n"]);
    let report = bench.upload();
    assert_eq!((report.outcome, report.attempts), (UploadOutcome::Complete, 2));
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    let flood = format!("HTTP/1.1 404 x\r\nContent-Length: 99999999\r\n\r\n{}", "y".repeat(100_000));
    let bench = Bench::new([Reply::Raw(flood.into_bytes())]);
    bench.source.push(&["{}\n"]);
    let UploadOutcome::Rejected { status: 404, message, .. } = bench.upload().outcome else { panic!() };
    assert_eq!(message, "y".repeat(256));
}

#[test]
fn retry_after_is_honoured_as_seconds_or_date_within_bounds() {
    let busy = |header| Reply::Status(429, header, String::new());
    let bench = Bench::new([
        busy("Retry-After: 7\r\n"),
        busy("Retry-After: Sun, 06 Nov 1994 08:49:51 GMT\r\n"),
        busy("Retry-After: 0\r\n"),
        busy("Retry-After: soon\r\n"),
    ]);
    bench.source.push(&["{}\n"]);
    assert_eq!(bench.upload().outcome, UploadOutcome::Complete);
    let waits = bench.waits();
    assert_eq!(waits[..3], [7, 21, 1]);
    assert!(waits[3] <= 30, "garbage means a wait of our own choice");
}

#[test]
fn a_longer_retry_after_than_wanted_ends_the_pass() {
    for (header, after) in [("Retry-After: 31\r\n", 31), ("Retry-After: 99999999999\r\n", 3600)] {
        let bench = Bench::new([Reply::Status(503, header, String::new())]);
        bench.source.push(&["{}\n"]);
        let report = bench.upload();
        let after = Duration::from_secs(after);
        assert_eq!(report.outcome, UploadOutcome::RetryLater { after, status: 503 });
        assert_eq!((report.attempts, bench.source.pending()), (1, 1));
        assert!(bench.waits().is_empty());
    }
}

#[test]
fn refused_credentials_and_wrong_addresses_keep_everything_and_stop_the_stream() {
    for status in [401, 403, 404, 405, 410, 301, 307, 304] {
        let reply =
            Reply::Status(status, "Location: http://127.0.0.1:9/elsewhere\r\n", "go away\n".to_owned());
        let bench = Bench::new([reply]);
        bench.source.push(&["{}\n"]);
        bench.source.push(&["{}\n"]);
        let report = bench.upload();
        let (stream, message) = ("netlog".to_owned(), if status == 304 { "" } else { "go away" }.to_owned());
        let expected = if matches!(status, 401 | 403) {
            UploadOutcome::Unauthorized { stream, status, message }
        } else {
            UploadOutcome::Rejected { stream, status, message }
        };
        assert_eq!(report.outcome, expected);
        assert_eq!((report.attempts, report.remaining_records, bench.source.pending()), (1, 2, 2));
    }
}

#[test]
fn a_server_that_repeats_the_url_does_not_get_the_id_into_the_report() {
    let page = format!("no such stream: /c/flows.log.example.com/{}", "AB".repeat(32));
    let bench = Bench::new([Reply::Status(404, "", page)]);
    bench.source.push(&["{}\n"]);
    let report = format!("{:?}", bench.upload()).to_lowercase();
    assert!(report.contains("[removed]") && !report.contains("abab"), "{report}");
}

#[test]
fn bodies_that_are_too_large_are_halved_and_the_size_is_remembered() {
    let limit = |json: &[u8]| if json.len() > 4_000 { 413 } else { 200 };
    let bench = Bench::new([Reply::Judge(Box::new(limit))]);
    push_numbered(&bench.source, 100, 200);
    push_numbered(&bench.source, 100, 200);
    let report = bench.upload();
    assert_eq!((report.outcome, report.sent_records), (UploadOutcome::Complete, 200));
    assert!(bench.source.drops().is_empty());
    assert!(report.attempts - report.sent_bodies <= 6, "{} refusals", report.attempts - report.sent_bodies);
    let accepted: Vec<_> =
        bench.requests().iter().filter(|r| r.json().len() <= 4_000).flat_map(Received::seqs).collect();
    assert_eq!(accepted, (1..=200).collect::<Vec<_>>(), "each record once, in order");
}

#[test]
fn a_single_record_that_is_too_large_is_dropped_and_reported() {
    let limit = |json: &[u8]| if json.len() > 2_000 { 413 } else { 200 };
    let bench = Bench::new([Reply::Judge(Box::new(limit))]);
    let payloads = [payload(1, 100), payload(2, 3_000), payload(3, 100)];
    bench.source.push(&payloads.each_ref().map(String::as_str));
    let report = bench.upload();
    assert_eq!(
        (report.outcome, report.sent_records, report.dropped_records),
        (UploadOutcome::Complete, 2, 1)
    );
    assert_eq!(report.rejection.unwrap().status, 413);
    assert_eq!(bench.source.drops(), [dropped(DropReason::TooLarge, 2, 2, payloads[1].len() as u64)]);
    assert_eq!(bench.source.pending(), 0);
}

#[test]
fn a_poisonous_record_is_found_dropped_and_reported_and_all_others_arrive() {
    for status in [400, 422] {
        let judge = move |json: &[u8]| {
            let text = String::from_utf8(json.to_vec()).unwrap();
            if text.contains("\"n\":37,") || text.contains("\"n\":38,") { status } else { 200 }
        };
        let bench = Bench::new([Reply::Judge(Box::new(judge))]);
        push_numbered(&bench.source, 100, 50);
        let report = bench.upload();
        assert_eq!(
            (report.outcome, report.sent_records, report.dropped_records),
            (UploadOutcome::Complete, 98, 2)
        );
        let rejection = report.rejection.unwrap();
        assert_eq!((rejection.status, rejection.message.as_str()), (status, "judged"));
        let bytes = payload(37, 50).len() as u64;
        assert_eq!(
            bench.source.drops(),
            [dropped(DropReason::Rejected, 37, 37, bytes), dropped(DropReason::Rejected, 38, 38, bytes)]
        );
        assert!(report.attempts < 32, "{}", report.attempts);
    }
}

#[test]
fn a_server_that_refuses_everything_is_not_fed_the_whole_store() {
    let bench = Bench::new([Reply::Judge(Box::new(|_: &[u8]| 400))]);
    for _ in 0..10 {
        push_numbered(&bench.source, 200, 20);
    }
    let report = bench.upload();
    assert!(matches!(report.outcome, UploadOutcome::Rejected { status: 400, .. }), "{report:?}");
    assert_eq!((report.dropped_records, report.remaining_records), (600, 1_400));
    assert_eq!(bench.source.pending(), 1_400);
    assert_eq!(bench.source.drops().iter().map(|drop| drop.records).sum::<u64>(), 600);
    assert!(report.attempts < 3 * 140, "{}", report.attempts);
}

#[test]
fn a_large_segment_is_several_bodies_with_keys_of_their_own() {
    let bench = Bench::with([], |config| config.limits = super::Limits::LOW_MEMORY);
    push_numbered(&bench.source, 200, 900);
    assert_eq!(bench.upload().outcome, UploadOutcome::Complete);
    let requests = bench.requests();
    assert_eq!(requests.iter().flat_map(Received::seqs).collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    assert!(requests.len() > 1 && requests.iter().all(|request| request.json().len() <= 128 * 1024));
    for request in &requests {
        let seqs = request.seqs();
        let key = format!("netlog-0000000000000001-9f3c21aa-{}-{}", seqs[0], seqs[seqs.len() - 1]);
        assert_eq!(request.header("idempotency-key"), Some(key.as_str()));
    }
}

#[test]
fn a_segment_that_was_sent_in_part_is_kept_as_a_whole() {
    let bench = Bench::with([Reply::status(200), Reply::status(403)], |config| {
        config.limits = super::Limits::LOW_MEMORY;
    });
    push_numbered(&bench.source, 200, 900);
    let report = bench.upload();
    assert!(matches!(report.outcome, UploadOutcome::Unauthorized { .. }), "{report:?}");
    assert!(report.sent_records > 0);
    assert_eq!((report.remaining_records, bench.source.pending()), (200, 200));
}

#[test]
fn cancelling_breaks_off_a_request_under_way_and_keeps_the_data() {
    let bench = Bench::new([Reply::Silence]);
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
    let uploader = uploader(UploadConfig::new(&server.url()).unwrap(), &[&source], EndlessPause(began));
    let ticket = uploader.upload("test", UploadOptions::default());
    beginning.recv().unwrap();
    uploader.cancel();
    assert_eq!(ticket.wait().outcome, UploadOutcome::Cancelled);
}

#[test]
fn dropping_the_uploader_ends_a_running_pass() {
    let Bench { server, source, uploader, .. } = Bench::new([Reply::Silence]);
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
fn who_asks_while_a_pass_runs_joins_it_and_hears_of_its_progress() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    bench.source.push(&["{}\n"]);
    let (arrived, arrival) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    bench.server.on_request(move || {
        arrived.send(()).unwrap();
        // The sender goes away when the test has seen enough.
        let _ = may_go_on.recv();
    });
    let (heard, progress) = mpsc::channel();
    let listener = |who: &'static str| {
        let heard = heard.clone();
        let tell = move |progress: &super::UploadProgress| heard.send((who, progress.clone())).unwrap();
        UploadOptions { progress: Some(Box::new(tell)), ..UploadOptions::default() }
    };
    let first = bench.uploader.upload("first", listener("first"));
    arrival.recv().unwrap();
    let second = bench.uploader.upload("second", listener("second"));
    drop(go_on);
    assert_eq!(first.wait(), second.wait());
    assert_eq!((first.wait().sent_records, bench.requests().len()), (2, 2));
    let heard: Vec<_> = progress.try_iter().map(|(who, p)| (who, p.sent_records, p.total_records)).collect();
    assert_eq!(heard, [("first", 1, 2), ("second", 1, 2), ("first", 2, 2), ("second", 2, 2)]);
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
    let uploader = uploader(config, &[&broken, &refused, &fine], RecordedPause(Arc::default()));
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
    let uploader = uploader(config, &[&one, &other], RecordedPause(Arc::default()));
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

#[test]
fn a_drop_report_that_the_server_refuses_is_made_again() {
    let judge = |json: &[u8]| if json.windows(8).any(|text| text == b"tuntrail") { 400 } else { 200 };
    let bench = Bench::new([Reply::Judge(Box::new(judge))]);
    bench.source.push(&["{}\n"]);
    bench.source.push_kind(RecordKind::Meta, &["{\"drops\":[]}"]);
    let report = bench.upload();
    assert_eq!((report.outcome, report.dropped_records), (UploadOutcome::Complete, 0));
    assert_eq!(bench.source.repeated(), [b"{\"drops\":[]}"]);
    assert!(bench.source.drops().is_empty());
}

/// A store in a temporary directory with one stream, and an uploader for it.
fn with_store(server: &Server) -> (tempfile::TempDir, Store, StreamHandle, Uploader) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    let name = StreamName::new("netlog").unwrap();
    let config = StoreConfig { root: dir.path().to_owned(), role: Role::Service, clock: clock.clone() };
    let store = Store::open(config, vec![StreamConfig::new(name.clone())]).unwrap();
    let handle = store.stream(&name).unwrap();
    let collection = "flows.log.example.com".parse().unwrap();
    let stream = UploadStream::new(handle.clone(), collection, PrivateId::from_bytes(ID));
    let config = UploadConfig::new(&server.url()).unwrap();
    let pause = Box::new(RecordedPause(Arc::default()));
    let uploader = Uploader::start_with(config, vec![stream], clock, pause).unwrap();
    (dir, store, handle, uploader)
}

fn append_entry(handle: &StreamHandle, object: &str) {
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

fn upload_with_roots(server: &Server, pem: &[u8]) -> UploadReport {
    let mut config = UploadConfig::new(&server.tls_url()).unwrap();
    config.trust = Trust::Pinned(PinnedRoots::from_pem(pem).unwrap());
    let source = FakeSource::new("netlog");
    source.push(&["{}\n"]);
    let uploader = uploader(config, &[&source], RecordedPause(Arc::default()));
    uploader.upload("test", UploadOptions::default()).wait()
}

#[test]
fn a_server_with_a_certificate_of_a_pinned_root_is_believed() {
    let server = Server::start_tls([]);
    let report = upload_with_roots(&server, include_bytes!("testdata/root.pem"));
    assert_eq!((report.outcome, report.sent_records), (UploadOutcome::Complete, 1));
}

#[test]
fn a_server_with_any_other_certificate_learns_nothing() {
    let server = Server::start_tls([]);
    let report = upload_with_roots(&server, include_bytes!("testdata/other-root.pem"));
    let UploadOutcome::Unreachable { error } = &report.outcome else { panic!("{report:?}") };
    assert!(error.contains("certificate"), "{error}");
    assert!(server.requests().is_empty());
}
