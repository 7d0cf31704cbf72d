//! The memory of a degraded stream: the newest records, up to 64 KiB.

use std::collections::VecDeque;

use super::ProcSeq;

/// What a network extension with 50 MB in all can spare for each stream while its disk is full.
pub(super) const RING_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Ring {
    records: VecDeque<(ProcSeq, Vec<u8>)>,
    bytes: usize,
}

impl Ring {
    /// Takes a record in. While the ring is over its size, the caller takes the oldest out with [`Self::overflow`].
    pub(super) fn push(&mut self, seq: ProcSeq, payload: Vec<u8>) {
        self.bytes += payload.len();
        self.records.push_back((seq, payload));
    }

    /// The oldest record, if there is more than fits.
    pub(super) fn overflow(&mut self) -> Option<(ProcSeq, Vec<u8>)> {
        if self.bytes > RING_BYTES { self.pop() } else { None }
    }

    pub(super) fn pop(&mut self) -> Option<(ProcSeq, Vec<u8>)> {
        let record = self.records.pop_front()?;
        self.bytes -= record.1.len();
        Some(record)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}
