//! Single flight: what those get who ask while a pass runs, and what stops it.

use super::*;

#[test]
fn who_asks_while_a_pass_runs_hears_of_its_progress_and_gets_its_result() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    bench.source.push(&["{}\n"]);
    let (arrival, go_on) = hold(&bench.server);
    let (heard, progress) = mpsc::channel();
    let listener = |who: &'static str| {
        let heard = heard.clone();
        let tell = move |progress: &UploadProgress| heard.send((who, progress.clone())).unwrap();
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
fn what_was_recorded_before_the_call_is_sent_also_if_a_pass_runs_already() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    let (arrival, go_on) = hold(&bench.server);
    let first = bench.uploader.upload("first", UploadOptions::default());
    arrival.recv().unwrap();
    bench.source.push(&["{}\n", "{}\n"]);
    let (heard, progress) = mpsc::channel();
    let tell = move |progress: &UploadProgress| heard.send(progress.clone()).unwrap();
    let options = UploadOptions { progress: Some(Box::new(tell)), ..UploadOptions::default() };
    let second = bench.uploader.upload("second", options);
    drop(go_on);
    assert_eq!((first.wait().outcome, first.wait().sent_records), (UploadOutcome::Complete, 1));
    let second = second.wait();
    assert_eq!((second.outcome, second.sent_records, second.attempts), (UploadOutcome::Complete, 3, 2));
    assert_eq!((bench.source.pending(), bench.server.connections()), (0, 1), "one connection for both");
    let heard: Vec<_> = progress.try_iter().map(|p| (p.sent_records, p.total_records)).collect();
    assert_eq!(heard, [(1, 1), (3, 3)]);
}

#[test]
fn u5_a_storm_of_requests_makes_one_pass_at_a_time_and_two_in_all() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    let (arrival, go_on) = hold(&bench.server);
    let first = bench.uploader.upload("first", UploadOptions::default());
    arrival.recv().unwrap();
    bench.source.push(&["{}\n"]);
    let tickets: Vec<_> = std::thread::scope(|scope| {
        let ask =
            || (0..200).map(|_| bench.uploader.upload("storm", UploadOptions::default())).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    drop(go_on);
    assert_eq!(first.wait().sent_records, 1);
    for ticket in tickets {
        let report = ticket.wait();
        assert_eq!((report.outcome, report.sent_records), (UploadOutcome::Complete, 2));
    }
    assert_eq!(
        (bench.uploader.stats().passes, bench.requests().len(), bench.server.connections()),
        (2, 2, 1)
    );
}

#[test]
fn a_pass_that_finds_no_way_to_the_server_answers_everybody_at_once() {
    let bench = Bench::new((0..5).map(|_| Reply::status(503)));
    bench.source.push(&["{}\n"]);
    let (arrival, go_on) = hold(&bench.server);
    let first = bench.uploader.upload("first", UploadOptions::default());
    arrival.recv().unwrap();
    bench.source.push(&["{}\n"]);
    let second = bench.uploader.upload("second", UploadOptions::default());
    drop(go_on);
    let (first, second) = (first.wait(), second.wait());
    assert!(matches!(first.outcome, UploadOutcome::RetryLater { status: 503, .. }), "{first:?}");
    assert_eq!((&second.outcome, second.attempts), (&first.outcome, 5));
    assert_eq!((first.remaining_records, second.remaining_records), (1, 2), "each is told what remains");
    assert_eq!(bench.requests().len(), 5);
}

#[test]
fn one_ticket_cancels_its_own_pass_only() {
    let bench = Bench::new([Reply::Silence(Vec::new())]);
    bench.source.push(&["{}\n"]);
    let (arrived, arrival) = mpsc::channel();
    bench.server.on_request(move || arrived.send(()).unwrap());
    let first = bench.uploader.upload("first", UploadOptions::default());
    arrival.recv().unwrap();
    let second = bench.uploader.upload("second", UploadOptions::default());
    first.cancel();
    assert_eq!(first.wait().outcome, UploadOutcome::Cancelled);
    let second = second.wait();
    assert_eq!((second.outcome, second.sent_records, second.attempts), (UploadOutcome::Complete, 1, 2));
}

#[test]
fn a_request_that_waits_is_cancelled_at_once_and_the_running_pass_goes_on() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    let (arrival, go_on) = hold(&bench.server);
    let first = bench.uploader.upload("first", UploadOptions::default());
    arrival.recv().unwrap();
    let second = bench.uploader.upload("second", UploadOptions::default());
    second.cancel();
    assert_eq!(second.report(), Some(UploadReport::empty(UploadOutcome::Cancelled)));
    drop(go_on);
    assert_eq!(first.wait().outcome, UploadOutcome::Complete);
    assert_eq!(bench.uploader.stats().passes, 1);
}

