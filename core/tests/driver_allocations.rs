//! Once a session stands, a running tunnel must not use the allocator for packets, however many it moves at once. A test
//! binary of its own, because it counts every allocation of the process.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod allocations;

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    time::Duration,
};

use tuntrail::tunnel::{
    Config, Endpoint, FdDevice, Framing, PeerConfig, PrivateKey, TunDevice, Tunnel, TunnelOptions,
};

fn node(own: u8, other: u8, endpoint: Option<SocketAddr>) -> (Tunnel, UnixDatagram) {
    let mut config = Config::new(PrivateKey::from_bytes([own; 32]));
    let mut peer = PeerConfig::new(PrivateKey::from_bytes([other; 32]).public_key());
    peer.allowed_ips.push(format!("10.0.0.{other}/32").parse().unwrap());
    peer.endpoint = endpoint.map(Endpoint::Address);
    config.peers.push(peer);
    let (device, host) = UnixDatagram::pair().unwrap();
    // Only a failing test waits that long.
    host.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let device = FdDevice::new(OwnedFd::from(device), Framing::VnetHdr { udp: true });
    let options = TunnelOptions { bind: Some(Ipv4Addr::LOCALHOST.into()), ..TunnelOptions::default() };
    (Tunnel::start(config, TunDevice::Fd(device), options).unwrap(), host)
}

/// A TCP packet of 40 segments of 1000 bytes behind a virtio header.
fn joined() -> Vec<u8> {
    let [high, low] = 40_040_u16.to_be_bytes();
    let mut framed = vec![1, 1];
    framed.extend([40_u16, 1000, 20, 16].iter().flat_map(|field| field.to_ne_bytes()));
    framed.extend([0x45, 0, high, low, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    framed.extend([0, 80, 0, 81, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    framed.resize(10 + 40_040, 7);
    framed
}

#[test]
fn joined_packets_through_running_tunnels_allocate_nothing() {
    let (b, b_host) = node(2, 1, None);
    let (a, a_host) = node(1, 2, b.local_addr().v4);
    let framed = joined();
    let mut buffer = vec![0; 1 << 17];
    let mut exchange = |rounds: usize| {
        for _ in 0..rounds {
            a_host.send(&framed).unwrap();
            let mut received = 0;
            while received < 40_000 {
                received += b_host.recv(&mut buffer).unwrap() - 50;
            }
        }
    };
    exchange(50);
    let before = allocations::so_far();
    exchange(200);
    assert_eq!(allocations::so_far() - before, 0);
    let stats = a.stats();
    assert_eq!(stats.carried.tx_packets, 250 * 40);
    assert_eq!(stats.io, tuntrail::tunnel::IoCounts::default());
}
