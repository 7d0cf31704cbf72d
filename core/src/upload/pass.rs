//! One pass: everything that is pending at its start, oldest first, until it is delivered or the server says why not.
//!
//! A state machine without a network and without a clock: it [names](Pass::next) the next request or the time to wait
//! for, and is [told](Pass::answer) what came of it. The built-in transport and the host's drive the same machine, so that
//! there is one place for the rules. It does read and acknowledge segments of the store, on the thread of whoever
//! drives it.
//!
//! Within a pass a request that failed in passing is repeated, as the same bytes under the same key. A segment is
//! acknowledged when each of its records was confirmed or is in a drop report, never before.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    config::UploadConfig,
    http::{Answer, Outgoing},
    policy::Refusal,
    report::{Rejection, UploadOutcome, UploadProgress, UploadReport},
    source::{ReadFailure, SegmentData, SegmentRef},
    uploader::UploadStream,
    verdict::{Verdict, backoff, retry_after},
    work::Work,
};
use crate::{clock::Instant, sockstat::SocketCounter, store::DropReason};

/// After so many failures the pass ends: who asked for it may try again, the battery decides otherwise.
const MAX_FAILURES: u32 = 5;
/// After so many segments in a row without a single accepted record, the server is wrong and not the records.
const MAX_REFUSED_SEGMENTS: u32 = 3;
/// A server that finds a body too large gets smaller ones for the rest of the pass, but not below this: it's about a
/// record then, not about the body.
const MIN_TARGET: usize = 512;

/// What a pass works with, the same for all of its steps.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    pub(super) config: &'a UploadConfig,
    pub(super) streams: &'a [UploadStream],
}

/// When an answer came, and what its judgement needs of chance.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
    /// Uniformly distributed.
    pub(super) random: u64,
}

/// What a pass wants.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this, and tell what came of it. Asked again before that, it is the same.
    Send(Arc<Outgoing>),
    /// Ask again then.
    Wait(Instant),
    /// It has ended.
    Done,
}

/// Why no more is sent.
enum Stop {
    /// Of this stream; others may do better.
    Stream(UploadOutcome),
    /// At all.
    Pass(UploadOutcome),
}

/// A request that may do better next time.
#[derive(Debug)]
enum Failure {
    Status { status: u16, asked: Option<Duration> },
    Transport(String),
}

/// What is left of a pass.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) report: UploadReport,
    /// Streams that took part, by position.
    pub(super) streams: Vec<usize>,
    /// Those that the server would not have.
    pub(super) refused: Vec<(usize, Refusal)>,
    pub(super) wire_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Pass {
    streams: Vec<usize>,
    /// What is to be sent, per stream. It is all that this pass will send.
    plan: VecDeque<Plan>,
    /// The segment being sent, of the first stream of the plan.
    work: Option<Work>,
    flight: Option<Flight>,
    wait_until: Option<Instant>,
    report: UploadReport,
    /// The first failure that ended a stream but not the pass.
    failed: Option<UploadOutcome>,
    /// How it ended, once it has.
    ended: Option<UploadOutcome>,
    refused: Vec<(usize, Refusal)>,
    total_records: u64,
    failures: u32,
    refused_segments: u32,
    /// How large bodies are to become, in bytes. Shrinks when the server finds them too large.
    target: usize,
    wire_bytes: u64,
    wire_limit: Option<u64>,
}

#[derive(Debug)]
struct Plan {
    index: usize,
    segments: VecDeque<SegmentRef>,
}

/// A request whose answer is waited for, or that is to be repeated.
#[derive(Debug)]
struct Flight {
    outgoing: Arc<Outgoing>,
    range: Range<usize>,
    raw_len: usize,
    counter: Option<SocketCounter>,
}

impl Flight {
    /// The bytes of the request that was made. Tells the socket statistics, too.
    fn count(&self) -> u64 {
        let bytes = self.outgoing.body.len() as u64;
        if let Some(counter) = &self.counter {
            counter.add_tx(bytes);
        }
        bytes
    }
}

