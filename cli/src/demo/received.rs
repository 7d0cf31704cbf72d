//! What the log server has: the records of both nodes, of all three kinds, added up.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
};

use serde::de::DeserializeOwned;
use tuntrail::{
    client::Collections,
    flow::{ConnectionCounts, Counts, FlowEvent, FlowEventKind, Message, session::AccessSession},
    upload::Collection,
};
use tuntrail_logserver::Server;

use super::{
    live::classes,
    node::SERVER,
    summary::{PerClass, Records},
    topology::Role,
};
use crate::CommandError;

/// The records at the server.
pub(super) struct Received {
    windows: Vec<Message>,
    flows: Vec<FlowEvent>,
    sessions: Vec<AccessSession>,
}

impl Received {
    /// Reads the three collections back.
    ///
    /// Fails if an entry is neither a record of its kind nor a report of dropped records.
    pub(super) fn of(server: &Server) -> Result<Self, CommandError> {
        let collections = Collections::of_host(SERVER)?;
        Ok(Self {
            windows: read(server, &collections.windows)?,
            flows: read(server, &collections.flows)?,
            sessions: read(server, &collections.sessions)?,
        })
    }

    pub(super) fn records(&self) -> Records {
        Records {
            windows: self.windows.len() as u64,
            flow_events: self.flows.len() as u64,
            sessions: self.sessions.len() as u64,
        }
    }

    /// Flows that were opened and not closed, or the other way round. There should be none.
    pub(super) fn unbalanced_flows(&self) -> u64 {
        let ids = |kind| {
            let events = self.flows.iter().filter(move |event| event.kind == kind);
            events.map(|event| event.id).collect::<HashSet<_>>()
        };
        ids(FlowEventKind::Open).symmetric_difference(&ids(FlowEventKind::Close)).count() as u64
    }

    /// The sessions, as one line each.
    pub(super) fn sessions(&self) -> &[AccessSession] {
        &self.sessions
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
        for message in self.windows.iter().filter(|message| message.node_id == phone) {
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
            let rows = self.windows.iter().flat_map(move |message| {
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

fn read<T: DeserializeOwned>(server: &Server, collection: &Collection) -> Result<Vec<T>, CommandError> {
    let mut records = Vec::new();
    for entry in server.entries(collection.as_str())? {
        match serde_json::from_str(&entry.payload) {
            Ok(record) => records.push(record),
            Err(_) if is_drop_report(&entry.payload) => {}
            Err(error) => return Err(format!("{collection} holds an entry of another kind: {error}").into()),
        }
    }
    Ok(records)
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
