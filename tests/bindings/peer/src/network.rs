//! What is at the other ends of the SDK's tunnel: the programs of the device, and the network.
//!
//! The SDK gets a descriptor and a configuration. At the descriptor's other end is a host with a userspace TCP/IP stack, which
//! stands for the programs of the device; at the end of the WireGuard tunnel, over real loopback UDP, is the core's own
//! tunnel with another host, which answers for every address there is.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::IntoRawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use tuntrail::{
    hook::{Connection, Protocol},
    tunnel::{Config, PeerConfig, PrivateKey, TunDevice, Tunnel, TunnelOptions, packet_queue},
};
use tuntrail_netlab::{Counts, Host, HostOptions, HostStats, Ports, TcpService, Totals, Transfer};

use crate::{PATIENCE, TestPeerError, wire::SocketWire};

/// The device's addresses in the network.
const NEAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1)),
];
/// Those of its peer.
const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 64, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2)),
];
/// Fits every path that carries IPv6 (RFC 8200).
const MTU: u16 = 1280;
/// Packets that wait at the far host; more than a TCP window has.
const QUEUE: usize = 256;
/// The first ephemeral port (RFC 6335, 6).
const FIRST_PORT: u16 = 49_152;
/// More connections than a test makes on one descriptor.
const PORTS_PER_HOST: u16 = 64;
/// As many hosts have ports of their own.
const HOSTS: u16 = (u16::MAX - FIRST_PORT) / PORTS_PER_HOST;
/// How often the counts of both hosts are compared again, should the last packet have been under way.
const GLANCE: Duration = Duration::from_millis(20);

/// Whom the device talks to. Each has one address and one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, uniffi::Enum)]
pub enum Place {
    /// The peer: `100.64.0.2:443`.
    Node,
    /// The peer by IPv6: `[fd7a:115c:a1e0::2]:443`.
    NodeV6,
    /// A computer in the subnet `10.20.0.0/16` behind the peer: `10.20.0.5:22`.
    Subnet,
    /// One on the Internet, through the peer: `203.0.113.7:443`.
    Internet,
}

impl Place {
    const fn address(self) -> SocketAddr {
        match self {
            Self::Node => SocketAddr::new(FAR[0], 443),
            Self::NodeV6 => SocketAddr::new(FAR[1], 443),
            Self::Subnet => SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 20, 0, 5)), 22),
            Self::Internet => SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)), 443),
        }
    }
}

/// A TCP connection, as the device's host counted it on the descriptor. Bytes are those of IP packets.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct CarriedFlow {
    /// `address:port` of the device.
    pub source: String,
    /// `address:port` of the other side.
    pub destination: String,
    /// Packets from the device.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets to the device.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
}

/// The network at the other end of the SDK's tunnel, and the programs at this one.
#[derive(uniffi::Object)]
pub struct VirtualNetwork {
    near_key: String,
    far_key: String,
    near: Mutex<Option<Host>>,
    attached: AtomicU16,
    // Ends before the host that its packets go to.
    far_tunnel: Tunnel,
    far: Host,
}

#[uniffi::export]
impl VirtualNetwork {
    /// Starts the far end on a free UDP port of the loopback interface.
    #[uniffi::constructor]
    pub fn new() -> Result<Arc<Self>, TestPeerError> {
        let key = || PrivateKey::generate().map_err(|error| failed("no key", error));
        let (near_key, far_key) = (key()?, key()?);
        let mut peer = PeerConfig::new(near_key.public_key());
        peer.allowed_ips = NEAR.map(Into::into).to_vec();
        let mut config = Config::new(far_key.clone());
        config.mtu = Some(MTU);
        config.peers.push(peer);
        let (device, queue) = packet_queue(QUEUE, MTU);
        let options = TunnelOptions { bind: Some(Ipv4Addr::LOCALHOST.into()), ..TunnelOptions::default() };
        let far_tunnel = Tunnel::start(config, TunDevice::Queue(device), options)
            .map_err(|error| failed("the far tunnel", error))?;
        let options = HostOptions::new(FAR).name("far").mtu(usize::from(MTU)).any_ip();
        let far = Host::start(options.tcp(Ports::Any, TcpService::Exchange), queue)
            .map_err(|error| failed("the far host", error))?;
        Ok(Arc::new(Self {
            near_key: near_key.to_base64().to_string(),
            far_key: far_key.public_key().to_string(),
            near: Mutex::new(None),
            attached: AtomicU16::new(0),
            far_tunnel,
            far,
        }))
    }

