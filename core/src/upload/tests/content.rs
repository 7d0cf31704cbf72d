//! Each row of the outcome table that is about what is sent.

use super::*;

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
    let bench = Bench::with([], |config| config.limits = Limits::LOW_MEMORY);
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
        config.limits = Limits::LOW_MEMORY;
    });
    push_numbered(&bench.source, 200, 900);
    let report = bench.upload();
    assert!(matches!(report.outcome, UploadOutcome::Unauthorized { .. }), "{report:?}");
    assert!(report.sent_records > 0);
    assert_eq!((report.remaining_records, bench.source.pending()), (200, 200));
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

#[test]
fn a_segment_that_is_sent_again_after_a_restart_is_the_same_request() {
    let Bench { server, source, uploader: first, .. } = Bench::new([Reply::Hangup, Reply::status(403)]);
    push_numbered(&source, 50, 100);
    let report = first.upload("test", UploadOptions::default()).wait();
    assert_eq!((report.sent_records, report.remaining_records), (0, 50));
    drop(first);

    source.push(&["{}\n"]);
    let config = UploadConfig::new(&server.url()).unwrap();
    let second = uploader(config, &[&source]);
    assert_eq!(second.upload("test", UploadOptions::default()).wait().sent_records, 51);
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[1..3].iter().all(|request| *request == requests[0]));
}
