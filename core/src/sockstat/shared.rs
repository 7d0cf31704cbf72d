//! What the counters and the logger share: rows of numbers, and the flag and the condition that wake the logger.
//!
//! Adding is two looks at a flag and one atomic addition. The flag has three states: nothing is recorded, so nothing is
//! counted; quiet, so the next change must wake the logger; armed, so the logger will look by itself. Whoever takes it
//! from quiet to armed takes the mutex for a moment and wakes the logger; everybody else just adds.
//!
//! The logger goes back to quiet *before* it reads the rows, and an adder looks at the flag *after* it has added, both
//! sequentially consistent: either the logger sees the bytes, or the adder sees the quiet and wakes it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU8, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use super::{Bytes, InterfaceKind, Label, MAX_LABELS, SocketStatsError};
use crate::clock::{Clock, Instant};

const OFF: u8 = 0;
const QUIET: u8 = 1;
const ARMED: u8 = 2;

/// The numbers of one label, since the last sample.
#[derive(Debug, Default)]
pub(super) struct Row {
    tx: AtomicU64,
    rx: AtomicU64,
}

impl Row {
    fn take(&self) -> Bytes {
        Bytes { tx: self.tx.swap(0, SeqCst), rx: self.rx.swap(0, SeqCst) }
    }
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    gate: AtomicU8,
    /// Of upstream's labels, by number.
    own: [Arc<Row>; Label::UPSTREAM.len()],
    /// Of the app's labels.
    rows: Mutex<BTreeMap<Label, Arc<Row>>>,
    #[cfg(unix)]
    pub(super) sockets: Mutex<super::sockets::Sockets>,
    signal: Mutex<Signal>,
    /// Wakes the logger.
    work: Condvar,
    /// Wakes those who wait for [`Shared::flush`].
    flushed: Condvar,
}

/// What the logger has to look at.
#[derive(Debug, Default)]
pub(super) struct Signal {
    /// There is a logger; the number of the last one.
    pub(super) attached: bool,
    pub(super) generation: u64,
    pub(super) armed: bool,
    pub(super) interface: InterfaceKind,
    /// The network has changed: what moved before.
    pub(super) before_change: Option<Moved>,
    /// Numbers of the latest flush that was asked for and that was done.
    pub(super) flush_wanted: u64,
    pub(super) flush_done: u64,
    pub(super) stop: bool,
}

/// What moved before the network changed, and whether that was worth an event.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) armed: bool,
    pub(super) cellular: BTreeMap<Label, Bytes>,
    pub(super) other: BTreeMap<Label, Bytes>,
}

