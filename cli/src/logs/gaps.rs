//! Which numbers of a stream are there, which are missing, and which of these a drop report explains. Pure.
//!
//! Each process numbers its entries from 1 without gaps. A store gives its oldest segments away when they were sent, so there
//! numbers that are missing before the first one found say nothing; at a server they do, unless entries of the log have
//! expired, which the server's own count of them tells.

use std::collections::BTreeMap;

use tuntrail::store::DropReport;

use super::entry::{Body, Entry};

/// Numbers from the first to the second, both included.
pub(crate) type Range = (u64, u64);

/// Ranges that are kept apart, of all processes together: a log in which more pieces are missing is beyond listing. Some 50
/// bytes each.
const MAX_RANGES: usize = 100_000;
/// Processes that are told apart: thousands of restarts. A log with more of them was made up.
const MAX_PROCESSES: usize = 10_000;

/// A set of numbers, as ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// Adds a range; false if its first number was there already.
    fn add(&mut self, (mut from, mut to): Range) -> bool {
        let before = self.0.range(..=from).next_back().map(|(&start, &end)| (start, end));
        let is_new = before.is_none_or(|(_, end)| end < from);
        if let Some((start, end)) = before
            && end.saturating_add(1) >= from
        {
            from = start;
            to = to.max(end);
            self.0.remove(&start);
        }
        while let Some((&start, &end)) = self.0.range(from..=to.saturating_add(1)).next() {
            to = to.max(end);
            self.0.remove(&start);
        }
        self.0.insert(from, to);
        is_new
    }

    /// Whether a range can be added without one more to keep.
    fn touches(&self, (from, to): Range) -> bool {
        let before = self.0.range(..=to.saturating_add(1)).next_back();
        before.is_some_and(|(_, end)| end.saturating_add(1) >= from)
    }

    fn first(&self) -> Option<u64> {
        self.0.keys().next().copied()
    }

    /// The numbers between `from` and the last one that are in neither this nor `other`.
    fn missing(&self, from: u64, other: &Self) -> Vec<Range> {
        let mut both = self.clone();
        for (&start, &end) in &other.0 {
            both.add((start, end));
        }
        let last = self.0.values().next_back().copied().unwrap_or_default();
        let mut missing = Vec::new();
        let mut next = from;
        for (&start, &end) in &both.0 {
            if start > next && next <= last {
                missing.push((next, (start - 1).min(last)));
            }
            next = next.max(end.saturating_add(1));
        }
        missing
    }
}

/// What is known of one process in one stream.
#[derive(Debug, Default)]
struct Process {
    seen: Numbers,
    reported: Numbers,
    entries: u64,
    repeated: u64,
    /// The server's log in which it was found first.
    log: Option<LogKey>,
}

/// A log at a server: collection and public ID.
type LogKey = (String, String);

/// Entries of a server's log.
#[derive(Debug, Default)]
struct Log {
    read: u64,
    /// What is there no more.
    expired: u64,
}

/// A process of a stream: stream, log, process ID.
pub(crate) type ProcessKey = (String, String, u32);

/// The accounts of everything that was read.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    processes: BTreeMap<ProcessKey, Process>,
    /// Records that reports count without numbers, per stream and log.
    unnumbered: BTreeMap<(String, String), u64>,
    /// Entries without process or number.
    anonymous: u64,
    /// Ranges of all processes.
    ranges: usize,
    /// Numbers and ranges that found no room.
    beyond: u64,
    reports: Vec<(String, DropReport)>,
    reports_left_out: u64,
    /// As many as a server lists.
    logs: BTreeMap<LogKey, Log>,
    /// The one that is being read.
    current: Option<LogKey>,
}

/// Drop reports that are listed; what is beyond is counted.
const MAX_REPORTS: usize = 10_000;

/// The account of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) process: ProcessKey,
    pub(crate) entries: u64,
    pub(crate) repeated: u64,
    /// Missing numbers that reports with numbers explain.
    pub(crate) explained: Vec<Range>,
    /// Numbers before the first one, of a server's log of which some have expired: they have, or what reported them.
    pub(crate) expired: Vec<Range>,
    /// Missing numbers that nothing explains, unless reports without numbers do.
    pub(crate) unexplained: Vec<Range>,
}

