//! Which lines of the log's files were handed on for uploading, and which were not.
//!
//! The files stay the log: nothing is copied while nobody asks. When somebody does, [`Unsent`] goes through them and gives
//! out the lines that were not given out before. What it remembers is in a file beside them, `SENT`: ranges of bytes, by
//! number of the file.
//!
//! ```text
//! {"version":1,"usual":[[3,0,81920],[4,0,512]],"verbose":[]}
//! ```
//!
//! Lines of `INFO` and above are one matter, those below, which may name addresses and hosts, another: they are given
//! out to who asks for them only, and remembered by themselves. A line whose level can't be told is not given out.
//!
//! Called by the client, under its lock, on the thread of whoever asks for an upload. Memory is that of one line; a line of
//! more than 64 KiB is none of ours and is passed over. Kept up to date after the lines are safe elsewhere: a kill in between
//! gives them out twice, never not at all.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::Level;

use super::rotation::numbered;
use crate::files::{Survive, read_small, remove, replace};

const NAME: &str = "SENT";
const VERSION: u32 = 1;
/// Our longest lines have a few values of 1 KiB.
const MAX_LINE: usize = 64 * 1024;
/// Ranges that are remembered per matter. There is one per file unless windows leave gaps; beyond the bound the oldest is
/// forgotten, and its lines may go out once more.
const MAX_RANGES: usize = 64;
/// More than the file can have: two matters of 64 ranges of three numbers.
const MAX_LEN: u64 = 16 * 1024;

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Selection {
    /// From when on, by their own stamp; `None`: all there are.
    pub(crate) since: Option<Timestamp>,
    /// Those below `INFO`, too.
    pub(crate) verbose: bool,
}

/// A line that was not given out before.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// JSON, without the line end.
    pub(crate) json: &'a [u8],
    pub(crate) time: Timestamp,
    pub(crate) level: Level,
    pub(crate) target: Cow<'a, str>,
}

/// The lines of a directory that were not given out before.
#[derive(Debug)]
pub(crate) struct Unsent {
    directory: PathBuf,
    sent: Sent,
}

impl Unsent {
    /// What is remembered of `directory`. What can't be understood is forgotten: lines go out twice rather than never.
    pub(crate) fn load(directory: &Path) -> io::Result<Self> {
        let sent = read_small(&directory.join(NAME), MAX_LEN)?
            .and_then(|bytes| serde_json::from_slice::<Sent>(&bytes).ok())
            .filter(|sent| sent.version == VERSION)
            .unwrap_or_default();
        Ok(Self { directory: directory.to_owned(), sent })
    }