    /// The SDK's side of the tunnel, as a wg-quick file.
    pub fn tunnel_config(&self) -> Result<String, TestPeerError> {
        let endpoint =
            self.far_tunnel.local_addr().v4.ok_or_else(|| failed("the far tunnel", "no socket"))?;
        let (near_key, far_key) = (&self.near_key, &self.far_key);
        let [near_v4, near_v6] = NEAR;
        let [far_v4, far_v6] = FAR;
        Ok(format!(
            "[Interface]\nPrivateKey = {near_key}\nAddress = {near_v4}/32, {near_v6}/128\nMTU = {MTU}\n\n\
             [Peer]\nPublicKey = {far_key}\nEndpoint = {endpoint}\n\
             AllowedIPs = {far_v4}/32, {far_v6}/128, 10.20.0.0/16, 0.0.0.0/0, ::/0\n"
        ))
    }

    /// A descriptor that looks like a TUN device, with the device's programs at its other end. The caller owns it. Programs of an
    /// earlier descriptor end.
    pub fn attach(&self) -> Result<i32, TestPeerError> {
        let (wire, device) = SocketWire::pair().map_err(|error| failed("no sockets", error))?;
        // No connection is taken for one of the host before.
        let ports = self.attached.fetch_add(1, Ordering::Relaxed) % HOSTS * PORTS_PER_HOST;
        let options =
            HostOptions::new(NEAR).name("near").mtu(usize::from(MTU)).first_port(FIRST_PORT + ports);
        let host = Host::start(options, wire).map_err(|error| failed("the near host", error))?;
        let before = self.near().replace(host);
        // Its threads don't need the lock, but whoever asks meanwhile shouldn't wait.
        drop(before);
        Ok(device.into_raw_fd())
    }

    /// Ends the device's programs and closes their end of the descriptor, as the system does with a VPN that the user switches off.
    pub fn unplug(&self) {
        let before = self.near().take();
        drop(before);
    }

    /// Makes a TCP connection through the tunnel, sends `request` bytes (at least 16), gets `response` bytes back, and closes it.
    /// Returns when both ends have seen the same packets of it.
    pub fn exchange(&self, place: Place, request: u64, response: u64) -> Result<CarriedFlow, TestPeerError> {
        let near = self.near();
        let near = near.as_ref().ok_or_else(|| failed("exchange", "no descriptor was taken"))?;
        // Should ports come again, what was counted before is subtracted.
        let (near_before, far_before) = (near.stats(), self.far.stats());
        let transfer = Transfer::new(place.address(), request, response).within(PATIENCE);
        let report = near.tcp_transfer(transfer).map_err(|error| failed("exchange", error))?;
        let mut far = self
            .far
            .wait_for(PATIENCE, |stats| stats.tcp.completed > far_before.tcp.completed)
            .map_err(|error| failed("the connection's end", error))?;

        let own = Connection { protocol: Protocol::TCP, src: Some(report.local), dst: Some(report.remote) };
        let theirs = Connection { src: own.dst, dst: own.src, ..own };
        let mut glances = PATIENCE.as_millis() / GLANCE.as_millis();
        loop {
            let here = since(&near_before, &near.stats(), &own);
            let there = since(&far_before, &far, &theirs);
            if here.tx == there.rx && here.rx == there.tx {
                return Ok(carried(&own, here));
            }
            glances = glances.checked_sub(1).ok_or_else(|| {
                failed("the ends disagree", format!("{here:?} at this end, {there:?} at the far end"))
            })?;
            // Either end may be waiting for a packet: a change at this one ends the wait at once.
            let _ = near.wait_for(GLANCE, |stats| since(&near_before, stats, &own) != here);
            far = self.far.stats();
        }
    }
}

