//! U1: the outcome table, row by row, through both drivers: the built-in transport and a host that carries tasks.
//! (That TLS failures are failures of the connection is in `tls`; a host's TLS is its own.)

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// How long a server may say nothing where it says something in the end.
const PATIENCE: Duration = Duration::from_secs(30);
/// And where it doesn't: the test waits for it.
const SHORT: Duration = Duration::from_millis(60);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Driver {
    BuiltIn,
    Host,
}

#[derive(Debug, PartialEq)]
enum Fate {
    Delivered,
    Dropped(DropReason),
    Kept,
}

struct Seen {
    report: UploadReport,
    fate: Fate,
    waits: Vec<u64>,
    requests: Vec<Received>,
}

/// Uploads one record against a server that answers by `script`, then always with 200.
fn upload(driver: Driver, script: Vec<Reply>, patience: Duration) -> Seen {
    let bench = Bench::with(script, |config| {
        config.request_timeout = patience;
        if driver == Driver::Host {
            config.transport = Transport::Host;
        }
    });
    bench.source.push(&["{\"a\":1}\n"]);
    let report = match driver {
        Driver::BuiltIn => bench.upload(),
        Driver::Host => {
            let ticket = bench.uploader.upload("test", UploadOptions::default());
            bench.host(patience);
            ticket.report().unwrap()
        }
    };
    let fate = match (bench.source.drops().first(), bench.source.pending()) {
        (None, 0) => Fate::Delivered,
        (None, 1) => Fate::Kept,
        (Some(drop), 0) => Fate::Dropped(drop.reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(report.remaining_records, bench.source.pending() as u64);
    assert_eq!(report.attempts, bench.requests().len() as u64);
    Seen { report, fate, waits: bench.waits(), requests: bench.requests() }
}

fn both(script: impl Fn() -> Vec<Reply>, check: impl Fn(Driver, Seen)) {
    both_with(PATIENCE, script, check);
}

fn both_with(patience: Duration, script: impl Fn() -> Vec<Reply>, check: impl Fn(Driver, Seen)) {
    for driver in [Driver::BuiltIn, Driver::Host] {
        check(driver, upload(driver, script(), patience));
    }
}

fn times(count: usize, reply: impl Fn() -> Reply) -> Vec<Reply> {
    (0..count).map(|_| reply()).collect()
}

#[test]
fn u1_2xx_is_delivered() {
    for status in [200, 201, 202, 204, 299] {
        both(
            || vec![Reply::status(status)],
            |driver, seen| {
                assert_eq!(seen.report.outcome, UploadOutcome::Complete, "{driver:?} {status}");
                assert_eq!((seen.fate, seen.report.attempts), (Fate::Delivered, 1), "{driver:?} {status}");
            },
        );
    }
}

#[test]
fn u1_3xx_and_wrong_endpoints_keep_everything() {
    for status in [301, 302, 303, 307, 308, 404, 405, 410] {
        both(
            || vec![Reply::Status(status, "Location: http://127.0.0.1:9/x\r\n", "elsewhere".into())],
            |driver, seen| {
                let UploadOutcome::Rejected { status: told, message, .. } = &seen.report.outcome else {
                    panic!("{driver:?} {status}: {:?}", seen.report)
                };
                assert_eq!((*told, message.as_str()), (status, "elsewhere"), "{driver:?}");
                assert_eq!((seen.fate, seen.report.attempts), (Fate::Kept, 1), "{driver:?} {status}");
            },
        );
    }
}

#[test]
fn u1_401_and_403_keep_everything_and_tell_the_host() {
    for status in [401, 403] {
        both(
            || vec![Reply::status(status)],
            |driver, seen| {
                let outcome = &seen.report.outcome;
                assert!(
                    matches!(outcome, UploadOutcome::Unauthorized { status: told, .. } if *told == status),
                    "{driver:?} {outcome:?}"
                );
                assert_eq!((seen.fate, seen.report.attempts), (Fate::Kept, 1), "{driver:?} {status}");
            },
        );
    }
}

#[test]
fn u1_400_413_and_422_drop_the_record_with_a_report() {
    for (status, reason) in
        [(400, DropReason::Rejected), (422, DropReason::Rejected), (413, DropReason::TooLarge)]
    {
        both(
            || vec![Reply::Status(status, "", "bad".into())],
            |driver, seen| {
                assert_eq!(seen.report.outcome, UploadOutcome::Complete, "{driver:?} {status}");
                assert_eq!(seen.fate, Fate::Dropped(reason), "{driver:?} {status}");
                let rejection = seen.report.rejection.unwrap();
                assert_eq!((rejection.status, rejection.message.as_str()), (status, "bad"), "{driver:?}");
                assert_eq!((seen.report.dropped_records, seen.report.attempts), (1, 1), "{driver:?}");
            },
        );
    }
}

#[test]
fn u1_transient_statuses_are_repeated_and_given_up_after_five() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        both(
            || times(4, || Reply::status(status)),
            |driver, seen| {
                assert_eq!((seen.fate, seen.report.attempts), (Fate::Delivered, 5), "{driver:?} {status}");
                assert!(seen.requests.windows(2).all(|pair| same_request(&pair[0], &pair[1])), "{driver:?}");
            },
        );
    }
    both(
        || times(5, || Reply::status(503)),
        |driver, seen| {
            let outcome = &seen.report.outcome;
            assert!(
                matches!(outcome, UploadOutcome::RetryLater { status: 503, .. }),
                "{driver:?} {outcome:?}"
            );
            assert_eq!((seen.fate, seen.report.attempts), (Fate::Kept, 5), "{driver:?}");
        },
    );
}

