//! Uploads that somebody asked for.

use std::{sync::Arc, time::Duration};

use tuntrail::{client, upload};

use crate::{TuntrailError, events::Events};

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, uniffi::Enum)]
pub enum Stream {
    /// Records of windows.
    Windows,
    /// Events of single flows.
    Flows,
    /// Access sessions.
    Sessions,
    /// Socket statistics.
    Sockets,
}

/// How an upload ended.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum UploadOutcome {
    /// Everything that was recorded when the upload was asked for has arrived.
    Complete,
    /// Nothing was recorded. No connection was made.
    NothingToSend,
    /// Somebody cancelled it, or the client was shut down.
    Cancelled,
    /// The server refuses a stream in a way that another try doesn't change. What was not delivered is kept.
    Rejected {
        /// The stream.
        stream: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the server's answer, cleaned.
        detail: String,
    },
    /// The server wants other credentials. Everything is kept.
    Unauthorized {
        /// The stream.
        stream: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the server's answer, cleaned.
        detail: String,
    },
    /// The server can't be reached. What was not delivered is kept.
    Unreachable {
        /// The last error.
        detail: String,
    },
    /// The server is busy. What was not delivered is kept.
    RetryLater {
        /// When another try makes sense.
        after: Duration,
        /// The last HTTP status.
        status: u16,
    },
    /// An automatic upload has used up what it may cost on metered networks. The rest is kept.
    BudgetSpent,
    /// The upload could not begin or go on, for example for want of storage. What is on disk is kept.
    Failed {
        /// What is missing.
        detail: String,
    },
}

/// The result of an upload. Counts are of records unless they say bytes.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct UploadReport {
    /// Whether everything that was recorded when the upload began has arrived.
    pub complete: bool,
    /// How it ended.
    pub outcome: UploadOutcome,
    /// The same in words, for a log or a support screen.
    pub summary: String,
    /// Confirmed by the server.
    pub sent_records: u64,
    /// Still on disk.
    pub remaining_records: u64,
    /// Given up, because the server will never accept them or the disk lost them. Each is in a drop report.
    pub dropped_records: u64,
    /// Bytes of confirmed requests as sent, compressed.
    pub sent_bytes: u64,
    /// The same before compression.
    pub raw_bytes: u64,
}

/// How far an upload has come.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct UploadProgress {
    /// The stream being sent.
    pub stream: String,
    /// Records confirmed so far.
    pub sent_records: u64,
    /// Records that there were at the start.
    pub total_records: u64,
    /// Bytes confirmed so far, compressed.
    pub sent_bytes: u64,
}

/// An upload that was asked for. It goes on whether or not this object is kept.
#[derive(Debug, uniffi::Object)]
pub struct Upload {
    id: u64,
    ticket: upload::UploadTicket,
}

#[uniffi::export]
impl Upload {
    /// Names it in events. Not the same after a restart.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits until it has ended, at most as long as the timeouts of the configuration allow. Also returns when it is cancelled or
    /// the client shut down.
    pub fn join(&self) -> Result<UploadReport, TuntrailError> {
        Ok(self.ticket.wait().into())
    }

    /// The result, if it has ended. Returns at once.
    pub fn report(&self) -> Result<Option<UploadReport>, TuntrailError> {
        Ok(self.ticket.report().map(Into::into))
    }

    /// Ends it as soon as possible. What was not delivered is kept. Who asked before it began shares it, and is cancelled too.
    /// Returns at once; harmless when it has ended.
    pub fn cancel(&self) -> Result<(), TuntrailError> {
        self.ticket.cancel();
        Ok(())
    }
}

impl Upload {
    /// Asks for an upload of `streams`, all if there are none, whose progress goes to `events`.
    pub(crate) fn start(
        client: &client::Client,
        events: &Arc<Events>,
        reason: &str,
        streams: &[Stream],
    ) -> Result<Arc<Self>, TuntrailError> {
        let id = events.next_upload();
        let told = Arc::clone(events);
        let options = upload::UploadOptions {
            streams: (!streams.is_empty())
                .then(|| streams.iter().map(|stream| stream.name().to_owned()).collect()),
            progress: Some(Box::new(move |progress| told.progress(id, progress.into()))),
        };
        let ticket = client.upload_with(reason, options)?;
        Ok(Arc::new(Self { id, ticket }))
    }
}

impl Stream {
    /// The stream's directory and name.
    const fn name(self) -> &'static str {
        match self {
            Self::Windows => "netlog",
            Self::Flows => "flowlog",
            Self::Sessions => "sessions",
            Self::Sockets => "sockstats",
        }
    }
}

impl From<upload::UploadReport> for UploadReport {
    fn from(report: upload::UploadReport) -> Self {
        let outcome = UploadOutcome::from(report.outcome.clone());
        Self {
            complete: matches!(outcome, UploadOutcome::Complete | UploadOutcome::NothingToSend),
            summary: report.outcome.to_string(),
            outcome,
            sent_records: report.sent_records,
            remaining_records: report.remaining_records,
            dropped_records: report.dropped_records,
            sent_bytes: report.sent_bytes,
            raw_bytes: report.raw_bytes,
        }
    }
}

impl From<upload::UploadOutcome> for UploadOutcome {
    fn from(outcome: upload::UploadOutcome) -> Self {
        use upload::UploadOutcome as Core;
        match outcome {
            Core::Complete => Self::Complete,
            Core::NothingToSend => Self::NothingToSend,
            Core::Cancelled => Self::Cancelled,
            Core::Rejected { stream, status, message } => Self::Rejected { stream, status, detail: message },
            Core::Unauthorized { stream, status, message } => {
                Self::Unauthorized { stream, status, detail: message }
            }
            Core::Unreachable { error } => Self::Unreachable { detail: error },
            Core::RetryLater { after, status } => Self::RetryLater { after, status },
            Core::BudgetSpent => Self::BudgetSpent,
            other => Self::Failed { detail: other.to_string() },
        }
    }
}

impl From<&upload::UploadProgress> for UploadProgress {
    fn from(progress: &upload::UploadProgress) -> Self {
        Self {
            stream: progress.stream.clone(),
            sent_records: progress.sent_records,
            total_records: progress.total_records,
            sent_bytes: progress.sent_bytes,
        }
    }
}
