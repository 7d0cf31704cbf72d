//! Reports on a full disk: how a drop report gets written when nothing can be.
//!
//! A stream that has written something keeps a file of the size of the longest report. When the disk is full, the
//! report is written over it, which takes no space, and it is renamed to be a segment of its own. Only then what was
//! reported is removed, and a new reserve is made of the space. So at no moment a record is neither on disk nor in a
//! report there. Where file systems write every change to a new place, or somebody else takes the space, this may
//! fail; then nothing is removed either, and the stream is degraded.

use std::{io, mem};

use super::{
    DropReason, Durability, Record, RecordKind, SegmentId, SegmentInfo,
    active::write_all,
    catalog::{Entry, Place},
    dir::Form,
    frame::{FRAME_LEN, HEADER_LEN, Header, Seed, encode_record, flag},
    fs::AppendFile,
    report::Ledger,
    stream::{Moment, Stream},
};

/// A segment with one report of the largest size. Two blocks of most file systems.
pub(super) const RESERVE_BYTES: u64 = (HEADER_LEN + FRAME_LEN + Ledger::MAX_JSON) as u64;

impl Stream {
    /// Makes the reserve, if there is none and the cap has room for it.
    pub(super) fn keep_reserve(&mut self) {
        if !self.has_reserve && self.disk_bytes() + RESERVE_BYTES <= self.config.max_disk_bytes {
            // Without one the stream works, as long as the disk is not full.
            self.has_reserve = self.dir.create_reserve(RESERVE_BYTES as usize).is_ok();
        }
    }

    /// Makes room for `bytes` on a full disk: reports as many of the oldest segments as hold that much, and then
    /// removes them. False if that is not possible, or if there are none.
    pub(super) fn make_room_on_disk(&mut self, bytes: u64, at: Moment) -> bool {
        // What was condemned before and waits for its report gives room, too.
        if self.catalog.condemned().iter().all(|entry| entry.stuck) {
            let mut freed = 0;
            for info in self.catalog.list() {
                if freed >= bytes + RESERVE_BYTES {
                    break;
                }
                freed += info.disk_bytes;
                self.condemn(info.id, DropReason::DiskFull);
            }
        }
        if self.catalog.condemned().is_empty() || !self.report_apart(at) {
            return false;
        }
        let before = self.catalog.len() + self.leftovers.len();
        self.reap_now();
        self.keep_reserve();
        self.catalog.len() + self.leftovers.len() < before
    }

    /// Writes the ledger into a segment of its own. True if no report is left that is not on disk; then whatever
    /// was reported may go. Reports that wait in the active segment's buffer must have been called back before.
    pub(super) fn report_apart(&mut self, at: Moment) -> bool {
        if self.ledger.is_empty() {
            return true;
        }
        if !self.hold.is_held() {
            return false;
        }
        let Some(seq) = self.shared.draw_seq(self.index) else { return false };
        let payload = self.ledger.to_json();
        let id = SegmentId { generation: self.next_generation, proc_id: self.proc_id };
        let mut frames = Vec::new();
        encode_record(&mut frames, Seed::new(id), Record { kind: RecordKind::Meta, seq, payload: &payload });
        let header = Header {
            flags: flag::SEALED | flag::META,
            id,
            raw_len: frames.len() as u32,
            first_seq: seq,
            records: 1,
            seq_span: 0,
            created_ms: at.unix_ms,
            dropped_records: self.ever_dropped.records,
            dropped_bytes: self.ever_dropped.bytes,
        };
        let mut file = header.encode().to_vec();
        file.extend_from_slice(&frames);
        self.next_generation += 1;
        if self.fill_reserve(id, &file).or_else(|_| self.write_beside(id, &file)).is_err() {
            return false;
        }
        self.ledger = Ledger::default();
        self.owed = false;
        let info = SegmentInfo {
            id,
            proc_id: id.proc_id,
            first_seq: seq,
            last_seq: seq,
            records: 1,
            raw_bytes: frames.len() as u32,
            disk_bytes: file.len() as u64,
        };
        self.catalog.insert(Entry::new(info, Place::Own, true));
        true
    }

    /// Needs no space but what the reserve has.
    fn fill_reserve(&mut self, id: SegmentId, bytes: &[u8]) -> io::Result<()> {
        if !mem::take(&mut self.has_reserve) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let written = self.dir.open_reserve().and_then(|mut file| {
            write_all(file.as_mut(), bytes)?;
            file.truncate(bytes.len() as u64)?;
            self.sync_as_configured(file.as_mut());
            Ok(())
        });
        let renamed = written.and_then(|()| self.dir.rename_reserve(id));
        if renamed.is_err() {
            // What became of it is not known. Its space may be enough for the other way.
            let _ = self.dir.remove_reserve();
        }
        renamed
    }

    /// The ordinary way, for a disk that fails in another manner than by being full.
    fn write_beside(&mut self, id: SegmentId, bytes: &[u8]) -> io::Result<()> {
        let written = self.dir.create(id, Form::Temporary).and_then(|mut file| {
            write_all(file.as_mut(), bytes)?;
            self.sync_as_configured(file.as_mut());
            Ok(())
        });
        let renamed = written.and_then(|()| self.dir.rename(id, Form::Temporary, Form::Sealed));
        if renamed.is_err() {
            self.remove_or_leave(id, Form::Temporary);
        }
        renamed
    }

    /// A report is used whether or not the disk confirms it; a failure is counted, and not tried again.
    fn sync_as_configured(&mut self, file: &mut dyn AppendFile) {
        if self.config.durability == Durability::OnSeal && file.sync().is_err() {
            self.sync_failures += 1;
        }
    }
}
