//! Settling accounts: what was promised against what was found.
//!
//! The parent enters what the children told, and what it found at the server, on the disk and in drop reports. Pure:
//! the harness's own judgement is tested by handing it losses and alterations.
//!
//! A record must be accounted for if it was flushed, and also if one behind it in the same process survived: records are
//! written in order, so only a tail can be lost with its process. (That a report names a later number says nothing:
//! the report itself has a number, which is drawn when it is written, ahead of records that still wait.)

use std::collections::{BTreeMap, BTreeSet};

use tuntrail::store::{DropReport, drop_reports};

use super::{
    cover::Cover,
    record::{self, Reading},
};

/// Problems that are described; the rest are only counted.
const MAX_PROBLEMS: usize = 16;

/// Where a record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Server,
    Disk,
}

/// The records of one log id.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    processes: BTreeMap<u32, Process>,
    reports: Vec<DropReport>,
    /// Process and sequence number of the records that the reports came in.
    reported: BTreeSet<(u32, u64)>,
    corrupt: u64,
    /// What is wrong, for people.
    problems: Vec<String>,
}

/// One child that appended.
#[derive(Debug)]
struct Process {
    cycle: u64,
    /// In the order of their numbers, and so of their sequence numbers.
    runs: Vec<Run>,
    promised_below: u64,
    /// By sequence number, whether it is at the server.
    found: BTreeMap<u64, bool>,
}

/// Records with numbers and sequence numbers in step.
#[derive(Debug, Clone, Copy)]
struct Run {
    number: u64,
    seq: u64,
    len: u64,
}

/// What became of the records. `appended` is the sum of all the others but `corrupt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) appended: u64,
    pub(super) delivered: u64,
    pub(super) on_disk: u64,
    pub(super) reported_dropped: u64,
    pub(super) revoked: u64,
    pub(super) unflushed_lost: u64,
    pub(super) unaccounted: u64,
    /// Texts that were found altered, or in another's place.
    pub(super) corrupt: u64,
}

impl Accounts {
    pub(super) fn began(&mut self, proc_id: u32, cycle: u64) {
        let process = Process { cycle, runs: Vec::new(), promised_below: 0, found: BTreeMap::new() };
        self.processes.insert(proc_id, process);
    }

    pub(super) fn appended(&mut self, proc_id: u32, number: u64, seq: u64, len: u64) {
        let Some(process) = self.processes.get_mut(&proc_id) else { return };
        match process.runs.last_mut() {
            Some(run) if run.number + run.len == number && run.seq + run.len == seq => run.len += len,
            _ => process.runs.push(Run { number, seq, len }),
        }
    }

    pub(super) fn promised(&mut self, proc_id: u32, below: u64) {
        if let Some(process) = self.processes.get_mut(&proc_id) {
            process.promised_below = process.promised_below.max(below);
        }
    }

    /// Enters the drop reports in a meta record. One that is found in several places says no more than once.
    pub(super) fn reported(&mut self, proc_id: u32, seq: u64, payload: &[u8]) {
        if self.reported.insert((proc_id, seq)) {
            self.reports.extend(drop_reports(payload));
        }
    }

    pub(super) fn reports(&self) -> &[DropReport] {
        &self.reports
    }

    /// Descriptions of what is wrong, the first few.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Enters a data record that was found. False if it is none of ours and of no process of ours.
    pub(super) fn found(&mut self, proc_id: u32, seq: u64, json: &[u8], place: Place) -> bool {
        let reading = record::read(json);
        let Some(process) = self.processes.get_mut(&proc_id) else {
            if reading != Reading::Other {
                self.damaged(format!(
                    "a record of the unknown process {proc_id} ({seq}, {place:?}): {reading:?}"
                ));
            }
            return reading != Reading::Other;
        };
        let expected = process.number(seq);
        match reading {
            Reading::Whole { cycle, number }
                if cycle == process.cycle
                    && expected.map_or(number >= process.told(), |expected| expected == number) =>
            {
                *process.found.entry(seq).or_default() |= place == Place::Server;
            }
            _ => self.damaged(format!(
                "process {proc_id}, sequence number {seq}, {place:?}: {reading:?} instead of number {expected:?}"
            )),
        }
        true
    }

    /// Something on the disk or at the server is not as it was written.
    pub(super) fn damaged(&mut self, problem: String) {
        self.corrupt += 1;
        self.problem(problem);
    }

