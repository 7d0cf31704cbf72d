//! What the writer knows of the sealed segments: its own and those it has claimed from another role.

use std::collections::BTreeMap;

use super::{
    SegmentId, SegmentInfo,
    frame::{FRAME_LEN, HEADER_LEN},
    report::Ledger,
};

/// What a segment may need beside the frames of its data: header, a report, and the frame of one record.
pub(super) const OVERHEAD: usize = HEADER_LEN + 2 * FRAME_LEN + Ledger::MAX_JSON;

/// Sealed segments a stream keeps at most. 5 MiB hold some 150 compressed segments of 256 KiB, or 500 of 64 KiB;
/// beyond that, starts would cost too many reads of headers.
pub(super) const MAX_FILES: usize = 512;

/// Which directory a segment is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// That of claims, by the number of the role they are from.
    Claimed(usize),
    /// The writer's own.
    Own,
}

/// A sealed segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) info: SegmentInfo,
    pub(super) place: Place,
    /// Whether drop reports may be in it.
    pub(super) has_meta: bool,
    /// Records found damaged and reported already.
    pub(super) damaged: u32,
    /// In the ledger already; to be removed as soon as the ledger is on disk.
    pub(super) condemned: bool,
    /// Condemned, and could not be removed.
    pub(super) stuck: bool,
}

impl Entry {
    pub(super) fn new(info: SegmentInfo, place: Place, has_meta: bool) -> Self {
        Self { info, place, has_meta, damaged: 0, condemned: false, stuck: false }
    }
}

/// The sealed segments of a stream.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    entries: BTreeMap<SegmentId, Entry>,
    disk_bytes: u64,
}

impl Catalog {
    pub(super) fn insert(&mut self, entry: Entry) {
        self.remove(entry.info.id);
        self.disk_bytes += entry.info.disk_bytes;
        self.entries.insert(entry.info.id, entry);
    }

    pub(super) fn remove(&mut self, id: SegmentId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.disk_bytes -= entry.info.disk_bytes;
        Some(entry)
    }

    pub(super) fn get(&self, id: SegmentId) -> Option<Entry> {
        self.entries.get(&id).copied()
    }

    pub(super) fn get_mut(&mut self, id: SegmentId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    pub(super) fn stuck(&self) -> Vec<Entry> {
        self.entries.values().filter(|entry| entry.stuck).copied().collect()
    }

    /// Bytes and files that stay when the condemned ones are gone.
    pub(super) fn remaining(&self) -> (u64, usize) {
        let kept = self.entries.values().filter(|entry| !entry.condemned || entry.stuck);
        kept.fold((0, 0), |(bytes, files), entry| (bytes + entry.info.disk_bytes, files + 1))
    }

    pub(super) fn condemned(&self) -> Vec<Entry> {
        self.entries.values().filter(|entry| entry.condemned).copied().collect()
    }

    /// Those in the writer's own directory.
    pub(super) fn own(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.entries.values().filter(|entry| entry.place == Place::Own).map(|entry| entry.info.id)
    }

    /// What readers may see, oldest first. Claims come before all others: the process that wrote them has ended
    /// or is behind, and generations of two directories say nothing about each other.
    pub(super) fn list(&self) -> Vec<SegmentInfo> {
        let mut visible: Vec<_> = self.entries.values().filter(|entry| !entry.condemned).collect();
        // Stable, and the map has them in the order of their ids.
        visible.sort_by_key(|entry| entry.place);
        visible.into_iter().map(|entry| entry.info).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
