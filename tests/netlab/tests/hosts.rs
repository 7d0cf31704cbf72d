//! Two hosts back to back: real TCP, UDP and ICMP over a wire in memory.

#![allow(
    clippy::unwrap_used,
    reason = "tests may fail loudly; the lint's own exception misses their helpers"
)]

use std::{
    net::{IpAddr, SocketAddr},
    sync::mpsc,
    time::Duration,
};

use tuntrail::{
    hook::{Connection, Protocol},
    tunnel::packet_queue,
};
use tuntrail_netlab::{
    Host, HostError, HostOptions, HostStats, MemoryWire, Ping, Ports, Recv, TcpService, Transfer,
    UdpExchange, Wire, memory_wire,
};

/// Packets on the way: a dozen full TCP windows.
const CAPACITY: usize = 1_024;
/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
const MEGABYTE: u64 = 1_000_000;

#[test]
fn ten_megabytes_each_way_arrive_intact_over_v4_and_v6() {
    let (client, server) = pair();
    for to in ["10.7.0.2:80", "[fd00:7::2]:80"] {
        let report = client
            .tcp_transfer(Transfer::new(addr(to), 10 * MEGABYTE, 10 * MEGABYTE).within(PATIENCE))
            .unwrap();
        assert_eq!((report.sent, report.received), (10 * MEGABYTE, 10 * MEGABYTE));
        assert_eq!(report.remote, addr(to));
        println!("{to}: 20 MB in {:?}", report.elapsed);
    }
    let tcp = server.stats().tcp;
    assert_eq!((tcp.accepted, tcp.failed, tcp.corrupt), (2, 0, 0));
}

#[test]
fn all_tcp_services_do_what_they_say() {
    let (client, _server) = pair();
    for (port, request, response) in
        [(80, 16, 0), (80, 17, 100_000), (7, 200_000, 200_000), (9, 200_000, 0), (19, 0, 5_000)]
    {
        let to = SocketAddr::new(ip("10.7.0.2"), port);
        let report = client.tcp_transfer(Transfer::new(to, request, response).within(PATIENCE)).unwrap();
        assert_eq!((report.sent, report.received), (request, response), "port {port}");
    }
}

#[test]
fn transfers_run_side_by_side() {
    let (client, server) = pair();
    std::thread::scope(|scope| {
        let run = |to: &'static str| {
            let client = &client;
            scope.spawn(move || {
                client.tcp_transfer(Transfer::new(addr(to), 300_000, 300_000).within(PATIENCE)).unwrap().local
            })
        };
        let threads: Vec<_> =
            ["10.7.0.2:80", "[fd00:7::2]:80"].into_iter().cycle().take(8).map(run).collect();
        let mut ports: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap().port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 8, "each transfer has a port of its own");
    });
    assert_eq!(server.stats().tcp.accepted, 8);
}

#[test]
fn datagrams_come_back_from_any_port() {
    let (client, _server) = pair();
    for (to, size) in [("10.7.0.2:53", 8), ("10.7.0.2:4000", 1_392), ("[fd00:7::2]:443", 1_372)] {
        let report = client.udp_exchange(UdpExchange::new(addr(to), size, 100).within(PATIENCE)).unwrap();
        assert_eq!((report.sent, report.received, report.odd), (100, 100, 0), "{to}");
    }
}

#[test]
fn ping_is_answered() {
    let (client, _server) = pair();
    for to in ["10.7.0.2", "fd00:7::2"] {
        let report = client.ping(Ping::new(ip(to), 5).size(1_000).within(PATIENCE)).unwrap();
        assert_eq!((report.sent, report.received), (5, 5), "{to}");
        assert!(report.min <= report.max && report.max <= report.elapsed);
    }
}

