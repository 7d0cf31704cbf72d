//! Sockets that the app registers: the kernel counts, and is asked when a sample is taken.
//!
//! A duplicate of each descriptor is kept, so that its number can't come to mean another socket.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use super::{
    Bytes, Label, SocketCounters, SocketStatsError,
    shared::{Row, Shared, lock},
};

mod kernel;

/// Descriptors that are kept at a time. iOS gives an extension 256 in all.
const MAX_SOCKETS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Sockets {
    next_id: u64,
    sockets: BTreeMap<u64, Socket>,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    label: Label,
    /// What was read last.
    seen: Bytes,
}

impl Socket {
    /// What has moved since the last reading. A count never goes back.
    fn take(&mut self) -> Bytes {
        // Fails only for what is no TCP socket, and those are refused.
        let Ok(now) = kernel::tcp_bytes(self.fd.as_fd()) else { return Bytes::default() };
        let moved =
            Bytes { tx: now.tx.saturating_sub(self.seen.tx), rx: now.rx.saturating_sub(self.seen.rx) };
        self.seen += moved;
        moved
    }
}

impl Sockets {
    /// Adds what has moved since the last time.
    pub(super) fn take(&mut self, all: &mut BTreeMap<Label, Bytes>) {
        for socket in self.sockets.values_mut() {
            *all.entry(socket.label).or_default() += socket.take();
        }
    }
}

/// A socket that is counted until this is dropped.
///
/// Holds a descriptor of the socket: the connection does not end, and its peer is not told, before this is dropped too. Drop
/// it right before the app closes its own descriptor; the kernel's counts are read a last time then.
#[derive(Debug)]
#[must_use = "dropping the registration ends the counting"]
pub struct RegisteredSocket {
    shared: Arc<Shared>,
    row: Arc<Row>,
    arms: bool,
    id: u64,
}

impl SocketCounters {
    /// Counts the bytes of a connected TCP socket under `label` from now on, as the kernel has them: `TCP_INFO` on Linux
    /// and Android, `TCP_CONNECTION_INFO` on Apple's systems. Bytes are payload; what was sent again counts once.
    ///
    /// The kernel does not tell when they move: they are read whenever something else causes a sample, after
    /// [`Self::activity`], at a flush and at the end.
    ///
    /// # Errors
    /// [`SocketStatsError::NoKernelCounts`] for UDP and on other systems: add to a [`counter`](Self::counter) there.
    /// [`SocketStatsError::TooManySockets`], [`SocketStatsError::TooManyLabels`], [`SocketStatsError::Descriptor`].
    pub fn register(
        &self,
        socket: BorrowedFd<'_>,
        label: Label,
    ) -> Result<RegisteredSocket, SocketStatsError> {
        let row = self.shared.row(label)?;
        let fd = socket.try_clone_to_owned().map_err(SocketStatsError::Descriptor)?;
        let seen = kernel::tcp_bytes(fd.as_fd()).map_err(SocketStatsError::NoKernelCounts)?;
        let mut sockets = lock(&self.shared.sockets);
        if sockets.sockets.len() >= MAX_SOCKETS {
            return Err(SocketStatsError::TooManySockets { limit: MAX_SOCKETS });
        }
        let id = sockets.next_id;
        sockets.next_id += 1;
        sockets.sockets.insert(id, Socket { fd, label, seen });
        Ok(RegisteredSocket { shared: Arc::clone(&self.shared), row, arms: !label.is_log_upload(), id })
    }
}

impl Drop for RegisteredSocket {
    fn drop(&mut self) {
        let socket = lock(&self.shared.sockets).sockets.remove(&self.id);
        let moved = socket.map(|mut socket| socket.take()).unwrap_or_default();
        self.shared.add(&self.row, moved, self.arms && !moved.is_zero());
    }
}
