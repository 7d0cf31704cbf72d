//! Tests of the running tunnel: real threads, real sockets on loopback.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::mpsc,
    thread,
    time::{Duration, Instant as StdInstant},
};

use super::*;
use crate::{
    clock::Instant,
    hook::{Connection, Direction},
    tunnel::{Endpoint, PeerConfig, PrivateKey},
};

/// Far more than anything here takes; only a failing test waits that long.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn config(own: u8, other: u8, endpoint: Option<SocketAddr>) -> Config {
    let mut config = Config::new(key(own));
    let mut peer = PeerConfig::new(key(other).public_key());
    peer.allowed_ips = vec![format!("10.0.0.{other}/32").parse().unwrap()];
    peer.endpoint = endpoint.map(Endpoint::Address);
    config.peers.push(peer);
    config
}

fn loopback() -> TunnelOptions {
    TunnelOptions { bind: Some(Ipv4Addr::LOCALHOST.into()), ..TunnelOptions::default() }
}

fn packet(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 253, 0, 0];
    packet.extend_from_slice(&[10, 0, 0, from, 10, 0, 0, to]);
    packet.extend_from_slice(payload);
    packet
}

/// A tunnel with a packet queue.
struct Node {
    tunnel: Tunnel,
    queue: PacketQueue,
}

impl Node {
    fn start(config: Config, options: TunnelOptions) -> Self {
        let (device, queue) = packet_queue(256, 1420);
        Self { tunnel: Tunnel::start(config, TunDevice::Queue(device), options).unwrap(), queue }
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = Vec::new();
        assert_eq!(self.queue.recv(&mut buffer, PATIENCE), Ok(true), "a packet in time");
        buffer
    }
}

/// b listens, a knows where.
fn pair() -> (Node, Node) {
    let b = Node::start(config(2, 1, None), loopback());
    let a = Node::start(config(1, 2, b.tunnel.local_addr().v4), loopback());
    (a, b)
}

#[test]
fn two_tunnels_exchange_packets_over_loopback() {
    let (a, b) = pair();
    for number in 0..200_u8 {
        a.queue.send(&packet(1, 2, &[number])).unwrap();
        assert_eq!(b.receive(), packet(1, 2, &[number]));
        b.queue.send(&packet(2, 1, &[number; 1000])).unwrap();
        assert_eq!(a.receive(), packet(2, 1, &[number; 1000]));
    }
    let stats = a.tunnel.stats();
    assert_eq!((stats.drops, stats.io), Default::default());
    assert_eq!(stats.events.sessions, 1);
}

#[test]
fn stopping_is_prompt_idempotent_and_keeps_the_final_state() {
    let (a, b) = pair();
    a.queue.send(&packet(1, 2, b"x")).unwrap();
    b.receive();
    let begun = StdInstant::now();
    a.tunnel.stop();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    a.tunnel.stop();
    assert_eq!(a.tunnel.stats().events.sessions, 1);
    assert!(!a.tunnel.stats().device_ended);
    assert_eq!(a.queue.send(b"x"), Err(QueueError::Closed));
    assert_eq!(a.queue.recv(&mut Vec::new(), None), Err(QueueError::Closed));
    assert!(matches!(a.tunnel.network_changed(), Err(TunnelError::Stopped)));
    assert!(matches!(
        a.tunnel.set_endpoint(key(2).public_key(), "192.0.2.1:1".parse().unwrap()),
        Err(TunnelError::Stopped)
    ));
}

#[test]
fn a_network_change_makes_new_sockets_and_the_peer_follows() {
    let (a, b) = pair();
    a.queue.send(&packet(1, 2, b"before")).unwrap();
    b.receive();
    a.tunnel.network_changed().unwrap();
    // Commands are taken in order: after the answer to this one, the sockets are new.
    drop(a.tunnel.stats());
    a.queue.send(&packet(1, 2, b"after")).unwrap();
    assert_eq!(b.receive(), packet(1, 2, b"after"));
    // The answer finds the new socket.
    b.queue.send(&packet(2, 1, b"answer")).unwrap();
    assert_eq!(a.receive(), packet(2, 1, b"answer"));
    let local = a.tunnel.local_addr().v4;
    let endpoint = b.tunnel.stats().peers[0].endpoint;
    assert_eq!(endpoint, local);
    assert_eq!(a.tunnel.stats().events.sessions, 2);
}