impl Gaps {
    /// The entries that follow are of this log at a server.
    pub(crate) fn begin_log(&mut self, collection: &str, id: &str) {
        let key = (collection.to_owned(), id.to_owned());
        self.logs.entry(key.clone()).or_default();
        self.current = Some(key);
    }

    /// So many entries were ever stored in a log that was read.
    pub(crate) fn end_log(&mut self, collection: &str, id: &str, records: u64) {
        if let Some(log) = self.logs.get_mut(&(collection.to_owned(), id.to_owned())) {
            log.expired = records.saturating_sub(log.read);
        }
    }

    /// Enters an entry; false if it was entered before.
    pub(crate) fn add(&mut self, entry: &Entry) -> bool {
        if let Some(log) = self.current.as_ref().and_then(|key| self.logs.get_mut(key)) {
            log.read += 1;
        }
        let key = |proc_id| (entry.stream.clone(), entry.log.clone(), proc_id);
        let mut is_new = true;
        match (entry.proc_id, entry.proc_seq) {
            (Some(proc_id), Some(seq)) => is_new = self.enter(key(proc_id), (seq, seq), false),
            _ => self.anonymous += 1,
        }
        let Body::Drops(reports) = &entry.body else { return is_new };
        for report in reports.iter().filter(|_| is_new) {
            match report.range {
                Some(range) if range.from <= range.to => {
                    self.enter(key(range.proc_id.get()), (range.from.get(), range.to.get()), true);
                }
                _ => {
                    let log = (entry.stream.clone(), entry.log.clone());
                    if self.unnumbered.len() < MAX_PROCESSES || self.unnumbered.contains_key(&log) {
                        let count = self.unnumbered.entry(log).or_default();
                        *count = count.saturating_add(report.count.records);
                    }
                }
            }
            if self.reports.len() < MAX_REPORTS {
                self.reports.push((entry.stream.clone(), *report));
            } else {
                self.reports_left_out += 1;
            }
        }
        is_new
    }

    /// Enters numbers that were seen or reported; false if the first of them was there already.
    fn enter(&mut self, key: ProcessKey, range: Range, is_report: bool) -> bool {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&key) {
            self.beyond += 1;
            return true;
        }
        let log = &self.current;
        let new = || Process { log: log.clone(), ..Process::default() };
        let process = self.processes.entry(key).or_insert_with(new);
        let numbers = if is_report { &mut process.reported } else { &mut process.seen };
        let mut is_new = true;
        if self.ranges < MAX_RANGES || numbers.touches(range) {
            let before = numbers.0.len();
            is_new = numbers.add(range);
            self.ranges = (self.ranges + numbers.0.len()).saturating_sub(before);
        } else {
            self.beyond += 1;
        }
        if !is_report {
            process.entries += 1;
            process.repeated += u64::from(!is_new);
        }
        is_new
    }

    /// The drop reports, each with its stream; and how many more there were.
    pub(crate) fn reports(&self) -> (&[(String, DropReport)], u64) {
        (&self.reports, self.reports_left_out)
    }

    /// Entries that could not be numbered.
    pub(crate) fn anonymous(&self) -> u64 {
        self.anonymous
    }

    /// Numbers and ranges that were too many to be accounted for: what is said to be missing may be among them.
    pub(crate) fn beyond(&self) -> u64 {
        self.beyond
    }

    /// What is missing. `from_one` if everything that was ever recorded should be there.
    pub(crate) fn accounts(&self, from_one: bool) -> Vec<Account> {
        let mut expired: BTreeMap<&LogKey, u64> =
            self.logs.iter().map(|(key, log)| (key, log.expired)).collect();
        let account = |(key, process): (&ProcessKey, &Process)| {
            let first = process.seen.first().unwrap_or(1);
            let from = if from_one { 1 } else { first };
            let none = Numbers::default();
            let all = process.seen.missing(from, &none);
            let unexplained = process.seen.missing(from, &process.reported);
            let explained = without(&all, &unexplained);
            let (before, behind): (Vec<_>, Vec<_>) = unexplained.into_iter().partition(|(_, to)| *to < first);
            let left = process.log.as_ref().and_then(|log| expired.get_mut(log)).filter(|left| **left > 0);
            let (expired, unexplained) = match left {
                Some(left) => {
                    *left = left.saturating_sub(count(&before));
                    (before, behind)
                }
                None => (Vec::new(), [before, behind].concat()),
            };
            let Process { entries, repeated, .. } = *process;
            Account { process: key.clone(), entries, repeated, explained, expired, unexplained }
        };
        self.processes.iter().map(account).collect()
    }

    /// How many missing numbers nothing explains, after reports without numbers are taken into account.
    pub(crate) fn unexplained(&self, from_one: bool) -> u64 {
        let mut missing: BTreeMap<(String, String), u64> = BTreeMap::new();
        for account in self.accounts(from_one) {
            let (stream, log, _) = account.process;
            let sum = missing.entry((stream, log)).or_default();
            *sum = sum.saturating_add(count(&account.unexplained));
        }
        let unreported = |(log, missing): (&(String, String), &u64)| {
            missing.saturating_sub(self.unnumbered.get(log).copied().unwrap_or_default())
        };
        missing.iter().map(unreported).fold(0, u64::saturating_add)
    }
}

