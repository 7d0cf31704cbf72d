//! What other threads hold of a stream.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, mpsc},
};

use super::{
    AppendError, DropCount, DropReason, DropReport, ProcId, ProcSeq, ReadError, Role, Segment, SegmentId,
    SegmentInfo, SeqRange, StoreError, StreamName, StreamStats,
    dir::Dir,
    queue::{Command, Shared},
    segment::{self, MAX_FILE},
};

/// A stream of a [`Store`](super::Store), for any number of threads.
///
/// `append`, `report_drop` and `stats` only take a lock for a moment. The others wait for the writer thread or
/// read a file, so keep them off threads that move packets.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    shared: Arc<Shared>,
    index: usize,
    name: StreamName,
    proc_id: ProcId,
    dir: Dir,
}

impl StreamHandle {
    pub(super) fn new(
        shared: Arc<Shared>,
        index: usize,
        name: StreamName,
        proc_id: ProcId,
        dir: Dir,
    ) -> Self {
        Self { shared, index, name, proc_id, dir }
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// The id of this run of the process, which all records appended through this handle get.
    #[must_use]
    pub fn proc_id(&self) -> ProcId {
        self.proc_id
    }

    /// Queues one record and numbers it. Never waits for a disk.
    ///
    /// # Errors
    ///
    /// [`AppendError::TooLarge`] and [`AppendError::QueueFull`] use up a number too, and are counted and
    /// reported in the stream; the record is gone. [`AppendError::Closed`] is only counted.
    pub fn append(&self, payload: &[u8]) -> Result<ProcSeq, AppendError> {
        self.shared.append(self.index, payload)
    }

    /// Waits until every record appended so far was given to the system: from then on it survives the death
    /// of this process.
    ///
    /// # Errors
    ///
    /// [`StoreError::Degraded`] if records are only in memory, [`StoreError::Closed`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.ask(Command::Flush)
    }

    /// Flushes, seals the segment being written unless it is empty, and lists the sealed segments of this
    /// role's directory, oldest first, those of earlier processes included; claimed ones come first. What is appended meanwhile goes to
    /// the next segment. A degraded stream lists what it has.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`].
    pub fn seal(&self) -> Result<Vec<SegmentInfo>, StoreError> {
        self.ask(Command::Seal)
    }

    /// Reads a sealed segment, on this thread. Uses at most about 800 KiB while it works, and keeps about
    /// 270 KiB at most. A damaged segment yields the records before the damage; the rest is reported.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. [`ReadError::NotFound`] is normal: the segment made room for newer ones meanwhile.
    pub fn read(&self, id: &SegmentId) -> Result<Segment, ReadError> {
        let file = self.read_file(*id).map_err(|error| match error.kind() {
            ErrorKind::NotFound => ReadError::NotFound { id: *id },
            _ => ReadError::Io(error),
        })?;
        let segment = segment::parse_segment(&file)?;
        if segment.info().id != *id {
            return Err(ReadError::Corrupt { what: "its header names another segment" });
        }
        if segment.lost_records() > 0 {
            let (last_good, lost) = (segment.info().last_seq, segment.lost_records());
            self.shared.send(self.index, Command::Damaged { id: *id, last_good, lost });
        }
        Ok(segment)
    }

    /// Removes a segment that was delivered. A drop report of a part of it, made before, is on disk first.
    /// Nothing happens if it is gone already.
    ///
    /// # Errors
    ///
    /// [`StoreError::Degraded`] if such a report can't be written now, [`StoreError::Io`] if the file can't be
    /// removed: the segment will be listed again. [`StoreError::Closed`].
    pub fn acknowledge(&self, id: &SegmentId) -> Result<(), StoreError> {
        self.ask(|reply| Command::Acknowledge(*id, reply))
    }

    /// Gives a segment up: reports it, with the reports it held, then removes it. Nothing happens if it is gone
    /// already.
    ///
    /// # Errors
    ///
    /// [`StoreError::Degraded`] if the report can't be written now: the segment stays on disk, hidden, until it
    /// can. [`StoreError::Closed`].
    pub fn discard(&self, id: &SegmentId, reason: DropReason) -> Result<(), StoreError> {
        self.ask(|reply| Command::Discard(*id, reason, reply))
    }

    /// Takes over the sealed segments of another role of this stream, oldest first, as many as this role's cap has
    /// room for without dropping anything, and says how many. They show up in [`seal`](Self::seal),
    /// [`read`](Self::read) and [`acknowledge`](Self::acknowledge) as this role's own, under their own process id
    /// and numbers, and count towards its cap. Claim again after acknowledging, until the answer is 0.
    ///
    /// For an app that uploads what its extension has recorded while that does not run. If it does run, only what it
    /// has sealed is taken; otherwise also the segment that its last process left open. What is not acknowledged
    /// when this role is opened the next time goes back. A record may so be delivered twice, never differently.
    ///
    /// Claiming from the own role, or from one that never wrote, gives 0.
    ///
    /// # Errors
    ///
    /// [`StoreError::Directory`] without access to a directory, [`StoreError::Io`] if a file can't be moved (those
    /// before it were), [`StoreError::Degraded`] before this role's own files could be looked at,
    /// [`StoreError::Closed`].
    pub fn claim(&self, role: &Role) -> Result<usize, StoreError> {
        self.ask(|reply| Command::Claim(role.clone(), reply))
    }

    /// Reports that some records of a segment were given up, such as one that the server finds too large.
    /// The report is in the stream before a later [`acknowledge`](Self::acknowledge) removes the segment.
    pub fn report_drop(
        &self,
        reason: DropReason,
        proc_id: ProcId,
        from_seq: ProcSeq,
        to_seq: ProcSeq,
        records: u64,
        bytes: u64,
    ) {
        let range = Some(SeqRange { proc_id, from: from_seq, to: to_seq });
        self.shared.report(self.index, DropReport { reason, count: DropCount { records, bytes }, range });
    }

    /// Makes a report again whose meta record will not be delivered.
    pub(crate) fn repeat_report(&self, report: DropReport) {
        self.shared.report(self.index, report);
    }

    /// The stream's figures, as of the writer's last turn.
    #[must_use]
    pub fn stats(&self) -> StreamStats {
        self.shared.stats(self.index)
    }

    /// From the own directory, or else from those of claims.
    fn read_file(&self, id: SegmentId) -> io::Result<Vec<u8>> {
        let own = self.dir.read_sealed(id, MAX_FILE);
        let is_missing =
            |file: &io::Result<_>| matches!(file, Err(error) if error.kind() == ErrorKind::NotFound);
        if !is_missing(&own) {
            return own;
        }
        let roles = self.dir.claimed_roles();
        let claims = roles.iter().map(|role| self.dir.claimed_from(role).read_sealed(id, MAX_FILE));
        claims.into_iter().find(|claim| !is_missing(claim)).unwrap_or(own)
    }

    pub(super) fn clear(&self) -> Result<(), StoreError> {
        self.ask(Command::Clear)
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(mpsc::SyncSender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.shared.send(self.index, command(reply));
        // The writer drops requests unanswered when it ends.
        answer.recv().unwrap_or(Err(StoreError::Closed))
    }
}