#[test]
fn an_endpoint_can_be_set_later() {
    let b = Node::start(config(2, 1, None), loopback());
    let a = Node::start(config(1, 2, None), loopback());
    a.queue.send(&packet(1, 2, b"nowhere")).unwrap();
    while a.tunnel.stats().drops.no_endpoint == 0 {
        thread::yield_now();
    }
    a.tunnel.set_endpoint(key(2).public_key(), b.tunnel.local_addr().v4.unwrap()).unwrap();
    let unknown = key(9).public_key();
    assert!(matches!(
        a.tunnel.set_endpoint(unknown, b.tunnel.local_addr().v4.unwrap()),
        Err(TunnelError::UnknownPeer(key)) if key == unknown
    ));
    a.queue.send(&packet(1, 2, b"there")).unwrap();
    assert_eq!(b.receive(), packet(1, 2, b"there"));
}

struct Reporter(mpsc::Sender<(u64, Direction)>, Option<mpsc::Sender<&'static str>>);

impl ConnectionCounter for Reporter {
    fn count(&mut self, _: Instant, _: &Connection, _: u64, bytes: u64, direction: Direction) {
        self.0.send((bytes, direction)).unwrap();
    }

    fn flush(&mut self, _: Instant) {
        if let Some(flushed) = &self.1 {
            flushed.send("flushed").unwrap();
        }
    }
}

#[test]
fn counters_are_fed_replaced_and_flushed_at_the_end() {
    let b = Node::start(config(2, 1, None), loopback());
    let (counts, counted) = mpsc::channel();
    let (flushes, flushed) = mpsc::channel();
    let options = TunnelOptions {
        virtual_counter: Some(Box::new(Reporter(counts.clone(), Some(flushes.clone())))),
        ..loopback()
    };
    let a = Node::start(config(1, 2, b.tunnel.local_addr().v4), options);
    a.queue.send(&packet(1, 2, &[0; 80])).unwrap();
    b.receive();
    assert_eq!(counted.try_iter().collect::<Vec<_>>(), [(100, Direction::Tx)]);
    a.tunnel.set_counters(None, Some(Box::new(Reporter(counts, Some(flushes))))).unwrap();
    a.tunnel.flush_counters().unwrap();
    assert_eq!(flushed.try_iter().count(), 2, "the old one when it was replaced, the new one when asked");
    a.queue.send(&packet(1, 2, &[0; 80])).unwrap();
    b.receive();
    a.tunnel.stop();
    assert_eq!(flushed.try_iter().count(), 1);
    assert!(counted.try_iter().any(|count| count == (112 + 32, Direction::Tx)), "a padded datagram");
}

#[test]
fn a_closed_queue_leaves_the_tunnel_running_and_says_so() {
    let (a, b) = pair();
    a.queue.close();
    // The wake-up of `close` and the one of `stats` may be one: ask until the thread has seen it.
    while !a.tunnel.stats().device_ended {
        thread::yield_now();
    }
    b.tunnel.stop();
    a.tunnel.stop();
    assert!(a.tunnel.stats().device_ended);
}

#[test]
fn the_host_is_told_of_a_peer_once_and_of_the_end_of_the_device() {
    let (sender, told) = mpsc::channel();
    let observer: TunnelObserver = Box::new(move |event| sender.send(event).unwrap());
    let b = Node::start(config(2, 1, None), loopback());
    let options = TunnelOptions { observer: Some(observer), ..loopback() };
    let a = Node::start(config(1, 2, b.tunnel.local_addr().v4), options);
    a.queue.send(&packet(1, 2, b"x")).unwrap();
    b.receive();
    assert_eq!(told.recv_timeout(PATIENCE.unwrap()), Ok(TunnelEvent::Connected(key(2).public_key())));
    a.tunnel.network_changed().unwrap();
    a.queue.send(&packet(1, 2, b"y")).unwrap();
    b.receive();
    // A second session, which is no news. The packet may have gone through the first.
    while a.tunnel.stats().events.sessions < 2 {
        thread::yield_now();
    }
    a.queue.close();
    assert_eq!(told.recv_timeout(PATIENCE.unwrap()), Ok(TunnelEvent::DeviceEnded));
    a.tunnel.stop();
    assert_eq!(told.try_iter().count(), 0);
}

#[test]
fn sockets_are_protected_before_use_and_a_refusal_fails_the_start() {
    let (device, _queue) = packet_queue(1, 1420);
    let options = TunnelOptions {
        protect: Some(Box::new(|_socket| Err(io::ErrorKind::PermissionDenied.into()))),
        ..loopback()
    };
    let error = Tunnel::start(config(1, 2, None), TunDevice::Queue(device), options).unwrap_err();
    assert!(matches!(error, TunnelError::Socket { .. }), "{error}");

    let (calls, called) = mpsc::channel();
    let options = TunnelOptions {
        protect: Some(Box::new(move |_socket| {
            calls.send(()).unwrap();
            Ok(())
        })),
        ..loopback()
    };
    let node = Node::start(config(1, 2, None), options);
    node.tunnel.stop();
    assert_eq!(called.try_iter().count(), 1);
}

#[test]
fn both_families_share_a_port_by_default() {
    let node = Node::start(config(1, 2, None), TunnelOptions::default());
    let local = node.tunnel.local_addr();
    assert!(local.v4.is_some());
    if let (Some(v4), Some(v6)) = (local.v4, local.v6) {
        assert_eq!(v4.port(), v6.port());
    }
}

#[test]
fn a_port_in_use_is_a_typed_error() {
    let (a, _b) = pair();
    let mut config = config(1, 2, None);
    config.listen_port = a.tunnel.local_addr().v4.map(|address| address.port());
    let (device, _queue) = packet_queue(1, 1420);
    let error = Tunnel::start(config, TunDevice::Queue(device), loopback()).unwrap_err();
    let TunnelError::Socket { address, source } = error else { panic!("{error}") };
    assert_eq!(Some(address), a.tunnel.local_addr().v4);
    assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn endpoint_names_are_resolved_at_the_start() {
    let b = Node::start(config(2, 1, None), loopback());
    let mut by_name = config(1, 2, None);
    let port = b.tunnel.local_addr().v4.unwrap().port();
    by_name.peers[0].endpoint = Some(Endpoint::Name { host: "localhost".to_owned(), port });
    let a = Node::start(by_name.clone(), loopback());
    assert_eq!(a.tunnel.stats().peers[0].endpoint, b.tunnel.local_addr().v4);

    by_name.peers[0].endpoint = Some(Endpoint::Name { host: "name.invalid".to_owned(), port });
    let (device, _queue) = packet_queue(1, 1420);
    let error = Tunnel::start(by_name, TunDevice::Queue(device), loopback()).unwrap_err();
    assert!(matches!(&error, TunnelError::Resolve { host, .. } if host == "name.invalid"), "{error}");
}

#[test]
fn a_network_change_resolves_names_again_off_the_packet_thread() {
    let b = Node::start(config(2, 1, None), loopback());
    let there = b.tunnel.local_addr().v4.unwrap();
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let (asked, questions) = mpsc::channel();
    let answer = Arc::new(Mutex::new(nowhere));
    let answers = Arc::clone(&answer);
    let resolver: Resolver = Arc::new(move |host, port| {
        asked.send((host.to_owned(), port, thread::current().name().map(str::to_owned))).unwrap();
        Ok(vec![*answers.lock().unwrap()])
    });
    let mut by_name = config(1, 2, None);
    by_name.peers[0].endpoint = Some(Endpoint::Name { host: "b.example".to_owned(), port: 7 });
    let a = Node::start(by_name, TunnelOptions { resolver: Some(resolver), ..loopback() });
    assert_eq!(a.tunnel.stats().peers[0].endpoint, Some(nowhere));
    let (host, port, _) = questions.recv().unwrap();
    assert_eq!((host.as_str(), port), ("b.example", 7));

    *answer.lock().unwrap() = there;
    a.tunnel.network_changed().unwrap();
    let (.., thread) = questions.recv_timeout(PATIENCE.unwrap()).unwrap();
    assert_eq!(thread.as_deref(), Some("tuntrail-resolve"));
    while a.tunnel.stats().peers[0].endpoint != Some(there) {
        thread::yield_now();
    }
    a.queue.send(&packet(1, 2, b"found")).unwrap();
    assert_eq!(b.receive(), packet(1, 2, b"found"));
    a.tunnel.stop();
    assert_eq!(questions.try_iter().count(), 0, "one change, one look-up");
}

#[test]
fn a_tunnel_stops_while_its_resolver_hangs() {
    let (release, released) = mpsc::channel::<()>();
    let (asked, questions) = mpsc::channel();
    let released = Mutex::new(released);
    let first = Mutex::new(true);
    let resolver: Resolver = Arc::new(move |_, port| {
        asked.send(()).unwrap();
        if !std::mem::replace(&mut *first.lock().unwrap(), false) {
            // Ends when the test does.
            let _ = released.lock().unwrap().recv();
        }
        Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))])
    });
    let mut by_name = config(1, 2, None);
    by_name.peers[0].endpoint = Some(Endpoint::Name { host: "b.example".to_owned(), port: 9 });
    let a = Node::start(by_name, TunnelOptions { resolver: Some(resolver), ..loopback() });
    questions.recv().unwrap();
    a.tunnel.network_changed().unwrap();
    questions.recv_timeout(PATIENCE.unwrap()).unwrap();
    let begun = StdInstant::now();
    a.tunnel.stop();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    drop(release);
}

