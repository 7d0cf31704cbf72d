//! What a stream does when it can't write: keep the newest records in memory, and try again now and then.
//!
//! There is no timer for that: the next record that comes after the pause makes the attempt.

use std::{
    io::{self, ErrorKind},
    mem,
    time::Duration,
};

use super::{
    DropCount, DropReason, DropReport, ProcSeq, RecordKind, SeqRange, StoreError,
    dir::Form,
    report::Ledger,
    stream::{Moment, Stream},
};
use crate::clock::Instant;

/// The pause after the first failure; it doubles up to [`MAX_PAUSE`]. No timer: the next record after it tries.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Long enough to leave a full phone alone, short enough to record the same day.
const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Why a stream can't write at present.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) reason: DropReason,
    pub(super) error: ErrorKind,
    pub(super) retry_at: Instant,
}

impl Stream {
    /// From now on records stay in memory, beginning with those that are not written.
    pub(super) fn fail(&mut self, error: &io::Error, at: Moment) {
        let reason = if is_full(error) { DropReason::DiskFull } else { DropReason::IoError };
        let doublings = self.failures.min(6);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(Failure { reason, error: error.kind(), retry_at: at.now + pause });
        let Some(active) = self.active.take() else { return };
        for record in active.unwritten() {
            match record.kind {
                RecordKind::Data => self.hold(record.seq, record.payload.to_vec()),
                RecordKind::Meta => self.ledger.merge(&Ledger::from_json(record.payload)),
            }
        }
        if active.file_len() > 0 {
            self.orphans.insert(active.id(), active.file_len());
        } else {
            self.remove_or_leave(active.id(), Form::Open);
        }
    }

    /// Keeps a record in memory, and gives up the oldest ones if there are too many.
    pub(super) fn hold(&mut self, seq: ProcSeq, payload: Vec<u8>) {
        self.ring.push(seq, payload);
        let reason = self.failure.map_or(DropReason::IoError, |failure| failure.reason);
        while let Some((seq, payload)) = self.ring.overflow() {
            let count = DropCount { records: 1, bytes: payload.len() as u64 };
            let range = SeqRange { proc_id: self.proc_id, from: seq, to: seq };
            self.lose(DropReport { reason, count, range: Some(range) });
        }
    }

    pub(super) fn resume_if_due(&mut self, at: Moment) {
        if self.failure.is_some_and(|failure| at.now >= failure.retry_at) {
            self.resume(at);
        }
    }

    /// Tries to write again, the oldest record first.
    pub(super) fn resume(&mut self, at: Moment) {
        if !self.hold.is_held() {
            return;
        }
        self.failure = None;
        if !self.recovered {
            self.recover(at);
            if self.failure.is_some() {
                return;
            }
        }
        self.seal_orphans();
        let mut held = mem::take(&mut self.ring);
        while let Some((seq, payload)) = held.pop() {
            self.append(seq, &payload, at);
        }
        self.settle(at);
    }

    /// Tries again to seal the files for which it did not work.
    pub(super) fn seal_orphans(&mut self) {
        if !self.hold.is_held() {
            return;
        }
        let ids: Vec<_> = self.orphans.keys().copied().collect();
        for id in ids {
            let Some(len) = self.orphans.remove(&id) else { continue };
            if let Err(error) = self.seal_file(id)
                && error.kind() != ErrorKind::NotFound
            {
                self.orphans.insert(id, len);
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.failure {
            None => Ok(()),
            Some(Failure { reason, error, .. }) => {
                Err(StoreError::Degraded { stream: self.config.name.to_string(), reason, error })
            }
        }
    }
}

/// Whether room on the disk would help.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::WriteZero)
}
