//! tuntrail's own log lines: what a support engineer reads when a phone far away misbehaves.
//!
//! The core logs through `tracing`. [`Diagnostics`] is where these lines go: to the system's log (logcat, os_log) and, once
//! [`open`](Diagnostics::open)ed, to files of JSON lines in a directory of the app, bounded and rotated inside the process:
//!
//! ```text
//! {"time":"2026-11-21T07:00:00.123Z","severity":"INFO","message":"upload ended","target":"tuntrail::upload","sent":12}
//! ```
//!
//! `cat *.log | jq -r '"\(.time) \(.severity) \(.message)"'` reads them in order.
//!
//! A thread that logs formats its line and copies it into a bounded buffer; it never waits for a disk, and a line that is
//! logged while a line is being formatted is dropped, so nothing can re-enter. The thread `tuntrail-log` writes: at once
//! after a warning or error, otherwise a second after the first waiting line; without lines it sleeps for ever. Lines beyond a
//! bound are dropped, the oldest first, and the next line written says how many.
//!
//! What may be in a line: nothing of the user's traffic, no address and no host name above `DEBUG`, single packets only at
//! `TRACE`, secrets never. Files are written under the user's consent only: the client opens and deletes them.

mod filter;
mod layer;
mod line;
mod rotation;
mod system;
mod unsent;
mod writer;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;
use tracing_subscriber::{Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt};

pub(crate) use self::unsent::{Selection, Unsent};
use self::{filter::RuntimeFilter, layer::LineLayer, writer::Shared};
pub use self::{rotation::DiagnosticsLimits, writer::DiagnosticsStats};
use crate::clock::SharedClock;

/// What is logged unless somebody asks for more.
pub const DEFAULT_FILTER: &str = "info";

/// Why our own log can't be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DiagnosticsError {
    /// Not a filter.
    #[error(
        "{filter:?} is no log filter: {reason}; use for example \"info\" or \"info,tuntrail::tunnel=debug\""
    )]
    Filter {
        /// As given.
        filter: String,
        /// What the parser says.
        reason: String,
    },
    /// The process has a `tracing` subscriber already; add [`Diagnostics::layer`] to that one.
    #[error("the process has a tracing subscriber already; add the layer to that one")]
    Installed,
    /// The directory can't be used, or the writing thread can't be made.
    #[error("can't write the log to {}: {source}", directory.display())]
    Open {
        /// Where to.
        directory: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Where our log lines go. Cheap to clone; all clones are one. All methods may be called from any thread.
#[derive(Clone)]
pub struct Diagnostics {
    filter: RuntimeFilter,
    shared: Arc<Shared>,
}

impl Diagnostics {
    /// Lines of the levels and targets that `filter` names: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), and
    /// exceptions from it, such as `info,tuntrail::tunnel=debug`. Up to 64 KiB of lines wait in memory until
    /// [`Self::open`]. `clock` stamps them.
    ///
    /// # Errors
    /// [`DiagnosticsError::Filter`].
    pub fn new(filter: &str, clock: SharedClock) -> Result<Self, DiagnosticsError> {
        Ok(Self { filter: RuntimeFilter::new(filter)?, shared: Arc::new(Shared::new(clock)) })
    }

    /// For a host with a `tracing` subscriber of its own.
    #[must_use]
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        LineLayer::new(Arc::clone(&self.shared)).with_filter(self.filter.clone())
    }

    /// Makes this the subscriber of the process, with the system's log beside the files where there is one.
    ///
    /// # Errors
    /// [`DiagnosticsError::Installed`].
    pub fn install(&self) -> Result<(), DiagnosticsError> {
        let layer = self.layer().and_then(system::layer().with_filter(self.filter.clone()));
        tracing_subscriber::registry().with(layer).try_init().map_err(|_| DiagnosticsError::Installed)
    }

    /// Changes what is logged, from now on.
    ///
    /// # Errors
    /// [`DiagnosticsError::Filter`]; the filter stays as it was.
    pub fn set_filter(&self, filter: &str) -> Result<(), DiagnosticsError> {
        self.filter.set(filter)
    }

    /// Starts to write to files in `directory`, which is created if missing: the lines that wait, then all others. Files of
    /// earlier processes stay until the bound is reached. Nothing happens if it is open already.
    ///
    /// # Errors
    /// [`DiagnosticsError::Open`].
    pub fn open(&self, directory: &Path, limits: DiagnosticsLimits) -> Result<(), DiagnosticsError> {
        let open = |source| DiagnosticsError::Open { directory: directory.to_owned(), source };
        writer::open(&self.shared, directory, limits).map_err(open)
    }

    /// Writes what waits. Waits for the disk; without files there is nothing to do.
    ///
    /// # Errors
    /// The disk's answer. The lines that failed are lost, and counted.
    pub fn flush(&self) -> io::Result<()> {
        self.shared.flush()
    }

    /// Writes what waits and closes the files. Waits for the disk. Later lines wait in memory again.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Closes without writing and deletes every line, those in memory and those of earlier processes in `directory`.
    ///
    /// # Errors
    /// If a file can't be removed; the others are.
    pub fn delete(&self, directory: &Path) -> io::Result<()> {
        self.shared.discard();
        Self::delete_files(directory)
    }

    /// Deletes what earlier processes wrote.
    pub(crate) fn delete_files(directory: &Path) -> io::Result<()> {
        rotation::delete_all(directory)
    }

    /// The files, oldest first, complete up to the last [`Self::flush`].
    ///
    /// # Errors
    /// If `directory` can't be read.
    pub fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
        rotation::files(directory)
    }

    /// Lines written and lost so far.
    #[must_use]
    pub fn stats(&self) -> DiagnosticsStats {
        self.shared.stats()
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostics").field("filter", &self.filter).field("stats", &self.stats()).finish()
    }
}

#[cfg(test)]
mod tests;
