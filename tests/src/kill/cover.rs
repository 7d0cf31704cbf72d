//! Which of the missing records the drop reports speak for.
//!
//! A report speaks for as many records as it counts, and only for those in its range. Each missing record needs one
//! report that still has something left for it. Ranges may overlap, since a kill between report and removal makes the
//! store report twice; giving each record the fitting range that ends first leaves the fewest without any.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use tuntrail::store::{DropReason, DropReport};

/// What the reports have left to speak for.
#[derive(Debug, Default)]
pub(super) struct Cover {
    ranges: BTreeMap<u32, Vec<Range>>,
    /// The sum of the reports that have lost their range.
    totals: u64,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    from: u64,
    to: u64,
    left: u64,
}

impl Cover {
    pub(super) fn new(reports: &[DropReport]) -> Self {
        let mut cover = Self::default();
        for report in reports.iter().filter(|report| speaks(report.reason)) {
            let left = report.count.records;
            match report.range {
                Some(range) => {
                    let range_of = cover.ranges.entry(range.proc_id.get()).or_default();
                    range_of.push(Range { from: range.from.get(), to: range.to.get(), left });
                }
                None => cover.totals += left,
            }
        }
        for ranges in cover.ranges.values_mut() {
            ranges.sort_by_key(|range| range.from);
        }
        cover
    }

    /// Takes from the ranges what they say about `missing`, sequence numbers in rising order. Returns how many of them
    /// no range speaks for.
    pub(super) fn take(&mut self, proc_id: u32, missing: &[u64]) -> u64 {
        let Some(ranges) = self.ranges.get_mut(&proc_id) else { return missing.len() as u64 };
        let mut uncovered = 0;
        let mut coming = ranges.iter_mut().peekable();
        // Ranges that have begun, by their ends.
        let mut open: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        let mut begun: Vec<&mut Range> = Vec::new();
        for &seq in missing {
            while let Some(range) = coming.next_if(|range| range.from <= seq) {
                open.push(Reverse((range.to, begun.len())));
                begun.push(range);
            }
            let mut covered = false;
            while let Some(&Reverse((to, index))) = open.peek() {
                let range = begun.get_mut(index).filter(|range| to >= seq && range.left > 0);
                if let Some(range) = range {
                    range.left -= 1;
                    covered = true;
                    break;
                }
                open.pop();
            }
            uncovered += u64::from(!covered);
        }
        uncovered
    }

    /// Takes up to `missing` from the reports without a range. Returns how many are left uncovered.
    pub(super) fn take_totals(&mut self, missing: u64) -> u64 {
        let taken = missing.min(self.totals);
        self.totals -= taken;
        missing - taken
    }
}

/// Whether a report of this kind can explain why a record is missing that `append` took. Records refused by `append`
/// are nobody's loss, and no kill may damage what was flushed.
fn speaks(reason: DropReason) -> bool {
    !matches!(reason, DropReason::QueueFull | DropReason::TooLarge | DropReason::Corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kill::testing::report;

    #[test]
    fn a_report_speaks_for_its_range_and_no_more_than_it_counts() {
        let mut cover = Cover::new(&[report(DropReason::Rotation, Some((7, 10, 19)), 3)]);
        assert_eq!(cover.take(7, &[9, 10, 15, 20]), 2);
        assert_eq!(cover.take(7, &[11, 12]), 1);
        assert_eq!(cover.take(8, &[10]), 1, "another process");
    }

    #[test]
    fn overlapping_ranges_are_used_as_well_as_can_be() {
        let wide = report(DropReason::Rotation, Some((7, 1, 100)), 1);
        let narrow = report(DropReason::DiskFull, Some((7, 1, 5)), 2);
        let mut cover = Cover::new(&[wide, narrow]);
        assert_eq!(cover.take(7, &[3, 4, 50]), 0);
        assert_eq!(cover.take(7, &[1, 99]), 2);
    }

    #[test]
    fn totals_speak_for_any_record_once() {
        let mut cover = Cover::new(&[report(DropReason::IoError, None, 5)]);
        assert_eq!(cover.take_totals(3), 0);
        assert_eq!(cover.take_totals(3), 1);
    }

    #[test]
    fn reports_of_refused_and_of_damaged_records_explain_no_loss() {
        for reason in [DropReason::QueueFull, DropReason::TooLarge, DropReason::Corrupt] {
            let mut cover = Cover::new(&[report(reason, Some((7, 1, 9)), 9), report(reason, None, 9)]);
            assert_eq!((cover.take(7, &[5]), cover.take_totals(1)), (1, 1), "{reason}");
        }
    }
}
