//! What a pass tells about itself, while it runs and at its end.

use std::{fmt, time::Duration};

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadOutcome {
    /// Every record that was pending at the start was delivered, or dropped with a report.
    Complete,
    /// Nothing was pending. No connection was opened.
    NothingToSend,
    /// Somebody cancelled the pass, or the uploader was stopped.
    Cancelled,
    /// The server refuses a stream in a way that a repetition doesn't change: wrong address, a redirect, or nothing
    /// that it is sent is right. What was not delivered is kept.
    Rejected {
        /// The stream that was refused; others were still tried.
        stream: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the server's answer, cleaned.
        message: String,
    },
    /// The server wants other credentials (401, 403). Everything is kept.
    Unauthorized {
        /// The stream that was refused; others were still tried.
        stream: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the server's answer, cleaned.
        message: String,
    },
    /// The server could not be reached, or did not answer in HTTP. What was not delivered is kept.
    Unreachable {
        /// The last error.
        error: String,
    },
    /// The server is busy or broken, or asked for patience. What was not delivered is kept.
    RetryLater {
        /// When another try makes sense, from the end of the pass.
        after: Duration,
        /// The last HTTP status.
        status: u16,
    },
    /// An automatic pass has used up what it may cost on a metered network. What was not delivered is kept.
    BudgetSpent,
    /// The store failed. What it still has is kept.
    StoreFailed {
        /// The stream it failed for; others were still tried.
        stream: String,
        /// What the store says.
        error: String,
    },
    /// The pass could not begin: no trust store, no such stream, or the system is out of resources.
    SetupFailed {
        /// What is missing.
        error: String,
    },
}

impl UploadOutcome {
    /// One word, for logs: without anything that the server or the system said.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::NothingToSend => "nothing_to_send",
            Self::Cancelled => "cancelled",
            Self::Rejected { .. } => "rejected",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Unreachable { .. } => "unreachable",
            Self::RetryLater { .. } => "retry_later",
            Self::BudgetSpent => "budget_spent",
            Self::StoreFailed { .. } => "store_failed",
            Self::SetupFailed { .. } => "setup_failed",
        }
    }

    /// The server has said what it thinks of everything that was pending, or nothing was.
    pub(super) const fn reached_server(&self) -> bool {
        matches!(
            self,
            Self::Complete | Self::NothingToSend | Self::Rejected { .. } | Self::Unauthorized { .. }
        )
    }

    /// The same attempt may do better another time, without anybody changing anything.
    pub(super) const fn is_failure_in_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::RetryLater { .. }
                | Self::StoreFailed { .. }
                | Self::SetupFailed { .. }
        )
    }

    /// The failure is that of the whole way to the server: who waits for the next pass would only see it once more.
    pub(super) const fn concerns_everybody(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::RetryLater { .. } | Self::SetupFailed { .. })
    }
}

impl fmt::Display for UploadOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::NothingToSend => f.write_str("nothing to send"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Rejected { stream, status, message } => {
                write!(f, "the server rejects the stream {stream} with status {status}: {message}")
            }
            Self::Unauthorized { stream, status, message } => {
                write!(
                    f,
                    "the server wants other credentials for the stream {stream}, status {status}: {message}"
                )
            }
            Self::Unreachable { error } => write!(f, "the server can't be reached: {error}"),
            Self::RetryLater { after, status } => {
                write!(f, "the server is busy, status {status}: try again in {} s", after.as_secs())
            }
            Self::BudgetSpent => f.write_str("the budget for metered networks is used up"),
            Self::StoreFailed { stream, error } => {
                write!(f, "the store failed for the stream {stream}: {error}")
            }
            Self::SetupFailed { error } => write!(f, "the upload could not begin: {error}"),
        }
    }
}

/// The server's reason for refusing single records, which were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status.
    pub status: u16,
    /// The beginning of the server's answer, cleaned.
    pub message: String,
}

