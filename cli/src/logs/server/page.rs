//! The pages of one log at a server: each is read as it arrives, and the entries where two of them meet are told once.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use jiff::Timestamp;
use reqwest::Response;
use serde::Deserialize;

use crate::{
    CommandError,
    logs::{directory::tell_line, source::Sink},
};

/// The reference server cuts its answers at 64 MiB of records; with what it adds, twice that is plenty.
const MAX_ANSWER: u64 = 128 << 20;
/// As in an export: four times the largest record.
const MAX_LINE: usize = 1 << 20;
/// Entries of one moment that are remembered, so that the next page does not tell them again. 16 bytes each.
const MAX_OF_A_MOMENT: usize = 100_000;

/// Where reading a log has come to. Pages overlap by the entries of one moment, which are told once.
#[derive(Default)]
pub(super) struct Page {
    start: Option<Timestamp>,
    /// The latest time so far.
    latest: Option<Timestamp>,
    /// The lines of that time.
    at_latest: HashSet<Fingerprint>,
    /// The lines of `start` that were told with the page before.
    told: HashSet<Fingerprint>,
    keys: [RandomState; 2],
}

/// What a line is recognised by: so many bits that no two lines share it, made with keys that no server can guess.
type Fingerprint = [u64; 2];

impl Page {
    /// The first page of a log from a time on.
    pub(super) fn since(start: Option<Timestamp>) -> Self {
        Self { start, ..Self::default() }
    }

    /// From when on this page is to be asked for.
    pub(super) const fn start(&self) -> Option<Timestamp> {
        self.start
    }

    /// Tells what an answer holds. The inner error says why the rest of it is refused.
    pub(super) async fn read(
        &mut self,
        collection: &str,
        mut response: Response,
        place: &str,
        sink: &mut Sink<'_>,
    ) -> Result<Result<(), String>, CommandError> {
        let too_long = || Ok(Err(format!("an answer of more than {MAX_ANSWER} bytes is refused")));
        if response.content_length().is_some_and(|length| length > MAX_ANSWER) {
            return too_long();
        }
        let (mut line, mut total) = (Vec::new(), 0_u64);
        loop {
            let piece = match response.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return Ok(Err(format!("the answer broke off: {error}"))),
            };
            total += piece.len() as u64;
            if total > MAX_ANSWER {
                return too_long();
            }
            for (index, part) in piece.split(|&byte| byte == b'\n').enumerate() {
                if index > 0 {
                    self.tell(collection, &line, place, sink)?;
                    line.clear();
                }
                if line.len() + part.len() > MAX_LINE {
                    return Ok(Err(format!("a line of more than {MAX_LINE} bytes is refused")));
                }
                line.extend_from_slice(part);
            }
        }
        self.tell(collection, &line, place, sink)?;
        Ok(Ok(()))
    }

    fn tell(
        &mut self,
        collection: &str,
        line: &[u8],
        place: &str,
        sink: &mut Sink<'_>,
    ) -> Result<(), CommandError> {
        if line.is_empty() {
            return Ok(());
        }
        let fingerprint = self.keys.each_ref().map(|key| key.hash_one(line));
        if self.told.contains(&fingerprint) {
            return Ok(());
        }
        if let Some(time) = time(line) {
            if self.latest.is_none_or(|latest| time > latest) {
                self.latest = Some(time);
                self.at_latest.clear();
            }
            if self.latest == Some(time) && self.at_latest.len() < MAX_OF_A_MOMENT {
                self.at_latest.insert(fingerprint);
            }
        }
        tell_line(collection, line, &place, sink)
    }

    /// Goes on behind what was told; false if that would not get further.
    pub(super) fn turn(&mut self) -> bool {
        let is_full = self.at_latest.len() >= MAX_OF_A_MOMENT;
        if self.latest.is_none() || self.latest == self.start || is_full {
            return false;
        }
        self.start = self.latest;
        self.told = std::mem::take(&mut self.at_latest);
        self.at_latest.clone_from(&self.told);
        true
    }
}

/// The time by which a server orders entries.
fn time(line: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Times {
        logtail: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        client_time: Option<String>,
        server_time: Option<String>,
    }
    let Times { logtail } = serde_json::from_slice(line).ok()?;
    logtail.client_time.or(logtail.server_time)?.parse().ok()
}
