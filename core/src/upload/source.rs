//! Where the uploader takes entries from.
//!
//! What a pass needs of a stream, seen from its side: immutable segments that are read, delivered and then forgotten.
//! The store's streams are such sources; tests use one in memory. Called on the upload thread only.

use std::sync::Arc;

use super::entry::EntryIds;

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
}

/// The contents of one segment.
pub(super) trait SegmentData {
    /// All entries, in the order of their sequence numbers.
    fn entries(&self) -> Vec<Entry<'_>>;
}

/// A closed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentRef {
    /// Age rank among the segments of its directory.
    pub(super) generation: u64,
    /// The process that wrote it.
    pub(super) proc_id: u32,
    /// Entries in it.
    pub(super) records: u32,
}

/// Why a segment can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadFailure {
    /// The store has dropped it to make room, and reported that.
    Gone,
    /// Its checksums don't hold.
    Corrupt(String),
    /// It may be readable another time.
    Unavailable(String),
}

/// One entry as the store holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) kind: EntryKind,
    pub(super) ids: EntryIds,
    pub(super) payload: &'a [u8],
}

/// What an entry's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// An entry encoded without ids.
    Data,
    /// The JSON of a report of the store itself.
    Meta,
}

/// Why the uploader gave up entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveUp {
    /// The server refuses the content (400, 422).
    Rejected,
    /// The server refuses the size of a single entry (413).
    TooLarge,
}

/// Consecutive entries that will not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DroppedRange {
    pub(super) reason: GiveUp,
    pub(super) proc_id: u32,
    pub(super) from_seq: u64,
    pub(super) to_seq: u64,
    pub(super) records: u64,
    /// Sum of their payloads.
    pub(super) bytes: u64,
}

impl DroppedRange {
    /// The range of `entries`, which follow each other, or `None` if there are none.
    pub(super) fn of(entries: &[Entry<'_>], reason: GiveUp) -> Option<Self> {
        let (first, last) = (entries.first()?, entries.last()?);
        Some(Self {
            reason,
            proc_id: first.ids.proc_id,
            from_seq: first.ids.proc_seq,
            to_seq: last.ids.proc_seq,
            records: entries.len() as u64,
            bytes: entries.iter().map(|entry| entry.payload.len() as u64).sum(),
        })
    }
}
