//! What a host saw on its wire: the truth that counters are compared with.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tuntrail::{
    hook::{Connection, Direction},
    packet::Header,
};

use crate::error::HostError;

/// Connections that are told apart; packets of further ones go to [`HostStats::untracked`]. Four times the core's
/// flow table, so that its overflow can be tested.
const MAX_CONNECTIONS: usize = 65_536;

/// Packets and the bytes in them, IP headers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Totals {
    fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// Both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// From this host onto the wire.
    pub tx: Totals,
    /// From the wire to this host.
    pub rx: Totals,
}

impl Counts {
    fn add(&mut self, direction: Direction, bytes: usize) {
        match direction {
            Direction::Tx => self.tx.add(bytes),
            Direction::Rx => self.rx.add(bytes),
        }
    }
}

/// How the TCP services fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpStats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that ended in order.
    pub completed: u64,
    /// Connections that were reset or timed out.
    pub failed: u64,
    /// Connection requests to ports without a service, or beyond the socket limit.
    pub refused: u64,
    /// Connections reset by the service because their content was damaged.
    pub corrupt: u64,
}

/// Everything a host counted since its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostStats {
    /// All packets that crossed the wire.
    pub total: Counts,
    /// Packets that the wire refused to take; they are counted nowhere else.
    pub refused: Totals,
    /// The same per connection, this host's side first. What has no addresses is under the connection without any.
    pub connections: HashMap<Connection, Counts>,
    /// Packets of connections that came after the table was full (65,536 connections).
    pub untracked: Counts,
    /// TCP services.
    pub tcp: TcpStats,
}

impl HostStats {
    fn count(&mut self, packet: &[u8], direction: Direction) {
        self.total.add(direction, packet.len());
        let connection = Header::parse(packet).connection(direction);
        let full = self.connections.len() >= MAX_CONNECTIONS;
        match self.connections.get_mut(&connection) {
            Some(counts) => counts.add(direction, packet.len()),
            None if full => self.untracked.add(direction, packet.len()),
            None => self.connections.entry(connection).or_default().add(direction, packet.len()),
        }
    }
}

/// The statistics, shared between the host's threads and its callers.
#[derive(Default)]
pub(crate) struct Board {
    stats: Mutex<HostStats>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, HostStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self) -> HostStats {
        self.lock().clone()
    }

    pub(crate) fn update(&self, update: impl FnOnce(&mut HostStats)) {
        update(&mut self.lock());
        self.changed.notify_all();
    }

    pub(crate) fn received(&self, packet: &[u8]) {
        self.update(|stats| stats.count(packet, Direction::Rx));
    }

    /// Sends with `send` and counts. Under the lock, so that nobody sees the effect of a packet before its count.
    pub(crate) fn sending(&self, packet: &[u8], send: impl FnOnce(&[u8]) -> bool) {
        self.update(|stats| {
            if send(packet) {
                stats.count(packet, Direction::Tx);
            } else {
                stats.refused.add(packet.len());
            }
        });
    }

    pub(crate) fn wait(
        &self,
        within: Duration,
        mut reached: impl FnMut(&HostStats) -> bool,
    ) -> Result<HostStats, HostError> {
        let (stats, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), within, |stats| !reached(stats))
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err(HostError::Unreached { within }) } else { Ok(stats.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_packets_are_not_counted_as_sent() {
        let board = Board::default();
        board.sending(&[0; 7], |_| false);
        board.sending(&[0; 5], |_| true);
        let stats = board.snapshot();
        assert_eq!(stats.refused, Totals { packets: 1, bytes: 7 });
        assert_eq!(stats.total.tx, Totals { packets: 1, bytes: 5 });
        assert_eq!(stats.connections.len(), 1, "one row without addresses");
    }

    #[test]
    fn an_unreached_condition_is_a_typed_error() {
        let error = Board::default().wait(Duration::ZERO, |stats| stats.total.tx.packets > 0).unwrap_err();
        assert!(matches!(error, HostError::Unreached { .. }));
    }
}
