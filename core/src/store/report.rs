//! Drop reports: the record of what is missing, and why.
//!
//! Whatever the store or the uploader gives up is entered in a [`Ledger`], which is written into the stream as a
//! meta record *before* the data goes. When a segment with such a record is itself dropped, the reports in it are
//! entered again: a report dies only by being delivered.
//!
//! A ledger is bounded. Touching ranges of one process and reason are merged; beyond [`Ledger::MAX_RANGES`] the
//! oldest range gives up its numbers and joins the total of its reason. Counts are never lost that way.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ProcId, ProcSeq};

/// Why records were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The stream was at its cap: the oldest segment made room.
    Rotation,
    /// The disk was full.
    DiskFull,
    /// The writer was behind, so the newest record was not taken.
    QueueFull,
    /// Bytes on the disk were damaged or torn.
    Corrupt,
    /// The server refused it for ever.
    Rejected,
    /// Larger than a record, or than the server, allows.
    TooLarge,
    /// A file operation failed.
    IoError,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Rotation,
        Self::DiskFull,
        Self::QueueFull,
        Self::Corrupt,
        Self::Rejected,
        Self::TooLarge,
        Self::IoError,
    ];

    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rotation => "rotation",
            Self::DiskFull => "disk_full",
            Self::QueueFull => "queue_full",
            Self::Corrupt => "corrupt",
            Self::Rejected => "rejected",
            Self::TooLarge => "too_large",
            Self::IoError => "io_error",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A number of records and their payload bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropCount {
    /// Data records.
    pub records: u64,
    /// Their payload bytes, without framing.
    pub bytes: u64,
}

impl DropCount {
    pub(super) fn add(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The sequence numbers from `from` to `to`, both included, of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqRange {
    /// The process.
    pub proc_id: ProcId,
    /// The first number.
    pub from: ProcSeq,
    /// The last number.
    pub to: ProcSeq,
}

/// One entry of a drop report.
///
/// `count` is exact unless a crash came between report and removal (then it may be counted twice, never less).
/// The range covers every lost record; meta records inside it are not counted, a few of its records may have been
/// delivered all the same, and it may end a little beyond what was ever written. The counts are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropReport {
    /// Why.
    pub reason: DropReason,
    /// How much.
    pub count: DropCount,
    /// Which ones; `None` when too many ranges had to be added up.
    pub range: Option<SeqRange>,
}

impl DropReport {
    /// Adds `other` if the two can be one entry without losing numbers.
    fn absorb(&mut self, other: &Self) -> bool {
        if self.reason != other.reason {
            return false;
        }
        let range = match (self.range, other.range) {
            (None, None) => None,
            (Some(a), Some(b))
                if a.proc_id == b.proc_id
                    && a.from.get() <= b.to.get().saturating_add(1)
                    && b.from.get() <= a.to.get().saturating_add(1) =>
            {
                Some(SeqRange { proc_id: a.proc_id, from: a.from.min(b.from), to: a.to.max(b.to) })
            }
            _ => return false,
        };
        self.range = range;
        self.count.add(other.count);
        true
    }
}

/// The drop reports that wait to be written. At most [`Self::MAX_RANGES`] with a range and one total per reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    entries: Vec<DropReport>,
}

impl Ledger {
    /// Ranges in one report. 32 of them and the totals stay below [`Self::MAX_JSON`], a small part of a segment.
    pub(super) const MAX_RANGES: usize = 32;

