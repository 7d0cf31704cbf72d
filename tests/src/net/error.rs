//! What can go wrong with namespaces, devices and foreign processes.

use std::{io, time::Duration};

use tuntrail_netlab::linux::LinuxError;

/// An error of the network, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// Of a namespace or the `ip` command.
    #[error(transparent)]
    Linux(#[from] LinuxError),
    /// A program is not installed.
    #[error("`{program}` was not found: install it with `{install}`")]
    Missing {
        /// The program.
        program: String,
        /// How to get it.
        install: &'static str,
    },
    /// A program ended with an error.
    #[error("`{command}` failed: {output}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// What it said, or its exit status.
        output: String,
    },
    /// A process did not do in time what was waited for.
    #[error("`{command}` did not say {expected:?} within {patience:?}; it said: {output}")]
    Silent {
        /// The program and its arguments.
        command: String,
        /// What was waited for.
        expected: String,
        /// How long.
        patience: Duration,
        /// The end of what it said.
        output: String,
    },
    /// Something was said that can't be read.
    #[error("can't read what {source_name} said: {text:?}")]
    Unreadable {
        /// Who said it.
        source_name: &'static str,
        /// What.
        text: String,
    },
    /// A system call failed.
    #[error("{action} failed: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl NetError {
    /// Gives a system's error its context.
    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}