#[test]
fn u3_revoking_during_an_upload_breaks_the_request_off_and_nothing_follows() {
    let bench = Bench::new([Reply::Silence(Vec::new())]);
    bench.source.push(&["{}\n"]);
    let (arrived, arrival) = mpsc::channel();
    bench.server.on_request(move || arrived.send(()).unwrap());
    let first = bench.uploader.upload("first", UploadOptions::default());
    arrival.recv().unwrap();
    let second = bench.uploader.upload("second", UploadOptions::default());
    bench.uploader.cancel();
    assert_eq!(
        (first.wait().outcome, second.wait().outcome),
        (UploadOutcome::Cancelled, UploadOutcome::Cancelled)
    );
    let Bench { server, source, uploader, .. } = bench;
    drop(uploader);
    // The silent reply ends when the client has closed the connection, or this would wait for ever.
    assert_eq!((server.requests().len(), server.connections(), source.pending()), (1, 1, 1));
    drop(server);
}

#[test]
fn while_paused_nothing_is_sent_and_what_is_asked_for_waits() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    bench.uploader.pause_uploads();
    let ticket = bench.uploader.upload("test", UploadOptions::default());
    assert_eq!(bench.uploader.stats().state, UploadState::Paused);
    assert_eq!((ticket.report(), bench.server.connections()), (None, 0));
    bench.uploader.resume_uploads();
    assert_eq!(ticket.wait().sent_records, 1);
    assert_eq!(bench.uploader.stats().state, UploadState::Idle);
}

#[test]
fn a_pause_lets_the_request_under_way_finish_and_the_rest_of_the_pass_wait() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    bench.source.push(&["{}\n"]);
    let (arrival, go_on) = hold(&bench.server);
    let (heard, progress) = mpsc::channel();
    let tell = move |progress: &UploadProgress| heard.send(progress.sent_records).unwrap();
    let options = UploadOptions { progress: Some(Box::new(tell)), ..UploadOptions::default() };
    let ticket = bench.uploader.upload("test", options);
    arrival.recv().unwrap();
    bench.uploader.pause_uploads();
    drop(go_on);
    assert_eq!(progress.recv().unwrap(), 1);
    assert_eq!((ticket.report(), bench.requests().len()), (None, 1));
    bench.uploader.resume_uploads();
    assert_eq!((ticket.wait().sent_records, bench.requests().len()), (2, 2));
}

#[test]
fn a_paused_pass_can_be_cancelled() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    bench.source.push(&["{}\n"]);
    let (arrival, go_on) = hold(&bench.server);
    let ticket = bench.uploader.upload("test", UploadOptions::default());
    arrival.recv().unwrap();
    bench.uploader.pause_uploads();
    drop(go_on);
    ticket.cancel();
    assert_eq!(ticket.wait().outcome, UploadOutcome::Cancelled);
}

#[test]
fn a_listener_may_ask_again_and_hears_how_passes_end() {
    let bench = Bench::new([]);
    let (heard, ends) = mpsc::channel();
    bench.uploader.set_listener(move |event| heard.send(event).unwrap());
    bench.source.push(&["{}\n"]);
    let report = bench.upload();
    assert_eq!(ends.recv().unwrap(), UploadEvent::Ended(report.clone()));
    let stats = bench.uploader.stats();
    assert_eq!((stats.passes, stats.failed_passes, stats.sent_records), (1, 0, 1));
    assert_eq!((stats.last_report, stats.wire_bytes), (Some(report.clone()), report.sent_bytes));
}