impl VirtualNetwork {
    fn near(&self) -> MutexGuard<'_, Option<Host>> {
        self.near.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(what: &str, why: impl std::fmt::Display) -> TestPeerError {
    TestPeerError::new(&format!("network: {what}"), why)
}

/// What a host counted of a connection meanwhile.
fn since(before: &HostStats, now: &HostStats, connection: &Connection) -> Counts {
    let counts = |stats: &HostStats| stats.connections.get(connection).copied().unwrap_or_default();
    let less = |now: Totals, before: Totals| Totals {
        packets: now.packets.saturating_sub(before.packets),
        bytes: now.bytes.saturating_sub(before.bytes),
    };
    let (before, now) = (counts(before), counts(now));
    Counts { tx: less(now.tx, before.tx), rx: less(now.rx, before.rx) }
}

fn carried(connection: &Connection, counts: Counts) -> CarriedFlow {
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    CarriedFlow {
        source: text(connection.src),
        destination: text(connection.dst),
        tx_packets: counts.tx.packets,
        tx_bytes: counts.tx.bytes,
        rx_packets: counts.rx.packets,
        rx_bytes: counts.rx.bytes,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{FromRawFd, OwnedFd};

    use tuntrail::tunnel::{FdDevice, Framing};

    use super::*;

    #[test]
    fn a_tunnel_on_the_descriptor_carries_what_the_network_says() {
        let network = VirtualNetwork::new().unwrap();
        let tunnel = tunnel(&network);
        let flows: Vec<CarriedFlow> = [Place::Node, Place::NodeV6, Place::Subnet, Place::Internet]
            .map(|place| network.exchange(place, 50_000, 70_000).unwrap())
            .into();
        assert_eq!(flows[3].destination, "203.0.113.7:443");
        assert!(flows.iter().all(|flow| flow.tx_bytes > 50_000 && flow.rx_bytes > 70_000), "{flows:?}");
        let carried = tunnel.stats().carried;
        assert_eq!(carried.tx_packets, flows.iter().map(|flow| flow.tx_packets).sum::<u64>());
        assert_eq!(carried.tx_bytes, flows.iter().map(|flow| flow.tx_bytes).sum::<u64>());
        assert_eq!(carried.rx_packets, flows.iter().map(|flow| flow.rx_packets).sum::<u64>());
        assert_eq!(carried.rx_bytes, flows.iter().map(|flow| flow.rx_bytes).sum::<u64>());
    }

    #[test]
    fn a_device_that_is_unplugged_has_ended_and_another_can_be_attached() {
        let network = VirtualNetwork::new().unwrap();
        let first = tunnel(&network);
        network.exchange(Place::Node, 16, 1).unwrap();
        network.unplug();
        while !first.stats().device_ended {
            std::thread::yield_now();
        }
        assert!(network.exchange(Place::Node, 16, 1).is_err(), "nobody is there");
        drop(first);
        let _second = tunnel(&network);
        network.exchange(Place::Node, 16, 1).unwrap();
    }

    fn tunnel(network: &VirtualNetwork) -> Tunnel {
        // SAFETY: `attach` gives the descriptor away.
        let device = unsafe { OwnedFd::from_raw_fd(network.attach().unwrap()) };
        let config = Config::parse(&network.tunnel_config().unwrap()).unwrap();
        let device = TunDevice::Fd(FdDevice::new(device, Framing::Raw));
        Tunnel::start(config, device, TunnelOptions::default()).unwrap()
    }
}
