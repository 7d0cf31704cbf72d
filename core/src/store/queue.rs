//! What stands between the threads that append and the writer thread: one queue per stream, and requests.
//!
//! One lock guards all of it. Appenders hold it for a copy of the payload, the writer for a swap of buffers;
//! nobody holds it over a system call on a file. The writer is woken when there is something new to wait for
//! (the first record) or to do (enough to write, a request), not for every record.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    time::Duration,
};

use super::{
    AppendError, DropCount, DropReason, DropReport, DropTotals, ProcId, ProcSeq, Role, SegmentId,
    SegmentInfo, SeqRange, StoreError, StreamState, StreamStats, report::Ledger,
};

/// Most records in a stream's queue: a second of very heavy logging.
pub(super) const QUEUE_RECORDS: usize = 256;
/// Most payload bytes in it: a full window of 16,384 flows is 1.5 MiB, in several records that come at once. The memory is
/// taken only then, and given back when they are written.
pub(super) const QUEUE_BYTES: usize = 2 * 1024 * 1024;

/// From here on the writer need not wait for more: one write of 16 KiB costs little more than a small one.
pub(super) const WRITE_BYTES: usize = 16 * 1024;
/// The same for many small records, so that the queue never fills up while the writer is content to wait.
const WRITE_RECORDS: usize = QUEUE_RECORDS / 2;

/// Requests of readers that found damage are dropped beyond this number; the next read finds it again.
const MAX_NOTES: usize = 64;

/// A request to the writer, with where to answer.
#[derive(Debug)]
pub(super) enum Command {
    Flush(SyncSender<Result<(), StoreError>>),
    Seal(SyncSender<Result<Vec<SegmentInfo>, StoreError>>),
    Acknowledge(SegmentId, SyncSender<Result<(), StoreError>>),
    Discard(SegmentId, DropReason, SyncSender<Result<(), StoreError>>),
    /// A reader found `lost` records of a segment damaged, all behind the number `last_good`.
    Damaged {
        id: SegmentId,
        last_good: ProcSeq,
        lost: u32,
    },
    Clear(SyncSender<Result<(), StoreError>>),
    Claim(Role, SyncSender<Result<usize, StoreError>>),
}

/// What the writer takes out of a queue at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    entries: Vec<(ProcSeq, usize)>,
    pub(super) reports: Ledger,
    /// Whether reports of readers are among them: no segment may be acknowledged before they are on disk.
    pub(super) owed: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.reports.is_empty()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (ProcSeq, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.entries.iter().map_while(move |&(seq, len)| {
            let (payload, behind) = rest.split_at_checked(len)?;
            rest = behind;
            Some((seq, payload))
        })
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.reports = Ledger::default();
        self.owed = false;
        // A rare large record must not keep its memory.
        self.bytes.shrink_to(4 * WRITE_BYTES);
    }
}

/// The queue of one stream.
#[derive(Debug)]
pub(super) struct Queue {
    proc_id: ProcId,
    max_payload: usize,
    next_seq: u64,
    waiting: Batch,
    appended: u64,
    refused_closed: u64,
    dropped: DropTotals,
    /// The writer's figures, as of its last turn.
    pub(super) published: StreamStats,
}

impl Queue {
    pub(super) fn new(proc_id: ProcId, max_payload: usize) -> Self {
        Self {
            proc_id,
            max_payload,
            next_seq: 1,
            waiting: Batch::default(),
            appended: 0,
            refused_closed: 0,
            dropped: DropTotals::default(),
            published: StreamStats::default(),
        }
    }

    pub(super) fn draw_seq(&mut self) -> ProcSeq {
        let seq = ProcSeq::new(self.next_seq);
        self.next_seq = self.next_seq.saturating_add(1);
        seq
    }

    /// Whether there is anything to write.
    pub(super) fn is_dirty(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether there is enough to write at once.
    pub(super) fn is_ripe(&self) -> bool {
        self.waiting.bytes.len() >= WRITE_BYTES || self.waiting.entries.len() >= WRITE_RECORDS
    }

    /// Swaps what is waiting with the empty `batch`.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        mem::swap(&mut self.waiting, batch);
    }

    fn push(&mut self, payload: &[u8]) -> Result<ProcSeq, AppendError> {
        let (records, bytes) = (self.waiting.entries.len(), self.waiting.bytes.len());
        let seq = self.draw_seq();
        if payload.len() > self.max_payload {
            self.refuse(DropReason::TooLarge, seq, payload.len());
            return Err(AppendError::TooLarge { len: payload.len(), max: self.max_payload });
        }
        if records >= QUEUE_RECORDS || records > 0 && bytes + payload.len() > QUEUE_BYTES {
            self.refuse(DropReason::QueueFull, seq, payload.len());
            return Err(AppendError::QueueFull { records, bytes });
        }
        self.waiting.bytes.extend_from_slice(payload);
        self.waiting.entries.push((seq, payload.len()));
        self.appended += 1;
        Ok(seq)
    }

