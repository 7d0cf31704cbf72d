//! Requests for a host that carries them itself.
//!
//! Plain values that cross to the host and back. The rules are the same as for the built-in transport, because the same
//! pass makes the requests and judges the answers.

use std::{fmt, time::Duration};

use super::http::{Answer, MAX_ANSWER, Outgoing};
use super::verdict::sanitize;

/// What [`Uploader::next_task`](super::Uploader::next_task) wants of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Carry this request to the server, and [tell](super::Uploader::complete) what came of it. Until then the same
    /// request comes again, whoever asks.
    Upload(UploadTask),
    /// Ask again after this time, or later: the server or an earlier failure wants it.
    Wait(Duration),
    /// There is nothing to send now. [`UploadEvent::WorkWaiting`](super::UploadEvent::WorkWaiting) tells when there is.
    Done,
}

/// A request to be carried to the server by `POST`.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadTask {
    /// Names the task to [`Uploader::complete`](super::Uploader::complete). Not the same after a restart.
    pub id: u64,
    /// Where to. A secret: whoever knows it can write to this log. Redirects must not be followed.
    pub url: String,
    /// Names, in lower case, and values, which may be secret. Nothing that tells who we are should be added.
    pub headers: Vec<(String, String)>,
    /// What to send, as it is.
    pub body: Vec<u8>,
}

impl UploadTask {
    pub(super) fn new(id: u64, outgoing: &Outgoing) -> Self {
        let headers = outgoing.headers.iter();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        Self {
            id,
            url: outgoing.url.as_str().to_owned(),
            headers: headers
                .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
                .collect(),
            body: outgoing.body.to_vec(),
        }
    }
}

impl fmt::Debug for UploadTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, body, .. } = self;
        f.debug_struct("UploadTask").field("id", id).field("body_bytes", &body.len()).finish_non_exhaustive()
    }
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskResult {
    /// The server answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The `Retry-After` header as it came.
        retry_after: Option<String>,
        /// The answer's body, for its message: the first 1 KiB matter. Commands in it are not looked at.
        body: Vec<u8>,
    },
    /// No answer, or none in HTTP.
    Failed {
        /// What the platform says, without the URL.
        error: String,
    },
}

impl TaskResult {
    pub(super) fn into_answer(self) -> Answer {
        match self {
            Self::Answered { status, retry_after, body } => {
                let beginning = body.get(..MAX_ANSWER).unwrap_or(&body);
                // A host that has the answer gives commands in it to the client itself.
                Answer::Status { status, retry_after, message: sanitize(beginning), commands: Vec::new() }
            }
            Self::Failed { error } => Answer::Failed(sanitize(error.as_bytes())),
        }
    }
}

/// Why a result can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It is not the task that is out: its result was told before, its pass was cancelled, or it is of an earlier process.
    /// Ask for the next task.
    #[error("task {id} is not under way; ask for the next task")]
    NotUnderWay {
        /// As given.
        id: u64,
    },
}