    /// Gives each of the lines in `selection` that were not given out before to `take`, oldest first, until it fails. Those
    /// given out are remembered by [`Self::save`], not before.
    pub(crate) fn take<E: From<io::Error>>(
        &mut self,
        selection: Selection,
        mut take: impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let files = numbered(&self.directory)?;
        self.sent.usual.keep(|file| files.iter().any(|(number, _)| *number == file));
        self.sent.verbose.keep(|file| files.iter().any(|(number, _)| *number == file));
        for (number, path) in files {
            let file = match File::open(path) {
                // Rotated away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let mut failed = None;
            self.take_file(number, &file, selection, &mut |line| match take(line) {
                Ok(()) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Remembers what was given out.
    pub(crate) fn save(&self) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(&self.sent)?;
        bytes.push(b'\n');
        replace(&self.directory.join(NAME), &bytes, Survive::Kill)
    }

    /// Until `take` says no to a line.
    fn take_file(
        &mut self,
        number: u64,
        file: &File,
        selection: Selection,
        take: &mut dyn FnMut(Line<'_>) -> bool,
    ) -> io::Result<()> {
        let Sent { usual, verbose, .. } = &mut self.sent;
        // It may grow while it is read: what comes then is for the next time.
        let mut reader = BufReader::new(file.take(file.metadata()?.len()));
        let (mut from, mut bytes) = (0, Vec::new());
        while let Some(len) = read_line(&mut reader, &mut bytes)? {
            let to = from + len;
            if usual.has(number, from) && (!selection.verbose || verbose.has(number, from)) {
                from = to;
                continue;
            }
            // Another file of this number was here before, or damage: no line of ours.
            if let Some(line) = parse(&bytes)
                && selection.since.is_none_or(|since| since <= line.time)
            {
                let sent = if line.level <= Level::INFO {
                    usual.has(number, from)
                } else {
                    !selection.verbose || verbose.has(number, from)
                };
                if !sent && !take(line) {
                    return Ok(());
                }
                // A line that is none of a matter's is in its ranges all the same, so that they don't fall to pieces.
                usual.add(number, from, to);
                if selection.verbose {
                    verbose.add(number, from, to);
                }
            }
            from = to;
        }
        Ok(())
    }
}

/// How many lines of `INFO` and above, in the file of that number, were not given out.
pub(super) fn left_in(directory: &Path, number: u64, path: &Path) -> io::Result<u64> {
    let mut left = 0;
    Unsent::load(directory)?.take_file(number, &File::open(path)?, Selection::default(), &mut |_| {
        left += 1;
        true
    })?;
    Ok(left)
}

/// Forgets everything: to be called before the files go, whose numbers begin anew then.
pub(super) fn forget(directory: &Path) -> io::Result<()> {
    remove(&directory.join(NAME))
}

/// Reads a line without its end into `bytes` and says how long it was with it; `None` at the end, and for a line that is
/// still being written. Of a line that is too long, nothing is kept.
fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<Option<u64>> {
    bytes.clear();
    let mut total = 0;
    loop {
        let room = (MAX_LINE + 1).saturating_sub(bytes.len()).max(1);
        let read = reader.take(room as u64).read_until(b'\n', bytes)?;
        total += read as u64;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if total > MAX_LINE as u64 {
                bytes.clear();
            }
            return Ok(Some(total));
        }
        if read == 0 {
            return Ok(None);
        }
        if bytes.len() > MAX_LINE {
            bytes.clear();
        }
    }
}

/// What every line has.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    severity: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
}

fn parse(json: &[u8]) -> Option<Line<'_>> {
    let head: Head<'_> = serde_json::from_slice(json).ok()?;
    Some(Line {
        json,
        time: head.time.parse().ok()?,
        level: head.severity.parse().ok()?,
        target: head.target,
    })
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    version: u32,
    usual: Ranges,
    verbose: Ranges,
}

impl Default for Sent {
    fn default() -> Self {
        Self { version: VERSION, usual: Ranges::default(), verbose: Ranges::default() }
    }
}

/// Ranges of bytes as (file, from, to), in order, apart from each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Ranges(Vec<(u64, u64, u64)>);

impl Ranges {
    fn has(&self, file: u64, at: u64) -> bool {
        self.0.iter().any(|&(of, from, to)| of == file && from <= at && at < to)
    }

    fn add(&mut self, file: u64, from: u64, to: u64) {
        // Lines come in order, so nearly always it is the last range that grows.
        let before = self.0.iter().rposition(|range| (range.0, range.1) <= (file, from));
        let place = match before.and_then(|index| Some((index, self.0.get_mut(index)?))) {
            Some((index, range)) if range.0 == file && from <= range.2 => {
                range.2 = range.2.max(to);
                index
            }
            before => {
                let index = before.map_or(0, |(index, _)| index + 1);
                self.0.insert(index, (file, from, to));
                index
            }
        };
        let reach = self.0.get(place).map_or(to, |range| range.2);
        if let Some(&next) = self.0.get(place + 1)
            && next.0 == file
            && next.1 <= reach
        {
            self.0.remove(place + 1);
            if let Some(range) = self.0.get_mut(place) {
                range.2 = reach.max(next.2);
            }
        }
        if self.0.len() > MAX_RANGES {
            self.0.remove(0);
        }
    }

    fn keep(&mut self, mut is_there: impl FnMut(u64) -> bool) {
        self.0.retain(|range| is_there(range.0));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const MINUTES: [&str; 5] = ["00", "10", "20", "30", "40"];

    fn line(minute: &str, severity: &str) -> String {
        format!(
            "{{\"time\":\"2026-01-02T03:{minute}:00Z\",\"severity\":\"{severity}\",\"message\":\"m{minute}\",\"target\":\"t\"}}\n"
        )
    }

    fn write(directory: &Path, number: u64, content: &str) {
        fs::write(directory.join(format!("{number:010}.log")), content).unwrap();
    }

    /// Takes and remembers; the texts of what was taken.
    fn take(directory: &Path, since: Option<&str>, verbose: bool) -> Vec<String> {
        let mut unsent = Unsent::load(directory).unwrap();
        let since = since.map(|minute| format!("2026-01-02T03:{minute}:00Z").parse().unwrap());
        let mut taken = Vec::new();
        let done = unsent.take(Selection { since, verbose }, |line| {
            let json: serde_json::Value = serde_json::from_slice(line.json).unwrap();
            taken.push(format!("{} {}", line.level, json["message"].as_str().unwrap()));
            Ok::<_, io::Error>(())
        });
        done.unwrap();
        unsent.save().unwrap();
        taken
    }

    #[test]
    fn each_line_is_given_out_once_over_files_and_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(take(path, None, false), [""; 0], "there is no log yet");
        write(path, 3, &[line("00", "INFO"), line("10", "ERROR")].concat());
        write(path, 4, &line("20", "WARN"));
        assert_eq!(take(path, None, false), ["INFO m00", "ERROR m10", "WARN m20"]);
        assert_eq!(take(path, None, false), [""; 0]);
        // It grows, by a line and a half; a file is rotated away.
        write(path, 4, &[line("20", "WARN"), line("30", "INFO"), "{\"time\":".to_owned()].concat());
        fs::remove_file(path.join("0000000003.log")).unwrap();
        assert_eq!(take(path, None, false), ["INFO m30"]);
        let sent = fs::read_to_string(path.join(NAME)).unwrap();
        assert!(
            sent.starts_with("{\"version\":1,\"usual\":[[4,0,") && sent.ends_with("]],\"verbose\":[]}\n"),
            "{sent}"
        );
    }

    #[test]
    fn a_window_leaves_older_lines_to_who_asks_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        write(path, 0, &MINUTES.map(|minute| line(minute, "INFO")).concat());
        assert_eq!(take(path, Some("40"), false), ["INFO m40"]);
        assert_eq!(take(path, Some("20"), false), ["INFO m20", "INFO m30"]);
        assert_eq!(take(path, Some("20"), false), [""; 0]);
        assert_eq!(take(path, None, false), ["INFO m00", "INFO m10"]);
        assert_eq!(Unsent::load(path).unwrap().sent.usual.0.len(), 1, "one range again");
    }

    #[test]
    fn lines_below_info_go_to_who_asks_for_them_only_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        write(path, 0, &[line("00", "DEBUG"), line("10", "INFO"), line("20", "TRACE")].concat());
        assert_eq!(take(path, None, false), ["INFO m10"]);
        assert_eq!(take(path, None, true), ["DEBUG m00", "TRACE m20"]);
        assert_eq!(take(path, None, true), [""; 0]);
    }