    fn refuse(&mut self, reason: DropReason, seq: ProcSeq, bytes: usize) {
        let count = DropCount { records: 1, bytes: bytes as u64 };
        let range = SeqRange { proc_id: self.proc_id, from: seq, to: seq };
        self.report(DropReport { reason, count, range: Some(range) });
    }

    fn report(&mut self, report: DropReport) {
        self.dropped.add(report.reason, report.count);
        self.waiting.reports.add(report);
    }
}

#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) queues: Vec<Queue>,
    /// Requests with the number of their stream, in order.
    pub(super) commands: Vec<(usize, Command)>,
    pub(super) closed: bool,
}

/// The inbox and the writer's alarm.
#[derive(Debug)]
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
}

impl Shared {
    pub(super) fn new(queues: Vec<Queue>) -> Self {
        let inbox = Inbox { queues, commands: Vec::new(), closed: false };
        Self { inbox: Mutex::new(inbox), wake: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until woken, or for `timeout` if there is one. May return early.
    pub(super) fn wait<'a>(
        &self,
        inbox: MutexGuard<'a, Inbox>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, Inbox> {
        match timeout {
            None => self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => self.wake.wait_timeout(inbox, timeout).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    pub(super) fn append(&self, stream: usize, payload: &[u8]) -> Result<ProcSeq, AppendError> {
        let mut inbox = self.lock();
        let closed = inbox.closed;
        let Some(queue) = inbox.queues.get_mut(stream) else { return Err(AppendError::Closed) };
        if closed {
            queue.refused_closed += 1;
            return Err(AppendError::Closed);
        }
        let (was_dirty, was_ripe) = (queue.is_dirty(), queue.is_ripe());
        let result = queue.push(payload);
        let wake = !was_dirty || !was_ripe && queue.is_ripe();
        drop(inbox);
        if wake {
            self.wake.notify_one();
        }
        result
    }

    pub(super) fn report(&self, stream: usize, report: DropReport) {
        let mut inbox = self.lock();
        if let Some(queue) = inbox.queues.get_mut(stream) {
            queue.report(report);
            queue.waiting.owed = true;
        }
        drop(inbox);
        self.wake.notify_one();
    }

    /// Hands a request over; dropped, and with it the place to answer, if the store is closed.
    pub(super) fn send(&self, stream: usize, command: Command) {
        let mut inbox = self.lock();
        let note = matches!(command, Command::Damaged { .. });
        if inbox.closed || note && inbox.commands.len() >= MAX_NOTES {
            return;
        }
        inbox.commands.push((stream, command));
        drop(inbox);
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    pub(super) fn draw_seq(&self, stream: usize) -> Option<ProcSeq> {
        self.lock().queues.get_mut(stream).map(Queue::draw_seq)
    }

    pub(super) fn stats(&self, stream: usize) -> StreamStats {
        let inbox = self.lock();
        let Some(queue) = inbox.queues.get(stream) else { return StreamStats::default() };
        let mut stats = queue.published;
        stats.appended = queue.appended;
        stats.refused_closed = queue.refused_closed;
        stats.pending += queue.waiting.entries.len() as u64;
        stats.dropped = stats.dropped.plus(&queue.dropped);
        if inbox.closed {
            stats.state = StreamState::Closed;
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max_payload: usize) -> Queue {
        Queue::new(ProcId::new(1).unwrap(), max_payload)
    }

    #[test]
    fn an_empty_queue_takes_one_record_of_any_legal_size() {
        let mut queue = queue(QUEUE_BYTES + 1_024);
        assert_eq!(queue.push(&vec![0; QUEUE_BYTES + 1_024]).unwrap().get(), 1);
        assert!(matches!(queue.push(b"x"), Err(AppendError::QueueFull { records: 1, .. })));
        assert!(matches!(queue.push(&vec![0; QUEUE_BYTES + 1_025]), Err(AppendError::TooLarge { .. })));
    }

    #[test]
    fn refused_records_are_numbered_and_reported() {
        let mut queue = queue(100);
        for _ in 0..QUEUE_RECORDS {
            queue.push(b"0123456789").unwrap();
        }
        for _ in 0..3 {
            queue.push(b"0123456789").unwrap_err();
        }
        let mut batch = Batch::default();
        queue.take(&mut batch);
        assert_eq!(batch.records().count(), QUEUE_RECORDS);
        let [report] = batch.reports.entries() else { panic!("{:?}", batch.reports) };
        assert_eq!((report.reason, report.count.records, report.count.bytes), (DropReason::QueueFull, 3, 30));
        let range = report.range.unwrap();
        assert_eq!((range.from.get(), range.to.get()), (257, 259));
        assert_eq!(queue.push(b"x").unwrap().get(), 260);
    }

    #[test]
    fn a_queue_of_small_records_is_ripe_before_it_is_full() {
        let mut queue = queue(100);
        while !queue.is_ripe() {
            queue.push(b"x").unwrap();
        }
        assert_eq!(queue.waiting.entries.len(), WRITE_RECORDS);
    }
}