impl Pass {
    /// Closes the segments being written of the streams at these positions. What is closed now is what the pass sends,
    /// at most about `wire_limit` bytes of requests.
    pub(super) fn begin(env: &Env<'_>, streams: &[usize], wire_limit: Option<u64>) -> Self {
        let mut pass = Self {
            streams: streams.to_vec(),
            plan: VecDeque::new(),
            work: None,
            flight: None,
            wait_until: None,
            report: UploadReport::empty(UploadOutcome::Complete),
            failed: None,
            ended: None,
            refused: Vec::new(),
            total_records: 0,
            failures: 0,
            refused_segments: 0,
            target: env.config.limits.body_bytes,
            wire_bytes: 0,
            wire_limit,
        };
        for &index in streams {
            let Some(stream) = env.streams.get(index) else { continue };
            match stream.source.seal() {
                Ok(segments) => {
                    pass.total_records += records(&segments);
                    pass.plan.push_back(Plan { index, segments: segments.into() });
                }
                Err(error) => pass.store_failed(stream, error),
            }
        }
        pass.report.remaining_records = pass.total_records;
        if pass.total_records == 0 && pass.plan.iter().all(|plan| plan.segments.is_empty()) {
            pass.ended = Some(pass.failed.take().unwrap_or(UploadOutcome::NothingToSend));
        }
        pass
    }

    /// What the pass wants now. Reads a segment of the store if it takes that to make a request.
    pub(super) fn next(&mut self, env: &Env<'_>, now: Instant) -> Next {
        while self.ended.is_none() {
            if let Some(until) = self.wait_until.filter(|&until| now < until) {
                return Next::Wait(until);
            }
            self.wait_until = None;
            if self.wire_limit.is_some_and(|limit| self.wire_bytes >= limit) {
                self.stop(Stop::Pass(UploadOutcome::BudgetSpent));
            } else if let Some(flight) = &self.flight {
                return Next::Send(Arc::clone(&flight.outgoing));
            } else if let Err(stop) = self.prepare(env) {
                self.stop(stop);
            }
        }
        Next::Done
    }

    /// What came of the request that [`Self::next`] wanted. Says how far the pass is if it got further.
    pub(super) fn answer(&mut self, env: &Env<'_>, answer: Answer, at: At) -> Option<UploadProgress> {
        let flight = self.flight.take()?;
        let stream = self.plan.front().and_then(|plan| env.streams.get(plan.index))?;
        self.report.attempts += 1;
        self.wire_bytes += flight.count();
        let sent = self.report.sent_bodies;
        if let Err(stop) = self.judge(env, stream, flight, answer, at) {
            self.stop(stop);
        }
        (self.report.sent_bodies > sent).then(|| UploadProgress {
            stream: stream.source.name().to_owned(),
            sent_records: self.report.sent_records,
            total_records: self.total_records,
            sent_bytes: self.report.sent_bytes,
        })
    }

    /// Nothing is left to be done.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Ends the pass: with `outcome`, if it has not ended by itself. `broken_off`: the request it wanted was begun.
    pub(super) fn end(mut self, outcome: Option<UploadOutcome>, broken_off: bool) -> Ended {
        if broken_off && let Some(flight) = &self.flight {
            self.report.attempts += 1;
            self.wire_bytes += flight.count();
        }
        if let Some(outcome) = self.ended.or(outcome) {
            self.report.outcome = outcome;
        }
        let Self { report, streams, refused, wire_bytes, .. } = self;
        Ended { report, streams, refused, wire_bytes }
    }

