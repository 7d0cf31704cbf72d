//! What can go wrong for a caller of a host.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::inbox::Closed;

/// Why a host could not be started or an exchange did not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// An option is out of its range.
    #[error("invalid host option: {0}")]
    Options(String),
    /// A thread could not be started.
    #[error("could not start a thread of the host: {0}")]
    Thread(#[source] io::Error),
    /// The host was stopped while the exchange ran, or before.
    #[error("the host was stopped")]
    Stopped,
    /// The other side closed the wire.
    #[error("the host's wire was closed from the other side")]
    WireClosed,
    /// The request can't be sent as it is.
    #[error("invalid request: {0}")]
    Request(String),
    /// The host has no address of the destination's family.
    #[error("the host has no address to reach {to} from; give it one of the same IP version")]
    NoSource {
        /// The destination.
        to: IpAddr,
    },
    /// All sockets of the host are in use.
    #[error("all {limit} sockets of the host are in use; raise HostOptions::max_sockets")]
    TooManySockets {
        /// The configured limit.
        limit: usize,
    },
    /// The exchange was not complete when its time was over.
    #[error("no result from {to} within {within:?} ({sent} sent, {received} received)")]
    Timeout {
        /// The destination.
        to: SocketAddr,
        /// The time that was granted.
        within: Duration,
        /// TCP: bytes handed to the stack. UDP and ping: packets.
        sent: u64,
        /// TCP: bytes. UDP and ping: packets.
        received: u64,
    },
    /// The destination answered the connection request with a reset.
    #[error("{to} refused the connection")]
    Refused {
        /// The destination.
        to: SocketAddr,
    },
    /// The connection was reset after it was established, or the peer fell silent for too long.
    #[error("the connection to {to} was reset ({sent} bytes sent, {received} received)")]
    Reset {
        /// The destination.
        to: SocketAddr,
        /// Bytes handed to the stack.
        sent: u64,
        /// Bytes received.
        received: u64,
    },
    /// The peer closed the connection in order, but not after the expected number of bytes.
    #[error("{to} sent {received} bytes and closed; {expected} were expected")]
    Length {
        /// The destination.
        to: SocketAddr,
        /// Bytes received, at least.
        received: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// A received byte was not the one that was sent.
    #[error("content from {to} is damaged at or after byte {offset}")]
    Corrupt {
        /// The destination.
        to: SocketAddr,
        /// Offset in the response of the first block with a wrong byte.
        offset: u64,
    },
    /// Nothing at all came back.
    #[error("{to} answered none of {sent} packets")]
    NoReply {
        /// The destination.
        to: IpAddr,
        /// Packets sent.
        sent: u64,
    },
    /// A condition on the statistics did not come true.
    #[error("the host's statistics did not reach the expected state within {within:?}")]
    Unreached {
        /// The time that was granted.
        within: Duration,
    },
}

impl From<Closed> for HostError {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Stopped => Self::Stopped,
            Closed::Wire => Self::WireClosed,
        }
    }
}
