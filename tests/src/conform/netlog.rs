//! Network-log messages: what a flow logger records of a scenario must be, byte for byte, what Tailscale records.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;
use tuntrail::{
    clock::{Clock, ManualClock},
    flow::{ExitFlows, FlowConfig, FlowLogger, Layer, RecordSink},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    netmap::{NetworkMap, Node, NodeId, Routes, UserId},
};

#[derive(Deserialize)]
struct Scenario {
    name: String,
    #[serde(rename = "self")]
    self_node: Option<VectorNode>,
    peers: Option<Vec<VectorNode>>,
    users: Option<HashMap<String, String>>,
    local_addrs: Option<Vec<IpNet>>,
    routes: Option<Vec<IpNet>>,
    subnet_routes: Option<Vec<IpNet>>,
    ops: Vec<Op>,
    start: String,
    end: String,
    message_full: Vec<String>,
    message_anonymized: Vec<String>,
    message_anonymized_without_node_info: Vec<String>,
}

#[derive(Deserialize, Clone)]
struct VectorNode {
    id: i64,
    stable_id: String,
    #[serde(default)]
    name: String,
    addresses: Option<Vec<IpNet>>,
    #[serde(default)]
    os: String,
    user: Option<i64>,
    tags: Option<Vec<String>>,
}

impl From<VectorNode> for Node {
    fn from(node: VectorNode) -> Self {
        Self {
            id: NodeId(node.id),
            stable_id: node.stable_id,
            name: node.name,
            addresses: node.addresses.unwrap_or_default(),
            os: node.os,
            user: node.user.map(UserId),
            tags: node.tags.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Op {
    Virt(Update),
    Phys(Update),
    Tun {
        hex: String,
        #[serde(default)]
        recv: bool,
    },
}

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    proto: u8,
    #[serde(default)]
    src: String,
    #[serde(default)]
    dst: String,
    #[serde(default)]
    packets: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    recv: bool,
}

/// Checks one line of `netlog_messages.jsonl` in the three variants it has: all recorded, exit flows anonymised, and
/// also without node info. Runs in compat mode where this device is unknown, since upstream then records nothing.
pub(super) fn run(line: &str) -> Result<(), String> {
    let scenario: Scenario =
        serde_json::from_str(line).map_err(|error| format!("unreadable scenario: {error}"))?;
    for (variant, exit_flows, include_node_info, want) in [
        ("full", ExitFlows::Full, true, &scenario.message_full),
        ("anonymised", ExitFlows::Aggregated, true, &scenario.message_anonymized),
        ("without nodes", ExitFlows::Aggregated, false, &scenario.message_anonymized_without_node_info),
    ] {
        let compat = scenario.self_node.is_none();
        let config = FlowConfig { exit_flows, include_node_info, compat, ..FlowConfig::default() };
        let got = play(&scenario, config)?;
        if got != *want {
            return Err(format!("{}, {variant}: {}", scenario.name, difference(&got, want)));
        }
    }
    Ok(())
}

/// The records of a scenario.
fn play(scenario: &Scenario, config: FlowConfig) -> Result<Vec<String>, String> {
    let time = |text: &str| text.parse::<Timestamp>().map_err(|error| format!("{text}: {error}"));
    let (start, end) = (time(&scenario.start)?, time(&scenario.end)?);
    let clock = ManualClock::new(start);
    let records = Arc::default();
    let logger = FlowLogger::start(config, Arc::new(clock.clone()), Box::new(Keep(Arc::clone(&records))))
        .map_err(|error| error.to_string())?;
    logger.set_network(network(scenario)?, routes(scenario));
    let mut virt = logger.counter(Layer::Virtual);
    let mut physical = logger.counter(Layer::Physical);
    let direction = |recv| if recv { Direction::Rx } else { Direction::Tx };
    for op in &scenario.ops {
        let (counter, update) = match op {
            Op::Tun { hex, recv } => {
                let packet = hex::decode(hex).map_err(|error| format!("unreadable packet: {error}"))?;
                virt.count_packet(clock.now(), &packet, direction(*recv));
                continue;
            }
            Op::Virt(update) => (&mut virt, update),
            Op::Phys(update) => (&mut physical, update),
        };
        let connection = Connection {
            protocol: Protocol(update.proto),
            src: endpoint(&update.src)?,
            dst: endpoint(&update.dst)?,
        };
        counter.count(clock.now(), &connection, update.packets, update.bytes, direction(update.recv));
    }
    clock.advance(end.duration_since(start).unsigned_abs());
    virt.flush(clock.now());
    physical.flush(clock.now());
    logger.shutdown();
    let records: std::sync::MutexGuard<'_, Vec<String>> =
        records.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(records.clone())
}

struct Keep(Arc<Mutex<Vec<String>>>);

impl RecordSink for Keep {
    fn append(&mut self, _wall: Timestamp, json: &[u8]) {
        let json = String::from_utf8_lossy(json).into_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(json);
    }
}

fn network(scenario: &Scenario) -> Result<NetworkMap, String> {
    let mut users = Vec::new();
    for (id, login) in scenario.users.iter().flatten() {
        let id = id.parse().map_err(|error| format!("user {id}: {error}"))?;
        users.push((UserId(id), login.clone()));
    }
    let peers = scenario.peers.clone().unwrap_or_default();
    NetworkMap::new(scenario.self_node.clone().map(Node::from), peers.into_iter().map(Node::from), users)
        .map_err(|error| error.to_string())
}

fn routes(scenario: &Scenario) -> Routes {
    let list = |prefixes: &Option<Vec<IpNet>>| prefixes.clone().unwrap_or_default();
    Routes::new(list(&scenario.local_addrs), list(&scenario.routes), list(&scenario.subnet_routes))
}

fn endpoint(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("{text}: {error}"))
}

/// Where two lists of records begin to differ, with a little of what comes before and after.
fn difference(got: &[String], want: &[String]) -> String {
    let (got, want) = (got.join("\n"), want.join("\n"));
    let same = got.chars().zip(want.chars()).take_while(|(got, want)| got == want).count();
    let part = |text: &str| text.chars().skip(same.saturating_sub(30)).take(120).collect::<String>();
    format!("at {same}: got …{}…, want …{}…", part(&got), part(&want))
}

#[cfg(test)]
mod tests {
    const VECTORS: &str = include_str!("../../vectors/netlog_messages.jsonl");

    #[test]
    fn every_scenario_is_recorded_as_upstream_does() {
        let failed: Vec<_> = VECTORS.lines().filter_map(|line| super::run(line).err()).collect();
        assert_eq!(failed, Vec::<String>::new());
    }

    #[test]
    fn a_wrong_message_is_noticed() {
        let line = VECTORS.lines().next().unwrap();
        assert!(super::run(&line.replace("\\\"txPkts\\\":227", "\\\"txPkts\\\":228")).is_err());
    }
}
