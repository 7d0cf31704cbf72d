//! The result, as it is printed.

use std::collections::BTreeMap;

use serde::Serialize;
use tuntrail::store::DropReport;

use super::account::Tally;

/// Findings that are described; the rest are only counted.
const MAX_FINDINGS: usize = 32;

/// What the harness has found. `appended` is the sum of `delivered`, `on_disk`, `reported_dropped`, `revoked`,
/// `unflushed_lost` and `unaccounted`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct KillReport {
    /// Children that were started.
    pub cycles: u64,
    /// Those of them that were killed; the others ended in order.
    pub kills: u64,
    /// Records that `append` took.
    pub appended: u64,
    /// Records at the server.
    pub delivered: u64,
    /// Records that could still be read at the end, and are not at the server.
    pub on_disk: u64,
    /// Missing records that a drop report counts.
    pub reported_dropped: u64,
    /// Records deleted because consent was withdrawn.
    pub revoked: u64,
    /// Records whose `flush` had not returned before the kill, and which are lost: nobody was promised more.
    pub unflushed_lost: u64,
    /// Entries that the server received more than once, and recognised.
    pub duplicates: u64,
    /// Records that were promised and are nowhere. Must be 0.
    pub unaccounted: u64,
    /// Records found altered, in another's place, or in damaged segments. Must be 0.
    pub corrupt: u64,
    /// What was left, sent or recognisable after consent was withdrawn. Must be 0.
    pub leaked: u64,
    /// Withdrawals of consent.
    pub revocations: u64,
    /// Those of them that were cut short by a kill and finished by a later start.
    pub interrupted_revocations: u64,
    /// The most bytes that the stream's files took after a cycle.
    pub max_disk_bytes: u64,
    /// The most they may take.
    pub cap_bytes: u64,
    /// Sum of the drop reports found, by reason. It may be more than what was dropped:
    /// a kill between report and removal makes the store report twice.
    pub reports: BTreeMap<String, u64>,
    /// Whether the disk was full all the time.
    pub small_disk: bool,
    /// What reproduces the run.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// What is wrong, described for people. Not part of the JSON.
    #[serde(skip)]
    pub findings: Vec<String>,
}

impl KillReport {
    /// Whether every promise was kept.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.unaccounted == 0
            && self.corrupt == 0
            && self.leaked == 0
            && self.max_disk_bytes <= self.cap_bytes
    }

    pub(super) fn add(&mut self, tally: Tally, reports: &[DropReport], problems: &[String]) {
        self.appended += tally.appended;
        self.delivered += tally.delivered;
        self.on_disk += tally.on_disk;
        self.reported_dropped += tally.reported_dropped;
        self.revoked += tally.revoked;
        self.unflushed_lost += tally.unflushed_lost;
        self.unaccounted += tally.unaccounted;
        self.corrupt += tally.corrupt;
        for report in reports {
            *self.reports.entry(report.reason.to_string()).or_default() += report.count.records;
        }
        problems.iter().for_each(|problem| self.describe(problem.clone()));
    }

    pub(super) fn leak(&mut self, finding: String) {
        self.leaked += 1;
        self.describe(finding);
    }

    fn describe(&mut self, finding: String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_passes_only_if_nothing_is_wrong() {
        let good = KillReport { cap_bytes: 100, max_disk_bytes: 100, ..KillReport::default() };
        assert!(good.passed());
        assert!(!KillReport { max_disk_bytes: 101, ..good.clone() }.passed(), "over the cap");
        assert!(!KillReport { unaccounted: 1, ..good.clone() }.passed());
        assert!(!KillReport { corrupt: 1, ..good.clone() }.passed());
        assert!(!KillReport { leaked: 1, ..good }.passed());
    }
}