    /// Settles. With `revoked`, what was only on disk has been deleted since, as it had to be.
    pub(super) fn settle(&mut self, revoked: bool) -> Tally {
        let mut cover = Cover::new(&self.reports);
        let mut tally = Tally { corrupt: self.corrupt, ..Tally::default() };
        let mut uncovered = BTreeMap::new();
        for (&proc_id, process) in &self.processes {
            let at_server = process.found.values().filter(|delivered| **delivered).count() as u64;
            let on_disk = process.found.len() as u64 - at_server;
            tally.delivered += at_server;
            if revoked {
                tally.revoked += on_disk;
            } else {
                tally.on_disk += on_disk;
            }
            let (due, tail) = process.missing();
            tally.appended += (process.found.len() + due.len() + tail.len()) as u64;
            // What must be accounted for comes first; what is left of the reports may also be about the tail.
            let due_left = cover.take(proc_id, &due);
            let tail_left = cover.take(proc_id, &tail);
            tally.reported_dropped += (due.len() + tail.len()) as u64 - due_left - tail_left;
            uncovered.insert(proc_id, (due_left, tail_left, due));
        }
        for (proc_id, (due_left, _, due)) in &uncovered {
            let unaccounted = cover.take_totals(*due_left);
            tally.reported_dropped += due_left - unaccounted;
            tally.unaccounted += unaccounted;
            if unaccounted > 0 {
                let cycle = self.processes.get(proc_id).map(|process| process.cycle);
                let (first, last) = (due.first(), due.last());
                self.problem(format!(
                    "process {proc_id}, cycle {cycle:?}: {unaccounted} records unaccounted for; \
                     missing are {} from sequence number {first:?} to {last:?}",
                    due.len()
                ));
            }
        }
        for (_, tail_left, _) in uncovered.values() {
            let lost = cover.take_totals(*tail_left);
            tally.reported_dropped += tail_left - lost;
            tally.unflushed_lost += lost;
        }
        tally
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

impl Process {
    /// The number that the child told for this sequence number.
    fn number(&self, seq: u64) -> Option<u64> {
        let run = self.runs.get(self.runs.partition_point(|run| run.seq <= seq).checked_sub(1)?)?;
        let offset = seq - run.seq;
        (offset < run.len).then_some(run.number + offset)
    }

    /// Records that the child told of. It may have been killed before it could tell of the last ones.
    fn told(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.number + run.len)
    }

    /// Sequence numbers of the records that were not found: those that must be accounted for, and the tail.
    fn missing(&self) -> (Vec<u64>, Vec<u64>) {
        let survivor = self.found.last_key_value().map(|(&seq, _)| seq);
        let mut due = Vec::new();
        let mut tail = Vec::new();
        for run in &self.runs {
            for offset in 0..run.len {
                let (number, seq) = (run.number + offset, run.seq + offset);
                if self.found.contains_key(&seq) {
                    continue;
                }
                if number < self.promised_below || survivor.is_some_and(|survivor| seq < survivor) {
                    due.push(seq);
                } else {
                    tail.push(seq);
                }
            }
        }
        (due, tail)
    }
}

#[cfg(test)]
mod tests {
    use tuntrail::store::DropReason;

    use super::*;
    use crate::kill::{rng::Rng, testing::report};

    const PROC: u32 = 7;

    /// A process that appended ten records, numbers 0 to 9 as 1 to 5 and 7 to 11, of which the first `promised` were
    /// flushed. 6 went to a report.
    fn accounts(promised: u64) -> Accounts {
        let mut accounts = Accounts::default();
        accounts.began(PROC, 3);
        accounts.appended(PROC, 0, 1, 2);
        accounts.appended(PROC, 2, 3, 3);
        accounts.appended(PROC, 5, 7, 5);
        accounts.promised(PROC, promised);
        accounts
    }

    fn json(number: u64) -> Vec<u8> {
        let mut json = Vec::new();
        record::encode(3, number, 20, &mut Rng::new(number), &mut json);
        json
    }

    fn find(accounts: &mut Accounts, seqs: impl IntoIterator<Item = u64>, place: Place) {
        for seq in seqs {
            let number = if seq < 6 { seq - 1 } else { seq - 2 };
            assert!(accounts.found(PROC, seq, &json(number), place));
        }
    }

    #[test]
    fn everything_found_is_everything_accounted_for() {
        let mut accounts = accounts(10);
        find(&mut accounts, [1, 2, 3, 4, 5, 7], Place::Server);
        // One is in both places: its segment was delivered and not yet removed.
        find(&mut accounts, [7, 8, 9, 10, 11], Place::Disk);
        let expected = Tally { appended: 10, delivered: 6, on_disk: 4, ..Tally::default() };
        assert_eq!(accounts.settle(false), expected);
        let expected = Tally { appended: 10, delivered: 6, revoked: 4, ..Tally::default() };
        assert_eq!(accounts.settle(true), expected);
        assert_eq!(accounts.problems, Vec::<String>::new());
    }