#[test]
fn stopping_under_full_load_is_prompt_and_loses_no_count() {
    let b = Node::start(config(2, 1, None), loopback());
    let counted = Arc::new(Mutex::new(Totals::default()));
    let options = TunnelOptions {
        virtual_counter: Some(Box::new(Summing { seen: Totals::default(), flushed: Arc::clone(&counted) })),
        ..loopback()
    };
    let a = Node::start(config(1, 2, b.tunnel.local_addr().v4), options);
    a.queue.send(&packet(1, 2, b"x")).unwrap();
    b.receive();

    let stopping = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let keep_on = |stopping: &Arc<std::sync::atomic::AtomicBool>| {
        let stopping = Arc::clone(stopping);
        move || !stopping.load(std::sync::atomic::Ordering::Relaxed)
    };
    let (goes_on, queue) = (keep_on(&stopping), a.queue.clone());
    let device_flood = thread::spawn(move || {
        let packet = packet(1, 2, &[7; 1300]);
        while goes_on() && queue.send(&packet) != Err(QueueError::Closed) {}
    });
    let (goes_on, to) = (keep_on(&stopping), a.tunnel.local_addr().v4.unwrap());
    let socket_flood = thread::spawn(move || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Looks like data of an unknown session.
        let mut garbage = [9; 1300];
        garbage[..4].copy_from_slice(&[4, 0, 0, 0]);
        while goes_on() {
            let _ = socket.send_to(&garbage, to);
        }
    });
    // Both floods are on, and commands get through them.
    loop {
        let stats = a.tunnel.stats();
        if stats.carried.tx_packets > 2_000 && stats.drops.unknown_peer > 500 {
            break;
        }
    }
    let begun = StdInstant::now();
    a.tunnel.stop();
    let took = begun.elapsed();
    stopping.store(true, std::sync::atomic::Ordering::Relaxed);
    device_flood.join().unwrap();
    socket_flood.join().unwrap();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let carried = a.tunnel.stats().carried;
    let counted = counted.lock().unwrap();
    assert_eq!((counted.packets, counted.bytes), (carried.tx_packets, carried.tx_bytes));
}

