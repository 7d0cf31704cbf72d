//! Socket statistics in the client: who switches them on, for how long, and how that outlives the process.
//!
//! The time that is left is in a file, `sockstats-<role>`, from which the next start goes on. Wall clocks step, so the file
//! has both when it was written and how much was left then: a step forward may end the recording early, and one back never
//! makes it longer than what was left.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::{
    Client, ClientConfig, ClientError, SocketStats, State, recording::Recording, streams::StreamKind,
};
use crate::{
    clock::SharedClock,
    files::{Survive, read_small, remove, replace},
    sockstat::{EventSink, SocketCounters, SocketStatsLogger, SocketStatsOptions, SocketStatsTotals},
    upload::{UploadOptions, Uploader},
};

/// Larger than any version of the file.
const MAX_LEN: u64 = 1024;
/// How long after its end a recording is still uploaded because it was asked for: as long as an upload that a kill ended.
const MAX_LATE: Duration = Duration::from_secs(24 * 60 * 60);
const VERSION: u32 = 1;

/// What happens when the time of a recording is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtEnd {
    /// Its events wait on disk until somebody asks for an upload.
    #[default]
    Keep,
    /// Its events are uploaded: asking for the recording was asking for them, too. If the process does not run at the end, the next
    /// start within 24 hours of it does so.
    Upload,
}

/// Makes the sink of one recording.
pub(super) type SinkMaker = Box<dyn Fn() -> EventSink + Send>;

/// The part of a [`Recording`] that comes and goes.
pub(super) struct SocketRecording {
    counters: SocketCounters,
    sink: SinkMaker,
    logger: Option<SocketStatsLogger>,
}

impl SocketRecording {
    pub(super) fn new(counters: &SocketCounters, sink: SinkMaker) -> Self {
        Self { counters: counters.clone(), sink, logger: None }
    }

    /// Every event so far, and one of what has not caused any, is in the store's queue afterwards.
    pub(super) fn flush(&self) {
        if let Some(logger) = &self.logger {
            logger.flush();
        }
    }

    pub(super) fn stop(&self) {
        if let Some(logger) = &self.logger {
            logger.stop();
        }
    }

    /// What was recorded, also by a recording that is over.
    pub(super) fn totals(&self) -> Option<SocketStatsTotals> {
        self.logger.as_ref().map(SocketStatsLogger::totals)
    }

    /// What is being recorded.
    pub(super) fn running_totals(&self) -> Option<SocketStatsTotals> {
        self.logger.as_ref().filter(|logger| logger.is_recording()).map(SocketStatsLogger::totals)
    }

    fn start(&mut self, options: SocketStatsOptions, clock: SharedClock) -> Result<(), ClientError> {
        // The one before has to give the counters back first.
        self.logger = None;
        self.logger = Some(SocketStatsLogger::start(&self.counters, options, clock, (self.sink)())?);
        Ok(())
    }
}

impl Client {
    /// Records for `duration` how many bytes each of the app's jobs moves, see [`sockstat`](crate::sockstat); then stops by
    /// itself and does what `at_end` says. Goes on after a restart of the process, for what is left of the time. A recording
    /// that runs already is replaced, and one of no time is none. Writes a small file.
    ///
    /// # Errors
    /// Without consent, when the configuration says [`SocketStats::Always`], and when file or thread can't be made.
    pub fn enable_socket_stats(&self, duration: Duration, at_end: AtEnd) -> Result<(), ClientError> {
        enable(&self.config, &mut *self.lock()?, duration, at_end)
    }

    /// Stops recording socket statistics. What was recorded waits on disk. Harmless when nothing is recorded.
    ///
    /// # Errors
    /// When the configuration says [`SocketStats::Always`], and when the file can't be removed.
    pub fn disable_socket_stats(&self) -> Result<(), ClientError> {
        disable(&self.config, &mut *self.lock()?)
    }

    /// What counts the app's sockets: counters to add to, sockets to register, and the kind of network in use. Valid as long
    /// as the client, whatever is recorded; counts only while socket statistics are.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn socket_counters(&self) -> Result<SocketCounters, ClientError> {
        Ok(self.lock()?.sockets.clone())
    }
}

