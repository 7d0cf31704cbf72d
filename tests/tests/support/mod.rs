//! A small network for the tests: a phone and a router, each a whole client with a tunnel, and hosts behind both ends.

pub(crate) mod app;
pub(crate) mod said;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tuntrail::{
    client::{Client, ClientConfig, Collections, SocketStats},
    consent::Consent,
    flow::{
        ConnectionCounts, LifecycleConfig, Message,
        session::{ResourceId, ResourceRule, SessionConfig},
    },
    hook::Protocol,
    netmap::{NetworkMap, Node, NodeId, Routes},
    tunnel::{Config, Endpoint, PeerConfig, PrivateKey, TunDevice, TunnelOptions, packet_queue},
};
use tuntrail_logserver::{Server, ServerConfig};
use tuntrail_netlab::{Host, HostOptions, Ports, TcpService};

/// Far above what any step takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Packets that wait at a host: more than all TCP windows of a test together, so that none is dropped.
const QUEUE: usize = 4096;
const MTU: u16 = 1280;
pub(crate) const COLLECTION: &str = "tailtraffic.log.test.example";

pub(crate) const PHONE: [&str; 2] = ["100.64.0.1", "fd7a:115c:a1e0::1"];
pub(crate) const ROUTER: [&str; 2] = ["100.64.0.2", "fd7a:115c:a1e0::2"];

/// The server, both nodes, and the directories they keep records in.
pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) phone: Side,
    pub(crate) router: Side,
}

/// One node and the host behind it.
pub(crate) struct Side {
    pub(crate) client: Client,
    pub(crate) host: Option<Host>,
    pub(crate) directory: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let server = Server::start(ServerConfig::default()).unwrap();
        let (phone_key, router_key) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());

        let mut router_peer = PeerConfig::new(phone_key.public_key());
        router_peer.allowed_ips = PHONE.map(|address| ip(address).into()).to_vec();
        let mut config = Config::new(router_key.clone());
        config.mtu = Some(MTU);
        config.peers.push(router_peer);
        let router_host = HostOptions::new(ROUTER.map(ip))
            .name("router")
            .any_ip()
            .tcp(Ports::Any, TcpService::Exchange)
            .udp_echo(Ports::Any);
        let router = Side::start(&server, config, router_host);
        router.client.set_network(map(2, ROUTER, 1, PHONE), routes(ROUTER, &[], &["10.20.0.0/16"])).unwrap();

        let mut phone_peer = PeerConfig::new(router_key.public_key());
        phone_peer.allowed_ips = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        phone_peer.endpoint =
            router.client.with_tunnel(|tunnel| tunnel.local_addr().v4).flatten().map(Endpoint::Address);
        let mut config = Config::new(phone_key);
        config.mtu = Some(MTU);
        config.peers.push(phone_peer);
        let phone = Side::start(&server, config, HostOptions::new(PHONE.map(ip)).name("phone"));
        phone
            .client
            .set_network(map(1, PHONE, 2, ROUTER), routes(PHONE, &["10.20.0.0/16", "0.0.0.0/0", "::/0"], &[]))
            .unwrap();
        Self { server, phone, router }
    }

    pub(crate) fn phone_host(&self) -> &Host {
        self.phone.host.as_ref().unwrap()
    }

    /// Records of `node` at the server, in order.
    pub(crate) fn records_of(&self, node: &str) -> Vec<Message> {
        messages(&self.server).into_iter().filter(|message| message.node_id == node).collect()
    }
}

impl Side {
    fn start(server: &Server, config: Config, host: HostOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let client = Client::start(full_config(directory.path(), &server.base_url())).unwrap();
        let (device, queue) = packet_queue(QUEUE, MTU);
        let options = TunnelOptions { bind: Some(Ipv4Addr::LOCALHOST.into()), ..TunnelOptions::default() };
        client.start_tunnel(config, TunDevice::Queue(device), options).unwrap();
        let host = Host::start(host.mtu(usize::from(MTU)), queue).unwrap();
        Self { client, host: Some(host), directory }
    }
}

pub(crate) fn client_config(directory: &Path, server: &str) -> ClientConfig {
    let mut config = ClientConfig::new(directory, server).unwrap();
    config.consent = Consent::Granted;
    config.collections = Collections::of_host("test.example").unwrap();
    config
}

/// A client that records everything there is to record.
pub(crate) fn full_config(directory: &Path, server: &str) -> ClientConfig {
    let mut config = client_config(directory, server);
    config.flow.lifecycle = Some(LifecycleConfig::default());
    let office = ResourceRule {
        id: Some(ResourceId(7)),
        prefixes: vec!["10.20.0.0/16".parse().unwrap()],
        ports: Vec::new(),
        protocol: Some(Protocol::TCP),
    };
    config.sessions = Some(SessionConfig { rules: vec![office], ..SessionConfig::default() });
    config.socket_stats = SocketStats::Always;
    config
}

/// The collections of windows, flows, sessions and socket statistics.
pub(crate) fn collections() -> [String; 4] {
    let names = Collections::of_host("test.example").unwrap();
    [names.windows, names.flows, names.sessions, names.sockets].map(|name| name.to_string())
}

/// All records of a collection at the server.
pub(crate) fn read<T: DeserializeOwned>(server: &Server, collection: &str) -> Vec<T> {
    let entries = server.entries(collection).unwrap();
    entries.iter().map(|entry| serde_json::from_str(&entry.payload).unwrap()).collect()
}

/// All flow records at the server.
pub(crate) fn messages(server: &Server) -> Vec<Message> {
    read(server, COLLECTION)
}

/// The rows of virtual, subnet and exit traffic: what went through the TUN device.
pub(crate) fn inner(message: &Message) -> impl Iterator<Item = &ConnectionCounts> {
    message.virtual_traffic.iter().chain(&message.subnet_traffic).chain(&message.exit_traffic)
}

/// Every file below `directory`, with its content.
pub(crate) fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    files
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn map(own_id: i64, own: [&str; 2], peer_id: i64, peer: [&str; 2]) -> NetworkMap {
    let node = |id: i64, addresses: [&str; 2]| Node {
        id: NodeId(id),
        stable_id: format!("n{id}TEST"),
        name: format!("node-{id}.test.example."),
        addresses: addresses.map(|address| ip(address).into()).to_vec(),
        os: "linux".to_owned(),
        user: None,
        tags: Vec::new(),
    };
    NetworkMap::new(Some(node(own_id, own)), [node(peer_id, peer)], []).unwrap()
}

pub(crate) fn routes(own: [&str; 2], into_tunnel: &[&str], served: &[&str]) -> Routes {
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    Routes::new(own.map(|address| ip(address).into()), prefixes(into_tunnel), prefixes(served))
}
