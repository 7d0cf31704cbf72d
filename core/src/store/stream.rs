//! One stream as the writer thread sees it: append, rotate, seal, acknowledge, degrade.
//!
//! Only the writer thread calls this. Failures do not travel outwards: they end in the stream's state, in the
//! ledger, or in the answer to a request. Parts of it with an idea of their own: `rotate` makes room, `degrade`
//! deals with a disk that fails, `recover` with files of earlier processes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, ErrorKind},
    mem,
    sync::Arc,
    time::Duration,
};

use super::{
    DropCount, DropReason, DropReport, DropTotals, ProcId, ProcSeq, Record, RecordKind, SegmentId,
    SegmentInfo, SeqRange, StoreError, StreamConfig, StreamState, StreamStats,
    active::Active,
    catalog::{Catalog, Dir, Form, Found, OVERHEAD},
    degrade::{Failure, is_full},
    frame::{FRAME_LEN, Header},
    queue::{Batch, Shared, WRITE_BYTES},
    report::Ledger,
    ring::Ring,
};
use crate::clock::Instant;

/// The time of a turn of the writer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// Milliseconds since 1970; goes into headers for people to read, nothing depends on it.
    pub(super) unix_ms: i64,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) config: StreamConfig,
    pub(super) dir: Dir,
    /// Held until the stream is dropped.
    _lock: File,
    pub(super) proc_id: ProcId,
    shared: Arc<Shared>,
    index: usize,

    pub(super) catalog: Catalog,
    pub(super) active: Option<Active>,
    spare_buffer: Vec<u8>,
    next_generation: u64,
    /// Reports that are not in the stream yet.
    pub(super) ledger: Ledger,
    /// Files whose content is in the ledger or in another file: removed once the ledger is on disk.
    pub(super) leftovers: Vec<Found>,
    /// Files that could not be sealed, with their sizes: tried again when writing works again.
    pub(super) orphans: BTreeMap<SegmentId, u64>,

    pub(super) ring: Ring,
    pub(super) failure: Option<Failure>,
    pub(super) failures: u32,

    written: u64,
    pub(super) skipped_files: usize,
    dropped: DropTotals,
    /// Of this directory since it exists, as far as headers tell.
    pub(super) ever_dropped: DropCount,
    pub(super) recovered: bool,
}

impl Stream {
    pub(super) fn new(
        config: StreamConfig,
        dir: Dir,
        lock: File,
        proc_id: ProcId,
        next_generation: u64,
        shared: Arc<Shared>,
        index: usize,
    ) -> Self {
        Self {
            config,
            dir,
            _lock: lock,
            proc_id,
            shared,
            index,
            catalog: Catalog::default(),
            active: None,
            spare_buffer: Vec::new(),
            next_generation,
            ledger: Ledger::default(),
            leftovers: Vec::new(),
            orphans: BTreeMap::new(),
            ring: Ring::default(),
            failure: None,
            failures: 0,
            written: 0,
            skipped_files: 0,
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
        self.settle(at);
        self.catalog.list()
    }

    pub(super) fn acknowledge(&mut self, id: SegmentId, at: Moment) -> Result<(), StoreError> {
        self.settle(at);
        if self.catalog.get_mut(id).is_none() {
            return Ok(());
        }
        self.dir
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
        self.ring = Ring::default();
        self.leftovers.clear();
        self.orphans.clear();
        self.ever_dropped = DropCount::default();
        self.failure = None;
        self.failures = 0;
        self.skipped_files = 0;
        let path = self.dir.display().to_path_buf();
        let found = self.dir.list().map_err(|source| StoreError::Directory { path, source })?;
        self.recovered = true;
        let mut result = Ok(());
        for file in found {
            if let Err(source) = self.dir.remove(file.id, file.form) {
                self.leftovers.push(file);
                result = Err(self.io_error("remove", file.id, file.form, source));
            }
        }
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
            skipped_files: self.skipped_files,
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
            && active.has_data()
            && active.raw_len() + frame > self.segment_bytes()
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
        let whole = self.segment_bytes().max(OVERHEAD + frame);
        // For the compressed copy, which exists beside the original for a moment, and for the next segment's
        // first report, which is written before its room is made.
        let beside = (self.segment_bytes() / 4).max(OVERHEAD);
        let room = (whole + beside) as u64;
        if !self.make_room(room) {
            self.fail(&ErrorKind::StorageFull.into(), at);
            return;
        }
        let id = SegmentId { generation: self.next_generation, proc_id: self.proc_id };
        let mut created = self.dir.create(id, Form::Open);
        if let Err(error) = &created
            && is_full(error)
            && self.drop_oldest_now()
        {
            created = self.dir.create(id, Form::Open);
        }
        let file = match created {
            Ok(file) => file,
            Err(error) => {
                self.fail(&error, at);
                return;
            }
        };
        self.next_generation += 1;
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
        self.active = Some(Active::new(&header, file, mem::take(&mut self.spare_buffer)));
        self.push_reports();
        self.report_and_reap(room, at);
    }

    pub(super) fn write_out(&mut self, at: Moment) {
        let Some(mut active) = self.active.take_if(|active| active.is_dirty()) else { return };
        let mut result = active.write();
        if let Err(error) = &result
            && is_full(error)
            && self.drop_oldest_now()
        {
            result = active.write();
        }
        self.active = Some(active);
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
        self.catalog.disk_bytes() + self.unlisted_bytes() + active
    }

    /// Bytes of files that are neither sealed segments nor the active one.
    pub(super) fn unlisted_bytes(&self) -> u64 {
        self.orphans.values().sum::<u64>() + self.leftovers.iter().map(|file| file.len).sum::<u64>()
    }

    pub(super) fn segment_bytes(&self) -> usize {
        self.config.segment_bytes as usize
    }

    fn io_error(&self, action: &'static str, id: SegmentId, form: Form, source: io::Error) -> StoreError {
        StoreError::Io { action, path: self.dir.path(id, form), source }
    }
}
