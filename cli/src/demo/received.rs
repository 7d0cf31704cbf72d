//! What the log server has: the records of both nodes, added up.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
};

use tuntrail::flow::{ConnectionCounts, Counts, Message};
use tuntrail_logserver::Server;

use super::{live::classes, node::COLLECTION, summary::PerClass, topology::Role};
use crate::CommandError;

/// The flow records at the server.
pub(super) struct Received {
    messages: Vec<Message>,
}

impl Received {
    /// Reads the collection back.
    ///
    /// Fails if an entry is neither a flow record nor a report of dropped records.
    pub(super) fn of(server: &Server) -> Result<Self, CommandError> {
        let mut messages = Vec::new();
        for entry in server.entries(COLLECTION)? {
            match serde_json::from_str(&entry.payload) {
                Ok(message) => messages.push(message),
                Err(_) if is_drop_report(&entry.payload) => {}
                Err(error) => {
                    return Err(format!("the server holds an entry that is no flow record: {error}").into());
                }
            }
        }
        Ok(Self { messages })
    }

    pub(super) fn records(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Distinct flows per class, over both nodes.
    pub(super) fn flows(&self) -> PerClass {
        self.per_class(|class| {
            let flows: HashSet<_> =
                class.map(|(message, row)| (&message.node_id, row.protocol, row.src, row.dst)).collect();
            flows.len() as u64
        })
    }

    /// Bytes per class, over both nodes and directions.
    pub(super) fn bytes(&self) -> PerClass {
        self.per_class(|class| class.map(|(_, row)| row.counts.tx_bytes + row.counts.rx_bytes).sum())
    }

    /// Bytes of inner packets: all classes but the physical one.
    pub(super) fn inner_bytes(&self) -> u64 {
        let bytes = self.bytes();
        bytes.r#virtual + bytes.subnet + bytes.exit
    }

    /// The phone's exit traffic, summed over its records.
    pub(super) fn exit_rows_of_phone(&self) -> Vec<ConnectionCounts> {
        let phone = Role::Phone.stable_id();
        let mut rows: BTreeMap<(Option<SocketAddr>, Option<SocketAddr>), ConnectionCounts> = BTreeMap::new();
        for message in self.messages.iter().filter(|message| message.node_id == phone) {
            for row in &message.exit_traffic {
                rows.entry((row.src, row.dst))
                    .and_modify(|sum| sum.counts = add(sum.counts, row.counts))
                    .or_insert(*row);
            }
        }
        rows.into_values().collect()
    }

    fn per_class(
        &self,
        of: impl Fn(&mut dyn Iterator<Item = (&Message, &ConnectionCounts)>) -> u64,
    ) -> PerClass {
        let class = |name: &'static str| {
            let rows = self.messages.iter().flat_map(move |message| {
                let rows = classes(message).into_iter().filter(move |(class, _)| *class == name);
                rows.flat_map(|(_, rows)| rows).map(move |row| (message, row))
            });
            of(&mut { rows })
        };
        PerClass {
            r#virtual: class("virtual"),
            subnet: class("subnet"),
            exit: class("exit"),
            physical: class("physical"),
        }
    }
}

fn is_drop_report(json: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(json).is_ok_and(|entry| entry.get("tuntrail").is_some())
}

fn add(a: Counts, b: Counts) -> Counts {
    Counts {
        tx_packets: a.tx_packets + b.tx_packets,
        tx_bytes: a.tx_bytes + b.tx_bytes,
        rx_packets: a.rx_packets + b.rx_packets,
        rx_bytes: a.rx_bytes + b.rx_bytes,
    }
}
