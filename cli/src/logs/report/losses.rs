//! What was given up: drop reports, with the time they can be given. Pure.
//!
//! A drop report has no time of its own: it tells about the past. What is known is between which records of its process it
//! stands, and that is what is told.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tuntrail::store::DropCount;

use super::markup::cut;
use crate::logs::{entry::Entry, row::Row};

/// Reports that are listed: a store makes one per accident, or per segment that made room.
const MAX_LISTED: usize = 500;
/// Processes whose last time is remembered; reports of others have no time.
const MAX_PROCESSES: usize = 10_000;

/// When a report was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Behind a record of this time.
    After(Timestamp),
    /// As the first of its process, before a record of this time.
    Before(Timestamp),
    Unknown,
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) stream: String,
    pub(super) reason: String,
    pub(super) count: DropCount,
    /// Process and numbers, for people.
    pub(super) numbers: String,
    pub(super) when: When,
}

type Process = (String, String, u32);

/// All losses.
#[derive(Debug, Default)]
pub(super) struct Losses {
    pub(super) listed: Vec<Loss>,
    pub(super) left_out: u64,
    /// By reason: reports, and what they count.
    pub(super) totals: BTreeMap<String, (u64, DropCount)>,
    /// The last time of each process.
    last: BTreeMap<Process, Timestamp>,
    /// Processes with a listed report and no time before it, and where it stands.
    waiting: BTreeSet<(Process, usize)>,
}

impl Losses {
    /// Takes the time of an entry, which the next report of its process comes after.
    pub(super) fn pass(&mut self, entry: &Entry) {
        let (Some(time), Some(process)) = (entry.client_time, process(entry)) else { return };
        while let Some((_, index)) =
            self.waiting.range((process.clone(), 0)..=(process.clone(), usize::MAX)).next()
        {
            let index = *index;
            self.waiting.remove(&(process.clone(), index));
            if let Some(loss) = self.listed.get_mut(index) {
                loss.when = When::Before(time);
            }
        }
        if self.last.len() < MAX_PROCESSES || self.last.contains_key(&process) {
            self.last.insert(process, time);
        }
    }

    /// Enters a row of a drop report.
    pub(super) fn add(&mut self, entry: &Entry, row: &Row) {
        let count = DropCount { records: row.records.unwrap_or_default(), bytes: row.counts.rx_bytes };
        // Reasons are a handful of our own words.
        let (reports, total) = self.totals.entry(row.reason.clone()).or_default();
        *reports += 1;
        total.records = total.records.saturating_add(count.records);
        total.bytes = total.bytes.saturating_add(count.bytes);
        if self.listed.len() >= MAX_LISTED {
            self.left_out += 1;
            return;
        }
        let process = process(entry);
        let after = process.as_ref().and_then(|process| self.last.get(process)).copied();
        let when = entry.client_time.or(after).map_or(When::Unknown, When::After);
        if let Some(process) = process
            && when == When::Unknown
        {
            self.waiting.insert((process, self.listed.len()));
        }
        self.listed.push(Loss {
            stream: cut(&row.stream).into_owned(),
            reason: row.reason.clone(),
            count,
            numbers: row.text.clone(),
            when,
        });
    }

    /// All records that were given up.
    pub(super) fn records(&self) -> u64 {
        self.totals.values().fold(0, |sum, (_, count)| sum.saturating_add(count.records))
    }
}

fn process(entry: &Entry) -> Option<Process> {
    Some((cut(&entry.stream).into_owned(), cut(&entry.log).into_owned(), entry.proc_id?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::row::rows;

    fn losses(lines: &[&str]) -> Losses {
        let mut losses = Losses::default();
        for line in lines {
            let entry = Entry::parse("netlog", line).unwrap();
            losses.pass(&entry);
            if line.contains("drops") {
                rows(&entry).iter().for_each(|row| losses.add(&entry, row));
            }
        }
        losses
    }

    const REPORT: &str = r#"{"logtail":{"proc_id":7,"proc_seq":2},"tuntrail":{"drops":[
        {"reason":"rotation","records":3,"bytes":900,"proc_id":6,"from_seq":1,"to_seq":3},
        {"reason":"disk_full","records":2,"bytes":50}]}}"#;
    const RECORD: &str = r#"{"logtail":{"client_time":"2026-01-02T03:04:10Z","proc_id":7,"proc_seq":1}}"#;

    #[test]
    fn a_report_has_the_time_of_its_neighbour() {
        let time: Timestamp = "2026-01-02T03:04:10Z".parse().unwrap();
        let when = |lines: &[&str]| losses(lines).listed.iter().map(|loss| loss.when).collect::<Vec<_>>();
        assert_eq!(when(&[RECORD, REPORT]), [When::After(time); 2]);
        assert_eq!(when(&[REPORT, RECORD]), [When::Before(time); 2]);
        assert_eq!(when(&[REPORT]), [When::Unknown; 2]);
        let other = RECORD.replace("\"proc_id\":7", "\"proc_id\":8");
        assert_eq!(when(&[&other, REPORT, &other]), [When::Unknown; 2]);
    }

    #[test]
    fn totals_hold_also_what_is_not_listed() {
        let losses = losses(&[REPORT; 1_000]);
        assert_eq!(losses.listed.len(), MAX_LISTED);
        assert_eq!(losses.left_out, 1_500);
        assert_eq!(losses.totals["rotation"], (1_000, DropCount { records: 3_000, bytes: 900_000 }));
        assert_eq!(losses.records(), 5_000);
        assert_eq!(losses.listed[0].numbers, "00000006 1..3");
    }
}
