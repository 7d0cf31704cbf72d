//! Uploads that the host carries itself.

use std::time::Duration;

use tuntrail::upload;

use crate::Header;

/// What `Client.nextUploadTask` wants of the host. Printed, it shows neither URL nor contents.
#[derive(Clone, uniffi::Enum)]
#[uniffi::export(Display)]
pub enum UploadTask {
    /// Send this by `POST`, don't follow redirects, and tell `Client.completeUploadTask` what came of it. Until then the same request
    /// comes again.
    Send {
        /// Names the task. Not the same after a restart.
        id: u64,
        /// Where to. A secret: whoever knows it can write to this log.
        url: String,
        /// Values may be secret.
        headers: Vec<Header>,
        /// As it is, compressed.
        body: Vec<u8>,
    },
    /// Ask again after this time, or later.
    Wait {
        /// From now.
        after: Duration,
    },
    /// There is nothing to send. [`Event::UploadWorkWaiting`](crate::Event::UploadWorkWaiting) tells when there is.
    Done,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum UploadTaskResult {
    /// The server answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The `Retry-After` header as it came.
        retry_after: Option<String>,
        /// The answer's body. Its first KiB is enough.
        body: Vec<u8>,
    },
    /// No answer came.
    Failed {
        /// What the platform says, without the URL.
        detail: String,
    },
}

impl From<upload::Task> for UploadTask {
    fn from(task: upload::Task) -> Self {
        match task {
            upload::Task::Upload(upload::UploadTask { id, url, headers, body }) => {
                let headers = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
                Self::Send { id, url, headers, body }
            }
            upload::Task::Wait(after) => Self::Wait { after },
            upload::Task::Done => Self::Done,
        }
    }
}

impl From<UploadTaskResult> for upload::TaskResult {
    fn from(result: UploadTaskResult) -> Self {
        match result {
            UploadTaskResult::Answered { status, retry_after, body } => {
                Self::Answered { status, retry_after, body }
            }
            UploadTaskResult::Failed { detail } => Self::Failed { error: detail },
        }
    }
}