/// See [`Client::enable_socket_stats`].
pub(super) fn enable(
    config: &ClientConfig,
    state: &mut State,
    duration: Duration,
    at_end: AtEnd,
) -> Result<(), ClientError> {
    if duration.is_zero() {
        return disable(config, state);
    }
    let consent = state.consent;
    let recording = state.recording.as_mut().ok_or(ClientError::NoConsent(consent))?;
    if config.socket_stats == SocketStats::Always {
        return Err(ClientError::SocketStatsAlways);
    }
    info!(seconds = duration.as_secs(), ?at_end, "socket statistics on");
    record_for(config, recording, duration, at_end)
}

fn disable(config: &ClientConfig, state: &mut State) -> Result<(), ClientError> {
    if config.socket_stats == SocketStats::Always {
        return Err(ClientError::SocketStatsAlways);
    }
    if let Some(recording) = &mut state.recording {
        recording.sockets.logger = None;
    }
    Ok(forget(config)?)
}

/// Goes on with what an earlier run began, or begins what the configuration says. What fails here must not keep flows from being
/// recorded, nor the tunnel from starting.
pub(super) fn resume(config: &ClientConfig, recording: &mut Recording) {
    let resumed = match config.socket_stats {
        SocketStats::Always => {
            recording.sockets.start(SocketStatsOptions::default(), SharedClock::clone(&config.clock))
        }
        SocketStats::OnDemand => resume_period(config, recording),
    };
    if let Err(error) = resumed {
        warn!("socket statistics don't go on");
        // A path may name the user.
        debug!(%error, "resuming socket statistics failed");
    }
}

fn resume_period(config: &ClientConfig, recording: &mut Recording) -> Result<(), ClientError> {
    let Some(bytes) = read_small(&path(config), MAX_LEN)? else { return Ok(()) };
    let period = serde_json::from_slice::<Period>(&bytes).ok().filter(|period| period.version == VERSION);
    let wall = config.clock.wall();
    match period.map(|period| (period, period.left(wall))) {
        Some((period, Some(left))) => {
            debug!(seconds = left.as_secs(), "socket statistics go on");
            if let Err(error) = write(config, left, period.at_end) {
                // The old one is nearly as good: only a wall clock that is set back makes the time longer.
                debug!(%error, "can't rewrite the file of a recording");
            }
            record_until_end(config, recording, left, period.at_end)
        }
        Some((period, None)) => {
            if period.at_end == AtEnd::Upload && period.ended_within(MAX_LATE, wall) {
                upload(recording.uploader());
            }
            Ok(forget(config)?)
        }
        // Not understood: off is the default.
        None => Ok(forget(config)?),
    }
}

/// Sends what a recording that is over has made. Goes on without us; its result is in our own log.
fn upload(uploader: &Uploader) {
    let streams = Some(vec![StreamKind::Sockets.stream_name().to_owned()]);
    let _ = uploader.upload("end of socket statistics", UploadOptions { streams, progress: None });
}

/// Forgets that there is a recording to go on with.
pub(super) fn forget(config: &ClientConfig) -> io::Result<()> {
    remove(&path(config))
}

fn record_for(
    config: &ClientConfig,
    recording: &mut Recording,
    duration: Duration,
    at_end: AtEnd,
) -> Result<(), ClientError> {
    // The end of the one before would remove the file.
    recording.sockets.stop();
    write(config, duration, at_end)?;
    record_until_end(config, recording, duration, at_end)
}

fn write(config: &ClientConfig, left: Duration, at_end: AtEnd) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(&Period::new(config.clock.wall(), left, at_end))?;
    bytes.push(b'\n');
    replace(&path(config), &bytes, Survive::Kill)
}

fn record_until_end(
    config: &ClientConfig,
    recording: &mut Recording,
    duration: Duration,
    at_end: AtEnd,
) -> Result<(), ClientError> {
    let (file, uploader) = (path(config), Arc::clone(recording.uploader()));
    let on_end = Box::new(move || {
        if let Err(error) = remove(&file) {
            // The next start sees that the time is over.
            warn!(%error, "can't remove the file of a recording that is over");
        }
        info!("socket statistics off: their time is over");
        if at_end == AtEnd::Upload {
            upload(&uploader);
        }
    });
    let options = SocketStatsOptions { duration: Some(duration), on_end: Some(on_end) };
    recording.sockets.start(options, SharedClock::clone(&config.clock))
}

