//! Sealing a file, and looking at the files of earlier processes.
//!
//! Runs on the writer thread while records are already accepted. Nothing is repaired in place: what is valid in
//! an open file is sealed into a new one; what is not is reported, and removed only when the report is on disk.

use std::io;

use super::{
    DropCount, DropReason, DropReport, Durability, ProcSeq, ReadError, SegmentId, SeqRange,
    active::write_all,
    catalog::{Entry, Place},
    dir::{Form, Found},
    frame::{FRAME_LEN, HEADER_LEN, estimate_records, flag},
    reserve::RESERVE_BYTES,
    segment::{self, MAX_FILE, Segment},
    stream::{Leftover, Moment, Skip, Stream},
};

impl Stream {
    /// Takes over what earlier processes left.
    pub(super) fn recover(&mut self, at: Moment) {
        if !self.hold.is_held() {
            return;
        }
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
                self.leftovers.push(Leftover::own(file));
            }
            match (of(Form::Open), of(Form::Sealed)) {
                (Some(open), Some(sealed)) => self.take_pair(open, sealed),
                (Some(open), None) => self.take_open(open),
                (None, Some(sealed)) => self.take_sealed(Place::Own, sealed),
                (None, None) => {}
            }
        }
        // One that was not finished is made again.
        self.has_reserve = self.dir.reserve_len() == Some(RESERVE_BYTES);
        self.return_claims();
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
        self.leftovers.push(Leftover::own(open));
        self.take_sealed(Place::Own, sealed);
    }

    fn take_open(&mut self, file: &Found) {
        if self.seal_file(file.id).is_err() {
            // Unreadable at present, as on a locked device. It keeps its place under the cap.
            self.orphans.insert(file.id, file.len);
        }
    }

    pub(super) fn take_sealed(&mut self, place: Place, file: &Found) {
        let header = match self.place_dir(place).read_sealed(file.id, HEADER_LEN) {
            Ok(bytes) => segment::read_header(&bytes),
            Err(error) => Err(ReadError::Io(error)),
        };
        match header {
            Ok(header) if header.id == file.id => {
                if place == Place::Own {
                    let (records, bytes) = (header.dropped_records, header.dropped_bytes);
                    self.ever_dropped.records = self.ever_dropped.records.max(records);
                    self.ever_dropped.bytes = self.ever_dropped.bytes.max(bytes);
                }
                match segment::sealed_info(&header, file.len) {
                    Some(info) => {
                        let has_meta = header.has(flag::META);
                        self.catalog.insert(Entry::new(info, place, has_meta));
                    }
                    None => self.take_uncompressed(place, file),
                }
            }
            Ok(_) | Err(ReadError::Corrupt { .. }) => self.lose_file(&Leftover::at(place, file)),
            Err(error) => self.skip(file, &error),
        }
    }

    /// Sealed by renaming: the header says nothing about the records.
    fn take_uncompressed(&mut self, place: Place, file: &Found) {
        let bytes = self.place_dir(place).read_sealed(file.id, MAX_FILE);
        match bytes.map_err(ReadError::Io).and_then(|bytes| segment::parse_segment(&bytes)) {
            Ok(segment) => self.enter(&segment, place, file.len),
            Err(error @ ReadError::Io(_)) => self.skip(file, &error),
            Err(_) => self.lose_file(&Leftover::at(place, file)),
        }
    }

    fn skip(&mut self, file: &Found, error: &ReadError) {
        let why = match error {
            // Gone since it was listed.
            ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => return,
            ReadError::Io(_) => Skip::Unreadable,
            _ => Skip::Later,
        };
        self.skipped.insert((file.id, file.form), why);
    }

    /// Seals an open file. Returns the data records in it that are accounted for: valid, or reported as damaged.
    pub(super) fn seal_file(&mut self, id: SegmentId) -> io::Result<u64> {
        let file = self.dir.read(id, Form::Open, MAX_FILE)?;
        let (segment, tail) = match segment::scan_segment(&file) {
            Ok((segment, tail)) if segment.info().id == id => (segment, tail),
            Ok(_) | Err(ReadError::Corrupt { .. }) => {
                let frames = file.get(HEADER_LEN..).unwrap_or_default();
                let len = file.len() as u64;
                self.lose_file(&Leftover { place: Place::Own, id, form: Form::Open, len });
                return Ok(estimate_records(frames));
            }
            Err(_) => {
                self.skipped.insert((id, Form::Open), Skip::Later);
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
                    let (place, form) = (Place::Own, Form::Open);
                    self.leftovers.push(Leftover { place, id, form, len: plain_len });
                }
                len
            }
            None => {
                self.sync_path(id, Form::Open);
                self.dir.rename(id, Form::Open, Form::Sealed)?;
                plain_len
            }
        };
        let valid = segment.records().filter(|record| record.kind == super::RecordKind::Data).count() as u64;
        self.enter(&segment, Place::Own, disk_bytes);
        Ok(valid.saturating_add(damaged))
    }

    /// Writes the compressed file and gives it its final name. `None` if it is not worth it or did not work: then
    /// the file stays as it is, which another attempt to write might not.
    fn write_packed(&mut self, segment: &Segment, plain_len: u64) -> Option<u64> {
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
                Durability::OnSeal => file.sync().inspect_err(|_| self.sync_failures += 1),
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

    /// For a file that is sealed as it is. If the disk does not confirm it, it is used all the same: its records can
    /// be read as long as the system runs.
    fn sync_path(&mut self, id: SegmentId, form: Form) {
        if self.config.durability == Durability::OnSeal && self.dir.sync(id, form).is_err() {
            self.sync_failures += 1;
        }
    }

    fn enter(&mut self, segment: &Segment, place: Place, disk_bytes: u64) {
        let info = super::SegmentInfo { disk_bytes, ..*segment.info() };
        self.catalog.insert(Entry::new(info, place, segment.has_meta()));
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
    fn lose_file(&mut self, file: &Leftover) {
        if file.len > HEADER_LEN as u64 {
            let frames = file.len - HEADER_LEN as u64;
            let count = DropCount { records: 1, bytes: frames.saturating_sub(FRAME_LEN as u64) };
            self.lose(DropReport { reason: DropReason::Corrupt, count, range: None });
        }
        self.leftovers.push(*file);
    }
}
