//! Where the uploader takes entries from.
//!
//! What a pass needs of a stream, seen from its side: immutable segments that are read, delivered and then forgotten.
//! The store's streams are such sources; tests use one in memory. Called by whoever drives the pass: the upload thread,
//! or the host's thread that asks for tasks.

use std::{fmt, sync::Arc};

use super::entry::EntryIds;
use crate::store::{
    DropReason, ProcId, ProcSeq, ReadError, RecordKind, Segment, SegmentId, SegmentInfo, StreamHandle,
    drop_reports,
};

/// A stream of entries that can be uploaded.
pub(super) trait SegmentSource: Send + Sync {
    /// The stream's name, as in the store.
    fn name(&self) -> &str;

    /// Closes the segment being written, unless it is empty, and lists all closed ones, oldest first.
    fn seal(&self) -> Result<Vec<SegmentRef>, String>;

    /// The entries of a segment. They stay readable while the value lives.
    fn read(&self, segment: &SegmentRef) -> Result<Arc<dyn SegmentData>, ReadFailure>;

    /// The segment was delivered, or what was not is in drop reports: it can go. One that is gone is no error.
    fn acknowledge(&self, segment: &SegmentRef) -> Result<(), String>;

    /// The segment can't be read and never will: it goes, with a drop report for its reader.
    fn discard_corrupt(&self, segment: &SegmentRef) -> Result<(), String>;

    /// Records that a part of a segment will not be delivered.
    fn report_drop(&self, drop: &DroppedRange);

    /// Records once more what the meta record with this payload reported: it will not be delivered itself.
    fn repeat_reports(&self, meta: &[u8]);
}

/// The contents of one segment.
pub(super) trait SegmentData: Send + Sync {
    /// All entries, in the order they were written.
    fn entries(&self) -> Vec<Entry<'_>>;
}

/// A closed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentRef {
    pub(super) id: SegmentId,
    /// Entries in it.
    pub(super) records: u32,
    /// Their bytes, before compression.
    pub(super) bytes: u64,
}

impl From<&SegmentInfo> for SegmentRef {
    fn from(info: &SegmentInfo) -> Self {
        Self { id: info.id, records: info.records, bytes: info.raw_bytes.into() }
    }
}

/// Why a segment can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadFailure {
    /// The store has dropped it to make room, and reported that.
    Gone,
    /// Its checksums don't hold.
    Corrupt(String),
    /// It may be readable another time, or by a later version.
    Unavailable(String),
}

impl fmt::Display for ReadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the segment is gone"),
            Self::Corrupt(error) | Self::Unavailable(error) => f.write_str(error),
        }
    }
}

/// One entry as the store holds it: encoded without ids, or the JSON of a report of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) kind: RecordKind,
    pub(super) ids: EntryIds,
    pub(super) payload: &'a [u8],
}

/// Entries of one process that will not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DroppedRange {
    pub(super) reason: DropReason,
    pub(super) proc_id: ProcId,
    /// The lowest and the highest sequence number.
    pub(super) seqs: (ProcSeq, ProcSeq),
    pub(super) records: u64,
    /// Sum of their payloads.
    pub(super) bytes: u64,
}

impl DroppedRange {
    /// The data among `entries`, or `None` if there are none.
    pub(super) fn of(entries: &[Entry<'_>], reason: DropReason, proc_id: ProcId) -> Option<Self> {
        let data = || entries.iter().filter(|entry| entry.kind == RecordKind::Data);
        let seqs = || data().map(|entry| entry.ids.proc_seq);
        Some(Self {
            reason,
            proc_id,
            seqs: (ProcSeq::new(seqs().min()?), ProcSeq::new(seqs().max()?)),
            records: data().count() as u64,
            bytes: data().map(|entry| entry.payload.len() as u64).sum(),
        })
    }
}

impl SegmentSource for StreamHandle {
    fn name(&self) -> &str {
        Self::name(self).as_str()
    }

    fn seal(&self) -> Result<Vec<SegmentRef>, String> {
        let segments = Self::seal(self).map_err(|error| error.to_string())?;
        Ok(segments.into_iter().map(|info| SegmentRef::from(&info)).collect())
    }

    fn read(&self, segment: &SegmentRef) -> Result<Arc<dyn SegmentData>, ReadFailure> {
        match Self::read(self, &segment.id) {
            Ok(segment) => Ok(Arc::new(segment)),
            Err(ReadError::NotFound { .. }) => Err(ReadFailure::Gone),
            Err(error @ ReadError::Corrupt { .. }) => Err(ReadFailure::Corrupt(error.to_string())),
            Err(error) => Err(ReadFailure::Unavailable(error.to_string())),
        }
    }

    fn acknowledge(&self, segment: &SegmentRef) -> Result<(), String> {
        Self::acknowledge(self, &segment.id).map_err(|error| error.to_string())
    }

    fn discard_corrupt(&self, segment: &SegmentRef) -> Result<(), String> {
        self.discard(&segment.id, DropReason::Corrupt).map_err(|error| error.to_string())
    }

    fn report_drop(&self, drop: &DroppedRange) {
        let (from, to) = drop.seqs;
        Self::report_drop(self, drop.reason, drop.proc_id, from, to, drop.records, drop.bytes);
    }

    fn repeat_reports(&self, meta: &[u8]) {
        for report in drop_reports(meta) {
            self.repeat_report(report);
        }
    }
}

impl SegmentData for Segment {
    fn entries(&self) -> Vec<Entry<'_>> {
        let proc_id = self.info().proc_id.get();
        self.records()
            .map(|record| Entry {
                kind: record.kind,
                ids: EntryIds { proc_id, proc_seq: record.seq.get() },
                payload: record.payload,
            })
            .collect()
    }
}
