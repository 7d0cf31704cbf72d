//! The claim to the result of a pass.
//!
//! Shared between those who asked, on any thread, and the driver that runs the pass. Completed exactly once, whatever
//! becomes of the pass.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
};

use tokio::sync::watch;

use super::{
    report::{UploadProgress, UploadReport},
    shared::{Shared, lock},
};

/// Is told how a pass proceeds, after each confirmed request: on the upload thread, or on the host's that
/// [completed](super::Uploader::complete) the task. Must not block.
pub type ProgressListener = Box<dyn Fn(&UploadProgress) + Send>;

/// The claim to the result of a pass.
#[derive(Debug, Clone)]
pub struct UploadTicket {
    ticket: Arc<Ticket>,
    shared: Weak<Shared>,
}

impl UploadTicket {
    pub(super) fn new(ticket: Arc<Ticket>, shared: &Arc<Shared>) -> Self {
        Self { ticket, shared: Arc::downgrade(shared) }
    }

    /// Blocks until the pass has ended.
    #[must_use]
    pub fn wait(&self) -> UploadReport {
        let mut report = lock(&self.ticket.report);
        loop {
            if let Some(report) = &*report {
                return report.clone();
            }
            report = self.ticket.done.wait(report).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The result, if the pass has ended.
    #[must_use]
    pub fn report(&self) -> Option<UploadReport> {
        lock(&self.ticket.report).clone()
    }

    /// Ends the pass as soon as possible, also for others who have this ticket's pass: those who asked before it began.
    /// A request under way is broken off; whether the server has taken it remains open, and the next pass repeats it.
    pub fn cancel(&self) {
        match self.shared.upgrade() {
            Some(shared) => shared.cancel_ticket(&self.ticket),
            None => self.ticket.cancel(),
        }
    }
}

pub(super) struct Ticket {
    cancel: watch::Sender<bool>,
    listeners: Mutex<Vec<ProgressListener>>,
    report: Mutex<Option<UploadReport>>,
    done: Condvar,
}

impl Ticket {
    pub(super) fn new(listener: Option<ProgressListener>) -> Arc<Self> {
        Arc::new(Self {
            cancel: watch::Sender::new(false),
            listeners: Mutex::new(listener.into_iter().collect()),
            report: Mutex::new(None),
            done: Condvar::new(),
        })
    }

    pub(super) fn add_listener(&self, listener: Option<ProgressListener>) {
        lock(&self.listeners).extend(listener);
    }

    pub(super) fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    /// Becomes true when the pass is to end.
    pub(super) fn cancelled(&self) -> watch::Receiver<bool> {
        self.cancel.subscribe()
    }

    pub(super) fn complete(&self, report: UploadReport) {
        lock(&self.listeners).clear();
        lock(&self.report).get_or_insert(report);
        self.done.notify_all();
    }

    pub(super) fn tell(&self, progress: &UploadProgress) {
        // Called without the lock: a listener may ask for an upload, or block somebody who does.
        let listeners = std::mem::take(&mut *lock(&self.listeners));
        for listener in &listeners {
            listener(progress);
        }
        lock(&self.listeners).extend(listeners);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("report", &self.report).finish_non_exhaustive()
    }
}
