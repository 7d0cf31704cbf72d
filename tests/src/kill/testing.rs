//! Helpers of this module's tests.

use tuntrail::store::{DropCount, DropReason, DropReport, ProcId, ProcSeq, SeqRange};

/// A report about `records` records, with the range (process, first, last).
pub(super) fn report(reason: DropReason, range: Option<(u32, u64, u64)>, records: u64) -> DropReport {
    let range = range.map(|(proc_id, from, to)| SeqRange {
        proc_id: ProcId::new(proc_id).unwrap(),
        from: ProcSeq::new(from),
        to: ProcSeq::new(to),
    });
    DropReport { reason, count: DropCount { records, bytes: 0 }, range }
}