    #[test]
    fn a_flushed_record_that_is_nowhere_is_unaccounted_for() {
        let mut accounts = accounts(10);
        find(&mut accounts, [1, 2, 3, 4, 5, 7, 8, 9, 11], Place::Disk);
        let expected = Tally { appended: 10, on_disk: 9, unaccounted: 1, ..Tally::default() };
        assert_eq!(accounts.settle(false), expected);
        assert!(accounts.problems[0].contains("process 7"), "{:?}", accounts.problems);
    }

    #[test]
    fn an_unflushed_tail_may_be_lost_but_no_hole_before_a_survivor() {
        let mut all = accounts(5);
        find(&mut all, [1, 2, 3, 4, 5, 7], Place::Disk);
        let expected = Tally { appended: 10, on_disk: 6, unflushed_lost: 4, ..Tally::default() };
        assert_eq!(all.settle(false), expected);

        let mut hole = accounts(5);
        find(&mut hole, [1, 2, 3, 4, 5, 8], Place::Disk);
        let expected =
            Tally { appended: 10, on_disk: 6, unflushed_lost: 3, unaccounted: 1, ..Tally::default() };
        assert_eq!(hole.settle(false), expected);

        let mut reported = accounts(0);
        reported.reports.push(report(DropReason::Rotation, Some((PROC, 1, 12)), 4));
        let expected = Tally { appended: 10, reported_dropped: 4, unflushed_lost: 6, ..Tally::default() };
        assert_eq!(reported.settle(false), expected);
    }

    #[test]
    fn a_report_that_counts_too_little_is_noticed() {
        for (count, unaccounted) in [(5, 0), (4, 1), (0, 5)] {
            let mut accounts = accounts(10);
            find(&mut accounts, 7..=11, Place::Disk);
            accounts.reports.push(report(DropReason::Rotation, Some((PROC, 1, 6)), count));
            let tally = accounts.settle(false);
            assert_eq!((tally.unaccounted, tally.reported_dropped), (unaccounted, count), "{count}");
        }
    }

    #[test]
    fn a_total_speaks_for_flushed_records_before_it_speaks_for_the_tail() {
        let mut accounts = accounts(8);
        accounts.reports.push(report(DropReason::DiskFull, None, 9));
        let expected = Tally { appended: 10, reported_dropped: 9, unflushed_lost: 1, ..Tally::default() };
        assert_eq!(accounts.settle(false), expected);
    }

    #[test]
    fn altered_and_exchanged_records_are_corrupt_and_not_found() {
        let mut altered = accounts(10);
        find(&mut altered, [1, 2, 3, 4, 5, 7, 8, 9, 10], Place::Disk);
        let mut bad = json(9);
        let filler = bad.len() / 2;
        bad[filler] ^= 1;
        assert!(altered.found(PROC, 11, &bad, Place::Disk));
        let tally = altered.settle(false);
        assert_eq!((tally.corrupt, tally.unaccounted), (1, 1));

        let mut exchanged = accounts(10);
        exchanged.found(PROC, 1, &json(1), Place::Server);
        exchanged.found(PROC, 12, &json(1), Place::Server);
        exchanged.found(PROC, 2, br#"{"text":"of somebody else"}"#, Place::Server);
        exchanged.found(PROC + 1, 1, &json(0), Place::Server);
        assert_eq!(exchanged.settle(false).corrupt, 4, "{:?}", exchanged.problems);
    }

    #[test]
    fn records_that_the_child_could_not_tell_of_count_when_they_are_found() {
        let mut accounts = accounts(10);
        find(&mut accounts, [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13], Place::Disk);
        let expected = Tally { appended: 12, on_disk: 12, ..Tally::default() };
        assert_eq!(accounts.settle(false), expected);
    }

    #[test]
    fn a_report_found_twice_counts_once() {
        let payload =
            br#"{"drops":[{"reason":"rotation","records":4,"bytes":80,"proc_id":7,"from_seq":1,"to_seq":5}]}"#;
        let mut accounts = accounts(10);
        find(&mut accounts, 7..=11, Place::Disk);
        for (seq, unaccounted) in [(6, 1), (6, 1), (12, 0)] {
            accounts.reported(PROC, seq, payload);
            assert_eq!(accounts.settle(false).unaccounted, unaccounted);
        }
    }

    #[test]
    fn what_others_wrote_is_left_to_the_caller() {
        let mut accounts = accounts(10);
        assert!(!accounts.found(PROC + 1, 1, br#"{"nodeId":"n1"}"#, Place::Server));
        assert_eq!(accounts.settle(false).corrupt, 0);
    }
}
