//! Making room: which segments go, what is said about them, and when their files are removed.
//!
//! Removal has two steps. A segment is *condemned*: its loss and the reports it holds are entered in the ledger.
//! When the ledger is on disk, what is condemned is *reaped*. On a full disk the report is written where space was
//! kept for it: see `reserve`.
//!
//! A segment that is not there when it is to be condemned was claimed by another role, which accounts for it.

use std::{io::ErrorKind, mem};

use super::{
    DropCount, DropReason, DropReport, RecordKind, SegmentId, SeqRange,
    catalog::{Entry, MAX_FILES, Place},
    dir::Form,
    frame::{FRAME_LEN, HEADER_LEN},
    report::Ledger,
    reserve::RESERVE_BYTES,
    segment::{self, MAX_FILE},
    stream::{Leftover, Moment, Stream},
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
        let most = self.config.max_disk_bytes;
        let mut candidates = None;
        let (mut kept, mut files) = self.catalog.remaining();
        loop {
            let others = self.unlisted_bytes() + self.foreign_growth() + RESERVE_BYTES;
            if kept + others + bytes <= most && files < MAX_FILES {
                return true;
            }
            let Some(candidates) = &mut candidates else {
                self.retry_removal();
                (kept, files) = self.catalog.remaining();
                candidates = Some(self.catalog.list().into_iter());
                continue;
            };
            if self.catalog.stuck().len() >= MAX_STUCK {
                return false;
            }
            let Some(oldest) = candidates.next() else { return false };
            self.condemn(oldest.id, DropReason::Rotation);
            kept = kept.saturating_sub(oldest.disk_bytes);
            files = files.saturating_sub(1);
        }
    }

    /// Enters a segment and the reports in it into the ledger, and marks it for removal.
    pub(super) fn condemn(&mut self, id: SegmentId, reason: DropReason) {
        let Some(entry) = self.catalog.get(id).filter(|entry| !entry.condemned) else { return };
        let info = entry.info;
        let limit = if entry.has_meta { MAX_FILE } else { HEADER_LEN };
        let file = self.place_dir(entry.place).read_sealed(id, limit);
        if let Err(error) = &file
            && error.kind() == ErrorKind::NotFound
        {
            self.catalog.remove(id);
            return;
        }
        if let Some(entry) = self.catalog.get_mut(id) {
            entry.condemned = true;
        }
        let mut count = DropCount {
            records: u64::from(info.records.saturating_sub(entry.damaged)),
            bytes: u64::from(info.raw_bytes).saturating_sub(FRAME_LEN as u64 * u64::from(info.records)),
        };
        if entry.has_meta
            && let Ok(file) = file
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
            self.owed = false;
            self.reap_now();
        }
    }

    /// Removes it at once. Every report about it must be on disk.
    pub(super) fn reap_now(&mut self) {
        for entry in self.catalog.condemned() {
            self.remove_condemned(&entry);
        }
        self.remove_leftovers();
    }

    /// Removes what could not be removed before and is in the way of the next segment.
    fn retry_removal(&mut self) {
        for entry in self.catalog.stuck() {
            self.remove_condemned(&entry);
        }
        self.remove_leftovers();
    }

    /// What can't be removed now stays condemned: never listed, removed later or by a later process.
    fn remove_condemned(&mut self, entry: &Entry) {
        let id = entry.info.id;
        if self.place_dir(entry.place).remove(id, Form::Sealed).is_ok() {
            self.catalog.remove(id);
        } else if let Some(entry) = self.catalog.get_mut(id) {
            entry.stuck = true;
        }
    }

    fn remove_leftovers(&mut self) {
        let mut leftovers = mem::take(&mut self.leftovers);
        leftovers.retain(|file| self.place_dir(file.place).remove(file.id, file.form).is_err());
        self.leftovers = leftovers;
    }

    pub(super) fn remove_or_leave(&mut self, id: SegmentId, form: Form) {
        if self.dir.remove(id, form).is_err() {
            self.leftovers.push(Leftover { place: Place::Own, id, form, len: 0 });
        }
    }
}
