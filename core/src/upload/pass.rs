//! One pass: everything that is pending at its start, oldest first, until it is delivered or the server says why not.
//!
//! Runs on the upload thread, inside a runtime that exists only meanwhile. Nothing is opened if nothing is pending.
//! Within a pass a request that failed in passing is repeated, as the same bytes under the same key; waits end at once
//! when the pass is cancelled. A segment is acknowledged when each of its records was confirmed or is in a drop
//! report, never before.

use std::{collections::VecDeque, future::Future, ops::Range, pin::Pin, time::Duration};

use tokio::sync::watch;

use super::{
    body::{Body, BodyBuilder, entries_in_next_body, halves},
    config::UploadConfig,
    http::{Answer, Transport},
    report::{Rejection, UploadOutcome, UploadProgress, UploadReport},
    source::{DroppedRange, Entry, ReadFailure, SegmentRef},
    uploader::UploadStream,
    verdict::{Verdict, backoff, retry_after},
};
use crate::{
    clock::Clock,
    store::{DropReason, RecordKind},
};

/// After so many failures the pass ends: who asked for it may try again, the battery decides otherwise.
const MAX_FAILURES: u32 = 5;
/// So many refusals of a segment's content are spent on finding the culprits, enough for about six among a thousand
/// records. Then what is still refused is dropped as a whole.
const MAX_REFUSALS: u32 = 64;
/// After so many segments in a row without a single accepted record, the server is wrong and not the records.
const MAX_REFUSED_SEGMENTS: u32 = 3;
/// A server that finds a body too large gets smaller ones for the rest of the pass, but not below this: it's about a
/// record then, not about the body.
const MIN_TARGET: usize = 512;

/// How a pass waits between repetitions.
pub(super) trait Pause: Send + Sync {
    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + '_>>;
}

/// Waits in real time.
pub(super) struct RealPause;

impl Pause for RealPause {
    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// What a pass works with.
pub(super) struct Context<'a> {
    pub(super) config: &'a UploadConfig,
    pub(super) streams: Vec<&'a UploadStream>,
    pub(super) clock: &'a dyn Clock,
    pub(super) pause: &'a dyn Pause,
    /// Becomes true when the pass is to end.
    pub(super) cancel: watch::Receiver<bool>,
    pub(super) progress: &'a dyn Fn(&UploadProgress),
}

/// Why no more is sent.
enum Stop {
    /// Of this stream; others may do better.
    Stream(UploadOutcome),
    /// At all.
    Pass(UploadOutcome),
}

/// Runs a pass to its end.
pub(super) fn run(context: &Context<'_>) -> UploadReport {
    let mut pass = Pass {
        context,
        report: UploadReport::empty(UploadOutcome::Complete),
        failed: None,
        total_records: 0,
        failures: 0,
        refused_segments: 0,
        target: context.config.limits.body_bytes,
        bodies: BodyBuilder::new(),
    };
    let pending = pass.seal();
    if pending.iter().all(|(_, segments)| segments.is_empty()) {
        pass.report.outcome = pass.failed.take().unwrap_or(UploadOutcome::NothingToSend);
        return pass.report;
    }
    let stopped = match setup(context.config) {
        Ok((runtime, transport)) => {
            let stopped = runtime.block_on(pass.send(&transport, pending));
            drop(transport);
            // A name resolution may hang for a minute; nobody waits for it.
            runtime.shutdown_background();
            stopped
        }
        Err(error) => Some(UploadOutcome::SetupFailed { error }),
    };
    if let Some(outcome) = stopped.or(pass.failed) {
        pass.report.outcome = outcome;
    }
    pass.report
}

fn setup(config: &UploadConfig) -> Result<(tokio::runtime::Runtime, Transport), String> {
    // One blocking thread: only name resolution uses it, one connection at a time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(1)
        .thread_name("tuntrail-resolve")
        .build()
        .map_err(|error| error.to_string())?;
    let transport = Transport::new(config)?;
    Ok((runtime, transport))
}