#[test]
fn a_host_that_does_not_read_loses_packets_and_each_is_counted() {
    let (device, queue) = packet_queue(4, 1420);
    let b = Tunnel::start(config(2, 1, None), TunDevice::Queue(device), loopback()).unwrap();
    let a = Node::start(config(1, 2, b.local_addr().v4), loopback());
    for number in 0..100 {
        a.queue.send(&packet(1, 2, &[number])).unwrap();
        // One at a time, so that nothing is lost before the queue.
        while b.stats().carried.rx_packets <= number.into() {
            thread::yield_now();
        }
    }
    assert_eq!(b.stats().io.device_full, 96);
    assert_eq!(queue.stats().receive_full, 96);
    let mut buffer = Vec::new();
    for number in 0..4 {
        assert_eq!(queue.recv(&mut buffer, PATIENCE), Ok(true));
        assert_eq!(buffer, packet(1, 2, &[number]), "the first ones stay");
    }
}

#[test]
fn counters_learn_both_ends_of_the_path_with_the_first_answer() {
    let b = Node::start(config(2, 1, None), loopback());
    let there = b.tunnel.local_addr().v4.unwrap();
    let (paths, told) = mpsc::channel();
    let options = TunnelOptions { virtual_counter: Some(Box::new(PathReporter(paths))), ..loopback() };
    let a = Node::start(config(1, 2, Some(there)), options);
    a.queue.send(&packet(1, 2, b"x")).unwrap();
    b.receive();
    b.queue.send(&packet(2, 1, b"y")).unwrap();
    a.receive();
    a.tunnel.stop();
    let here = a.tunnel.local_addr().v4;
    assert!(here.is_some());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(None, there), (here, there)]);
}

