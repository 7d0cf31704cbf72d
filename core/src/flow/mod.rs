//! Flow records: which connections there were in each window of five seconds, and how much each carried.
//!
//! - A [`FlowCounter`] per packet thread counts into a table that the thread owns. The first packet opens a window;
//!   at its deadline the table goes to the worker.
//! - The [`FlowLogger`]'s worker makes a record of all tables of a window: it classifies connections (to another node,
//!   behind a subnet router, through an exit node, the tunnel's own datagrams), removes what privacy demands, sorts,
//!   and gives the [`Message`] as JSON to a [`RecordSink`]. It sleeps for ever while no counter hands over.
//!
//! Which of these connections used which resource, and for how long, is what [`session`] records.
//!
//! Records are those of Tailscale's network flow logs, byte for byte, with these deliberate differences:
//!
//! - The length of a message is computed exactly and never exceeds [`MAX_MESSAGE_LEN`]; what is beyond goes into
//!   further messages with the same start and end. Each names all nodes that its connections mention.
//! - While this device is not known, records are kept and have an empty `nodeId`.
//! - A default route that is split in two halves counts as a default route, see [`Routes`](crate::netmap::Routes).
//! - `end` is `start` plus the monotonic time between them, so that steps of the wall clock do no harm.
//! - Traffic of connections that found no room in the table is in the connection without addresses of its kind of
//!   traffic, and its packets are counted in `overflowPkts`.
//!
//! The first and second can be switched off for comparisons, see [`FlowConfig::compat`].
//!
//! With [`FlowConfig::lifecycle`], each flow's beginning and end is told as a [`FlowEvent`] of its own.

mod classify;
mod counter;
mod estimate;
mod json;
mod key;
mod lifecycle;
mod logger;
mod message;
mod pack;
mod pending;
mod privacy;
pub mod session;
mod shared;
mod stats;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod window;

pub use self::{
    counter::FlowCounter,
    lifecycle::{
        CloseReason, FlowEvent, FlowEventKind, FlowId, FlowIdError, LifecycleConfig, OuterPath, Role,
    },
    logger::{FlowConfig, FlowConfigError, FlowLogger, FlowObserver, MessageObserver, RecordSink},
    message::{ConnectionCounts, Message, NodeInfo},
    privacy::ExitFlows,
    stats::{ClassStats, FlowStats, LifecycleStats},
    table::Counts,
};

/// Longest JSON of a message in bytes: what log servers accept as one entry.
pub const MAX_MESSAGE_LEN: usize = 262_144;

/// What the packets are that a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Inner packets, as they pass the TUN device.
    Virtual,
    /// Datagrams that carry the tunnel. `src` is the peer's address in the network with port 0, `dst` its endpoint.
    Physical,
}
