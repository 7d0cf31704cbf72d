//! Sealing a file, and looking at the files of earlier processes.
//!
//! Runs on the writer thread while records are already accepted. Nothing is repaired in place: what is valid in
//! an open file is sealed into a new one; what is not is reported, and removed only when the report is on disk.

use std::io;

use super::{
    DropCount, DropReason, DropReport, Durability, ProcSeq, ReadError, SegmentId, SeqRange,
    active::write_all,
    catalog::{Entry, Form, Found},
    frame::{FRAME_LEN, HEADER_LEN, estimate_records, flag},
    segment::{self, MAX_FILE, Segment},
    stream::{Moment, Stream},
};

impl Stream {
    /// Takes over what earlier processes left.
    pub(super) fn recover(&mut self, at: Moment) {
        let mut found = match self.dir.list() {
            Ok(found) => found,
            Err(error) => {
                // Without knowing what is there the cap can't be kept: nothing is written before that.
                self.fail(&error, at);
                return;
            }
        };
        found.sort_by_key(|file| file.id);
        for files in found.chunk_by(|a, b| a.id == b.id) {
            let of = |form| files.iter().find(|file| file.form == form);
            if let Some(file) = of(Form::Temporary) {
                self.leftovers.push(*file);
            }
            match (of(Form::Open), of(Form::Sealed)) {
                (Some(open), Some(sealed)) => self.take_pair(open, sealed),
                (Some(open), None) => self.take_open(open),
                (None, Some(sealed)) => self.take_sealed(sealed),
                (None, None) => {}
            }
        }
        self.recovered = true;
        self.settle(at);
    }

    /// A crash came between making the sealed file and removing the open one.
    fn take_pair(&mut self, open: &Found, sealed: &Found) {
        let whole = self
            .dir
            .read_sealed(sealed.id, MAX_FILE)
            .ok()
            .and_then(|file| segment::parse_segment(&file).ok())
            .filter(|segment| segment.info().id == sealed.id && segment.lost_records() == 0);
        let Some(segment) = whole else {
            // The open file has all of it, and sealing it replaces the broken one.
            self.take_open(open);
            return;
        };
        let covered = HEADER_LEN as u64 + u64::from(segment.info().raw_bytes);
        if open.len > covered {
            // Damage behind the valid records: it may not have been reported before the crash.
            let skip = usize::try_from(covered).unwrap_or(usize::MAX);
            let file = self.dir.read(open.id, Form::Open, MAX_FILE).unwrap_or_default();
            self.lose_tail(open.id, segment.info().last_seq, file.get(skip..).unwrap_or_default());
        }
        self.leftovers.push(*open);
        self.take_sealed(sealed);
    }

    fn take_open(&mut self, file: &Found) {
        if self.seal_file(file.id).is_err() {
            // Unreadable at present, as on a locked device. It keeps its place under the cap.
            self.orphans.insert(file.id, file.len);
        }
    }

    fn take_sealed(&mut self, file: &Found) {
        let header = match self.dir.read_sealed(file.id, HEADER_LEN) {
            Ok(bytes) => segment::read_header(&bytes),
            Err(error) => Err(ReadError::Io(error)),
        };
        match header {
            Ok(header) if header.id == file.id => {
                let (records, bytes) = (header.dropped_records, header.dropped_bytes);
                self.ever_dropped.records = self.ever_dropped.records.max(records);
                self.ever_dropped.bytes = self.ever_dropped.bytes.max(bytes);
                match segment::sealed_info(&header, file.len) {
                    Some(info) => {
                        let has_meta = header.has(flag::META);
                        self.catalog.insert(Entry::new(info, has_meta));
                    }
                    None => self.take_uncompressed(file),
                }
            }
            Ok(_) | Err(ReadError::Corrupt { .. }) => self.lose_file(file.id, Form::Sealed, file.len),
            Err(_) => self.skipped_files += 1,
        }
    }

    /// Sealed by renaming: the header says nothing about the records.
    fn take_uncompressed(&mut self, file: &Found) {
        match self.dir.read_sealed(file.id, MAX_FILE).map(|bytes| segment::parse_segment(&bytes)) {
            Ok(Ok(segment)) => self.enter(&segment, file.len),
            Ok(Err(_)) => self.lose_file(file.id, Form::Sealed, file.len),
            Err(_) => self.skipped_files += 1,
        }
    }