fn path(config: &ClientConfig) -> PathBuf {
    config.directory.join(format!("sockstats-{}", config.role.as_str()))
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Period {
    version: u32,
    /// Wall-clock time, in milliseconds since the epoch.
    written_ms: i64,
    /// What was left then, in milliseconds.
    left_ms: i64,
    at_end: AtEnd,
}

impl Period {
    fn new(wall: Timestamp, left: Duration, at_end: AtEnd) -> Self {
        let left_ms = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
        Self { version: VERSION, written_ms: wall.as_millisecond(), left_ms, at_end }
    }

    /// What is left at `wall`; `None` if nothing.
    fn left(&self, wall: Timestamp) -> Option<Duration> {
        let passed = wall.as_millisecond().saturating_sub(self.written_ms).max(0);
        let left = u64::try_from(self.left_ms.saturating_sub(passed)).ok()?;
        (left > 0).then_some(Duration::from_millis(left))
    }

    /// Whether it ended, and not longer ago than that.
    fn ended_within(&self, late: Duration, wall: Timestamp) -> bool {
        let passed = wall.as_millisecond().saturating_sub(self.written_ms);
        let ago = u64::try_from(passed.saturating_sub(self.left_ms)).ok();
        self.left_ms >= 0 && ago.is_some_and(|ago| Duration::from_millis(ago) <= late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_left_shrinks_with_the_clock_and_never_grows_with_it() {
        let hour = Duration::from_secs(3600);
        let period = Period::new(time("2026-01-02T03:00:00Z"), hour, AtEnd::Keep);
        for (wall, left) in [
            ("2026-01-02T03:00:00Z", Some(hour)),
            ("2026-01-02T03:59:59Z", Some(Duration::from_secs(1))),
            ("2026-01-02T04:00:00Z", None),
            ("2036-01-02T04:00:00Z", None),
            ("2016-01-02T04:00:00Z", Some(hour)),
        ] {
            assert_eq!(period.left(time(wall)), left, "{wall}");
        }
    }

    #[test]
    fn a_recording_that_ended_without_us_is_uploaded_for_a_day() {
        let period = Period::new(time("2026-01-02T03:00:00Z"), Duration::from_secs(3600), AtEnd::Upload);
        for (wall, expected) in [
            ("2026-01-02T03:59:59Z", false),
            ("2026-01-02T04:00:00Z", true),
            ("2026-01-03T04:00:00Z", true),
            ("2026-01-03T04:00:01Z", false),
            ("2016-01-02T04:00:00Z", false),
        ] {
            assert_eq!(period.ended_within(MAX_LATE, time(wall)), expected, "{wall}");
        }
        let impossible = Period { written_ms: i64::MIN, left_ms: i64::MIN, ..period };
        assert!(!impossible.ended_within(MAX_LATE, time("2026-01-02T03:00:00Z")));
    }

    #[test]
    fn a_file_with_impossible_numbers_ends_the_recording() {
        for (written_ms, left_ms) in [(0, -1), (0, i64::MIN), (i64::MIN, i64::MAX), (0, 0)] {
            let period = Period { version: VERSION, written_ms, left_ms, at_end: AtEnd::Keep };
            assert_eq!(period.left(time("2026-01-02T03:00:00Z")), None, "{period:?}");
        }
    }

    #[test]
    fn the_file_reads_as_it_was_written() {
        let period = Period::new(time("1970-01-01T00:00:01Z"), Duration::from_secs(2), AtEnd::Upload);
        let text = r#"{"version":1,"written_ms":1000,"left_ms":2000,"at_end":"upload"}"#;
        assert_eq!(serde_json::to_string(&period).unwrap(), text);
        assert_eq!(serde_json::from_str::<Period>(text).unwrap(), period);
    }
}