    /// More than the longest JSON of a full ledger: 32 ranges of at most 165 bytes, 7 totals of at most 90.
    pub(super) const MAX_JSON: usize = 6 * 1024;

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &DropReport> {
        self.entries.iter()
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> &[DropReport] {
        &self.entries
    }

    pub(super) fn add(&mut self, report: DropReport) {
        if self.entries.iter_mut().rev().any(|entry| entry.absorb(&report)) {
            return;
        }
        self.entries.push(report);
        let ranges = self.entries.iter().filter(|entry| entry.range.is_some()).count();
        if ranges > Self::MAX_RANGES
            && let Some(oldest) = self.entries.iter().position(|entry| entry.range.is_some())
        {
            let folded = DropReport { range: None, ..self.entries.remove(oldest) };
            if !self.entries.iter_mut().any(|entry| entry.absorb(&folded)) {
                self.entries.push(folded);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for report in &other.entries {
            self.add(*report);
        }
    }

    /// The payload of a meta record.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let drops = self.entries.iter().map(Wire::from).collect();
        // Plain numbers and names: serialisation can't fail. An empty payload would only lose the report.
        serde_json::to_vec(&Payload { drops }).unwrap_or_default()
    }

    /// Reads a meta record's payload. What is not understood is left out.
    pub(super) fn from_json(payload: &[u8]) -> Self {
        let mut ledger = Self::default();
        for report in drop_reports(payload) {
            ledger.add(report);
        }
        ledger
    }
}

/// The drop reports in the payload of a meta record, for tools and tests. Empty if it holds none.
#[must_use]
pub fn drop_reports(payload: &[u8]) -> Vec<DropReport> {
    let payload: Payload = serde_json::from_slice(payload).unwrap_or_default();
    payload.drops.iter().map(DropReport::from).collect()
}

#[derive(Default, Serialize, Deserialize)]
struct Payload {
    #[serde(default)]
    drops: Vec<Wire>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    reason: DropReason,
    records: u64,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proc_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from_seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to_seq: Option<u64>,
}

impl From<&DropReport> for Wire {
    fn from(report: &DropReport) -> Self {
        Self {
            reason: report.reason,
            records: report.count.records,
            bytes: report.count.bytes,
            proc_id: report.range.map(|range| range.proc_id.get()),
            from_seq: report.range.map(|range| range.from.get()),
            to_seq: report.range.map(|range| range.to.get()),
        }
    }
}

impl From<&Wire> for DropReport {
    fn from(wire: &Wire) -> Self {
        let range = match (wire.proc_id.and_then(ProcId::new), wire.from_seq, wire.to_seq) {
            (Some(proc_id), Some(from), Some(to)) => {
                Some(SeqRange { proc_id, from: ProcSeq::new(from), to: ProcSeq::new(to) })
            }
            _ => None,
        };
        Self { reason: wire.reason, count: DropCount { records: wire.records, bytes: wire.bytes }, range }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(reason: DropReason, proc_id: u32, from: u64, to: u64) -> DropReport {
        let range = SeqRange {
            proc_id: ProcId::new(proc_id).unwrap(),
            from: ProcSeq::new(from),
            to: ProcSeq::new(to),
        };
        let records = to.wrapping_sub(from).saturating_add(1);
        DropReport {
            reason,
            count: DropCount { records, bytes: records.saturating_mul(10) },
            range: Some(range),
        }
    }

    #[test]
    fn touching_ranges_of_one_process_and_reason_become_one() {
        let mut ledger = Ledger::default();
        ledger.add(report(DropReason::Rotation, 7, 1, 10));
        ledger.add(report(DropReason::Rotation, 7, 11, 20));
        ledger.add(report(DropReason::Rotation, 8, 21, 30));
        ledger.add(report(DropReason::Corrupt, 7, 21, 30));
        ledger.add(report(DropReason::Rotation, 7, 40, 50));
        assert_eq!(ledger.entries().len(), 4);
        assert_eq!(ledger.entries()[0], report(DropReason::Rotation, 7, 1, 20));
    }

    #[test]
    fn the_json_has_the_documented_fields_and_reads_back() {
        let mut ledger = Ledger::default();
        ledger.add(report(DropReason::QueueFull, 7, 3, 4));
        let json = ledger.to_json();
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"{"drops":[{"reason":"queue_full","records":2,"bytes":20,"proc_id":7,"from_seq":3,"to_seq":4}]}"#
        );
        assert_eq!(Ledger::from_json(&json), ledger);
        assert!(Ledger::from_json(br#"{"started":true}"#).is_empty());
        assert!(Ledger::from_json(b"\xff").is_empty());
    }

    #[test]
    fn beyond_the_limit_the_oldest_ranges_become_totals_and_no_count_is_lost() {
        let mut ledger = Ledger::default();
        for index in 0..10_000_u32 {
            let reason = DropReason::ALL[index as usize % DropReason::ALL.len()];
            ledger.add(report(reason, index + 1, 1, 2));
        }
        let ranges = ledger.entries().iter().filter(|entry| entry.range.is_some()).count();
        assert_eq!(ranges, Ledger::MAX_RANGES);
        assert_eq!(ledger.entries().len(), Ledger::MAX_RANGES + DropReason::ALL.len());
        assert_eq!(ledger.entries().iter().map(|entry| entry.count.records).sum::<u64>(), 20_000);
    }

    #[test]
    fn the_longest_json_stays_below_its_bound() {
        let mut ledger = Ledger::default();
        for index in 0..1_000_u32 {
            let reason = DropReason::ALL[index as usize % DropReason::ALL.len()];
            let mut report = report(reason, u32::MAX - index, u64::MAX - 1, u64::MAX);
            report.count = DropCount { records: u64::MAX, bytes: u64::MAX };
            ledger.add(report);
        }
        assert!(ledger.to_json().len() <= Ledger::MAX_JSON, "{}", ledger.to_json().len());
    }
}