impl Signal {
    fn is_pending(&self) -> bool {
        self.armed || self.before_change.is_some() || self.stop || self.flush_wanted > self.flush_done
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Signal> {
        lock(&self.signal)
    }

    pub(super) fn row(&self, label: Label) -> Result<Arc<Row>, SocketStatsError> {
        if let Some(row) = self.own.get(usize::from(label.number())) {
            return Ok(Arc::clone(row));
        }
        let mut rows = lock(&self.rows);
        if let Some(row) = rows.get(&label) {
            return Ok(Arc::clone(row));
        }
        if rows.len() >= MAX_LABELS {
            return Err(SocketStatsError::TooManyLabels { label });
        }
        let row = Arc::<Row>::default();
        rows.insert(label, Arc::clone(&row));
        Ok(row)
    }

    /// The row of one of upstream's labels.
    pub(super) fn own_row(&self, label: Label) -> Arc<Row> {
        // There is one for each of them.
        self.own.get(usize::from(label.number())).cloned().unwrap_or_default()
    }

    #[inline]
    pub(super) fn is_off(&self) -> bool {
        self.gate.load(Relaxed) == OFF
    }

    /// Adds to a row of this logger's; `arms` says whether that is worth an event.
    #[inline]
    pub(super) fn add(&self, row: &Row, bytes: Bytes, arms: bool) {
        if self.is_off() {
            return;
        }
        for (counter, bytes) in [(&row.tx, bytes.tx), (&row.rx, bytes.rx)] {
            if bytes > 0 {
                counter.fetch_add(bytes, SeqCst);
            }
        }
        if arms && self.gate.load(SeqCst) == QUIET {
            self.arm();
        }
    }

    /// Has the logger look at the rows in a tenth of a second, unless it will anyway.
    #[cold]
    pub(super) fn arm(&self) {
        if self.gate.compare_exchange(QUIET, ARMED, SeqCst, SeqCst).is_ok() {
            self.lock().armed = true;
            self.work.notify_one();
        }
    }

    pub(super) fn set_interface(&self, interface: InterfaceKind) {
        let mut signal = self.lock();
        let before = std::mem::replace(&mut signal.interface, interface);
        if before == interface || !signal.attached {
            return;
        }
        // Taken here and not by the logger, which may come late: what moves from now on is the new network's.
        let bytes = self.sample();
        let armed = std::mem::take(&mut signal.armed);
        let moved = signal.before_change.get_or_insert_default();
        moved.armed |= armed;
        let kept = if before == InterfaceKind::Cellular { &mut moved.cellular } else { &mut moved.other };
        for (label, bytes) in bytes {
            *kept.entry(label).or_default() += bytes;
        }
        self.work.notify_one();
    }

    /// Begins to count, from zero.
    pub(super) fn attach(&self) -> Result<(u64, InterfaceKind), SocketStatsError> {
        let mut signal = self.lock();
        if signal.attached {
            return Err(SocketStatsError::AlreadyRecording);
        }
        let (generation, interface) = (signal.generation + 1, signal.interface);
        *signal = Signal { attached: true, generation, interface, ..Signal::default() };
        // What came too late for the logger before this one, and what sockets moved without one, is not ours.
        self.take();
        self.gate.store(QUIET, SeqCst);
        Ok((generation, interface))
    }

    /// Counts no more.
    pub(super) fn close(&self) {
        self.gate.store(OFF, SeqCst);
    }

    /// The logger is gone: nobody shall wait for it.
    pub(super) fn detach(&self) {
        self.close();
        self.lock().attached = false;
        self.flushed.notify_all();
    }

    /// What has moved since the last sample. From here on a change arms again.
    pub(super) fn sample(&self) -> BTreeMap<Label, Bytes> {
        // Fails where it is quiet already, or off.
        let _ = self.gate.compare_exchange(ARMED, QUIET, SeqCst, SeqCst);
        self.take()
    }

    fn take(&self) -> BTreeMap<Label, Bytes> {
        let own = Label::all().zip(self.own.iter().map(|row| row.take()));
        let mut all: BTreeMap<_, _> = own.collect();
        all.extend(lock(&self.rows).iter().map(|(&label, row)| (label, row.take())));
        #[cfg(unix)]
        lock(&self.sockets).take(&mut all);
        all.retain(|_, bytes| !bytes.is_zero());
        all
    }

    /// Asks the logger with this number to end; the one after it is not meant.
    pub(super) fn stop(&self, generation: u64) {
        let mut signal = self.lock();
        signal.stop |= signal.generation == generation;
        self.work.notify_one();
    }

    pub(super) fn flush_done(&self, number: u64) {
        self.lock().flush_done = number;
        self.flushed.notify_all();
    }

    /// Waits until all that was counted before is in the sink, or the logger gone.
    pub(super) fn flush(&self) {
        let mut signal = self.lock();
        signal.flush_wanted += 1;
        let number = signal.flush_wanted;
        self.work.notify_one();
        while signal.attached && signal.flush_done < number {
            signal = self.flushed.wait(signal).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sleeps until something is signalled, or the deadline, or for ever. Called by the logger.
    pub(super) fn wait(&self, deadline: Option<Instant>, clock: &dyn Clock) {
        let mut signal = self.lock();
        while !signal.is_pending() {
            signal = match deadline.map(|deadline| deadline.saturating_duration_since(clock.now())) {
                None => self.work.wait(signal).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return,
                Some(left) => self.work.wait_timeout(signal, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