#[test]
fn u1_retry_after_is_seconds_a_date_garbage_or_huge() {
    for (header, wait) in [
        ("Retry-After: 7\r\n", Some(7)),
        ("Retry-After: Sun, 06 Nov 1994 08:49:51 GMT\r\n", Some(21)),
        ("Retry-After: soon\r\n", None),
    ] {
        both(
            || vec![Reply::Status(429, header, String::new())],
            |driver, seen| {
                assert_eq!(seen.fate, Fate::Delivered, "{driver:?} {header}");
                let [waited] = seen.waits[..] else { panic!("{driver:?} {:?}", seen.waits) };
                assert!(wait.map_or(waited <= 5, |wait| waited == wait), "{driver:?} {header}: {waited}");
            },
        );
    }
    both(
        || vec![Reply::Status(503, "Retry-After: 99999999999\r\n", String::new())],
        |driver, seen| {
            let after = Duration::from_secs(3600);
            assert_eq!(seen.report.outcome, UploadOutcome::RetryLater { after, status: 503 }, "{driver:?}");
            assert_eq!((seen.fate, seen.waits.len()), (Fate::Kept, 0), "{driver:?}");
        },
    );
}

#[test]
fn u1_a_connection_cut_before_the_answer_is_repeated_u2_with_the_same_key_and_bytes() {
    both(
        || vec![Reply::Hangup, Reply::Raw(b"HTTP/1.1 20".to_vec())],
        |driver, seen| {
            assert_eq!((seen.fate, seen.report.attempts), (Fate::Delivered, 3), "{driver:?}");
            assert!(seen.requests.windows(2).all(|pair| same_request(&pair[0], &pair[1])), "{driver:?}");
        },
    );
}

#[test]
fn u1_an_answer_cut_in_its_body_counts_by_its_status() {
    let cut = |status: u16| format!("HTTP/1.1 {status} x\r\nContent-Length: 500\r\n\r\npart").into_bytes();
    both(
        || vec![Reply::Raw(cut(500)), Reply::Raw(cut(200))],
        |driver, seen| assert_eq!((seen.fate, seen.report.attempts), (Fate::Delivered, 2), "{driver:?}"),
    );
}

#[test]
fn u1_headers_that_come_slowly_cost_no_more_than_the_timeout() {
    both_with(
        SHORT,
        || times(5, || Reply::Silence(b"HTTP/1.1 200 OK\r\nX-Slow: a".to_vec())),
        |driver, seen| {
            let outcome = &seen.report.outcome;
            assert!(matches!(outcome, UploadOutcome::Unreachable { .. }), "{driver:?} {outcome:?}");
            assert_eq!((seen.fate, seen.report.attempts), (Fate::Kept, 5), "{driver:?}");
        },
    );
}

#[test]
fn u1_headers_that_never_end_are_not_kept() {
    let taken = Arc::new(AtomicUsize::new(0));
    let bench = Bench::new([Reply::Flood(
        b"HTTP/1.1 200 OK\r\n",
        &[b'a'; 65_536],
        1 << 14, // 1 GiB
        Arc::clone(&taken),
    )]);
    bench.source.push(&["{}\n"]);
    let report = bench.upload();
    assert_eq!((report.outcome, report.attempts), (UploadOutcome::Complete, 2), "the second answer is short");
    assert!(taken.load(Ordering::SeqCst) < 16 << 20, "{} bytes", taken.load(Ordering::SeqCst));
}

#[test]
fn z_an_answer_of_a_gigabyte_is_not_read() {
    for (status, complete) in [("200", true), ("404", false)] {
        let taken = Arc::new(AtomicUsize::new(0));
        let head: &'static [u8] = if complete {
            b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"
        } else {
            b"HTTP/1.1 404 x\r\nContent-Length: 1073741824\r\n\r\n"
        };
        let bench = Bench::new([Reply::Flood(head, &[b'y'; 65_536], 1 << 14, Arc::clone(&taken))]);
        bench.source.push(&["{}\n"]);
        let report = bench.upload();
        assert_eq!(report.outcome == UploadOutcome::Complete, complete, "{status}: {report:?}");
        let Bench { server, .. } = bench;
        drop(server);
        // What the buffers of two sockets take, and not what was announced.
        assert!(taken.load(Ordering::SeqCst) < 16 << 20, "{} bytes", taken.load(Ordering::SeqCst));
    }
}

/// The headers of the connection itself may differ.
fn same_request(one: &Received, other: &Received) -> bool {
    let key = |request: &Received| request.header("idempotency-key").map(str::to_owned);
    one.line == other.line && one.body == other.body && key(one).is_some() && key(one) == key(other)
}