    /// Seals an open file. Returns the data records in it that are accounted for: valid, or reported as damaged.
    pub(super) fn seal_file(&mut self, id: SegmentId) -> io::Result<u64> {
        let file = self.dir.read(id, Form::Open, MAX_FILE)?;
        let (segment, tail) = match segment::scan_segment(&file) {
            Ok((segment, tail)) if segment.info().id == id => (segment, tail),
            Ok(_) | Err(ReadError::Corrupt { .. }) => {
                let frames = file.get(HEADER_LEN..).unwrap_or_default();
                self.lose_file(id, Form::Open, file.len() as u64);
                return Ok(estimate_records(frames));
            }
            Err(_) => {
                self.skipped_files += 1;
                return Ok(u64::MAX);
            }
        };
        drop(file);
        let damaged = self.lose_tail(id, segment.info().last_seq, &tail);
        let plain_len = HEADER_LEN as u64 + u64::from(segment.info().raw_bytes) + tail.len() as u64;
        let disk_bytes = match self.write_packed(&segment, plain_len) {
            Some(len) => {
                // With damage behind its records, the open file waits for the report.
                if damaged > 0 || self.dir.remove(id, Form::Open).is_err() {
                    self.leftovers.push(Found { id, form: Form::Open, len: plain_len });
                }
                len
            }
            None => {
                self.dir.rename(id, Form::Open, Form::Sealed)?;
                plain_len
            }
        };
        let valid = segment.records().filter(|record| record.kind == super::RecordKind::Data).count() as u64;
        self.enter(&segment, disk_bytes);
        Ok(valid.saturating_add(damaged))
    }

    /// Writes the compressed file and gives it its final name. `None` if it is not worth it or did not work.
    fn write_packed(&self, segment: &Segment, plain_len: u64) -> Option<u64> {
        let id = segment.info().id;
        let packed = segment::pack(segment)?;
        let len = packed.len() as u64;
        if self.disk_bytes() + plain_len + len > self.config.max_disk_bytes {
            return None;
        }
        // An earlier attempt may have left one.
        self.dir.remove(id, Form::Temporary).ok()?;
        let written = self.dir.create(id, Form::Temporary).and_then(|mut file| {
            write_all(file.as_mut(), &packed)?;
            match self.config.durability {
                Durability::None => Ok(()),
                Durability::OnSeal => file.sync(),
            }
        });
        match written.and_then(|()| self.dir.rename(id, Form::Temporary, Form::Sealed)) {
            Ok(()) => Some(len),
            Err(_) => {
                // If this fails too, the next start removes it.
                let _ = self.dir.remove(id, Form::Temporary);
                None
            }
        }
    }

    fn enter(&mut self, segment: &Segment, disk_bytes: u64) {
        let info = super::SegmentInfo { disk_bytes, ..*segment.info() };
        self.catalog.insert(Entry::new(info, segment.has_meta()));
    }

    /// Reports the bytes behind the last valid record; says how many records they may have been.
    fn lose_tail(&mut self, id: SegmentId, last_seq: ProcSeq, tail: &[u8]) -> u64 {
        let records = estimate_records(tail);
        if records > 0 {
            let range = SeqRange {
                proc_id: id.proc_id,
                from: ProcSeq::new(last_seq.get().saturating_add(1)),
                to: ProcSeq::new(last_seq.get().saturating_add(records)),
            };
            let count = DropCount { records, bytes: tail.len() as u64 };
            self.lose(DropReport { reason: DropReason::Corrupt, count, range: Some(range) });
        }
        records
    }

    /// Reports a file in which nothing is valid. How many records it held nobody knows: at least one, unless
    /// it is no longer than a header.
    fn lose_file(&mut self, id: SegmentId, form: Form, len: u64) {
        if len > HEADER_LEN as u64 {
            let frames = len - HEADER_LEN as u64;
            let count = DropCount { records: 1, bytes: frames.saturating_sub(FRAME_LEN as u64) };
            self.lose(DropReport { reason: DropReason::Corrupt, count, range: None });
        }
        self.leftovers.push(Found { id, form, len });
    }
}
