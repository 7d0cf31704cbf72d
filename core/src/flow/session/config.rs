//! How sessions are logged.

use std::{ops::RangeInclusive, time::Duration};

use super::ResourceRule;

/// How a [`SessionLog`](super::SessionLog) works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Which flows are sessions of which resource. Not needed for sessions that are driven.
    pub rules: Vec<ResourceRule>,
    /// How long finished sessions wait for others at most before a batch is made, from 1 s to 1 h.
    pub flush_interval: Duration,
    /// How many sessions that can't be consolidated make a batch at once, from 1 to `max_waiting`.
    pub flush_sessions: usize,
    /// Finished sessions that wait at most, from 1 to 10,000. Beyond that those that ended first are given up and counted.
    pub max_waiting: usize,
    /// Active sessions at most, from 1 to 16,384. Beyond that the one that has the least time left until it would end
    /// by silence is ended and recorded.
    pub max_active: usize,
    /// Silence after which a session ends whose end nobody tells, such as one of UDP; from 1 s to 1 h.
    pub silence: Duration,
    /// Silence after which a session ends although its end should have been told; from `silence` to 30 days.
    pub lost_silence: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            // These three are newt's.
            flush_interval: Duration::from_secs(60),
            flush_sessions: 100,
            max_waiting: 500,
            // What fits into 4,096 slots of a hash table: 1 MiB in an iOS network extension, which may use 50 MB in all.
            max_active: 3_584,
            // newt's read timeout for UDP.
            silence: Duration::from_secs(60),
            // The shortest that a NAT may forget an established TCP connection after (RFC 5382, REQ-5).
            lost_silence: Duration::from_secs(2 * 3_600 + 4 * 60),
        }
    }
}

/// A configuration that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionConfigError {
    /// The flush interval is out of range.
    #[error("a flush interval of {0:?} is out of range: choose 1 s to 1 h")]
    FlushInterval(Duration),
    /// The size of a batch is out of range.
    #[error("a batch of {flush_sessions} sessions is out of range: choose 1 to {max_waiting}")]
    FlushSessions {
        /// The size.
        flush_sessions: usize,
        /// The sessions that may wait.
        max_waiting: usize,
    },
    /// The limit of waiting sessions is out of range.
    #[error("a limit of {0} waiting sessions is out of range: choose 1 to 10000")]
    MaxWaiting(usize),
    /// The limit of active sessions is out of range.
    #[error("a limit of {0} active sessions is out of range: choose 1 to 16384")]
    MaxActive(usize),
    /// The silence is out of range.
    #[error("a silence of {0:?} is out of range: choose 1 s to 1 h")]
    Silence(Duration),
    /// The silence of lost sessions is out of range.
    #[error("a silence of {lost_silence:?} for lost sessions is out of range: choose {silence:?} to 30 days")]
    LostSilence {
        /// The silence of lost sessions.
        lost_silence: Duration,
        /// The silence of other sessions.
        silence: Duration,
    },
    /// Too many prefixes.
    #[error("{prefixes} prefixes in resource rules are too many: the limit is {limit}")]
    Prefixes {
        /// Those of all rules.
        prefixes: usize,
        /// How many there may be.
        limit: usize,
    },
}

const HOUR: Duration = Duration::from_secs(3_600);
/// Below a second a phone would hardly sleep; above an hour a crash would lose too much.
const FLUSH_INTERVAL_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=HOUR;
/// 10,000 take 4 MiB, and as much again while they are sent.
const MAX_WAITING_RANGE: RangeInclusive<usize> = 1..=10_000;
/// 16,384 take 9 MiB, and there are no more flows than that.
const MAX_ACTIVE_RANGE: RangeInclusive<usize> = 1..=16_384;
const SILENCE_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=HOUR;
/// No administrator looks for a session that went silent a month ago.
const MAX_LOST_SILENCE: Duration = Duration::from_secs(30 * 24 * 3_600);

impl SessionConfig {
    /// Whether all values are in range. Rules are looked at when the log is made.
    ///
    /// # Errors
    /// [`SessionConfigError`] names the first one that is not.
    pub fn check(&self) -> Result<(), SessionConfigError> {
        let &Self { flush_interval, flush_sessions, max_waiting, max_active, silence, lost_silence, .. } =
            self;
        if !FLUSH_INTERVAL_RANGE.contains(&flush_interval) {
            return Err(SessionConfigError::FlushInterval(flush_interval));
        }
        if !MAX_WAITING_RANGE.contains(&max_waiting) {
            return Err(SessionConfigError::MaxWaiting(max_waiting));
        }
        if !(1..=max_waiting).contains(&flush_sessions) {
            return Err(SessionConfigError::FlushSessions { flush_sessions, max_waiting });
        }
        if !MAX_ACTIVE_RANGE.contains(&max_active) {
            return Err(SessionConfigError::MaxActive(max_active));
        }
        if !SILENCE_RANGE.contains(&silence) {
            return Err(SessionConfigError::Silence(silence));
        }
        if !(silence..=MAX_LOST_SILENCE).contains(&lost_silence) {
            return Err(SessionConfigError::LostSilence { lost_silence, silence });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_in_range() {
        assert_eq!(SessionConfig::default().check(), Ok(()));
    }

    #[test]
    fn each_value_out_of_range_is_named() {
        let second = Duration::from_secs(1);
        let default = SessionConfig::default;
        for (config, named) in [
            (SessionConfig { flush_interval: Duration::ZERO, ..default() }, "flush interval of 0ns"),
            (SessionConfig { flush_sessions: 501, ..default() }, "batch of 501 sessions"),
            (SessionConfig { flush_sessions: 0, ..default() }, "batch of 0 sessions"),
            (SessionConfig { max_waiting: 10_001, ..default() }, "10001 waiting"),
            (SessionConfig { max_active: 0, ..default() }, "0 active"),
            (SessionConfig { silence: 2 * HOUR, ..default() }, "silence of 7200s"),
            (SessionConfig { lost_silence: second, ..default() }, "choose 60s to 30 days"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
