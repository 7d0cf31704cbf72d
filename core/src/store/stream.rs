//! One stream as the writer thread sees it: append, rotate, seal, acknowledge, degrade.
//!
//! Only the writer thread calls this. Failures do not travel outwards: they end in the stream's state, in the
//! ledger, or in the answer to a request. Parts of it with an idea of their own: `rotate` makes room, `degrade`
//! deals with a disk that fails, `reserve` with one that is full, `recover` with files of earlier processes, `turn` with
//! other processes, `claim` with other roles.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    mem,
    sync::Arc,
    time::Duration,
};

use super::{
    DropCount, DropReason, DropReport, DropTotals, ProcId, ProcSeq, Record, RecordKind, Role, SegmentId,
    SegmentInfo, SeqRange, StoreError, StreamConfig, StreamState, StreamStats,
    active::Active,
    catalog::{Catalog, OVERHEAD, Place},
    degrade::{Failure, is_full},
    dir::{Dir, Form, Found, Hold},
    frame::{FRAME_LEN, Header},
    fs::AppendFile,
    queue::{Batch, Shared, WRITE_BYTES},
    report::Ledger,
    reserve::RESERVE_BYTES,
    ring::Ring,
};
use crate::clock::Instant;

/// What is written to a new segment at first, unless a record is larger: header, report and a buffer.
const MAX_FIRST_WRITE: usize = OVERHEAD + WRITE_BYTES;

/// The time of a turn of the writer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// Milliseconds since 1970; goes into headers for people to read, nothing depends on it.
    pub(super) unix_ms: i64,
}

/// Why a file is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skip {
    /// Of a format that this version does not know.
    Later,
    /// It may be readable another time, as after a device is unlocked.
    Unreadable,
}

/// A file that is to be removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leftover {
    pub(super) place: Place,
    pub(super) id: SegmentId,
    pub(super) form: Form,
    pub(super) len: u64,
}

impl Leftover {
    pub(super) fn own(file: &Found) -> Self {
        Self::at(Place::Own, file)
    }

    pub(super) fn at(place: Place, file: &Found) -> Self {
        Self { place, id: file.id, form: file.form, len: file.len }
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) config: StreamConfig,
    pub(super) role: Role,
    pub(super) dir: Dir,
    pub(super) hold: Hold,
    pub(super) proc_id: ProcId,
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,

    pub(super) catalog: Catalog,
    pub(super) active: Option<Active>,
    pub(super) spare_buffer: Vec<u8>,
    pub(super) next_generation: u64,
    /// Reports that are not in the stream yet.
    pub(super) ledger: Ledger,
    /// Reports about parts of segments came in and are not on disk: until then nothing may be acknowledged.
    pub(super) owed: bool,
    /// Whether there is room on disk for a report.
    pub(super) has_reserve: bool,
    /// Where the segments of other roles are that were claimed.
    pub(super) claims: Vec<Dir>,
    /// Sizes of the files that other processes of this role have open.
    pub(super) foreign: Vec<u64>,
    /// Files whose content is in the ledger or in another file: removed once the ledger is on disk.
    pub(super) leftovers: Vec<Leftover>,
    /// Files that could not be sealed, with their sizes: tried again when writing works again.
    pub(super) orphans: BTreeMap<SegmentId, u64>,

    pub(super) ring: Ring,
    pub(super) failure: Option<Failure>,
    pub(super) failures: u32,

    written: u64,
    pub(super) sync_failures: u64,
    /// Files that can't be used.
    pub(super) skipped: BTreeMap<(SegmentId, Form), Skip>,
    dropped: DropTotals,
    /// Of this directory since it exists, as far as headers tell.
    pub(super) ever_dropped: DropCount,
    pub(super) recovered: bool,
}

impl Stream {
    pub(super) fn new(
        config: StreamConfig,
        role: Role,
        (dir, hold): (Dir, Hold),
        proc_id: ProcId,
        next_generation: u64,
        shared: Arc<Shared>,
        index: usize,
    ) -> Self {
        Self {
            config,
            role,
            dir,
            hold,
            proc_id,
            shared,
            index,
            catalog: Catalog::default(),
            active: None,
            spare_buffer: Vec::new(),
            next_generation,
            ledger: Ledger::default(),
            owed: false,
            has_reserve: false,
            claims: Vec::new(),
            foreign: Vec::new(),
            leftovers: Vec::new(),
            orphans: BTreeMap::new(),
            ring: Ring::default(),
            failure: None,
            failures: 0,
            written: 0,
            sync_failures: 0,
            skipped: BTreeMap::new(),
            dropped: DropTotals::default(),
            ever_dropped: DropCount::default(),
            recovered: false,
        }
    }