struct Pass<'a> {
    context: &'a Context<'a>,
    report: UploadReport,
    /// The first failure that ended a stream but not the pass.
    failed: Option<UploadOutcome>,
    total_records: u64,
    failures: u32,
    refused_segments: u32,
    /// How large bodies are to become, in bytes. Shrinks when the server finds them too large.
    target: usize,
    bodies: BodyBuilder,
}

/// What is left to do for one segment.
struct Work<'e> {
    entries: Vec<Entry<'e>>,
    ranges: VecDeque<Range<usize>>,
    given_up: Vec<(Range<usize>, DropReason)>,
    accepted: bool,
    refusals: u32,
}

impl<'a> Pass<'a> {
    /// What is pending now, per stream. It is all that this pass will send.
    fn seal(&mut self) -> Vec<(&'a UploadStream, Vec<SegmentRef>)> {
        let mut pending = Vec::new();
        for &stream in &self.context.streams {
            match stream.source.seal() {
                Ok(segments) => {
                    let records: u64 = segments.iter().map(|segment| u64::from(segment.records)).sum();
                    self.total_records += records;
                    self.report.remaining_records += records;
                    pending.push((stream, segments));
                }
                Err(error) => self.store_failed(stream, error),
            }
        }
        pending
    }

    /// Sends everything. Returns the outcome if the pass had to stop early.
    async fn send(
        &mut self,
        transport: &Transport,
        pending: Vec<(&'a UploadStream, Vec<SegmentRef>)>,
    ) -> Option<UploadOutcome> {
        for (stream, segments) in pending {
            self.refused_segments = 0;
            for segment in segments {
                match self.send_segment(transport, stream, &segment).await {
                    Ok(()) => {}
                    Err(Stop::Stream(outcome)) => {
                        self.failed.get_or_insert(outcome);
                        break;
                    }
                    Err(Stop::Pass(outcome)) => return Some(outcome),
                }
            }
        }
        None
    }

    async fn send_segment(
        &mut self,
        transport: &Transport,
        stream: &UploadStream,
        segment: &SegmentRef,
    ) -> Result<(), Stop> {
        let records = u64::from(segment.records);
        let data = match stream.source.read(segment) {
            Ok(data) => data,
            Err(ReadFailure::Gone) => {
                self.total_records = self.total_records.saturating_sub(records);
                self.settled(records);
                return Ok(());
            }
            Err(ReadFailure::Corrupt(error)) => {
                tracing::warn!(stream = stream.source.name(), error, "a segment is unreadable and dropped");
                let done = stream.source.discard_corrupt(segment);
                done.map_err(|error| Stop::Stream(store_failure(stream, error)))?;
                self.report.dropped_records += records;
                self.settled(records);
                return Ok(());
            }
            Err(ReadFailure::Unavailable(error)) => {
                // One file must not hold up those behind it.
                self.store_failed(stream, error);
                return Ok(());
            }
        };
        let entries = data.entries();
        let mut work = Work {
            ranges: std::iter::once(0..entries.len()).collect(),
            entries,
            given_up: Vec::new(),
            accepted: false,
            refusals: 0,
        };
        while let Some(range) = work.ranges.pop_front() {
            self.send_next_body(transport, stream, segment, &mut work, range).await?;
        }
        self.report_given_up(stream, segment, &work);
        let done = stream.source.acknowledge(segment);
        done.map_err(|error| Stop::Stream(store_failure(stream, error)))?;
        self.settled(records);
        self.judge_server(stream, &work)
    }

    /// Sends the first body of `range` and puts what is left of it back in front.
    async fn send_next_body(
        &mut self,
        transport: &Transport,
        stream: &UploadStream,
        segment: &SegmentRef,
        work: &mut Work<'_>,
        range: Range<usize>,
    ) -> Result<(), Stop> {
        let rest = work.entries.get(range.clone()).unwrap_or_default();
        let count = entries_in_next_body(rest, self.target);
        let Some(entries) = rest.get(..count).filter(|entries| !entries.is_empty()) else { return Ok(()) };
        let sent = range.start..range.start + count;
        if sent.end < range.end {
            work.ranges.push_front(sent.end..range.end);
        }
        let body = self.bodies.build(entries);
        let (raw_len, wire_len) = (body.raw_len, body.bytes.len());
        let key = idempotency_key(stream.source.name(), segment, entries);
        let (verdict, status, message) = self.post(transport, stream, body, &key).await?;
        match verdict {
            Verdict::Delivered => {
                work.accepted = true;
                self.report.sent_bodies += 1;
                self.report.sent_records += entries.len() as u64;
                self.report.sent_bytes += wire_len as u64;
                self.report.raw_bytes += raw_len as u64;
                self.tell_progress(stream);
            }
            Verdict::TooLarge => {
                self.target = (raw_len / 2).clamp(MIN_TARGET, self.target.max(MIN_TARGET));
                self.refuse(work, sent, DropReason::TooLarge, Rejection { status, message });
            }
            Verdict::Rejected => self.refuse(work, sent, DropReason::Rejected, Rejection { status, message }),
            Verdict::Unauthorized => {
                let stream = stream.source.name().to_owned();
                return Err(Stop::Stream(UploadOutcome::Unauthorized { stream, status, message }));
            }
            Verdict::WrongEndpoint | Verdict::Transient => {
                return Err(Stop::Stream(rejected(stream, status, message)));
            }
        }
        Ok(())
    }

    /// Sends one request, and again while it fails in passing. Never returns [`Verdict::Transient`].
    async fn post(
        &mut self,
        transport: &Transport,
        stream: &UploadStream,
        body: Body,
        key: &str,
    ) -> Result<(Verdict, u16, String), Stop> {
        let url = self.context.config.stream_url(&stream.collection, &stream.id, stream.copy_to.as_ref());
        let setup_failed = |error| Stop::Pass(UploadOutcome::SetupFailed { error });
        let request = transport.request(url, body, key).map_err(setup_failed)?;
        loop {
            let repetition = request.try_clone();
            let repetition =
                repetition.ok_or_else(|| setup_failed("a request can't be repeated".to_owned()))?;
            self.report.attempts += 1;
            let failure = match self.unless_cancelled(transport.send(repetition)).await? {
                Answer::Status { status, retry_after: header, message } => {
                    let verdict = Verdict::of_status(status);
                    if verdict != Verdict::Transient {
                        return Ok((verdict, status, message));
                    }
                    let asked = header.and_then(|header| retry_after(&header, self.context.clock.wall()));
                    Failure::Status { status, asked }
                }
                Answer::Failed(error) => Failure::Transport(error),
            };
            tracing::debug!(stream = stream.source.name(), ?failure, "an upload request failed");
            let wait = self.wait_after(failure).map_err(Stop::Pass)?;
            self.unless_cancelled(self.context.pause.pause(wait)).await?;
        }
    }

    /// How long to wait before the repetition, or why there is none.
    fn wait_after(&mut self, failure: Failure) -> Result<Duration, UploadOutcome> {
        self.failures += 1;
        let own = backoff(self.failures, random());
        let asked = if let Failure::Status { asked, .. } = failure { asked } else { None };
        let longest = self.context.config.max_wait;
        if self.failures < MAX_FAILURES && asked.is_none_or(|asked| asked <= longest) {
            // A wait of our own choice fits what the pass may take; one that the server asked for is kept.
            return Ok(asked.unwrap_or(own.min(longest)));
        }
        Err(match failure {
            Failure::Status { status, asked } => {
                UploadOutcome::RetryLater { after: asked.unwrap_or(own), status }
            }
            Failure::Transport(error) => UploadOutcome::Unreachable { error },
        })
    }

    /// The server refused `range`: it goes in halves, or is given up.
    fn refuse(&mut self, work: &mut Work<'_>, range: Range<usize>, reason: DropReason, rejection: Rejection) {
        work.refusals += 1;
        if work.refusals <= MAX_REFUSALS
            && let Some((first, second)) = halves(&range)
        {
            work.ranges.push_front(second);
            work.ranges.push_front(first);
            return;
        }
        self.report.rejection = Some(rejection);
        work.given_up.push((range, reason));
    }

    /// Puts what the server would not have into drop reports. Reports among it are made again: the record of a loss
    /// must not be lost itself.
    fn report_given_up(&mut self, stream: &UploadStream, segment: &SegmentRef, work: &Work<'_>) {
        for (range, reason) in &work.given_up {
            let entries = work.entries.get(range.clone()).unwrap_or_default();
            for meta in entries.iter().filter(|entry| entry.kind == RecordKind::Meta) {
                stream.source.repeat_reports(meta.payload);
            }
            if let Some(dropped) = DroppedRange::of(entries, *reason, segment.id.proc_id) {
                stream.source.report_drop(&dropped);
                self.report.dropped_records += dropped.records;
            }
        }
    }

    /// Stops a stream whose server refuses everything: that is no matter of single records, and dropping more would
    /// only lose them. What was refused until then is dropped, so that records which are really at fault can't block
    /// the stream for ever.
    fn judge_server(&mut self, stream: &UploadStream, work: &Work<'_>) -> Result<(), Stop> {
        self.refused_segments =
            if work.accepted || work.refusals == 0 { 0 } else { self.refused_segments + 1 };
        if self.refused_segments < MAX_REFUSED_SEGMENTS {
            return Ok(());
        }
        let Rejection { status, message } =
            self.report.rejection.clone().unwrap_or(Rejection { status: 0, message: String::new() });
        Err(Stop::Stream(rejected(stream, status, message)))
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut cancel = self.context.cancel.clone();
        tokio::select! {
            biased;
            _ = cancel.wait_for(|&cancelled| cancelled) => Err(Stop::Pass(UploadOutcome::Cancelled)),
            result = work => Ok(result),
        }
    }

    /// `records` of the store need no further care.
    fn settled(&mut self, records: u64) {
        self.report.remaining_records = self.report.remaining_records.saturating_sub(records);
    }

    fn tell_progress(&self, stream: &UploadStream) {
        (self.context.progress)(&UploadProgress {
            stream: stream.source.name().to_owned(),
            sent_records: self.report.sent_records,
            total_records: self.total_records,
            sent_bytes: self.report.sent_bytes,
        });
    }

    fn store_failed(&mut self, stream: &UploadStream, error: String) {
        self.failed.get_or_insert(store_failure(stream, error));
    }
}

/// A request that may do better next time.
#[derive(Debug)]
enum Failure {
    Status { status: u16, asked: Option<Duration> },
    Transport(String),
}

fn store_failure(stream: &UploadStream, error: String) -> UploadOutcome {
    UploadOutcome::StoreFailed { stream: stream.source.name().to_owned(), error }
}

fn rejected(stream: &UploadStream, status: u16, message: String) -> UploadOutcome {
    UploadOutcome::Rejected { stream: stream.source.name().to_owned(), status, message }
}

/// Names the content of a request: the same records always have the same key, also after a restart. The numbers are
/// those of the first and the last record in it.
fn idempotency_key(stream: &str, segment: &SegmentRef, entries: &[Entry<'_>]) -> String {
    let seq = |entry: Option<&Entry<'_>>| entry.map_or(0, |entry| entry.ids.proc_seq);
    format!("{stream}-{}-{}-{}", segment.id, seq(entries.first()), seq(entries.last()))
}

/// Uniformly distributed. Without a random number the longest wait is the safe one.
fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}
