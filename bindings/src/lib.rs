//! The UniFFI facade of tuntrail: what Kotlin, Swift and C# see.
//!
//! It only translates: records in, records out, one error type. All methods may be called from any thread; those that
//! wait for the disk or the network say so and belong on a background thread. Packets never cross this boundary.

use std::sync::Arc;

use tuntrail::{
    client::{self, ClientError},
    upload::UploadOutcome,
};

uniffi::setup_scaffolding!();

/// What the user agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Consent {
    /// Not asked yet: nothing is recorded, sent or deleted.
    Unknown,
    /// Recording and, on demand, sending are allowed.
    Granted,
    /// Refused or withdrawn: everything recorded is deleted.
    Denied,
}

/// Everything a client is told when it starts.
#[derive(Debug, Clone, uniffi::Record)]
pub struct ClientConfig {
    /// Directory for records, of the app's own and excluded from backups.
    pub directory: String,
    /// `https://host[:port][/path]` of the log server.
    pub base_url: String,
    /// What the user agreed to so far.
    pub consent: Consent,
}

/// How an upload went. Counts are of records unless they say bytes.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct UploadReport {
    /// Whether everything that was recorded when the upload began has arrived.
    pub complete: bool,
    /// What ended the upload, in words.
    pub outcome: String,
    /// Accepted by the server.
    pub sent_records: u64,
    /// Still on disk.
    pub remaining_records: u64,
    /// Given up because the server will never accept them.
    pub dropped_records: u64,
    /// Bytes of request bodies as sent.
    pub sent_bytes: u64,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error, uniffi::Error)]
pub enum TuntrailError {
    /// A value in the configuration is wrong.
    #[error("{reason}")]
    Config {
        /// What is wrong, with which value, and what is expected.
        reason: String,
    },
    /// The directory for records can't be used.
    #[error("{reason}")]
    Storage {
        /// What failed, and where.
        reason: String,
    },
    /// The user has not agreed to recording.
    #[error("{reason}")]
    NoConsent {
        /// Which consent is in force.
        reason: String,
    },
    /// The client is closed.
    #[error("{reason}")]
    Closed {
        /// What was asked of it.
        reason: String,
    },
    /// Anything else: the operating system refused a thread, a socket or a file.
    #[error("{reason}")]
    Internal {
        /// What failed.
        reason: String,
    },
}

impl From<ClientError> for TuntrailError {
    fn from(error: ClientError) -> Self {
        let reason = error.to_string();
        match error {
            ClientError::Store(_) => Self::Storage { reason },
            ClientError::Upload(_) => Self::Config { reason },
            ClientError::NoConsent(_) => Self::NoConsent { reason },
            ClientError::ShutDown => Self::Closed { reason },
            _ => Self::Internal { reason },
        }
    }
}

/// The SDK of one app.
#[derive(Debug, uniffi::Object)]
pub struct Client {
    inner: client::Client,
}

#[uniffi::export]
impl Client {
    /// Starts the client. May wait for the disk. Records of earlier runs stay where they are and are not sent.
    #[uniffi::constructor]
    pub fn new(config: ClientConfig) -> Result<Arc<Self>, TuntrailError> {
        let mut core = client::ClientConfig::new(&config.directory, &config.base_url)
            .map_err(|error| TuntrailError::Config { reason: error.to_string() })?;
        core.consent = config.consent.into();
        Ok(Arc::new(Self { inner: client::Client::start(core)? }))
    }

    /// Applies the user's answer. Withdrawing consent deletes everything recorded. Waits for the disk.
    pub fn set_consent(&self, consent: Consent) -> Result<(), TuntrailError> {
        Ok(self.inner.set_consent(consent.into())?)
    }

    /// Sends everything recorded so far. `reason` goes to the SDK's own logs. Waits until the upload has ended.
    pub fn upload(&self, reason: &str) -> Result<UploadReport, TuntrailError> {
        let report = self.inner.upload(reason)?.wait();
        Ok(UploadReport {
            complete: matches!(report.outcome, UploadOutcome::Complete | UploadOutcome::NothingToSend),
            outcome: report.outcome.to_string(),
            sent_records: report.sent_records,
            remaining_records: report.remaining_records,
            dropped_records: report.dropped_records,
            sent_bytes: report.sent_bytes,
        })
    }

    /// Writes every record to disk and stops. Nothing is sent. Waits for the disk; closing twice is harmless.
    pub fn close(&self) -> Result<(), TuntrailError> {
        match self.inner.shutdown().error {
            None => Ok(()),
            Some(reason) => Err(TuntrailError::Storage { reason }),
        }
    }
}

impl From<Consent> for tuntrail::consent::Consent {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::Unknown => Self::Unknown,
            Consent::Granted => Self::Granted,
            Consent::Denied => Self::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &std::path::Path) -> ClientConfig {
        ClientConfig {
            directory: directory.display().to_string(),
            base_url: "https://logs.example.com".to_owned(),
            consent: Consent::Granted,
        }
    }

    #[test]
    fn a_client_with_nothing_recorded_sends_nothing_and_closes_twice() {
        let directory = tempfile::tempdir().unwrap();
        let client = Client::new(config(directory.path())).unwrap();
        let report = client.upload("test").unwrap();
        assert!(report.complete);
        assert_eq!(report.sent_records, 0);
        client.close().unwrap();
        client.close().unwrap();
        assert!(matches!(client.upload("test"), Err(TuntrailError::Closed { .. })));
    }

    #[test]
    fn errors_keep_their_kind_across_the_boundary() {
        let directory = tempfile::tempdir().unwrap();
        let bad_url = ClientConfig { base_url: "ftp://x".to_owned(), ..config(directory.path()) };
        assert!(matches!(Client::new(bad_url), Err(TuntrailError::Config { .. })));
        let no_consent = ClientConfig { consent: Consent::Unknown, ..config(directory.path()) };
        let client = Client::new(no_consent).unwrap();
        assert!(matches!(client.upload("test"), Err(TuntrailError::NoConsent { .. })));
    }
}