    pub(super) fn write_delay(&self) -> Duration {
        self.config.write_delay
    }

    /// Takes in what was queued and gives all of it to the system.
    pub(super) fn accept(&mut self, batch: &Batch, at: Moment) {
        for report in batch.reports.iter() {
            // The queue has counted these.
            self.ever_dropped.add(report.count);
            self.ledger.add(*report);
        }
        self.owed |= batch.owed;
        if batch.records().next().is_some() {
            self.resume_if_due(at);
        }
        for (seq, payload) in batch.records() {
            self.append(seq, payload, at);
        }
        self.settle(at);
    }

    /// Everything taken in so far is in the system's hands, or an error.
    pub(super) fn flush(&mut self, at: Moment) -> Result<(), StoreError> {
        if !self.ring.is_empty() {
            self.resume_if_due(at);
        }
        self.settle(at);
        self.check()
    }

    /// Seals the active segment and lists what is sealed.
    pub(super) fn seal(&mut self, at: Moment) -> Vec<SegmentInfo> {
        // A degraded stream lists too: uploading is what makes room.
        let _ = self.flush(at);
        self.seal_active();
        self.seal_orphans();
        self.look_again(at);
        self.settle(at);
        self.catalog.list()
    }

    pub(super) fn acknowledge(&mut self, id: SegmentId, at: Moment) -> Result<(), StoreError> {
        self.settle(at);
        let Some(entry) = self.catalog.get(id) else { return Ok(()) };
        if self.owed && !self.report_apart(at) {
            // The segment is what proves that something is missing, until the report of it can be written.
            self.check()?;
            let (stream, reason) = (self.config.name.to_string(), DropReason::IoError);
            return Err(StoreError::Degraded { stream, reason, error: ErrorKind::Other });
        }
        self.place_dir(entry.place)
            .remove(id, Form::Sealed)
            .map_err(|source| self.io_error("remove", id, Form::Sealed, source))?;
        self.catalog.remove(id);
        if let Some(failure) = &mut self.failure
            && failure.reason == DropReason::DiskFull
        {
            failure.retry_at = at.now;
        }
        Ok(())
    }

    pub(super) fn discard(
        &mut self,
        id: SegmentId,
        reason: DropReason,
        at: Moment,
    ) -> Result<(), StoreError> {
        self.condemn(id, reason);
        self.settle(at);
        self.check()
    }

    /// A reader found `lost` records of a segment damaged, behind the number `last_good`.
    pub(super) fn note_damage(&mut self, id: SegmentId, last_good: ProcSeq, lost: u32, at: Moment) {
        let Some(entry) = self.catalog.get_mut(id).filter(|entry| entry.damaged < lost) else { return };
        let records = u64::from(lost - entry.damaged);
        entry.damaged = lost;
        let range = SeqRange {
            proc_id: id.proc_id,
            from: ProcSeq::new(last_good.get().saturating_add(1)),
            to: entry.info.last_seq.max(last_good),
        };
        let count = DropCount { records, bytes: 0 };
        self.lose(DropReport { reason: DropReason::Corrupt, count, range: Some(range) });
        self.settle(at);
    }

