//! The buffer between threads that log and the thread that writes.

use std::{
    io, mem,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    line,
    rotation::{DiagnosticsLimits, Rotation},
};
use crate::clock::{Instant, SharedClock};

/// Lines that wait, in bytes, while there are no files or the disk is slow: a minute of busy logging.
const MAX_WAITING: usize = 64 * 1024;
/// Enough to write without waiting for more.
const WRITE_BYTES: usize = 16 * 1024;
/// How long the first waiting line waits for others: each write wakes the device's flash.
const WRITE_DELAY: Duration = Duration::from_secs(1);

/// What became of our lines so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiagnosticsStats {
    /// Logged, whatever became of them.
    pub lines: u64,
    /// Given to the system.
    pub written: u64,
    /// Dropped because too many were waiting, because the disk refused them, or because they were logged while a line was
    /// being formatted.
    pub lost: u64,
    /// The last error of the disk.
    pub error: Option<String>,
}

/// Bytes of whole lines, and how many there are.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

#[derive(Debug, Default)]
struct Inbox {
    waiting: Lines,
    /// When the first of them must be written.
    due: Option<Instant>,
    /// Somebody waits for them, or they are important.
    urgent: bool,
    /// Lost since the last write that said so.
    unreported: u64,
    stats: DiagnosticsStats,
    /// Batches taken and finished by the writer, to know when a flush is done.
    taken: u64,
    finished: u64,
    last_result: Option<String>,
    stop: bool,
    writer: Option<JoinHandle<()>>,
}

/// The inbox and its alarms.
#[derive(Debug)]
pub(super) struct Shared {
    clock: SharedClock,
    inbox: Mutex<Inbox>,
    /// For the writer: something to do.
    wake: Condvar,
    /// For those who wait for it: a batch is finished.
    done: Condvar,
}

impl Shared {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, inbox: Mutex::default(), wake: Condvar::new(), done: Condvar::new() }
    }

    pub(super) fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line. Never waits for anything but other threads that do the same.
    pub(super) fn push(&self, line: &[u8], urgent: bool) {
        let now = self.clock.now();
        let mut inbox = self.lock();
        inbox.stats.lines += 1;
        if inbox.waiting.bytes.len() + line.len() > MAX_WAITING {
            let dropped = inbox.waiting.drop_older_half();
            inbox.stats.lost += dropped;
            inbox.unreported += dropped;
        }
        inbox.waiting.bytes.extend_from_slice(line);
        inbox.waiting.count += 1;
        let first = inbox.due.is_none();
        inbox.due.get_or_insert(now + WRITE_DELAY);
        let ripe = urgent || inbox.waiting.bytes.len() >= WRITE_BYTES;
        let newly_ripe = ripe && !inbox.urgent;
        inbox.urgent |= ripe;
        let wake = inbox.writer.is_some() && (first || newly_ripe);
        drop(inbox);
        if wake {
            self.wake.notify_one();
        }
    }

    /// A line that could not be taken.
    pub(super) fn lose(&self) {
        let mut inbox = self.lock();
        inbox.stats.lines += 1;
        inbox.stats.lost += 1;
        inbox.unreported += 1;
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        let mut inbox = self.lock();
        if inbox.writer.is_none() {
            return Ok(());
        }
        let wanted = if inbox.waiting.bytes.is_empty() { inbox.taken } else { inbox.taken + 1 };
        inbox.urgent |= !inbox.waiting.bytes.is_empty();
        self.wake.notify_one();
        while inbox.finished < wanted && inbox.writer.is_some() {
            inbox = self.done.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        inbox.last_result.clone().map_or(Ok(()), |error| Err(io::Error::other(error)))
    }

    pub(super) fn close(&self) {
        let mut inbox = self.lock();
        inbox.stop = true;
        let writer = inbox.writer.take();
        drop(inbox);
        self.wake.notify_one();
        self.done.notify_all();
        if let Some(writer) = writer {
            // A panic there has lost what it was writing; there is nothing left to do about it.
            let _ = writer.join();
        }
    }

    pub(super) fn discard(&self) {
        let mut inbox = self.lock();
        inbox.waiting = Lines::default();
        inbox.due = None;
        drop(inbox);
        self.close();
        // What was logged meanwhile.
        let mut inbox = self.lock();
        inbox.waiting = Lines::default();
        inbox.due = None;
        inbox.unreported = 0;
    }

    pub(super) fn stats(&self) -> DiagnosticsStats {
        self.lock().stats.clone()
    }

    /// The next batch, or `None` when the writer is to end.
    fn next_batch(&self) -> Option<(Lines, u64)> {
        let mut inbox = self.lock();
        loop {
            let empty = inbox.waiting.bytes.is_empty();
            let now = self.clock.now();
            if !empty && (inbox.urgent || inbox.stop || inbox.due.is_some_and(|due| due <= now)) {
                inbox.taken += 1;
                inbox.due = None;
                inbox.urgent = false;
                return Some((mem::take(&mut inbox.waiting), mem::take(&mut inbox.unreported)));
            }
            if inbox.stop {
                return None;
            }
            inbox = match inbox.due {
                None => self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let wait = due.saturating_duration_since(now);
                    self.wake.wait_timeout(inbox, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// `lost` lines were to be told of before the `lines` lines.
    fn finish_batch(&self, lines: u64, lost: u64, result: io::Result<()>) {
        let mut inbox = self.lock();
        inbox.finished += 1;
        inbox.last_result = result.err().map(|error| error.to_string());
        if let Some(error) = &inbox.last_result {
            inbox.stats.error = Some(error.clone());
            inbox.stats.lost += lines;
            inbox.unreported += lines + lost;
        } else {
            inbox.stats.written += lines;
        }
        drop(inbox);
        self.done.notify_all();
    }
}

impl Lines {
    /// Makes room: the newest lines say most about what is wrong now. Returns how many went.
    fn drop_older_half(&mut self) -> u64 {
        let half = self.bytes.len() / 2;
        let behind = self.bytes.iter().skip(half).position(|&byte| byte == b'\n');
        let end = behind.map_or(self.bytes.len(), |at| half + at + 1);
        let dropped = self.bytes.drain(..end).filter(|&byte| byte == b'\n').count() as u64;
        self.count = self.count.saturating_sub(dropped);
        dropped
    }
}

/// Starts the writer, unless there is one.
pub(super) fn open(shared: &Arc<Shared>, directory: &Path, limits: DiagnosticsLimits) -> io::Result<()> {
    let mut inbox = shared.lock();
    if inbox.writer.is_some() {
        return Ok(());
    }
    let rotation = Rotation::open(directory, limits)?;
    inbox.stop = false;
    let writing = Arc::clone(shared);
    inbox.writer =
        Some(thread::Builder::new().name("tuntrail-log".to_owned()).spawn(move || run(&writing, rotation))?);
    Ok(())
}

fn run(shared: &Shared, mut rotation: Rotation) {
    while let Some((lines, lost)) = shared.next_batch() {
        let mut result = Ok(());
        if lost > 0 {
            let message = format!("{lost} log lines were lost");
            result = rotation.write(&line::note(shared.wall(), "WARN", &message));
        }
        let result = result.and_then(|()| rotation.write(&lines.bytes));
        let displaced = rotation.displaced();
        if displaced > 0 {
            let message = format!("{displaced} older log lines made room before they were uploaded");
            if rotation.write(&line::note(shared.wall(), "INFO", &message)).is_ok() {
                rotation.told(displaced);
            }
        }
        shared.finish_batch(lines.count, lost, result);
    }
}
