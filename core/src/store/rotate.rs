//! Making room: which segments go, what is said about them, and when their files are removed.
//!
//! Removal has two steps. A segment is *condemned*: its loss and the reports it holds are entered in the ledger.
//! When the ledger is on disk, what is condemned is *reaped*. Only on a full disk the order is the reverse,
//! because nothing can be written before something is removed.

use std::io::ErrorKind;

use super::{
    DropCount, DropReason, DropReport, RecordKind, SegmentId, SeqRange,
    catalog::{Form, Found, MAX_FILES},
    frame::FRAME_LEN,
    report::Ledger,
    segment::{self, MAX_FILE},
    stream::{Moment, Stream},
};

/// Files that can't be removed before the directory is blamed, and nothing more given up in vain. One alone may
/// just be open in another program.
const MAX_STUCK: usize = 2;

/// Rounds of report and removal for one new segment: more than [`MAX_STUCK`] and the first one together.
const MAX_ROUNDS: usize = 8;

impl Stream {
    /// Writes the reports about what is condemned, and removes it. A file that can't be removed costs the next
    /// one its place, so that `bytes` more fit under the cap at the end, or the stream is degraded.
    pub(super) fn report_and_reap(&mut self, bytes: u64, at: Moment) {
        for _ in 0..MAX_ROUNDS {
            if self.failure.is_some() || self.catalog.condemned().len() == self.catalog.stuck().len() {
                return;
            }
            self.write_out(at);
            self.reap();
            if self.failure.is_none() && !self.make_room(bytes) {
                self.fail(&ErrorKind::StorageFull.into(), at);
            }
            self.push_reports();
        }
    }

    /// Condemns the oldest segments until `bytes` more fit under the cap. False if nothing helps.
    pub(super) fn make_room(&mut self, bytes: u64) -> bool {
        let mut retried = false;
        loop {
            let (kept, files) = self.catalog.remaining();
            if kept + self.unlisted_bytes() + bytes <= self.config.max_disk_bytes && files < MAX_FILES {
                return true;
            }
            if !retried {
                retried = true;
                self.retry_removal();
                continue;
            }
            if self.catalog.stuck().len() >= MAX_STUCK {
                return false;
            }
            let Some(oldest) = self.catalog.oldest() else { return false };
            self.condemn(oldest.info.id, DropReason::Rotation);
        }
    }

    /// Enters a segment and the reports in it into the ledger, and marks it for removal.
    pub(super) fn condemn(&mut self, id: SegmentId, reason: DropReason) {
        let Some(entry) = self.catalog.get_mut(id).filter(|entry| !entry.condemned) else { return };
        entry.condemned = true;
        let entry = *entry;
        let info = entry.info;
        let mut count = DropCount {
            records: u64::from(info.records.saturating_sub(entry.damaged)),
            bytes: u64::from(info.raw_bytes).saturating_sub(FRAME_LEN as u64 * u64::from(info.records)),
        };
        if entry.has_meta
            && let Ok(file) = self.dir.read_sealed(id, MAX_FILE)
            && let Ok(segment) = segment::parse_segment(&file)
        {
            let unreported = u64::from(segment.lost_records().saturating_sub(entry.damaged));
            count = DropCount { records: unreported, bytes: 0 };
            for record in segment.records() {
                match record.kind {
                    RecordKind::Data => {
                        count.add(DropCount { records: 1, bytes: record.payload.len() as u64 });
                    }
                    RecordKind::Meta => self.ledger.merge(&Ledger::from_json(record.payload)),
                }
            }
        }
        if count.records > 0 {
            let range = SeqRange { proc_id: id.proc_id, from: info.first_seq, to: info.last_seq };
            self.lose(DropReport { reason, count, range: Some(range) });
        }
    }

    /// Removes what is condemned or left over, if the reports about it are on disk.
    pub(super) fn reap(&mut self) {
        let written = self.active.as_ref().is_none_or(|active| !active.is_dirty());
        if self.ledger.is_empty() && written {
            self.reap_now();
        }
    }

    fn reap_now(&mut self) {
        for id in self.catalog.condemned() {
            // What can't be removed now stays condemned: never listed, removed later or by a later process.
            if self.dir.remove(id, Form::Sealed).is_ok() {
                self.catalog.remove(id);
            } else if let Some(entry) = self.catalog.get_mut(id) {
                entry.stuck = true;
            }
        }
        self.remove_leftovers();
    }

    /// Removes what could not be removed before and is in the way of the next segment.
    fn retry_removal(&mut self) {
        for id in self.catalog.stuck() {
            if self.dir.remove(id, Form::Sealed).is_ok() {
                self.catalog.remove(id);
            }
        }
        self.remove_leftovers();
    }

    fn remove_leftovers(&mut self) {
        let dir = &self.dir;
        self.leftovers.retain(|file| dir.remove(file.id, file.form).is_err());
    }

    /// Makes room on a full disk. The report of it is only in memory until the next write succeeds.
    pub(super) fn drop_oldest_now(&mut self) -> bool {
        if let Some(oldest) = self.catalog.oldest() {
            self.condemn(oldest.info.id, DropReason::DiskFull);
        }
        let before = self.catalog.len() + self.leftovers.len();
        self.reap_now();
        self.catalog.len() + self.leftovers.len() < before
    }

    pub(super) fn remove_or_leave(&mut self, id: SegmentId, form: Form) {
        if self.dir.remove(id, form).is_err() {
            self.leftovers.push(Found { id, form, len: 0 });
        }
    }
}