#[test]
fn only_a_host_with_any_ip_answers_for_the_whole_internet() {
    let wire = memory_wire(CAPACITY);
    let client = Host::start(client_options(), wire.0).unwrap();
    let router = Host::start(server_options().any_ip(), wire.1).unwrap();
    for to in ["203.0.113.9:443", "[2001:db8::9]:443", "192.168.5.77:80"] {
        client.tcp_transfer(Transfer::new(addr(to), 100, 100).within(PATIENCE)).unwrap();
        client.udp_exchange(UdpExchange::new(addr(to), 100, 1).within(PATIENCE)).unwrap();
        client.ping(Ping::new(addr(to).ip(), 1).within(PATIENCE)).unwrap();
    }
    let from = ip("203.0.113.50");
    let refused = router.tcp_transfer(Transfer::new(addr("10.7.0.1:1"), 1, 0).from(from)).unwrap_err();
    assert!(matches!(refused, HostError::Refused { .. }), "reached and answered: {refused}");
    drop((client, router));

    let (client, server) = pair();
    let error =
        client.udp_exchange(UdpExchange::new(addr("203.0.113.9:53"), 8, 1).within(PATIENCE)).unwrap_err();
    assert!(matches!(error, HostError::NoReply { sent: 1, .. }), "{error}");
    let error = server.tcp_transfer(Transfer::new(addr("10.7.0.1:80"), 1, 0).from(from)).unwrap_err();
    assert!(matches!(error, HostError::NoSource { .. }), "{error}");
}

#[test]
fn a_lossy_wire_delays_tcp_but_does_not_damage_it() {
    let (a, b) = memory_wire(CAPACITY);
    let client = Host::start(client_options(), a.losing_every(40)).unwrap();
    let server = Host::start(server_options(), b.losing_every(50)).unwrap();
    let report =
        client.tcp_transfer(Transfer::new(addr("10.7.0.2:80"), MEGABYTE, MEGABYTE).within(PATIENCE)).unwrap();
    assert_eq!((report.sent, report.received), (MEGABYTE, MEGABYTE));
    println!("2 MB over the lossy wire in {:?}", report.elapsed);
    let (client, server) = (client.stats(), server.stats());
    assert!(client.total.tx.packets > server.total.rx.packets, "packets were lost");
}

#[test]
fn lost_datagrams_are_reported_not_repeated() {
    let (a, b) = memory_wire(CAPACITY);
    let client = Host::start(client_options(), a.losing_every(10)).unwrap();
    let _server = Host::start(server_options(), b).unwrap();
    let report =
        client.udp_exchange(UdpExchange::new(addr("10.7.0.2:53"), 100, 100).within(PATIENCE)).unwrap();
    assert_eq!((report.sent, report.received), (100, 90));
}

#[test]
fn both_ends_count_the_same_packets_to_the_byte() {
    let (client, server) = pair();
    let tcp =
        client.tcp_transfer(Transfer::new(addr("10.7.0.2:80"), 123_456, 7_890).within(PATIENCE)).unwrap();
    client.udp_exchange(UdpExchange::new(addr("[fd00:7::2]:53"), 500, 20).within(PATIENCE)).unwrap();
    client.ping(Ping::new(ip("10.7.0.2"), 3).within(PATIENCE)).unwrap();
    let (near, far) = settled(&client, &server);

    assert_eq!((near.total.tx, near.total.rx), (far.total.rx, far.total.tx));
    assert_eq!(near.connections.len(), 3);
    for (connection, counts) in &near.connections {
        let mirrored = Connection { src: connection.dst, dst: connection.src, ..*connection };
        let other = far.connections[&mirrored];
        assert_eq!((counts.tx, counts.rx), (other.rx, other.tx), "{connection:?}");
    }
    let row = near.connections
        [&Connection { protocol: Protocol::TCP, src: Some(tcp.local), dst: Some(tcp.remote) }];
    assert!(row.tx.bytes > 123_456 + row.tx.packets * 40 && row.rx.bytes > 7_890);
    let row = near.connections[&Connection {
        protocol: Protocol::ICMPV4,
        src: Some(addr("10.7.0.1:0")),
        dst: Some(addr("10.7.0.2:0")),
    }];
    assert_eq!((row.tx.packets, row.tx.bytes), (3, 3 * (20 + 8 + 56)));
    let sums = near.connections.values().fold((0, 0), |sum, counts| {
        (sum.0 + counts.tx.bytes + counts.rx.bytes, sum.1 + counts.tx.packets + counts.rx.packets)
    });
    assert_eq!(sums.0, near.total.tx.bytes + near.total.rx.bytes);
    assert_eq!(sums.1, near.total.tx.packets + near.total.rx.packets);
}

