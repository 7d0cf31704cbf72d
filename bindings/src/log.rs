//! The SDK's own log, of which there is one per process.
//!
//! `tracing` has one subscriber per process, so this is the one place with global state. The log's files belong to the
//! first client that has a log, until it is shut down; what other clients log meanwhile stands in the same files.

use std::{
    panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tuntrail::{
    clock::SystemClock,
    diagnostics::{Diagnostics, DiagnosticsError},
};

use crate::TuntrailError;

static LOG: OnceLock<Result<Diagnostics, String>> = OnceLock::new();
static IS_OWNED: AtomicBool = AtomicBool::new(false);

/// The right to write the log's files.
pub(crate) struct LogOwner;

impl LogOwner {
    /// Takes over the log, its files and its filter, if nobody has them; installs it the first time. A filter that is none is refused
    /// in any case.
    pub(crate) fn claim(filter: &str) -> Result<Option<(Self, Diagnostics)>, TuntrailError> {
        check(filter)?;
        if IS_OWNED.swap(true, Ordering::AcqRel) {
            tracing::debug!("another client has the log's files");
            return Ok(None);
        }
        let owner = Self;
        Ok(Some((owner, log(filter)?)))
    }
}

impl Drop for LogOwner {
    fn drop(&mut self) {
        IS_OWNED.store(false, Ordering::Release);
    }
}

/// Changes what the process logs.
pub(crate) fn set_filter(filter: &str) -> Result<(), TuntrailError> {
    log(filter).map(drop)
}

/// Also has panics logged: UniFFI turns those of calls into exceptions, and those of our threads end only the thread, but on a
/// phone nobody sees what they say. The text may hold anything, so it is told at level debug only.
fn install(log: &Diagnostics) -> Result<(), DiagnosticsError> {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string);
        let thread = thread::current().name().map(str::to_owned);
        tracing::error!(place, thread, "panic");
        tracing::debug!(text = info.payload_as_str(), "panic");
        before(info);
    }));
    log.install()
}

/// A log of its own with that filter.
fn check(filter: &str) -> Result<Diagnostics, TuntrailError> {
    Diagnostics::new(filter, Arc::new(SystemClock)).map_err(TuntrailError::config)
}

fn log(filter: &str) -> Result<Diagnostics, TuntrailError> {
    // Checked before anything is installed.
    let new = check(filter)?;
    let installed = LOG.get_or_init(|| match install(&new) {
        Ok(()) => Ok(new),
        // The app is written in Rust, too, and has a subscriber of its own; then it has our lines already.
        Err(DiagnosticsError::Installed) => Ok(new),
        Err(error) => Err(error.to_string()),
    });
    let log = installed.clone().map_err(|reason| TuntrailError::Internal { reason })?;
    log.set_filter(filter).map_err(TuntrailError::config)?;
    Ok(log)
}
