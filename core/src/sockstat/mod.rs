//! Socket statistics: how many bytes each of the app's jobs moved over the network, in steps of a tenth of a second.
//!
//! For questions such as "what wakes the radio?". Off unless somebody switches it on, for a time or for good.
//!
//! - [`SocketCounters`] is what counts: a row of two numbers per [`Label`], filled by [`SocketCounter`]s that the app's
//!   threads add to, by [`TunnelSockets`] around the counter of the tunnel's datagrams, and by the kernel's own counts of
//!   TCP sockets that the app registers. While nothing is recorded, adding costs one look at a flag.
//! - [`SocketStatsLogger`] records: the first change after quiet arms one deadline 100 ms later; what has changed then is
//!   a [`SocketEvent`], given to a sink as JSON. Its thread exists only while it records, and sleeps for ever while
//!   nothing changes.
//!
//! Two kinds of change never arm the deadline; they are in the next event that something else causes, or in that of a
//! flush or of the end. Uploads of logs ([`Label::is_log_upload`]): recording what they cause would be a loop that feeds
//! itself. And registered sockets: the kernel counts without telling anyone, and asking it from time to time would be a
//! ticker. A host that knows of traffic on them says so with [`SocketCounters::activity`].
//!
//! Events are those of Tailscale's sockstatlog, byte for byte, but start when something changes instead of ten times a
//! second. They hold labels and numbers: no address, no name.

mod counters;
mod event;
mod label;
mod logger;
mod sampler;
mod shared;
#[cfg(unix)]
mod sockets;
mod tunnel;

#[cfg(test)]
mod tests;

#[cfg(unix)]
pub use self::sockets::RegisteredSocket;
pub use self::{
    counters::{InterfaceKind, MAX_LABELS, SocketCounter, SocketCounters, SocketStatsError},
    event::{Bytes, SocketEvent},
    label::Label,
    logger::{EventSink, SocketStatsLogger, SocketStatsOptions, SocketStatsTotals},
    sampler::SAMPLE_AFTER,
    tunnel::TunnelSockets,
};