#[test]
fn a_transfer_of_another_length_than_promised_is_an_error() {
    let (client, _server) = pair();
    let echo = addr("10.7.0.2:7");
    let error = client.tcp_transfer(Transfer::new(echo, 100, 200)).unwrap_err();
    assert!(matches!(error, HostError::Length { received: 100, expected: 200, .. }), "{error}");
    let error = client.tcp_transfer(Transfer::new(echo, 200, 100)).unwrap_err();
    assert!(matches!(error, HostError::Length { received: 101.., expected: 100, .. }), "{error}");
}

#[test]
fn content_that_differs_from_the_expected_is_an_error() {
    let (client, _server) = pair();
    // The source says in its first 16 bytes that it sends 5,000; the client wants them to say 5,001.
    let error = client.tcp_transfer(Transfer::new(addr("10.7.0.2:19"), 0, 5_001)).unwrap_err();
    assert!(matches!(error, HostError::Corrupt { offset: 0, .. }), "{error}");
}

#[test]
fn a_request_without_its_header_is_reset() {
    let (client, server) = pair();
    let error = client.tcp_transfer(Transfer::new(addr("10.7.0.2:80"), 3, 5)).unwrap_err();
    assert!(matches!(error, HostError::Reset { sent: 3, received: 0, .. }), "{error}");
    assert_eq!(server.stats().tcp.corrupt, 1);
}

#[test]
fn a_port_without_service_refuses() {
    let (client, server) = pair();
    let error = client.tcp_transfer(Transfer::new(addr("10.7.0.2:22"), 1, 0)).unwrap_err();
    assert!(matches!(error, HostError::Refused { .. }), "{error}");
    assert_eq!(server.stats().tcp.refused, 1);
}

#[test]
fn silence_is_a_timeout_of_the_right_length() {
    let (a, _silent) = memory_wire(CAPACITY);
    let client = Host::start(client_options(), a).unwrap();
    let within = Duration::from_millis(50);
    let error = client.tcp_transfer(Transfer::new(addr("10.7.0.2:80"), 1, 1).within(within)).unwrap_err();
    assert!(matches!(error, HostError::Timeout { sent: 0, received: 0, .. }), "{error}");
    let error = client.ping(Ping::new(ip("10.7.0.2"), 1).within(within)).unwrap_err();
    assert!(matches!(error, HostError::Timeout { sent: 1, received: 0, .. }), "{error}");
    let error = client.udp_exchange(UdpExchange::new(addr("10.7.0.2:53"), 8, 3).within(within)).unwrap_err();
    assert!(matches!(error, HostError::Timeout { sent: 3, received: 0, .. }), "{error}");
}

#[test]
fn requests_that_can_not_work_are_refused_before_a_packet_is_sent() {
    let (client, _server) = pair();
    for error in [
        client.tcp_transfer(Transfer::new(addr("10.7.0.2:80"), 1 << 31, 0)).unwrap_err(),
        client.tcp_transfer(Transfer::new(addr("10.7.0.2:0"), 1, 0)).unwrap_err(),
        client.tcp_transfer(Transfer::new(addr("0.0.0.0:80"), 1, 0)).unwrap_err(),
        client.udp_exchange(UdpExchange::new(addr("10.7.0.2:53"), 7, 1)).unwrap_err(),
        client.udp_exchange(UdpExchange::new(addr("10.7.0.2:53"), 1_393, 1)).unwrap_err(),
        client.udp_exchange(UdpExchange::new(addr("10.7.0.2:0"), 8, 1)).unwrap_err(),
        client.ping(Ping::new(ip("fd00:7::2"), 1).size(1_373)).unwrap_err(),
    ] {
        assert!(matches!(error, HostError::Request(_)), "{error}");
    }
    assert_eq!(client.stats(), HostStats::default());
}

