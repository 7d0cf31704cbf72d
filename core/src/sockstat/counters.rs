//! The counters as the app and the tunnel see them.

use std::{io, sync::Arc};

use super::{
    Bytes, Label, TunnelSockets,
    shared::{Row, Shared},
};
use crate::hook::ConnectionCounter;

/// Labels of an app's own that can be counted: ten times as many as upstream has. A label once used keeps its row.
pub const MAX_LABELS: usize = 128;

/// The network that the device's traffic goes over, as the host's system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum InterfaceKind {
    /// Not known, or none of the others.
    #[default]
    Other,
    /// Wi-Fi.
    Wifi,
    /// A mobile network: events say so.
    Cellular,
    /// Ethernet.
    Wired,
}

/// Why sockets can't be counted or recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketStatsError {
    /// All rows are in use.
    #[error("no room to count {label}: {MAX_LABELS} labels of the app's own are in use; use fewer")]
    TooManyLabels {
        /// The label that was asked for.
        label: Label,
    },
    /// All places for descriptors are in use.
    #[error("{limit} sockets are registered already; drop the registrations of sockets that are closed")]
    TooManySockets {
        /// How many there may be.
        limit: usize,
    },
    /// The system doesn't count the bytes of this socket.
    #[error(
        "the system has no byte counts for this socket ({0}); only TCP has them: add to a counter instead"
    )]
    NoKernelCounts(#[source] io::Error),
    /// The descriptor can't be duplicated.
    #[error("can't keep a descriptor of the socket: {0}; close some")]
    Descriptor(#[source] io::Error),
    /// There is a logger for these counters.
    #[error("socket statistics are being recorded already; stop that first")]
    AlreadyRecording,
    /// The logger's thread can't be made.
    #[error("can't start the thread that records socket statistics: {0}; free memory")]
    Thread(#[source] io::Error),
}

/// All that is counted of an app's sockets. Clones are the same counters; any thread may call any method.
///
/// Counts only while a [`SocketStatsLogger`](super::SocketStatsLogger) records.
#[derive(Debug, Clone, Default)]
pub struct SocketCounters {
    pub(super) shared: Arc<Shared>,
}

impl SocketCounters {
    /// Counters without a row.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter for the bytes that one job moves. All counters of a label share a row.
    ///
    /// # Errors
    /// [`SocketStatsError::TooManyLabels`], only for labels of the app's own.
    pub fn counter(&self, label: Label) -> Result<SocketCounter, SocketStatsError> {
        let row = self.shared.row(label)?;
        Ok(SocketCounter { shared: Arc::clone(&self.shared), row, arms: !label.is_log_upload() })
    }

    /// Puts the count of the tunnel's datagrams before `inner`, the counter that they are reported to.
    #[must_use]
    pub fn tunnel<C: ConnectionCounter>(&self, inner: C) -> TunnelSockets<C> {
        TunnelSockets::new(inner, self.own(Label::MAGICSOCK_CONN_UDP4), self.own(Label::MAGICSOCK_CONN_UDP6))
    }

    /// A counter for one of upstream's labels.
    pub(crate) fn own(&self, label: Label) -> SocketCounter {
        let (shared, row) = (Arc::clone(&self.shared), self.shared.own_row(label));
        SocketCounter { shared, row, arms: !label.is_log_upload() }
    }

    /// Tells that registered sockets have moved bytes: the kernel does not. Their counts are read a tenth of a second
    /// later. Costs next to nothing when that is to happen anyway or nothing is recorded.
    pub fn activity(&self) {
        if !self.shared.is_off() {
            self.shared.arm();
        }
    }

    /// Says what network the device uses from now on. What moved until now is recorded under the network before.
    pub fn set_interface(&self, interface: InterfaceKind) {
        self.shared.set_interface(interface);
    }
}

/// Counts the bytes of one job. Cheap to clone; for any thread, also one that moves packets: it never blocks, allocates
/// or waits. The first change in a tenth of a second wakes the logger's thread.
///
/// Bytes are payload, as the socket's calls see it: without headers of IP, UDP or TCP.
#[derive(Debug, Clone)]
pub struct SocketCounter {
    shared: Arc<Shared>,
    row: Arc<Row>,
    arms: bool,
}

impl SocketCounter {
    /// Counts bytes that were sent.
    #[inline]
    pub fn add_tx(&self, bytes: u64) {
        self.shared.add(&self.row, Bytes { tx: bytes, rx: 0 }, self.arms && bytes > 0);
    }

    /// Counts bytes that were received.
    #[inline]
    pub fn add_rx(&self, bytes: u64) {
        self.shared.add(&self.row, Bytes { tx: 0, rx: bytes }, self.arms && bytes > 0);
    }
}