/// The result of a pass. All counts are of this pass; for who asked while another was running, of that one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadReport {
    /// How it ended. If several streams failed, the first one's failure.
    pub outcome: UploadOutcome,
    /// Records the server has confirmed.
    pub sent_records: u64,
    /// Requests the server has confirmed.
    pub sent_bodies: u64,
    /// Bytes of confirmed bodies as sent, compressed.
    pub sent_bytes: u64,
    /// The same bodies before compression.
    pub raw_bytes: u64,
    /// Records of this pass that are still in the store. A segment that was confirmed in part counts with all its
    /// records: the next pass sends it again, and the server drops the duplicates.
    pub remaining_records: u64,
    /// Records given up in this pass: refused by the server, or unreadable. Each is in a drop report of the store.
    pub dropped_records: u64,
    /// Requests made, repetitions and broken-off ones included.
    pub attempts: u64,
    /// The last refusal that led to dropped records.
    pub rejection: Option<Rejection>,
}

impl UploadReport {
    pub(super) const fn empty(outcome: UploadOutcome) -> Self {
        Self {
            outcome,
            sent_records: 0,
            sent_bodies: 0,
            sent_bytes: 0,
            raw_bytes: 0,
            remaining_records: 0,
            dropped_records: 0,
            attempts: 0,
            rejection: None,
        }
    }

    /// What both passes did together, for who waited for both. How it ended is up to `later`, unless there was nothing
    /// left to do.
    pub(super) fn followed_by(&self, later: &Self) -> Self {
        let nothing_left = later.outcome == UploadOutcome::NothingToSend && self.sent_records > 0;
        Self {
            outcome: if nothing_left { UploadOutcome::Complete } else { later.outcome.clone() },
            sent_records: self.sent_records + later.sent_records,
            sent_bodies: self.sent_bodies + later.sent_bodies,
            sent_bytes: self.sent_bytes + later.sent_bytes,
            raw_bytes: self.raw_bytes + later.raw_bytes,
            remaining_records: later.remaining_records,
            dropped_records: self.dropped_records + later.dropped_records,
            attempts: self.attempts + later.attempts,
            rejection: later.rejection.clone().or_else(|| self.rejection.clone()),
        }
    }
}

/// How far a pass has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadProgress {
    /// The stream being sent.
    pub stream: String,
    /// Records confirmed so far, of all streams.
    pub sent_records: u64,
    /// Records that were pending at the start, of all streams.
    pub total_records: u64,
    /// Bytes confirmed so far, compressed.
    pub sent_bytes: u64,
}

/// What the uploader is doing and has done since it was started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadStats {
    /// What it is doing.
    pub state: UploadState,
    /// Streams that automatic passes leave out.
    pub blocked: Vec<BlockedStream>,
    /// Until an automatic pass may begin, if only time is missing. Always `None` on demand.
    pub next_automatic: Option<Duration>,
    /// Passes that have ended.
    pub passes: u64,
    /// Of them, those whose outcome was neither complete nor that there was nothing to send.
    pub failed_passes: u64,
    /// Records that the server has confirmed.
    pub sent_records: u64,
    /// Records that were refused by the server, or unreadable, and given up. Each is in a drop report of the store.
    pub dropped_records: u64,
    /// Bytes of all bodies sent, repetitions included.
    pub wire_bytes: u64,
    /// The last pass: also if nobody asked for it.
    pub last_report: Option<UploadReport>,
}

/// What the uploader is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UploadState {
    /// Nothing.
    #[default]
    Idle,
    /// A pass runs, or is about to.
    Running,
    /// Nothing, because of [`Uploader::pause_uploads`](super::Uploader::pause_uploads).
    Paused,
}

/// A stream that automatic passes leave out because of what the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedStream {
    /// Its name.
    pub stream: String,
    /// Why, and until when.
    pub reason: BlockReason,
}

/// Why automatic passes leave a stream out. An upload that somebody asks for tries all the same, and ends it if it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockReason {
    /// The server wants other credentials (401, 403). Call
    /// [`Uploader::resume_uploads`](super::Uploader::resume_uploads) when they are in place.
    Credentials,
    /// The address is wrong or the server refuses everything.
    Endpoint {
        /// Until the next attempt.
        retry_in: Duration,
    },
}

/// Something that happened without anybody waiting for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadEvent {
    /// With [`Transport::Host`](super::Transport::Host): [`Uploader::next_task`](super::Uploader::next_task) has something.
    WorkWaiting,
    /// A pass has ended.
    Ended(UploadReport),
}
