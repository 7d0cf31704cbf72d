//! tuntrail's end of a tunnel, as a process of its own.
//!
//! The first line of standard input says what to run; the process runs it until standard input is closed.

use std::{
    error::Error,
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tuntrail::{
    client::{Client, ClientConfig},
    consent::Consent,
    netmap::{NetworkMap, Node, NodeId, Routes},
    tunnel::{Config, DEFAULT_MTU, Tunnel, TunnelOptions},
};

use crate::net::{Offload, create_tun};

/// Said when the tunnel runs.
pub(super) const READY: &str = "ready";
/// Said at the end, before the bytes that were counted as traffic between the two nodes.
pub(super) const COUNTED: &str = "counted";
/// The device's name; each node has a namespace of its own.
const DEVICE: &str = "trail0";
/// Nothing is ever sent there.
const NO_SERVER: &str = "http://127.0.0.1:9";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// A wg-quick file.
    pub(super) config: String,
    /// Where to keep records; without it nothing is counted.
    pub(super) records: Option<PathBuf>,
    pub(super) offload: Offload,
}

impl Order {
    pub(super) fn to_line(&self) -> String {
        // A struct of strings has no value that JSON doesn't have.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// Runs a node to the end of standard input.
///
/// # Errors
/// When the order can't be read or the tunnel can't be started.
pub fn run() -> Result<(), Box<dyn Error>> {
    let mut input = io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    let config = Config::parse(&order.config)?;
    let device = create_tun(DEVICE, &config.addresses, config.mtu.unwrap_or(DEFAULT_MTU), order.offload)?;

    let mut wait = || {
        println!("{READY}");
        input.read_to_end(&mut Vec::new())
    };
    let Some(records) = &order.records else {
        let tunnel = Tunnel::start(config, device, TunnelOptions::default())?;
        wait()?;
        tunnel.stop();
        return Ok(());
    };
    let client = start_client(records, &config)?;
    client.start_tunnel(config, device, TunnelOptions::default())?;
    wait()?;
    let report = client.shutdown();
    if let Some(error) = report.error {
        return Err(error.into());
    }
    let counts = report.stats.flows.unwrap_or_default().virtual_traffic.counts;
    println!("{COUNTED} {}", counts.bytes());
    Ok(())
}

/// A client that records the traffic between the two nodes as an app's would: with a network map, on disk.
fn start_client(records: &Path, config: &Config) -> Result<Client, Box<dyn Error>> {
    let mut client_config = ClientConfig::new(records, NO_SERVER)?;
    client_config.consent = Consent::Granted;
    let client = Client::start(client_config)?;
    let own: Vec<_> = config.addresses.iter().map(|net| IpNet::from(net.addr())).collect();
    let peers: Vec<_> = config.peers.iter().flat_map(|peer| peer.allowed_ips.iter().copied()).collect();
    let routes = Routes::new(own.clone(), [], []);
    let map = NetworkMap::new(Some(node(1, own)), [node(2, peers)], [])?;
    client.set_network(map, routes)?;
    Ok(client)
}

fn node(id: i64, addresses: Vec<IpNet>) -> Node {
    Node {
        id: NodeId(id),
        stable_id: format!("n{id}"),
        name: format!("node-{id}.example."),
        addresses,
        os: "linux".to_owned(),
        user: None,
        tags: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_one_line_that_is_read_again() {
        let order = Order {
            config: "[Interface]\nPrivateKey = x\n".to_owned(),
            records: Some("records".into()),
            offload: Offload::Off,
        };
        let line = order.to_line();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
    }
}
