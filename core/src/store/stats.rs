//! Figures about a stream, for the host's screens and diagnostics.

use std::io;

use super::{DropCount, DropReason};

/// What was given up, by reason, since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropTotals {
    counts: [DropCount; DropReason::ALL.len()],
}

impl DropTotals {
    /// The count for one reason.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> DropCount {
        self.iter().find(|(of, _)| *of == reason).map(|(_, count)| count).unwrap_or_default()
    }

    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> DropCount {
        let mut total = DropCount::default();
        for (_, count) in self.iter() {
            total.add(count);
        }
        total
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, DropCount)> + '_ {
        DropReason::ALL.into_iter().zip(self.counts)
    }

    pub(super) fn add(&mut self, reason: DropReason, count: DropCount) {
        if let Some((_, slot)) = DropReason::ALL.iter().zip(&mut self.counts).find(|(of, _)| **of == reason) {
            slot.add(count);
        }
    }

    pub(super) fn plus(mut self, other: &Self) -> Self {
        for (reason, count) in other.iter() {
            self.add(reason, count);
        }
        self
    }
}

/// Whether a stream can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamState {
    /// The files of earlier processes are still being looked at. Records are accepted.
    #[default]
    Recovering,
    /// All is well.
    Ready,
    /// The last write failed. The newest 64 KiB of records are kept in memory; the next record that comes after
    /// 1, 2, 4 … 60 minutes makes the stream try again.
    Degraded {
        /// [`DropReason::DiskFull`] or [`DropReason::IoError`].
        reason: DropReason,
        /// What the system said.
        error: io::ErrorKind,
        /// Attempts that failed in a row.
        failures: u32,
    },
    /// The store was shut down.
    Closed,
}

/// A snapshot of a stream's figures. Counts start at the opening of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// Records that `append` took.
    pub appended: u64,
    /// Data records that were given to the system.
    pub written: u64,
    /// Records that are in the queue or in the memory of a degraded stream.
    pub pending: u64,
    /// Calls of `append` after the store was closed. They appear in no report.
    pub refused_closed: u64,
    /// Records given up, of this and of earlier processes.
    pub dropped: DropTotals,
    /// Bytes of the stream's files in this role's directory, the open one, claims and the reserve included.
    pub disk_bytes: u64,
    /// Sealed segments, claimed ones included.
    pub segments: usize,
    /// Files that are kept but can't be used: of a later format version, or unreadable at present.
    pub skipped_files: usize,
    /// Files that the disk did not confirm to have written, with [`Durability::OnSeal`](super::Durability::OnSeal).
    /// They are used as if it had; a power loss may cost them.
    pub sync_failures: u64,
    /// Whether the stream can write.
    pub state: StreamState,
}