    /// One step towards the next request.
    fn prepare(&mut self, env: &Env<'_>) -> Result<(), Stop> {
        let Some(plan) = self.plan.front_mut() else {
            self.ended = Some(self.failed.take().unwrap_or(UploadOutcome::Complete));
            return Ok(());
        };
        let Some(stream) = env.streams.get(plan.index) else {
            self.plan.pop_front();
            return Ok(());
        };
        let Some(mut work) = self.work.take().or_else(|| plan.segments.pop_front().map(Work::new)) else {
            self.plan.pop_front();
            self.refused_segments = 0;
            return Ok(());
        };
        let Some(data) = self.load(stream, &work.segment)? else { return Ok(()) };
        let Some(part) = work.next_part(data, self.target) else { return self.settle(stream, work) };
        // The same records always have the same key, also after a restart.
        let key = format!("{}-{}-{}-{}", stream.source.name(), work.segment.id, part.seqs.0, part.seqs.1);
        let url = env.config.stream_url(&stream.collection, &stream.id, stream.copy_to.as_ref());
        let raw_len = part.body.raw_len;
        let outgoing = Outgoing::new(env.config, url, part.body, &key);
        let outgoing = outgoing.map_err(|error| Stop::Pass(UploadOutcome::SetupFailed { error }))?;
        self.flight = Some(Flight {
            outgoing: Arc::new(outgoing),
            range: part.range,
            raw_len,
            counter: stream.counter.clone(),
        });
        self.work = Some(work);
        Ok(())
    }

    /// The contents of a segment, or `None` if it can't be read and is passed over.
    fn load(
        &mut self,
        stream: &UploadStream,
        segment: &SegmentRef,
    ) -> Result<Option<Arc<dyn SegmentData>>, Stop> {
        let records = u64::from(segment.records);
        match stream.source.read(segment) {
            Ok(data) => return Ok(Some(data)),
            Err(ReadFailure::Gone) => {
                self.total_records = self.total_records.saturating_sub(records);
                self.settled(records);
            }
            Err(ReadFailure::Corrupt(error)) => {
                tracing::warn!(stream = stream.source.name(), error, "a segment is unreadable and dropped");
                let done = stream.source.discard_corrupt(segment);
                done.map_err(|error| Stop::Stream(store_failure(stream, error)))?;
                self.report.dropped_records += records;
                self.settled(records);
            }
            // One file must not hold up those behind it.
            Err(ReadFailure::Unavailable(error)) => self.store_failed(stream, error),
        }
        Ok(None)
    }

    fn judge(
        &mut self,
        env: &Env<'_>,
        stream: &UploadStream,
        flight: Flight,
        answer: Answer,
        at: At,
    ) -> Result<(), Stop> {
        let (status, header, message) = match answer {
            Answer::Status { status, retry_after, message, .. } => (status, retry_after, message),
            Answer::Failed(error) => return self.repeat(env, flight, Failure::Transport(error), at),
        };
        let Some(mut work) = self.work.take() else { return Ok(()) };
        let refusal = match Verdict::of_status(status) {
            Verdict::Delivered => {
                let report = &mut self.report;
                report.sent_bodies += 1;
                report.sent_records += flight.range.len() as u64;
                report.sent_bytes += flight.outgoing.body.len() as u64;
                report.raw_bytes += flight.raw_len as u64;
                work.accept();
                return self.go_on(stream, work);
            }
            Verdict::Transient => {
                let asked = header.and_then(|header| retry_after(&header, at.wall));
                self.work = Some(work);
                return self.repeat(env, flight, Failure::Status { status, asked }, at);
            }
            Verdict::Unauthorized => {
                let stream = stream.source.name().to_owned();
                return Err(Stop::Stream(UploadOutcome::Unauthorized { stream, status, message }));
            }
            Verdict::WrongEndpoint => return Err(Stop::Stream(rejected(stream, status, message))),
            Verdict::TooLarge => {
                self.target = (flight.raw_len / 2).clamp(MIN_TARGET, self.target.max(MIN_TARGET));
                DropReason::TooLarge
            }
            Verdict::Rejected => DropReason::Rejected,
        };
        if work.refuse(flight.range, refusal) {
            self.report.rejection = Some(Rejection { status, message });
        }
        self.go_on(stream, work)
    }

    /// The segment as it is after an answer: settled, or to be sent further.
    fn go_on(&mut self, stream: &UploadStream, work: Work) -> Result<(), Stop> {
        if !work.is_done() {
            self.work = Some(work);
            return Ok(());
        }
        self.settle(stream, work)?;
        // Nobody may ask again after the last answer, so the end is noticed here.
        while self.plan.front().is_some_and(|plan| plan.segments.is_empty()) {
            self.plan.pop_front();
            self.refused_segments = 0;
        }
        if self.plan.is_empty() {
            self.ended = Some(self.failed.take().unwrap_or(UploadOutcome::Complete));
        }
        Ok(())
    }

