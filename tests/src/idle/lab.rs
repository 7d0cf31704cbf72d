//! Two clients with everything switched on, and a tunnel between them over the loopback interface.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use tempfile::TempDir;
use tuntrail::{
    client::{Client, ClientConfig, SocketStats},
    clock::{SharedClock, SystemClock},
    consent::Consent,
    diagnostics::Diagnostics,
    flow::{
        LifecycleConfig,
        session::{ResourceId, ResourceRule, SessionConfig},
    },
    netmap::{NetworkMap, Node as NetNode, NodeId, Routes},
    tunnel::{Config, Endpoint, PacketQueue, PeerConfig, PrivateKey, TunDevice, TunnelOptions, packet_queue},
};

use super::{IdleError, threads::all_ids};

const PHONE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const MTU: u16 = 1280;
/// Packets that wait at a host; there is one at a time.
const QUEUE: usize = 16;
/// Nobody listens: nothing is uploaded. Port 9 is "discard".
const SERVER: &str = "http://127.0.0.1:9";
/// Far above what a packet takes, handshake included, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The two clients.
pub struct Lab {
    phone: Node,
    router: Node,
}

/// One client, its host's end of the packet queue, and where it keeps its records.
pub struct Node {
    /// The client.
    pub client: Client,
    name: &'static str,
    queue: PacketQueue,
    threads: Vec<u64>,
    _diagnostics: Diagnostics,
    _directory: TempDir,
}

impl Lab {
    /// Starts both. With `keepalive`, the phone sends one every so many seconds. Without `records` there is no consent, so
    /// there are only the tunnels.
    ///
    /// # Errors
    /// [`IdleError::Setup`], [`IdleError::Proc`].
    pub fn start(keepalive: Option<u16>, records: bool) -> Result<Self, IdleError> {
        let consent = if records { Consent::Granted } else { Consent::Unknown };
        let clock: SharedClock = std::sync::Arc::new(SystemClock);
        let key = || PrivateKey::generate().map_err(setup);
        let (phone_key, router_key) = (key()?, key()?);
        let mut peer = PeerConfig::new(phone_key.public_key());
        peer.allowed_ips = vec![std::net::IpAddr::V4(PHONE).into()];
        let mut config = Config::new(router_key.clone());
        config.peers.push(peer);
        let router = Node::start("router", config, &clock, consent, (2, ROUTER), (1, PHONE))?;

        let mut peer = PeerConfig::new(router_key.public_key());
        peer.allowed_ips = vec![std::net::IpAddr::V4(ROUTER).into()];
        peer.persistent_keepalive = keepalive;
        let address = router.client.with_tunnel(|tunnel| tunnel.local_addr().v4).flatten();
        peer.endpoint = address.map(Endpoint::Address);
        let mut config = Config::new(phone_key);
        config.peers.push(peer);
        let phone = Node::start("phone", config, &clock, consent, (1, PHONE), (2, ROUTER))?;
        Ok(Self { phone, router })
    }

    /// Sends a packet from the phone to the router, and one back.
    ///
    /// # Errors
    /// [`IdleError::NoTraffic`].
    pub fn exchange(&mut self) -> Result<(), IdleError> {
        carry(&self.phone, PHONE, &self.router, ROUTER)?;
        carry(&self.router, ROUTER, &self.phone, PHONE)
    }

    /// The name of the node whose thread has this number.
    #[must_use]
    pub fn node_of(&self, thread: u64) -> &'static str {
        [&self.phone, &self.router]
            .into_iter()
            .find(|node| node.threads.contains(&thread))
            .map_or("", |node| node.name)
    }

    /// The client that would be the phone.
    #[must_use]
    pub const fn phone(&self) -> &Node {
        &self.phone
    }
}

fn carry(from: &Node, src: Ipv4Addr, to: &Node, dst: Ipv4Addr) -> Result<(), IdleError> {
    from.queue.send(&udp_packet(src, dst)).map_err(setup)?;
    let mut packet = Vec::new();
    match to.queue.recv(&mut packet, Some(PATIENCE)) {
        Ok(true) => Ok(()),
        _ => Err(IdleError::NoTraffic(PATIENCE)),
    }
}

/// A UDP datagram of 100 bytes. Nobody looks at the checksums.
fn udp_packet(src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    const LEN: u8 = 100;
    const PORT: [u8; 2] = 4500_u16.to_be_bytes();
    let mut packet = vec![0x45, 0, 0, LEN, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(PORT);
    packet.extend(PORT);
    packet.extend([0, LEN - 20]);
    packet.resize(usize::from(LEN), 0);
    packet
}

/// The configuration of a client that records everything there is to record, into `directory`.
///
/// # Errors
/// [`IdleError::Setup`].
pub fn everything_on(
    directory: &Path,
    clock: &SharedClock,
    diagnostics: &Diagnostics,
) -> Result<ClientConfig, IdleError> {
    let mut config = ClientConfig::new(directory, SERVER).map_err(setup)?;
    config.consent = Consent::Granted;
    config.flow.lifecycle = Some(LifecycleConfig::default());
    let rule = ResourceRule {
        id: Some(ResourceId(1)),
        prefixes: vec!["100.64.0.0/24".parse().map_err(setup)?],
        ports: Vec::new(),
        protocol: None,
    };
    config.sessions = Some(SessionConfig { rules: vec![rule], ..SessionConfig::default() });
    config.socket_stats = SocketStats::Always;
    config.diagnostics = Some(diagnostics.clone());
    config.clock = SharedClock::clone(clock);
    Ok(config)
}

fn setup(error: impl std::error::Error + Send + Sync + 'static) -> IdleError {
    IdleError::Setup(Box::new(error))
}

impl Node {
    fn start(
        name: &'static str,
        mut tunnel: Config,
        clock: &SharedClock,
        consent: Consent,
        own: (i64, Ipv4Addr),
        peer: (i64, Ipv4Addr),
    ) -> Result<Self, IdleError> {
        let before = all_ids()?;
        let directory = tempfile::tempdir()?;
        let diagnostics = Diagnostics::new("info", SharedClock::clone(clock)).map_err(setup)?;
        let mut config = everything_on(directory.path(), clock, &diagnostics)?;
        config.consent = consent;
        let client = Client::start(config).map_err(setup)?;
        let node = |(id, address): (i64, Ipv4Addr)| NetNode {
            id: NodeId(id),
            stable_id: format!("n{id}TEST"),
            name: format!("node-{id}.test.example."),
            addresses: vec![std::net::IpAddr::V4(address).into()],
            os: "linux".to_owned(),
            user: None,
            tags: Vec::new(),
        };
        let map = NetworkMap::new(Some(node(own)), [node(peer)], []).map_err(setup)?;
        let net = |(_, address): (i64, Ipv4Addr)| vec![std::net::IpAddr::V4(address).into()];
        client.set_network(map, Routes::new(net(own), net(peer), [])).map_err(setup)?;

        tunnel.mtu = Some(MTU);
        let (device, queue) = packet_queue(QUEUE, MTU);
        let options = TunnelOptions { bind: Some(Ipv4Addr::LOCALHOST.into()), ..TunnelOptions::default() };
        client.start_tunnel(tunnel, TunDevice::Queue(device), options).map_err(setup)?;
        let threads = all_ids()?.into_iter().filter(|id| !before.contains(id)).collect();
        Ok(Self { client, name, queue, threads, _diagnostics: diagnostics, _directory: directory })
    }
}
