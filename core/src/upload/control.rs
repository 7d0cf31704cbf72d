//! What is asked for, and what is allowed.
//!
//! The part of the uploader that is behind its control lock: the requests that wait and run, the policy, the saved
//! request. Every operation is short; see [`super::shared`] for who calls them.

use std::sync::Arc;

use super::{
    policy::Policy,
    report::{UploadOutcome, UploadReport, UploadStats},
    request::RequestFile,
    ticket::{ProgressListener, Ticket},
};

/// What is asked for, and what is allowed.
pub(super) struct Control {
    /// The next pass. Everybody who asks before it begins has its ticket.
    pub(super) queued: Option<Request>,
    pub(super) running: Option<Running>,
    pub(super) policy: Policy,
    pub(super) file: Option<RequestFile>,
    pub(super) paused: bool,
    /// The host is to be told that there is work.
    pub(super) call_host: bool,
    /// The uploader is being dropped.
    pub(super) stop: bool,
    /// The thread has ended.
    pub(super) dead: bool,
    pub(super) stats: UploadStats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody asked, in this process or the one before.
    Asked,
    Automatic {
        wire_limit: Option<u64>,
    },
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) ticket: Arc<Ticket>,
    pub(super) streams: Vec<usize>,
    pub(super) cause: Cause,
    /// The report of the pass that ran when it was asked for.
    pub(super) before: Option<UploadReport>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) ticket: Arc<Ticket>,
    pub(super) streams: Vec<usize>,
    pub(super) cause: Cause,
}

impl Control {
    /// Adds to the queued request, or makes it. Returns its ticket.
    pub(super) fn queue(
        &mut self,
        cause: Cause,
        streams: Vec<usize>,
        progress: Option<ProgressListener>,
    ) -> Arc<Ticket> {
        let Some(queued) = &mut self.queued else {
            let ticket = Ticket::new(progress);
            let request = Request { ticket: Arc::clone(&ticket), streams, cause, before: None };
            self.queued = Some(request);
            return ticket;
        };
        // An automatic one becomes one that was asked for.
        queued.cause = cause;
        for stream in streams {
            if !queued.streams.contains(&stream) {
                queued.streams.push(stream);
            }
        }
        queued.ticket.add_listener(progress);
        Arc::clone(&queued.ticket)
    }

    /// Somebody asked for this stream and has no answer yet.
    pub(super) fn is_wanted(&self, stream: usize) -> bool {
        let queued = self.queued.iter().map(|queued| (queued.cause, &queued.streams));
        let running = self.running.iter().map(|running| (running.cause, &running.streams));
        queued.chain(running).any(|(cause, streams)| cause == Cause::Asked && streams.contains(&stream))
    }

    /// Forgets the saved request, unless it is that of a pass that runs or waits.
    pub(super) fn forget_unless_wanted(&self) {
        let queued = self.queued.as_ref().map(|queued| queued.cause);
        let running = self.running.as_ref().map(|running| running.cause);
        if !queued.into_iter().chain(running).any(|cause| cause == Cause::Asked) {
            self.forget();
        }
    }

    /// Forgets the saved request.
    pub(super) fn forget(&self) {
        if let Some(file) = &self.file
            && let Err(error) = file.remove()
        {
            tracing::warn!(%error, "the saved upload request can't be removed");
        }
    }

    /// A pass has ended.
    pub(super) fn count(&mut self, report: &UploadReport, wire_bytes: u64) {
        let stats = &mut self.stats;
        stats.passes += 1;
        if !matches!(report.outcome, UploadOutcome::Complete | UploadOutcome::NothingToSend) {
            stats.failed_passes += 1;
        }
        stats.sent_records += report.sent_records;
        stats.dropped_records += report.dropped_records;
        stats.wire_bytes += wire_bytes;
        stats.last_report = Some(report.clone());
    }
}
