//! The tunnel's own sockets, counted where its datagrams are reported anyway.

use std::net::SocketAddr;

use super::SocketCounter;
use crate::{
    clock::Instant,
    hook::{Connection, ConnectionCounter, Direction},
};

/// A counter of datagrams that adds their bytes to [`Label::MAGICSOCK_CONN_UDP4`](super::Label::MAGICSOCK_CONN_UDP4) or
/// `…UDP6`, by the family of the remote end, and passes everything on.
///
/// It counts what the tunnel reports: datagrams of its peers, handshakes and keepalives included. Datagrams from strangers
/// are not the tunnel's.
#[derive(Debug)]
pub struct TunnelSockets<C> {
    inner: C,
    v4: SocketCounter,
    v6: SocketCounter,
}

impl<C> TunnelSockets<C> {
    pub(super) const fn new(inner: C, v4: SocketCounter, v6: SocketCounter) -> Self {
        Self { inner, v4, v6 }
    }
}

impl<C: ConnectionCounter> ConnectionCounter for TunnelSockets<C> {
    fn count(
        &mut self,
        now: Instant,
        connection: &Connection,
        packets: u64,
        bytes: u64,
        direction: Direction,
    ) {
        let socket = match connection.dst {
            Some(SocketAddr::V6(remote)) if remote.ip().to_ipv4_mapped().is_none() => &self.v6,
            _ => &self.v4,
        };
        match direction {
            Direction::Tx => socket.add_tx(bytes),
            Direction::Rx => socket.add_rx(bytes),
        }
        self.inner.count(now, connection, packets, bytes, direction);
    }

    fn path(&mut self, now: Instant, local: Option<SocketAddr>, remote: SocketAddr) {
        self.inner.path(now, local, remote);
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.inner.next_deadline()
    }

    fn handle_deadline(&mut self, now: Instant) {
        self.inner.handle_deadline(now);
    }

    fn flush(&mut self, now: Instant) {
        self.inner.flush(now);
    }
}