#[test]
fn sockets_are_bounded_and_closed_connections_make_room() {
    let wire = memory_wire(CAPACITY);
    let client = Host::start(HostOptions { max_sockets: 2, ..client_options() }, wire.0).unwrap();
    let server = Host::start(HostOptions { max_sockets: 2, ..server_options() }, wire.1).unwrap();
    for port in 0..6 {
        client.tcp_transfer(Transfer::new(addr("10.7.0.2:80"), 16, 16).within(PATIENCE)).unwrap();
        let to = SocketAddr::new(ip("10.7.0.2"), 1_000 + port);
        client.udp_exchange(UdpExchange::new(to, 8, 1).within(PATIENCE)).unwrap();
    }
    assert_eq!(server.stats().tcp.accepted, 6);

    let (a, silent) = memory_wire(CAPACITY);
    let client = Host::start(HostOptions { max_sockets: 1, ..client_options() }, a).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| client.tcp_transfer(Transfer::new(addr("10.7.0.2:80"), 1, 1)));
        client.wait_for(PATIENCE, |stats| stats.total.tx.packets > 0).unwrap();
        let error = client.ping(Ping::new(ip("10.7.0.2"), 1)).unwrap_err();
        assert!(matches!(error, HostError::TooManySockets { limit: 1 }), "{error}");
        // Ends the first transfer long before its deadline.
        silent.close();
        assert!(matches!(first.join().unwrap(), Err(HostError::WireClosed)));
    });
}

#[test]
fn stopping_a_host_ends_its_own_and_its_neighbours_exchanges() {
    let wire = memory_wire(CAPACITY);
    let client = Host::start(client_options(), wire.0).unwrap();
    // Reads nothing: the transfer can't go on.
    let (started, seen) = mpsc::channel();
    let silent = std::thread::spawn(move || {
        let mut buffer = Vec::new();
        let mut packets = 0;
        while wire.1.recv(&mut buffer) == Recv::Packet {
            packets += 1;
            started.send(()).unwrap();
        }
        packets
    });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.ping(Ping::new(ip("10.7.0.2"), 1)));
        seen.recv().unwrap();
        drop(waiting);
    });
    let stats = client.stop();
    assert_eq!(silent.join().unwrap(), stats.total.tx.packets);

    let (client, server) = pair();
    drop(server);
    let error = client.tcp_transfer(Transfer::new(addr("10.7.0.2:80"), 16, 16)).unwrap_err();
    assert!(matches!(error, HostError::WireClosed), "{error}");
}

#[test]
fn an_idle_host_stays_silent_and_garbage_is_counted_but_harmless() {
    let (far, wire) = memory_wire(CAPACITY);
    let host = Host::start(server_options().any_ip(), wire).unwrap();
    let garbage: [&[u8]; 6] = [&[], &[0], &[0x45; 20], &[0x60; 40], &[0xff; 1_420], &[0x40; 64]];
    for packet in garbage {
        assert!(far.send(packet));
    }
    let stats = host.wait_for(PATIENCE, |stats| stats.total.rx.packets == 6).unwrap();
    assert_eq!(stats.total.rx.bytes, 1 + 20 + 40 + 1_420 + 64);
    assert_eq!(stats.total.tx.packets, 0);
    let after = host.stop();
    assert_eq!(after.total.tx.packets, 0);
}

#[test]
fn packets_that_a_full_wire_refuses_are_counted_apart() {
    let (device, queue) = packet_queue(1, 1_420);
    let host = Host::start(client_options(), queue).unwrap();
    let exchange = UdpExchange::new(addr("10.7.0.2:53"), 100, 3).within(Duration::from_millis(50));
    let error = host.udp_exchange(exchange).unwrap_err();
    assert!(matches!(error, HostError::Timeout { sent: 3, .. }), "{error}");
    let stats = host.stats();
    assert_eq!((stats.total.tx.packets, stats.total.tx.bytes), (1, 128));
    assert_eq!((stats.refused.packets, stats.refused.bytes), (2, 256));
    drop(device);
}

