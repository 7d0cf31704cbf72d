//! The host as the transport.

use super::*;

fn bench(script: impl IntoIterator<Item = Reply>) -> Bench {
    Bench::with(script, |config| config.transport = Transport::Host)
}

fn take(bench: &Bench) -> super::super::UploadTask {
    match bench.uploader.next_task() {
        Task::Upload(task) => task,
        other => panic!("{other:?}"),
    }
}

fn ok() -> super::super::TaskResult {
    super::super::TaskResult::Answered { status: 200, retry_after: None, body: Vec::new() }
}

#[test]
fn there_is_no_task_unless_somebody_asked() {
    let bench = bench([]);
    bench.source.push(&["{}\n"]);
    assert_eq!(bench.uploader.next_task(), Task::Done);
    let _ticket = bench.uploader.upload("test", UploadOptions::default());
    take(&bench);
}

#[test]
fn with_the_built_in_transport_there_are_no_tasks() {
    let bench = Bench::new([]);
    bench.source.push(&["{}\n"]);
    assert_eq!(bench.uploader.next_task(), Task::Done);
    assert_eq!(bench.uploader.complete(1, ok()), Err(TaskError::NotUnderWay { id: 1 }));
    assert_eq!(bench.upload().sent_records, 1);
}

#[test]
fn a_task_is_the_request_that_the_built_in_transport_makes() {
    let payload = format!("{{\"fill\":\"{}\"}}\n", "x".repeat(1_000));
    let with_header = |config: &mut UploadConfig| config.add_header("X-App", "demo").unwrap();
    let built_in = Bench::with([], with_header);
    built_in.source.push(&[&payload]);
    built_in.upload();
    let sent = &built_in.requests()[0];

    let host = Bench::with([], |config| {
        config.transport = Transport::Host;
        with_header(config);
    });
    host.source.push(&[&payload]);
    let _ticket = host.uploader.upload("test", UploadOptions::default());
    let task = take(&host);
    assert_eq!(task.body, sent.body);
    assert_eq!(task.url, format!("{}/c/flows.log.example.com/{}", host.server.url(), "ab".repeat(32)));
    let mut names: Vec<_> = task.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-encoding", "idempotency-key", "orig-content-length", "x-app"]);
    for (name, value) in &task.headers {
        assert_eq!(sent.header(name), Some(value.as_str()));
    }
    let debug = format!("{task:?}");
    assert!(!debug.contains("abab") && !debug.contains("demo"), "{debug}");
}

#[test]
fn a_task_whose_worker_vanished_comes_again() {
    let bench = bench([]);
    push_numbered(&bench.source, 20, 100);
    bench.source.push(&["{}\n"]);
    let ticket = bench.uploader.upload("test", UploadOptions::default());
    let first = take(&bench);
    assert_eq!(take(&bench), first, "same id, same bytes, same key");
    bench.uploader.complete(first.id, ok()).unwrap();
    assert_eq!(bench.source.pending(), 1, "delivered segments leave the store at once");
    let second = take(&bench);
    assert_ne!((second.id, &second.body), (first.id, &first.body));
    assert_eq!(bench.uploader.complete(first.id, ok()), Err(TaskError::NotUnderWay { id: first.id }));
    bench.uploader.complete(second.id, ok()).unwrap();
    let report = ticket.report().expect("the last answer ends the pass, whether or not the host asks again");
    assert_eq!((report.outcome, report.sent_records, report.attempts), (UploadOutcome::Complete, 21, 2));
    assert_eq!(bench.uploader.complete(second.id, ok()), Err(TaskError::NotUnderWay { id: second.id }));
    assert_eq!(bench.uploader.next_task(), Task::Done);
    assert!(bench.server.requests().is_empty(), "the uploader itself sends nothing");
}

#[test]
fn a_host_waits_as_the_built_in_transport_does() {
    let bench = bench([]);
    bench.source.push(&["{}\n"]);
    let _ticket = bench.uploader.upload("test", UploadOptions::default());
    let task = take(&bench);
    let busy =
        super::super::TaskResult::Answered { status: 503, retry_after: Some("9".into()), body: Vec::new() };
    bench.uploader.complete(task.id, busy).unwrap();
    assert_eq!(bench.uploader.next_task(), Task::Wait(Duration::from_secs(9)));
    bench.clock.advance(Duration::from_secs(4));
    assert_eq!(bench.uploader.next_task(), Task::Wait(Duration::from_secs(5)));
    bench.clock.advance(Duration::from_secs(5));
    let again = take(&bench);
    assert_eq!((&again.body, &again.headers), (&task.body, &task.headers));
}

