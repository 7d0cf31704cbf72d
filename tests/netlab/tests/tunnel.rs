//! Hosts behind both ends of a real tunnel: WireGuard over loopback UDP, packets and counts compared.

#![allow(
    clippy::unwrap_used,
    reason = "tests may fail loudly; the lint's own exception misses their helpers"
)]

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tuntrail::{
    clock::Instant,
    hook::{Connection, ConnectionCounter, Direction},
    tunnel::{
        Config, Endpoint, PacketQueue, PeerConfig, PrivateKey, TunDevice, Tunnel, TunnelOptions, packet_queue,
    },
};
use tuntrail_netlab::{Counts, Host, HostOptions, Ping, Ports, TcpService, Totals, Transfer, UdpExchange};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn what_crosses_a_tunnel_is_counted_at_both_ends_to_the_byte() {
    let (device_key, exit_key) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let mut device_peer = PeerConfig::new(device_key.public_key());
    device_peer.allowed_ips = vec!["10.7.0.1/32".parse().unwrap(), "fd00:7::1/128".parse().unwrap()];
    let (exit_tunnel, exit_queue, exit_counts) = node(exit_key.clone(), device_peer);
    let mut exit_peer = PeerConfig::new(exit_key.public_key());
    exit_peer.allowed_ips = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    exit_peer.endpoint = exit_tunnel.local_addr().v4.map(Endpoint::Address);
    let (device_tunnel, device_queue, device_counts) = node(device_key, exit_peer);

    let device = HostOptions::new([ip("10.7.0.1"), ip("fd00:7::1")]).name("device");
    let device = Host::start(device, device_queue).unwrap();
    let exit = HostOptions::new([ip("10.7.0.2"), ip("fd00:7::2")])
        .name("exit")
        .any_ip()
        .tcp(Ports::Any, TcpService::Exchange)
        .udp_echo(Ports::Any);
    let exit = Host::start(exit, exit_queue).unwrap();

    for (to, len) in [("10.7.0.2:80", 10_000_000), ("[2001:db8::9]:443", 1_000_000), ("192.0.2.7:22", 16)] {
        let report = device.tcp_transfer(Transfer::new(addr(to), len, len).within(PATIENCE)).unwrap();
        println!("{to}: {len} bytes each way in {:?}", report.elapsed);
    }
    device.udp_exchange(UdpExchange::new(addr("203.0.113.5:53"), 60, 50).within(PATIENCE)).unwrap();
    device.ping(Ping::new(ip("fd00:7::2"), 3).within(PATIENCE)).unwrap();
    exit.wait_for(PATIENCE, |stats| stats.tcp.completed == 3).unwrap();

    // Ends the packet threads: nothing more is counted there, and the hosts take what is left in their queues.
    drop((device_tunnel, exit_tunnel));
    for (host, counts) in [(device, device_counts), (exit, exit_counts)] {
        let counts = counts.lock().unwrap();
        // Should this fail, the comparison below says where.
        drop(host.wait_for(Duration::from_secs(10), |stats| stats.connections == *counts));
        let stats = host.stop();
        assert_eq!(stats.refused, Totals::default(), "the queue never was full");
        assert_eq!(stats.connections.len(), 5);
        assert_eq!(*counts, stats.connections);
    }
}

/// Rows like a host's own, made from what the tunnel reports.
#[derive(Default)]
struct Counter(Arc<Mutex<HashMap<Connection, Counts>>>);

impl ConnectionCounter for Counter {
    fn count(
        &mut self,
        _now: Instant,
        connection: &Connection,
        packets: u64,
        bytes: u64,
        direction: Direction,
    ) {
        let mut rows = self.0.lock().unwrap();
        let row = rows.entry(*connection).or_default();
        let totals = match direction {
            Direction::Tx => &mut row.tx,
            Direction::Rx => &mut row.rx,
        };
        totals.packets += packets;
        totals.bytes += bytes;
    }
}

fn node(key: PrivateKey, peer: PeerConfig) -> (Tunnel, PacketQueue, Arc<Mutex<HashMap<Connection, Counts>>>) {
    let mut config = Config::new(key);
    config.peers.push(peer);
    let (device, queue) = packet_queue(1_024, 1_420);
    let counter = Counter::default();
    let rows = Arc::clone(&counter.0);
    let options = TunnelOptions {
        bind: Some(Ipv4Addr::LOCALHOST.into()),
        virtual_counter: Some(Box::new(counter)),
        ..TunnelOptions::default()
    };
    (Tunnel::start(config, TunDevice::Queue(device), options).unwrap(), queue, rows)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