#[test]
fn a_host_on_a_packet_queue_ends_with_its_tunnel() {
    let (device, queue) = packet_queue(16, 1_420);
    let host = Host::start(client_options(), queue).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host.ping(Ping::new(ip("10.7.0.2"), 1)));
        host.wait_for(PATIENCE, |stats| stats.total.tx.packets > 0).unwrap();
        drop(device);
        assert!(matches!(waiting.join().unwrap(), Err(HostError::WireClosed)));
    });
    assert!(matches!(host.ping(Ping::new(ip("10.7.0.2"), 1)), Err(HostError::WireClosed)));
}

#[test]
fn damaged_packets_do_not_bring_a_host_down() {
    let mut originals = Vec::new();
    for to in ["10.7.0.2:80", "[fd00:7::2]:80"] {
        let (near, far) = memory_wire(CAPACITY);
        let client = Host::start(client_options(), near).unwrap();
        let within = Duration::from_millis(20);
        client.tcp_transfer(Transfer::new(addr(to), 16, 16).within(within)).unwrap_err();
        client.udp_exchange(UdpExchange::new(addr(to), 8, 1).within(within)).unwrap_err();
        client.ping(Ping::new(addr(to).ip(), 1).within(within)).unwrap_err();
        drop(client);
        let mut packet = Vec::new();
        while far.recv(&mut packet) == Recv::Packet {
            originals.push(packet.clone());
        }
    }
    assert!(originals.len() >= 6, "SYN, datagram and echo request of both IP versions");

    let (far, near) = memory_wire(CAPACITY);
    let server = Host::start(HostOptions { max_sockets: 16, ..server_options().any_ip() }, near).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap() % bound
    };
    let mut sent = 0;
    for _ in 0..20 {
        for _ in 0..500 {
            let mut packet = originals[below(originals.len())].clone();
            for _ in 0..=below(3) {
                let at = below(packet.len());
                packet[at] = u8::try_from(below(256)).unwrap();
            }
            if below(4) == 0 {
                packet.truncate(below(packet.len()));
            }
            sent += u64::from(far.send(&packet));
        }
        server.wait_for(PATIENCE, |stats| stats.total.rx.packets == sent).unwrap();
    }
    assert_eq!(sent, 10_000);
    // The stack thread still takes commands: nobody answers this one.
    let error = server.ping(Ping::new(ip("10.7.0.1"), 1).within(Duration::from_millis(20))).unwrap_err();
    assert!(matches!(error, HostError::Timeout { .. } | HostError::TooManySockets { .. }), "{error}");
}

// Helpers

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client_options() -> HostOptions {
    HostOptions::new([ip("10.7.0.1"), ip("fd00:7::1")]).name("client")
}

fn server_options() -> HostOptions {
    HostOptions::new([ip("10.7.0.2"), ip("fd00:7::2")])
        .name("server")
        .tcp(Ports::One(80), TcpService::Exchange)
        .tcp(Ports::One(443), TcpService::Exchange)
        .tcp(Ports::One(7), TcpService::Echo)
        .tcp(Ports::One(9), TcpService::Sink)
        .tcp(Ports::Range(19..=20), TcpService::Source(5_000))
        .udp_echo(Ports::Any)
}

fn pair() -> (Host, Host) {
    let (a, b): (MemoryWire, MemoryWire) = memory_wire(CAPACITY);
    (Host::start(client_options(), a).unwrap(), Host::start(server_options(), b).unwrap())
}

/// The statistics of both ends after all packets on the way have arrived and each connection is closed.
fn settled(client: &Host, server: &Host) -> (HostStats, HostStats) {
    server.wait_for(PATIENCE, |stats| stats.tcp.completed == stats.tcp.accepted).unwrap();
    let sent = client.stats().total.tx;
    server.wait_for(PATIENCE, |stats| stats.total.rx == sent).unwrap();
    let sent = server.stats().total.tx;
    client.wait_for(PATIENCE, |stats| stats.total.rx == sent).unwrap();
    (client.stats(), server.stats())
}