struct PathReporter(mpsc::Sender<(Option<SocketAddr>, SocketAddr)>);

impl ConnectionCounter for PathReporter {
    fn count(&mut self, _: Instant, _: &Connection, _: u64, _: u64, _: Direction) {}

    fn path(&mut self, _: Instant, local: Option<SocketAddr>, remote: SocketAddr) {
        self.0.send((local, remote)).unwrap();
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    packets: u64,
    bytes: u64,
}

/// Tells its totals only when it is flushed.
struct Summing {
    seen: Totals,
    flushed: Arc<Mutex<Totals>>,
}

impl ConnectionCounter for Summing {
    fn count(&mut self, _: Instant, _: &Connection, packets: u64, bytes: u64, _: Direction) {
        self.seen.packets += packets;
        self.seen.bytes += bytes;
    }

    fn flush(&mut self, _: Instant) {
        *self.flushed.lock().unwrap() = self.seen;
    }
}

#[test]
fn a_v6_tunnel_works_where_the_system_has_v6() {
    let options = || TunnelOptions { bind: Some(Ipv6Addr::LOCALHOST.into()), ..TunnelOptions::default() };
    let (device, queue) = packet_queue(8, 1420);
    let Ok(tunnel) = Tunnel::start(config(2, 1, None), TunDevice::Queue(device), options()) else {
        return;
    };
    let b = Node { tunnel, queue };
    let a = Node::start(config(1, 2, b.tunnel.local_addr().v6), options());
    a.queue.send(&packet(1, 2, b"x")).unwrap();
    assert_eq!(b.receive(), packet(1, 2, b"x"));
}

#[cfg(unix)]
mod fd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, recv, send, socketpair};

    use super::*;

    /// A tunnel whose TUN device is one end of a datagram socket pair, and the other end.
    fn node(config: Config, framing: Framing) -> (Tunnel, std::os::fd::OwnedFd) {
        let (device, host) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None).unwrap();
        let device = TunDevice::Fd(FdDevice::new(device, framing));
        (Tunnel::start(config, device, loopback()).unwrap(), host)
    }

    #[test]
    fn packets_pass_through_descriptors_raw_and_framed() {
        let (b, b_host) = node(config(2, 1, None), Framing::Utun);
        let (a, a_host) = node(config(1, 2, b.local_addr().v4), Framing::Raw);
        for number in 0..100_u8 {
            send(&a_host, &packet(1, 2, &[number]), rustix::net::SendFlags::empty()).unwrap();
            let mut buffer = [0; 100];
            let (length, _) = recv(&b_host, &mut buffer[..], rustix::net::RecvFlags::empty()).unwrap();
            let framed = [&[0, 0, 0, 2][..], &packet(1, 2, &[number])].concat();
            assert_eq!(buffer[..length], framed);
            let framed = [&[0, 0, 0, 2][..], &packet(2, 1, &[number])].concat();
            send(&b_host, &framed, rustix::net::SendFlags::empty()).unwrap();
            let (length, _) = recv(&a_host, &mut buffer[..], rustix::net::RecvFlags::empty()).unwrap();
            assert_eq!(buffer[..length], packet(2, 1, &[number]));
        }
        drop(a);
        drop(b);
    }

    #[test]
    fn the_end_of_a_descriptor_is_noticed_once() {
        let (tunnel, host) = node(config(1, 2, None), Framing::Raw);
        drop(host);
        while !tunnel.stats().device_ended {
            thread::yield_now();
        }
        tunnel.stop();
    }
    /// A virtio header and a TCP packet of `segments` times 1000 bytes and 500 more, as Linux hands it over.
    #[cfg(target_os = "linux")]
    fn joined(segments: u16) -> (Vec<u8>, Vec<u8>) {
        let payload: Vec<u8> = (0..u32::from(segments) * 1000 + 500).map(|at| (at / 3) as u8).collect();
        let [high, low] = u16::try_from(40 + payload.len()).unwrap().to_be_bytes();
        let mut framed = vec![1, 1];
        framed.extend([40_u16, 1000, 20, 16].iter().flat_map(|field| field.to_ne_bytes()));
        framed.extend([0x45, 0, high, low, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        framed.extend([0, 80, 0, 81, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
        framed.extend(&payload);
        (framed, payload)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn joined_packets_are_carried_and_counted_one_by_one_and_come_out_joined() {
        let vnet = Framing::VnetHdr { udp: true };
        let (b, b_host) = node(config(2, 1, None), vnet);
        let (a, a_host) = node(config(1, 2, b.local_addr().v4), vnet);
        let (framed, payload) = joined(40);
        for _ in 0..20 {
            send(&a_host, &framed, rustix::net::SendFlags::empty()).unwrap();
            let mut received = Vec::new();
            while received.len() < payload.len() {
                let mut buffer = vec![0; 1 << 17];
                let (length, _) = recv(&b_host, &mut buffer[..], rustix::net::RecvFlags::empty()).unwrap();
                received.extend_from_slice(&buffer[50..length]);
            }
            assert_eq!(received, payload);
        }
        let (sent, received) = (a.stats(), b.stats());
        assert_eq!((sent.drops, sent.io), Default::default());
        assert_eq!(sent.carried.tx_packets, 20 * 41);
        assert_eq!(sent.carried.tx_bytes, 20 * (41 * 40 + 40_500));
        assert_eq!(received.carried.rx_packets, sent.carried.tx_packets);
        assert_eq!(received.carried.rx_bytes, sent.carried.tx_bytes);

        send(&a_host, &[1; 9], rustix::net::SendFlags::empty()).unwrap();
        send(&a_host, &[9; 60], rustix::net::SendFlags::empty()).unwrap();
        while a.stats().io.device_malformed < 2 {
            thread::yield_now();
        }
    }
}