#[test]
fn splitting_and_dropping_are_the_same_for_a_host() {
    let judge = |json: &[u8]| if String::from_utf8_lossy(json).contains("\"n\":37,") { 422 } else { 200 };
    let bench = bench([Reply::Judge(Box::new(judge))]);
    push_numbered(&bench.source, 100, 50);
    let report = bench.upload_as_host();
    assert_eq!(
        (report.outcome, report.sent_records, report.dropped_records),
        (UploadOutcome::Complete, 99, 1)
    );
    let bytes = payload(37, 50).len() as u64;
    assert_eq!(bench.source.drops(), [dropped(DropReason::Rejected, 37, 37, bytes)]);
}

#[test]
fn a_cancelled_pass_ends_at_once_and_its_task_is_void() {
    let bench = bench([]);
    bench.source.push(&["{}\n"]);
    let ticket = bench.uploader.upload("test", UploadOptions::default());
    let task = take(&bench);
    ticket.cancel();
    let report = ticket.report().expect("nobody has to come back for it");
    assert_eq!((report.outcome, report.attempts), (UploadOutcome::Cancelled, 1));
    assert_eq!(bench.uploader.complete(task.id, ok()), Err(TaskError::NotUnderWay { id: task.id }));
    assert_eq!((bench.uploader.next_task(), bench.source.pending()), (Task::Done, 1));

    let ticket = bench.uploader.upload("test", UploadOptions::default());
    take(&bench);
    bench.uploader.cancel();
    assert_eq!(ticket.report().map(|report| report.outcome), Some(UploadOutcome::Cancelled));
}

#[test]
fn dropping_the_uploader_ends_a_pass_that_the_host_drives() {
    let Bench { uploader, source, .. } = bench([]);
    source.push(&["{}\n"]);
    let ticket = uploader.upload("test", UploadOptions::default());
    assert!(matches!(uploader.next_task(), Task::Upload(_)));
    drop(uploader);
    assert_eq!(ticket.wait().outcome, UploadOutcome::Cancelled);
}

#[test]
fn the_host_is_called_when_there_is_work_and_while_paused_it_has_none() {
    let bench = bench([]);
    let (heard, calls) = mpsc::channel();
    bench.uploader.set_listener(move |event| heard.send(event).unwrap());
    bench.source.push(&["{}\n"]);
    bench.uploader.pause_uploads();
    let _ticket = bench.uploader.upload("test", UploadOptions::default());
    assert_eq!(bench.uploader.next_task(), Task::Done);
    bench.uploader.resume_uploads();
    assert_eq!(calls.recv().unwrap(), UploadEvent::WorkWaiting);
    let task = take(&bench);
    bench.uploader.complete(task.id, ok()).unwrap();
    assert!(matches!(calls.recv().unwrap(), UploadEvent::Ended(report) if report.sent_records == 1));
}

#[test]
fn a_new_listener_hears_of_work_that_waited_before_it() {
    let bench = bench([]);
    bench.source.push(&["{}\n"]);
    let _ticket = bench.uploader.upload("test", UploadOptions::default());
    for _ in 0..2 {
        let (heard, calls) = mpsc::channel();
        bench.uploader.set_listener(move |event| heard.send(event).unwrap_or_default());
        assert_eq!(calls.recv().unwrap(), UploadEvent::WorkWaiting);
    }
    // Also while a task is out that its worker may have forgotten.
    take(&bench);
    let (heard, calls) = mpsc::channel();
    bench.uploader.set_listener(move |event| heard.send(event).unwrap_or_default());
    assert_eq!(calls.recv().unwrap(), UploadEvent::WorkWaiting);
}

#[test]
fn who_asks_while_the_host_drives_a_pass_gets_the_next_one() {
    let bench = bench([]);
    bench.source.push(&["{}\n"]);
    let first = bench.uploader.upload("first", UploadOptions::default());
    let task = take(&bench);
    bench.source.push(&["{}\n"]);
    let second = bench.uploader.upload("second", UploadOptions::default());
    bench.uploader.complete(task.id, ok()).unwrap();
    assert_eq!((first.wait().sent_records, second.report()), (1, None));
    bench.uploader.complete(take(&bench).id, ok()).unwrap();
    assert_eq!(second.wait().sent_records, 2);
}