    /// Every record of the segment has its answer: it leaves the store.
    fn settle(&mut self, stream: &UploadStream, work: Work) -> Result<(), Stop> {
        let store_failed = |error| Stop::Stream(store_failure(stream, error));
        let reported = work.report_given_up(stream).map_err(|failure| store_failed(failure.to_string()))?;
        self.report.dropped_records += reported;
        stream.source.acknowledge(&work.segment).map_err(store_failed)?;
        self.settled(u64::from(work.segment.records));
        // Stops a stream whose server refuses everything: that is no matter of single records, and dropping more would
        // only lose them. What was refused until then is dropped, so that records which are really at fault can't
        // block the stream for ever.
        self.refused_segments = if work.is_refused_altogether() { self.refused_segments + 1 } else { 0 };
        if self.refused_segments < MAX_REFUSED_SEGMENTS {
            return Ok(());
        }
        let Rejection { status, message } =
            self.report.rejection.clone().unwrap_or(Rejection { status: 0, message: String::new() });
        Err(Stop::Stream(rejected(stream, status, message)))
    }

    /// The request goes once more, after a while, or the pass ends.
    fn repeat(&mut self, env: &Env<'_>, flight: Flight, failure: Failure, at: At) -> Result<(), Stop> {
        tracing::debug!(?failure, "an upload request failed");
        self.failures += 1;
        let own = backoff(self.failures, at.random);
        let asked = if let Failure::Status { asked, .. } = failure { asked } else { None };
        let longest = env.config.max_wait;
        if self.failures < MAX_FAILURES && asked.is_none_or(|asked| asked <= longest) {
            // A wait of our own choice fits what the pass may take; one that the server asked for is kept.
            self.wait_until = Some(at.now + asked.unwrap_or(own.min(longest)));
            self.flight = Some(flight);
            return Ok(());
        }
        Err(Stop::Pass(match failure {
            Failure::Status { status, asked } => {
                UploadOutcome::RetryLater { after: asked.unwrap_or(own), status }
            }
            Failure::Transport(error) => UploadOutcome::Unreachable { error },
        }))
    }

    fn stop(&mut self, stop: Stop) {
        self.work = None;
        self.flight = None;
        match stop {
            Stop::Pass(outcome) => self.ended = Some(outcome),
            Stop::Stream(outcome) => {
                if let Some(plan) = self.plan.pop_front() {
                    let refusal = match outcome {
                        UploadOutcome::Unauthorized { .. } => Some(Refusal::Credentials),
                        UploadOutcome::Rejected { .. } => Some(Refusal::Endpoint),
                        _ => None,
                    };
                    self.refused.extend(refusal.map(|refusal| (plan.index, refusal)));
                }
                self.refused_segments = 0;
                self.failed.get_or_insert(outcome);
                if self.plan.iter().all(|plan| plan.segments.is_empty()) {
                    self.ended = self.failed.take();
                }
            }
        }
    }

    /// `records` of the store need no further care.
    fn settled(&mut self, records: u64) {
        self.report.remaining_records = self.report.remaining_records.saturating_sub(records);
    }

    fn store_failed(&mut self, stream: &UploadStream, error: String) {
        self.failed.get_or_insert(store_failure(stream, error));
    }
}

/// How many records are pending in the streams at these positions.
pub(super) fn pending_records(env: &Env<'_>, streams: &[usize]) -> u64 {
    let sealed = |&index: &usize| env.streams.get(index)?.source.seal().ok();
    streams.iter().filter_map(sealed).map(|segments| records(&segments)).sum()
}

fn records(segments: &[SegmentRef]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.records)).sum()
}

fn store_failure(stream: &UploadStream, error: String) -> UploadOutcome {
    UploadOutcome::StoreFailed { stream: stream.source.name().to_owned(), error }
}

fn rejected(stream: &UploadStream, status: u16, message: String) -> UploadOutcome {
    UploadOutcome::Rejected { stream: stream.source.name().to_owned(), status, message }
}
