//! The one error type of the facade, and that of calls in the other direction.

use tuntrail::{client::ClientError, store::StoreError, tunnel::TunnelError, upload};

/// Why a call failed. The text of each says what was wrong, with which value, and what to do; it never holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, uniffi::Error)]
pub enum TuntrailError {
    /// A value that was passed is wrong, or not for this platform. Nothing was changed.
    #[error("{reason}")]
    Config {
        /// What is wrong, with which value, and what is expected.
        reason: String,
    },
    /// The directory for records, or a file in it, can't be used. What was recorded is kept.
    #[error("{reason}")]
    Storage {
        /// What failed, and where.
        reason: String,
    },
    /// The user has not agreed to recording, so there is nothing to send, export or switch on.
    #[error("{reason}")]
    NoConsent {
        /// Which consent is in force.
        reason: String,
    },
    /// The tunnel can't start, or one runs already. No descriptor is kept.
    #[error("{reason}")]
    Tunnel {
        /// What failed.
        reason: String,
    },
    /// The client was shut down.
    #[error("{reason}")]
    Closed {
        /// What was asked of it.
        reason: String,
    },
    /// Anything else: the operating system refused a thread or a socket, or a callback failed.
    #[error("{reason}")]
    Internal {
        /// What failed.
        reason: String,
    },
}

impl TuntrailError {
    pub(crate) fn config(reason: impl ToString) -> Self {
        Self::Config { reason: reason.to_string() }
    }
}

impl From<ClientError> for TuntrailError {
    fn from(error: ClientError) -> Self {
        let reason = error.to_string();
        match error {
            ClientError::Store(
                StoreError::InvalidLimit { .. }
                | StoreError::InvalidName { .. }
                | StoreError::DuplicateStream { .. },
            ) => Self::Config { reason },
            // What the client reads and writes itself is in its directory; a thread that can't be made is rarer by far.
            ClientError::Store(_)
            | ClientError::Append(_)
            | ClientError::Export { .. }
            | ClientError::Io(_) => Self::Storage { reason },
            ClientError::Upload(_)
            | ClientError::Flow(_)
            | ClientError::Session(_)
            | ClientError::Sockets(_)
            | ClientError::NoSessions
            | ClientError::SocketStatsAlways
            | ClientError::NoteTooLong { .. }
            | ClientError::Task(_) => Self::Config { reason },
            ClientError::Tunnel(TunnelError::Engine(_)) => Self::Config { reason },
            ClientError::Tunnel(_) | ClientError::TunnelRunning => Self::Tunnel { reason },
            ClientError::NoConsent(_) => Self::NoConsent { reason },
            ClientError::ShutDown => Self::Closed { reason },
            _ => Self::Internal { reason },
        }
    }
}

impl From<upload::ConfigError> for TuntrailError {
    fn from(error: upload::ConfigError) -> Self {
        Self::config(error)
    }
}

/// What a callback of the app reports when it fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, uniffi::Error)]
pub enum CallbackError {
    /// It could not do what it was asked to. Anything else that it throws arrives as this, too.
    #[error("{reason}")]
    Failed {
        /// Why, in words. Goes to the log at level debug only.
        reason: String,
    },
}

impl From<uniffi::UnexpectedUniFFICallbackError> for CallbackError {
    fn from(error: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Failed { reason: error.reason }
    }
}
