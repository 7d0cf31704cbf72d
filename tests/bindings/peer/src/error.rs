//! The one error of the library.

use std::{fmt, io};

/// Something that a test needs did not work or did not happen.
#[derive(Debug, thiserror::Error, uniffi::Error)]
pub enum TestPeerError {
    /// What and why, in words.
    #[error("{reason}")]
    Failed {
        /// The words.
        reason: String,
    },
}

impl TestPeerError {
    /// `what` did not work because of `why`.
    pub(crate) fn new(what: &str, why: impl fmt::Display) -> Self {
        Self::Failed { reason: format!("{what}: {why}") }
    }

    /// An error of the operating system, as a closure for `map_err`.
    pub(crate) fn io(what: &str) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::new(what, error)
    }
}