    #[test]
    fn what_is_no_line_of_ours_is_not_given_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let long = line("00", "INFO").replace("m00", &"x".repeat(200_000));
        let fits = line("00", "INFO").replace("m00", &"y".repeat(60_000));
        let foreign =
            ["no json\n", "\n", "{}\n", "\0\0\0\n", "{\"time\":\"2026-01-02T03:00:00Z\"}\n"].concat();
        let unknown = line("00", "LOUD") + &line("0x", "INFO");
        write(path, 0, &[&long, &foreign, &unknown, &fits, &line("10", "INFO")].map(String::as_str).concat());
        let taken = take(path, None, false);
        assert_eq!(taken.len(), 2);
        assert_eq!((taken[0].len(), taken[1].as_str()), ("INFO ".len() + 60_000, "INFO m10"));
    }

    #[test]
    fn what_fails_is_given_out_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        write(path, 0, &MINUTES.map(|minute| line(minute, "INFO")).concat());
        let mut unsent = Unsent::load(path).unwrap();
        let failed = unsent.take(Selection::default(), |_| Err(io::Error::other("full")));
        assert!(failed.is_err());
        assert_eq!(take(path, None, false).len(), MINUTES.len());
        fs::write(path.join(NAME), "{\"version\":7}").unwrap();
        assert_eq!(take(path, None, false).len(), MINUTES.len(), "twice rather than never");
    }

    proptest! {
        #[test]
        fn ranges_know_what_was_added(adds in prop::collection::vec((0_u64..3, 0_u64..40, 1_u64..8), 0..60)) {
            let (mut ranges, mut model) = (Ranges::default(), std::collections::BTreeSet::new());
            for (file, from, len) in adds {
                // As lines of one length, so that what is added never covers a range in part twice.
                let (from, to) = (from * 8, (from + len) * 8);
                for at in (from..to).step_by(8) {
                    ranges.add(file, at, at + 8);
                    model.insert((file, at));
                }
            }
            for file in 0..3 {
                for at in (0..400).step_by(8) {
                    prop_assert_eq!(ranges.has(file, at), model.contains(&(file, at)));
                }
            }
            prop_assert!(ranges.0.windows(2).all(|two| (two[0].0, two[0].2) < (two[1].0, two[1].1)));
        }
    }
}