/// What is in `all` and not in `some`; both are sorted, and each of `some` lies within one of `all`.
fn without(all: &[Range], some: &[Range]) -> Vec<Range> {
    let mut rest = Vec::new();
    let mut some = some.iter().peekable();
    for &(from, to) in all {
        let mut next = from;
        while let Some(&&(start, end)) = some.peek().filter(|(start, _)| *start <= to) {
            if start > next {
                rest.push((next, start - 1));
            }
            next = end.saturating_add(1);
            some.next();
        }
        if next <= to {
            rest.push((next, to));
        }
    }
    rest
}

/// How many numbers ranges have.
pub(crate) fn count(ranges: &[Range]) -> u64 {
    ranges.iter().fold(0, |sum, (from, to)| (to - from).saturating_add(1).saturating_add(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(lines: &[String]) -> Gaps {
        let mut gaps = Gaps::default();
        for line in lines {
            gaps.add(&Entry::parse("netlog", line).unwrap());
        }
        gaps
    }

    fn entry(seq: u64) -> String {
        format!("{{\"logtail\":{{\"proc_id\":7,\"proc_seq\":{seq}}},\"text\":\"x\"}}")
    }

    fn report(seq: u64, drop: &str) -> String {
        format!("{{\"logtail\":{{\"proc_id\":8,\"proc_seq\":{seq}}},\"tuntrail\":{{\"drops\":[{drop}]}}}}")
    }

    fn of_seven(gaps: &Gaps, from_one: bool) -> Account {
        gaps.accounts(from_one).into_iter().find(|account| account.process.2 == 7).unwrap()
    }

    #[test]
    fn without_loss_nothing_is_missing_in_whatever_order() {
        let gaps = gaps(&[entry(3), entry(1), entry(2), entry(4), entry(2)]);
        let account = of_seven(&gaps, true);
        assert_eq!((account.entries, account.repeated), (5, 1));
        assert_eq!((account.explained, account.unexplained), (vec![], vec![]));
        assert_eq!(gaps.unexplained(true), 0);
    }

    #[test]
    fn numbers_before_the_first_are_missing_only_where_all_should_be() {
        let gaps = gaps(&[entry(5), entry(6)]);
        assert_eq!(gaps.unexplained(false), 0);
        assert_eq!(of_seven(&gaps, true).unexplained, [(1, 4)]);
        assert_eq!(gaps.unexplained(true), 4);
    }

    #[test]
    fn what_has_expired_at_a_server_is_missing_for_a_reason() {
        let at_server = |records: u64| {
            let mut gaps = Gaps::default();
            gaps.begin_log("netlog", "ab");
            for seq in [5, 6, 9] {
                gaps.add(&Entry::parse("netlog", &entry(seq)).unwrap());
            }
            gaps.end_log("netlog", "ab", records);
            let Account { expired, unexplained, .. } = of_seven(&gaps, true);
            (expired, unexplained, gaps.unexplained(true))
        };
        assert_eq!(at_server(7), (vec![(1, 4)], vec![(7, 8)], 2));
        // Some of 1 to 4 may have been dropped, as an entry reported that has expired.
        assert_eq!(at_server(5), (vec![(1, 4)], vec![(7, 8)], 2));
        assert_eq!(at_server(3), (vec![], vec![(1, 4), (7, 8)], 6), "nothing has expired");
    }

    #[test]
    fn what_has_expired_of_one_log_does_not_excuse_another() {
        let mut gaps = Gaps::default();
        for (id, records) in [("ab", 6), ("cd", 1)] {
            gaps.begin_log("netlog", id);
            let line = format!(r#"{{"logtail":{{"proc_id":7,"proc_seq":5,"id":"{id}"}}}}"#);
            gaps.add(&Entry::parse("netlog", &line).unwrap());
            gaps.end_log("netlog", id, records);
        }
        assert_eq!(gaps.unexplained(true), 4, "those of the second");
    }

    #[test]
    fn a_report_explains_its_numbers_and_no_others() {
        let drop = r#"{"reason":"rotation","records":3,"bytes":1,"proc_id":7,"from_seq":3,"to_seq":5}"#;
        let gaps = gaps(&[entry(1), entry(2), entry(8), report(1, drop)]);
        let account = of_seven(&gaps, true);
        assert_eq!(account.explained, [(3, 5)]);
        assert_eq!(account.unexplained, [(6, 7)]);
        assert_eq!(gaps.unexplained(true), 2);
        assert_eq!(gaps.reports().0.len(), 1);
    }

    #[test]
    fn a_report_without_numbers_explains_as_many_as_it_counts() {
        let gaps = gaps(&[entry(1), entry(5), report(1, r#"{"reason":"queue_full","records":2,"bytes":1}"#)]);
        assert_eq!(of_seven(&gaps, true).unexplained, [(2, 4)]);
        assert_eq!(gaps.unexplained(true), 1);
    }

    #[test]
    fn a_report_in_the_middle_explains_the_middle() {
        let drop = r#"{"reason":"rotation","records":3,"bytes":1,"proc_id":7,"from_seq":4,"to_seq":5}"#;
        let gaps = gaps(&[entry(1), entry(9), report(1, drop), entry(12)]);
        let account = of_seven(&gaps, true);
        assert_eq!((account.explained, account.unexplained), (vec![(4, 5)], vec![(2, 3), (6, 8), (10, 11)]));
    }

    #[test]
    fn a_repeated_entry_is_told_and_its_report_is_entered_once() {
        let line = report(1, r#"{"reason":"queue_full","records":2,"bytes":1}"#);
        let mut gaps = gaps(std::slice::from_ref(&line));
        assert!(!gaps.add(&Entry::parse("netlog", &line).unwrap()));
        assert_eq!(gaps.reports().0.len(), 1);
        assert!(gaps.add(&Entry::parse("flowlog", &line).unwrap()), "another stream has its own numbers");
    }

    #[test]
    fn made_up_numbers_and_processes_are_bounded_and_counted() {
        let mut gaps = Gaps::default();
        for number in 0..250_000_u64 {
            let (process, seq) = (number % 20_000, number * 2);
            let line = format!("{{\"logtail\":{{\"proc_id\":{process},\"proc_seq\":{seq}}}}}");
            assert!(gaps.add(&Entry::parse("netlog", &line).unwrap()));
        }
        assert!(gaps.ranges <= MAX_RANGES && gaps.processes.len() <= MAX_PROCESSES);
        let kept: usize = gaps.processes.values().map(|process| process.seen.0.len()).sum();
        assert_eq!((kept, gaps.ranges as u64 + gaps.beyond()), (gaps.ranges, 250_000));
        assert!(gaps.unexplained(true) > 0);
    }

    #[test]
    fn absurd_numbers_are_taken_as_they_are() {
        let drop = r#"{"reason":"rotation","records":18446744073709551615,"bytes":1,"proc_id":7,"from_seq":9,"to_seq":18446744073709551615}"#;
        let turned = r#"{"reason":"rotation","records":1,"bytes":1,"proc_id":7,"from_seq":9,"to_seq":2}"#;
        let gaps = gaps(&[entry(u64::MAX), entry(8), report(1, drop), report(2, turned)]);
        assert_eq!(of_seven(&gaps, false).unexplained, []);
        assert_eq!(gaps.unexplained(false), 0);
    }
}
