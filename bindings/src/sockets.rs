//! What counts the app's own sockets for socket statistics.

use std::sync::{Arc, Mutex, PoisonError};

use tuntrail::sockstat::{self, Label};

use crate::TuntrailError;

/// Reads a label's number: those below 64 are the SDK's and have a fixed meaning.
pub(crate) fn label(number: u16) -> Result<Label, TuntrailError> {
    Label::app(number).ok_or_else(|| {
        TuntrailError::config(format!(
            "{number} is not a label for apps: choose {} to 65535",
            Label::FIRST_APP
        ))
    })
}

/// Counts bytes that the app moves itself. Adding is quick and never waits; any thread may do it.
#[derive(Debug, uniffi::Object)]
pub struct SocketCounter {
    inner: sockstat::SocketCounter,
}

#[uniffi::export]
impl SocketCounter {
    /// Adds bytes sent and received. They count only while socket statistics are recorded.
    pub fn add(&self, tx_bytes: u64, rx_bytes: u64) {
        self.inner.add_tx(tx_bytes);
        self.inner.add_rx(rx_bytes);
    }
}

impl SocketCounter {
    pub(crate) fn new(inner: sockstat::SocketCounter) -> Arc<Self> {
        Arc::new(Self { inner })
    }
}

/// A socket of the app whose bytes the kernel counts. The app still owns and closes it; statistics use a duplicate.
#[derive(Debug, uniffi::Object)]
pub struct RegisteredSocket {
    #[cfg(unix)]
    inner: Mutex<Option<sockstat::RegisteredSocket>>,
    #[cfg(not(unix))]
    inner: Mutex<Option<NoSuchSocket>>,
}

/// There are none where the system doesn't tell what a socket moved.
#[cfg(not(unix))]
#[derive(Debug)]
enum NoSuchSocket {}

#[uniffi::export]
impl RegisteredSocket {
    /// Counts what has moved since the last look, and no more from here on. To be called before the app closes the socket;
    /// harmless when repeated.
    pub fn unregister(&self) -> Result<(), TuntrailError> {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

impl RegisteredSocket {
    #[cfg(unix)]
    pub(crate) fn new(
        counters: &sockstat::SocketCounters,
        descriptor: i32,
        label: Label,
    ) -> Result<Arc<Self>, TuntrailError> {
        if descriptor < 0 {
            return Err(TuntrailError::config(format!("{descriptor} is not an open descriptor")));
        }
        // SAFETY: the docs say that it is open during the call, which only duplicates it.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
        let inner = counters.register(socket, label).map_err(TuntrailError::config)?;
        Ok(Arc::new(Self { inner: Mutex::new(Some(inner)) }))
    }

    #[cfg(not(unix))]
    pub(crate) fn new(
        _counters: &sockstat::SocketCounters,
        _descriptor: i32,
        _label: Label,
    ) -> Result<Arc<Self>, TuntrailError> {
        Err(TuntrailError::config("this system doesn't tell what a socket moved: add to a SocketCounter"))
    }
}
