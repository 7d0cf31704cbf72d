//! Takes out of exit traffic what privacy demands.
//!
//! Runs on the worker, before a record leaves the window: no later stage ever sees the original connections.

use std::net::{IpAddr, SocketAddr};

use super::message::ConnectionCounts;
use crate::hook::Protocol;

/// What is recorded of exit traffic, and of traffic of unknown kind. Ordered from little to much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ExitFlows {
    /// Nothing. Its totals appear in [`FlowStats`](super::FlowStats) only.
    Off,
    /// Sums per node: no protocol, no port, no address that isn't a node's.
    #[default]
    Aggregated,
    /// Each connection. Needs an opt-in.
    Full,
}

/// Removes protocols, ports and the addresses that `is_node` does not know, and adds up what became equal. The result
/// is sorted.
pub(super) fn anonymise(rows: &mut Vec<ConnectionCounts>, is_node: impl Fn(IpAddr) -> bool) {
    let only_nodes =
        |end: Option<SocketAddr>| end.filter(|end| is_node(end.ip())).map(|end| SocketAddr::new(end.ip(), 0));
    for row in rows.iter_mut() {
        row.protocol = Protocol::UNKNOWN;
        row.src = only_nodes(row.src);
        row.dst = only_nodes(row.dst);
    }
    sum_equal(rows);
}

/// Sorts connections and adds up the counts of equal ones.
pub(super) fn sum_equal(rows: &mut Vec<ConnectionCounts>) {
    rows.sort_unstable_by(ConnectionCounts::compare);
    rows.dedup_by(|next, row| {
        let equal = next.compare(row).is_eq();
        if equal {
            row.counts += next.counts;
        }
        equal
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::Counts;

    proptest! {
        #[test]
        fn nothing_but_node_addresses_and_sums_is_left(
            rows in prop::collection::vec((any::<u8>(), 0..4_u8, any::<u16>(), 0..4_u8, any::<u16>()), 1..50),
        ) {
            let end = |last: u8, port| (last != 3).then(|| SocketAddr::from(([100, 64, 0, last], port)));
            let mut rows: Vec<_> = rows
                .into_iter()
                .map(|(protocol, src, src_port, dst, dst_port)| ConnectionCounts {
                    protocol: Protocol(protocol),
                    src: end(src, src_port),
                    dst: end(dst, dst_port),
                    counts: Counts { tx_packets: 1, tx_bytes: 40, ..Counts::default() },
                })
                .collect();
            let all = rows.len() as u64;
            let node = IpAddr::from([100, 64, 0, 1]);
            anonymise(&mut rows, |address| address == node);
            prop_assert_eq!(rows.iter().map(|row| row.counts.tx_packets).sum::<u64>(), all);
            prop_assert!(rows.len() <= 4);
            for row in &rows {
                prop_assert_eq!(row.protocol, Protocol::UNKNOWN);
                for end in [row.src, row.dst].into_iter().flatten() {
                    prop_assert_eq!(end, SocketAddr::new(node, 0));
                }
            }
            prop_assert!(rows.is_sorted_by(|a, b| a.compare(b).is_lt()));
        }
    }
}