    /// Deletes all our files and forgets everything.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        self.active = None;
        self.catalog = Catalog::default();
        self.ledger = Ledger::default();
        self.owed = false;
        self.ring = Ring::default();
        self.leftovers.clear();
        self.orphans.clear();
        self.foreign.clear();
        self.skipped.clear();
        self.ever_dropped = DropCount::default();
        self.failure = None;
        self.failures = 0;
        let mut result = self.clear_place(Place::Own);
        self.has_reserve = false;
        if let Err(source) = self.dir.remove_reserve() {
            result = result.and(Err(self.dir.no_access(source)));
        }
        self.claims = self.dir.claimed_roles().iter().map(|role| self.dir.claimed_from(role)).collect();
        for index in 0..self.claims.len() {
            let cleared = self.clear_place(Place::Claimed(index));
            result = result.and(cleared);
        }
        self.dir.remove_empty_claims();
        result
    }

    fn clear_place(&mut self, place: Place) -> Result<(), StoreError> {
        let dir = self.place_dir(place).clone();
        let mut result = Ok(());
        for file in dir.list().map_err(|source| dir.no_access(source))? {
            if let Err(source) = dir.remove(file.id, file.form) {
                self.leftovers.push(Leftover::at(place, &file));
                let path = dir.path(file.id, file.form);
                result = Err(StoreError::Io { action: "remove", path, source });
            }
        }
        self.recovered = true;
        result
    }

    /// The last turn before the thread ends.
    pub(super) fn finish(&mut self, at: Moment) -> Result<(), StoreError> {
        if !self.ring.is_empty() {
            // The last chance for these records, so the pause doesn't count.
            self.resume(at);
        }
        self.settle(at);
        self.seal_active();
        self.settle(at);
        self.check()
    }

    /// The figures that only the writer knows.
    pub(super) fn stats(&self) -> StreamStats {
        let state = match self.failure {
            Some(Failure { reason, error, .. }) => {
                StreamState::Degraded { reason, error, failures: self.failures }
            }
            None if self.recovered => StreamState::Ready,
            None => StreamState::Recovering,
        };
        StreamStats {
            written: self.written,
            pending: self.ring.len() as u64,
            dropped: self.dropped,
            disk_bytes: self.disk_bytes(),
            segments: self.catalog.list().len(),
            skipped_files: self.skipped.len(),
            sync_failures: self.sync_failures,
            state,
            ..StreamStats::default()
        }
    }

    /// Enters a loss that was not counted before.
    pub(super) fn lose(&mut self, report: DropReport) {
        self.dropped.add(report.reason, report.count);
        self.ever_dropped.add(report.count);
        self.ledger.add(report);
    }

    pub(super) fn append(&mut self, seq: ProcSeq, payload: &[u8], at: Moment) {
        let frame = FRAME_LEN + payload.len();
        if let Some(active) = &self.active
            && active.is_full_for(frame, self.segment_bytes())
        {
            self.write_out(at);
            self.seal_active();
        }
        if self.failure.is_none() && self.active.is_none() {
            self.begin(frame, Some(seq), at);
        }
        let Some(active) = &mut self.active else {
            self.hold(seq, payload.to_vec());
            return;
        };
        active.push(Record { kind: RecordKind::Data, seq, payload });
        if active.buffered() >= WRITE_BYTES {
            self.write_out(at);
        }
    }

    /// Puts the waiting reports into the stream and everything into the system's hands.
    pub(super) fn settle(&mut self, at: Moment) {
        // The second round writes the report of what making room for the first one cost.
        for _ in 0..2 {
            self.emit_reports(at);
            self.write_out(at);
            if self.ledger.is_empty() {
                break;
            }
        }
        self.reap();
    }

    fn emit_reports(&mut self, at: Moment) {
        if self.ledger.is_empty() || self.failure.is_some() {
            return;
        }
        let frame = FRAME_LEN + Ledger::MAX_JSON;
        if let Some(active) = &self.active
            && active.raw_len() > 0
            && active.raw_len() + frame > self.segment_bytes()
        {
            self.write_out(at);
            self.seal_active();
        }
        if self.failure.is_some() {
            return;
        }
        if self.active.is_none() {
            self.begin(0, None, at);
        } else {
            self.push_reports();
        }
    }

    pub(super) fn push_reports(&mut self) {
        if let Some(active) = &mut self.active
            && !self.ledger.is_empty()
            && let Some(seq) = self.shared.draw_seq(self.index)
        {
            let payload = mem::take(&mut self.ledger).to_json();
            active.push(Record { kind: RecordKind::Meta, seq, payload: &payload });
        }
    }

    /// Starts a segment with room for a record of `frame` bytes, dropping old ones for it. The reports go first.
    fn begin(&mut self, frame: usize, first_seq: Option<ProcSeq>, at: Moment) {
        self.look_again(at);
        let whole = self.segment_bytes().max(OVERHEAD + frame);
        let room = (whole + self.beside()) as u64;
        if self.failure.is_some() {
            return;
        }
        if !self.make_room(room) {
            self.fail(&ErrorKind::StorageFull.into(), at);
            return;
        }
        self.keep_reserve();
        let mut created = self.create_next();
        if let Err(error) = &created
            && is_full(error)
            && self.make_room_on_disk(whole.min(MAX_FIRST_WRITE) as u64, at)
        {
            created = self.create_next();
        }
        let (id, file) = match created {
            Ok(created) => created,
            Err(error) => {
                self.fail(&error, at);
                return;
            }
        };
        let header = Header {
            flags: 0,
            id,
            raw_len: 0,
            first_seq: first_seq.unwrap_or(ProcSeq::new(0)),
            records: 0,
            seq_span: 0,
            created_ms: at.unix_ms,
            dropped_records: self.ever_dropped.records,
            dropped_bytes: self.ever_dropped.bytes,
        };
        self.active = Some(Active::new(&header, whole, file, mem::take(&mut self.spare_buffer)));
        self.push_reports();
        self.report_and_reap(room, at);
    }

    fn create_next(&mut self) -> io::Result<(SegmentId, Box<dyn AppendFile>)> {
        let id = SegmentId { generation: self.next_generation, proc_id: self.proc_id };
        let file = self.create_open(id)?;
        self.next_generation += 1;
        Ok((id, file))
    }

    /// Room for the compressed copy, which exists beside the original for a moment, and for the next segment's
    /// first report, which is written before its room is made.
    pub(super) fn beside(&self) -> usize {
        (self.segment_bytes() / 4).max(OVERHEAD)
    }

    pub(super) fn write_out(&mut self, at: Moment) {
        let Some(active) = self.active.as_mut().filter(|active| active.is_dirty()) else { return };
        let mut result = active.write();
        if let Err(error) = &result
            && is_full(error)
        {
            // What is reported there has to be on disk before anything is removed.
            let (reports, wanted) = (active.recall_reports(), active.buffered() as u64);
            self.ledger.merge(&reports);
            if self.make_room_on_disk(wanted, at)
                && let Some(active) = &mut self.active
            {
                result = if active.is_dirty() { active.write() } else { Ok(0) };
            }
        }
        match result {
            Ok(records) => {
                self.written += records;
                self.failures = 0;
                self.reap();
            }
            Err(error) => self.fail(&error, at),
        }
    }

    /// Closes the active segment. Whatever is unwritten must have been written before.
    fn seal_active(&mut self) {
        let Some(active) = self.active.take() else { return };
        let (id, data, span, len) = (active.id(), active.data(), active.span(), active.file_len());
        self.spare_buffer = active.into_buffer();
        // A rare large record must not keep its memory.
        self.spare_buffer.shrink_to(4 * WRITE_BYTES);
        if len == 0 {
            self.remove_or_leave(id, Form::Open);
            return;
        }
        let accounted = match self.seal_file(id) {
            Ok(accounted) => accounted,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(_) => {
                self.orphans.insert(id, len);
                return;
            }
        };
        // Somebody has removed or cut the file under us.
        if accounted < data.records {
            let range = span.map(|(from, to)| SeqRange { proc_id: id.proc_id, from, to });
            let count = DropCount { records: data.records - accounted, bytes: 0 };
            self.lose(DropReport { reason: DropReason::IoError, count, range });
        }
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        let active = self.active.as_ref().map_or(0, Active::file_len);
        let reserve = if self.has_reserve { RESERVE_BYTES } else { 0 };
        self.catalog.disk_bytes() + self.unlisted_bytes() + active + reserve
    }

    /// Bytes of files that are neither sealed segments, nor the active one, nor the reserve.
    pub(super) fn unlisted_bytes(&self) -> u64 {
        let left: u64 = self.leftovers.iter().map(|file| file.len).sum();
        self.orphans.values().sum::<u64>() + self.foreign.iter().sum::<u64>() + left
    }

    pub(super) fn segment_bytes(&self) -> usize {
        self.config.segment_bytes as usize
    }

    fn io_error(&self, action: &'static str, id: SegmentId, form: Form, source: io::Error) -> StoreError {
        StoreError::Io { action, path: self.dir.path(id, form), source }
    }
}
