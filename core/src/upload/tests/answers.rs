//! Each row of the outcome table that is about the connection or the server.

use super::*;

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
    let uploader = uploader(UploadConfig::new(&url).unwrap(), &[&source]);
    let report = uploader.upload("test", UploadOptions::default()).wait();
    let UploadOutcome::Unreachable { error } = &report.outcome else { panic!("{report:?}") };
    assert!(error.contains("refused"), "{error}");
    assert!(!error.contains("/c/") && !error.contains("abab"), "{error}");
    assert_eq!((report.attempts, source.pending()), (5, 1));
}

#[test]
fn a_silent_server_costs_no_more_than_the_timeout() {
    let short = |config: &mut UploadConfig| config.request_timeout = Duration::from_millis(50);
    let bench = Bench::with((0..5).map(|_| Reply::Silence(Vec::new())), short);
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
    assert_eq!(waits[..3], [7, 14, 1]);
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

/// What a listener for commands heard of one upload that the server answered so.
fn commands_of(reply: Reply, accept: bool) -> Vec<Vec<String>> {
    let bench = Bench::with([reply], |config| config.accept_commands = accept);
    let (heard, commands) = mpsc::channel();
    bench.uploader.set_command_listener(move |commands| heard.send(commands).unwrap());
    bench.source.push(&["{}\n"]);
    bench.upload();
    // The listener, and with it the sender, goes with the uploader.
    drop(bench);
    commands.iter().collect()
}

#[test]
fn commands_are_taken_from_json_answers_to_deliveries_and_only_if_they_are_accepted() {
    const JSON: &str = "Content-Type: Application/JSON; charset=utf-8\r\n";
    const BODY: &str = r#"{"stored":1,"commands":[{"v":1,"kind":"x"},{"v":2}]}"#;
    let reply = |status, headers| Reply::Status(status, headers, BODY.to_owned());
    let expected = [[r#"{"v":1,"kind":"x"}"#.to_owned(), r#"{"v":2}"#.to_owned()]];
    assert_eq!(commands_of(reply(200, JSON), true), expected);
    assert_eq!(commands_of(reply(200, JSON), false), [[""; 0]; 0]);
    assert_eq!(commands_of(reply(200, "Content-Type: text/html\r\n"), true), [[""; 0]; 0]);
    assert_eq!(commands_of(reply(200, ""), true), [[""; 0]; 0]);
    assert_eq!(commands_of(reply(404, JSON), true), [[""; 0]; 0]);
}

#[test]
fn a_gigabyte_of_commands_is_neither_read_nor_kept() {
    const HEAD: &[u8] =
        b"HTTP/1.1 200 x\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n{\"commands\":[";
    const PIECE: &[u8] = &[b'7'; 16 * 1024];
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let bench =
        Bench::with([Reply::Flood(HEAD, PIECE, (1 << 30) / PIECE.len(), Arc::clone(&taken))], |config| {
            config.accept_commands = true;
        });
    bench.uploader.set_command_listener(|commands| panic!("{commands:?}"));
    bench.source.push(&["{}\n"]);
    let report = bench.upload();
    assert_eq!(
        (report.outcome, report.sent_records),
        (UploadOutcome::Complete, 1),
        "it was delivered all the same"
    );
    drop(bench);
    // The rest is what the buffers of both ends hold; the connection is closed then.
    let taken = taken.load(std::sync::atomic::Ordering::SeqCst);
    assert!(taken < 32 << 20, "{taken} bytes went out");
}
