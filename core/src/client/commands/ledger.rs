//! Which commands were obeyed, and when: so that none is obeyed twice, and few are obeyed at all.
//!
//! A file beside the records, `commands-<role>`, because a sender may repeat itself after a restart and a process that is
//! restarted all the time must not obey more often. It has the IDs and wall-clock times of the last 64 commands.

use std::{io, path::Path, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{Survive, read_small, replace};

const VERSION: u32 = 1;
/// So many IDs are remembered: days of the most commands that are obeyed.
const MAX_ENTRIES: usize = 64;
/// More than 64 entries take.
const MAX_LEN: u64 = 16 * 1024;
/// Between two debug uploads. Each turns the radio on and sends what has come since the last; a second one within a minute
/// has nothing new to tell.
const DEBUG_UPLOAD_INTERVAL: Duration = Duration::from_secs(60);
/// Commands of a day: about one an hour, which is no load for a battery, and more than a case needs.
const MAX_PER_DAY: usize = 24;
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    id: String,
    kind: String,
    /// Wall-clock time, in milliseconds since 1970.
    ms: i64,
}

/// The last commands, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    version: u32,
    obeyed: Vec<Entry>,
}

impl Ledger {
    /// What is in the file at `path`; nothing if there is none, or none that can be understood.
    pub(super) fn load(path: &Path) -> io::Result<Self> {
        let ledger = read_small(path, MAX_LEN)?.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Ok(ledger
            .filter(|ledger| ledger.version == VERSION)
            .unwrap_or(Self { version: VERSION, obeyed: Vec::new() }))
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        replace(path, &bytes, Survive::Kill)
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.obeyed.iter().any(|entry| entry.id == id)
    }

    /// Whether one more may be obeyed at `now`, or how long to wait. A wall clock that was set back in between makes nobody wait for
    /// more than a day.
    pub(super) fn allow(&self, kind: &str, now: Timestamp) -> Result<(), Duration> {
        let age = |entry: &Entry| Duration::from_millis(entry.ms.abs_diff(now.as_millisecond()));
        let of_today: Vec<_> = self.obeyed.iter().filter(|entry| age(entry) < DAY).collect();
        if let Some(first) = of_today.len().checked_sub(MAX_PER_DAY).and_then(|index| of_today.get(index)) {
            return Err(DAY.saturating_sub(age(first)));
        }
        let last = self.obeyed.iter().rev().find(|entry| entry.kind == kind && kind == "debug_upload");
        match last.map(age) {
            Some(age) if age < DEBUG_UPLOAD_INTERVAL => Err(DEBUG_UPLOAD_INTERVAL.saturating_sub(age)),
            _ => Ok(()),
        }
    }

    pub(super) fn add(&mut self, id: String, kind: &str, now: Timestamp) {
        if self.obeyed.len() >= MAX_ENTRIES {
            self.obeyed.remove(0);
        }
        self.obeyed.push(Entry { id, kind: kind.to_owned(), ms: now.as_millisecond() });
    }

    /// The last one was not obeyed after all.
    pub(super) fn forget_last(&mut self) {
        self.obeyed.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn empty() -> Ledger {
        Ledger { version: VERSION, obeyed: Vec::new() }
    }

    #[test]
    fn one_debug_upload_a_minute_and_other_kinds_in_between() {
        let mut ledger = empty();
        ledger.add("a".to_owned(), "debug_upload", at(0));
        assert_eq!(ledger.allow("debug_upload", at(20)), Err(Duration::from_secs(40)));
        assert_eq!(ledger.allow("socket_stats", at(20)), Ok(()));
        assert_eq!(ledger.allow("debug_upload", at(60)), Ok(()));
        assert_eq!(ledger.allow("debug_upload", at(-7200)), Ok(()), "the clock was set back");
    }

    #[test]
    fn a_day_has_24_commands_however_they_are_spread() {
        let mut ledger = empty();
        for number in 0..24 {
            let kind = if number % 2 == 0 { "debug_upload" } else { "socket_stats" };
            assert_eq!(ledger.allow(kind, at(number * 600)), Ok(()));
            ledger.add(format!("c{number}"), kind, at(number * 600));
        }
        for kind in ["debug_upload", "socket_stats"] {
            assert_eq!(ledger.allow(kind, at(24 * 600)), Err(Duration::from_secs(86_400 - 24 * 600)));
            assert_eq!(ledger.allow(kind, at(86_400)), Ok(()), "the first of them is a day ago");
        }
        assert!(ledger.allow("debug_upload", at(-3600)).is_err(), "no clock makes a day shorter");
    }

    #[test]
    fn what_was_obeyed_outlives_the_process_and_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("commands-ext");
        let mut ledger = Ledger::load(&path).unwrap();
        for number in 0..100 {
            ledger.add("x".repeat(60) + &format!("{number:04}"), "debug_upload", at(number * 86_400));
        }
        ledger.save(&path).unwrap();
        let read = Ledger::load(&path).unwrap();
        assert_eq!(read, ledger);
        assert!(!read.has(&("x".repeat(60) + "0035")) && read.has(&("x".repeat(60) + "0036")));
        assert!(std::fs::metadata(&path).unwrap().len() < MAX_LEN);
        std::fs::write(&path, "what?").unwrap();
        assert_eq!(Ledger::load(&path).unwrap(), empty());
    }
}
