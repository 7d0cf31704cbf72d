//! Tunnels of `up` between two namespaces.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::Arc,
};

use tuntrail::{
    flow::{Counts, Message},
    hook::Protocol,
    tunnel::{IoCounts, PrivateKey},
};

use super::*;
use crate::linux::{ip::Ip, netns::Namespace, testing::namespace_or_skip};

/// Any 32 bytes are a key.
const LEFT_KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const RIGHT_KEY: &str = "gI6EdUSYvn8ugXOt8QQD6Yc+JyiZxIhp3GInSWRfWGE=";

#[test]
fn the_device_is_named_after_the_file() {
    assert_eq!(device_name(Path::new("/etc/wireguard/wg0.conf")).unwrap(), "wg0");
    for bad in ["/etc/wireguard/a-name-too-long1.conf", "wg 0.conf", ".."] {
        assert!(device_name(Path::new(bad)).is_err(), "{bad}");
    }
}

#[test]
fn two_hosts_with_a_file_each_talk_through_the_tunnel_and_record_it() {
    let (Some(left), Some(right)) = (namespace_or_skip(), namespace_or_skip()) else { return };
    connect(&left, &right);
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let before = left.run(interfaces).unwrap();
    let (left_up, right_up) = up_both(&left, &right, &directory, Offload::On);

    let listener = right.run(|| TcpListener::bind("10.9.0.2:7").unwrap()).unwrap();
    let mut client = left.run(|| TcpStream::connect("10.9.0.2:7").unwrap()).unwrap();
    let (mut server, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_string(), "10.9.0.1");
    client.write_all(b"through the tunnel").unwrap();
    let mut text = [0; 18];
    server.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"through the tunnel");

    down(&left, left_up);
    down(&right, right_up);
    assert_eq!(left.run(interfaces).unwrap(), before, "nothing is left of the tunnel");
    for side in ["left", "right"] {
        let rows: Vec<_> = records(&directory.path().join(format!("{side}-records")))
            .into_iter()
            .flat_map(|message| message.virtual_traffic)
            .collect();
        assert!(
            rows.iter().any(|row| row.counts.tx_packets > 0 && row.counts.rx_packets > 0),
            "{side}: {rows:?}"
        );
    }
}

/// Far more than the socket buffers and one super-packet hold.
const TRANSFER: usize = 8 << 20;
/// Bytes of TCP headers with the timestamps that Linux puts into every segment.
const HEADER: u64 = 32;
/// Those of a SYN, which has more options.
const SYN_HEADER: u64 = 40;
/// Where the server listens, and how long headers of its family are.
const FAMILIES: [(&str, u64); 2] = [("10.9.0.2:7", 20), ("[fd09::2]:7", 40)];

#[test]
fn tcp_passes_intact_and_is_counted_by_the_segment_with_and_without_offload() {
    let cases = FAMILIES.into_iter().flat_map(|family| [(family, Offload::On), (family, Offload::Off)]);
    for ((address, ip_header), offload) in cases {
        // Only a transfer without retransmissions has a size that is known beforehand; nearly all are.
        let done = (0..5).any(|_| match transfer(address, offload, &[]) {
            None => true,
            Some(Transfer { retransmitted: true, .. }) => false,
            Some(Transfer { sent, received, .. }) => {
                // Every segment on its way out is on its way in at the other end, as it was.
                assert_eq!(sent, received, "{offload:?}");
                let (packets, bytes) = sent;
                let segments = TRANSFER as u64 / (1420 - ip_header - HEADER);
                assert!(packets >= segments, "{offload:?}: {packets} packets for {segments} full segments");
                // SYN, an acknowledgement, FIN and a few that end a burst are all that comes on top.
                assert!(
                    packets < segments * 5 / 4,
                    "{offload:?}: {packets} packets for {segments} full segments"
                );
                let headers = packets * (ip_header + HEADER) + (SYN_HEADER - HEADER);
                assert_eq!(bytes, TRANSFER as u64 + headers, "{address} {offload:?}");
                true
            }
        });
        assert!(done, "{offload:?}: retransmissions in every attempt");
    }
}

#[test]
fn full_packets_pass_a_link_that_is_too_narrow_for_them() {
    // 1420 bytes and WireGuard's 60 don't fit: batches are refused, and datagrams go in fragments.
    const NARROW: [&str; 7] = ["ip", "link", "set", "dev", "cable0", "mtu", "1400"];
    let Some(transfer) = transfer(FAMILIES[0].0, Offload::On, &[&NARROW]) else { return };
    assert_eq!(transfer.refused, IoCounts::default());
}

#[test]
fn a_slow_link_makes_the_device_wait_instead_of_losing_what_was_read() {
    // Slower than anything else on the way, with a queue that holds more than the socket's send buffer.
    const SLOW: [&str; 13] = [
        "tc", "qdisc", "add", "dev", "cable0", "root", "tbf", "rate", "50mbit", "burst", "64kb", "limit",
        "8mb",
    ];
    let (Some(left), Some(right)) = (namespace_or_skip(), namespace_or_skip()) else { return };
    connect(&left, &right);
    left.run(|| execute(&SLOW)).unwrap();
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let (left_up, right_up) = up_both(&left, &right, &directory, Offload::On);
    let socket = left.run(|| UdpSocket::bind("10.9.0.1:0").unwrap()).unwrap();
    for _ in 0..20_000 {
        socket.send_to(&[7; 1300], "10.9.0.2:9").unwrap();
    }
    let stats = left_up.client.stats().tunnel.unwrap();
    let (lost, carried) = (stats.io.send_full, stats.carried.tx_packets);
    // What is at hand when the buffer fills up is lost. The rest waits in the kernel, which drops what is too much
    // there.
    assert!(carried > 100 && lost < carried / 5, "{lost} of {carried} lost");
    down(&left, left_up);
    down(&right, right_up);
}

/// What the records of both sides say of one transfer from left to right, in packets and bytes.
struct Transfer {
    sent: (u64, u64),
    received: (u64, u64),
    retransmitted: bool,
    /// By sockets and devices on the left.
    refused: IoCounts,
}

/// Sends content from left to right, over a cable on which `commands` were run at both ends, and compares it. `None`
/// where there are no namespaces.
fn transfer(address: &'static str, offload: Offload, commands: &'static [&[&str]]) -> Option<Transfer> {
    let (left, right) = (namespace_or_skip()?, namespace_or_skip()?);
    connect(&left, &right);
    for namespace in [&left, &right] {
        namespace.run(|| commands.iter().for_each(|command| execute(command))).unwrap();
    }
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let (left_up, right_up) = up_both(&left, &right, &directory, offload);
    let listener = right.run(move || TcpListener::bind(address).unwrap()).unwrap();
    let mut client = left.run(move || TcpStream::connect(address).unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    // Far more than it takes; only a failing test waits that long.
    let patience = Some(std::time::Duration::from_secs(20));
    client.set_write_timeout(patience).unwrap();
    server.set_read_timeout(patience).unwrap();
    let content: Vec<u8> = (0..TRANSFER).map(|at| (at / 251 + at % 251) as u8).collect();
    let expected = content.clone();
    let sender = std::thread::spawn(move || client.write_all(&content).unwrap());
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert!(received == expected, "{offload:?}: the content has changed");
    drop(server);

    let refused = left_up.client.stats().tunnel.unwrap().io;
    let retransmitted = left.run(retransmissions).unwrap() + right.run(retransmissions).unwrap() > 0;
    down(&left, left_up);
    down(&right, right_up);
    let rows = |side: &str| -> Vec<_> {
        records(&directory.path().join(format!("{side}-records")))
            .into_iter()
            .flat_map(|message| message.virtual_traffic)
            .filter(|row| row.protocol == Protocol::TCP)
            .map(|row| row.counts)
            .collect()
    };
    let (left_rows, right_rows) = (rows("left"), rows("right"));
    let sum = |packets: &dyn Fn(&Counts) -> (u64, u64), rows: &[Counts]| {
        rows.iter().map(packets).fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1))
    };
    Some(Transfer {
        sent: sum(&|row| (row.tx_packets, row.tx_bytes), &left_rows),
        received: sum(&|row| (row.rx_packets, row.rx_bytes), &right_rows),
        retransmitted,
        refused,
    })
}

fn execute(command: &[&str]) {
    let status = std::process::Command::new(command[0]).args(&command[1..]).status().unwrap();
    assert!(status.success(), "{command:?}");
}

/// TCP segments that the calling thread's namespace has sent again.
fn retransmissions() -> u64 {
    let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let retransmitted = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "RetransSegs");
    retransmitted.unwrap().1.parse().unwrap()
}

/// A tunnel from left, 10.9.0.1, to right, 10.9.0.2.
fn up_both(
    left: &Namespace,
    right: &Namespace,
    directory: &Arc<tempfile::TempDir>,
    offload: Offload,
) -> (Up, Up) {
    let public = |key| PrivateKey::from_base64(key).unwrap().public_key();
    let right_file = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.9.0.2/24, fd09::2/64\nListenPort = 51820\nPostUp = never\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = 10.9.0.1/32, fd09::1/128\n",
        RIGHT_KEY,
        public(LEFT_KEY)
    );
    // A default route, so that the tunnel's own datagrams must find their way around it.
    let left_file = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.9.0.1/24, fd09::1/64\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = 10.9.0.2/32, fd09::2/128, 0.0.0.0/0\nEndpoint = 192.0.2.2:51820\n",
        LEFT_KEY,
        public(RIGHT_KEY)
    );
    let right_up = up(right, directory, "right", right_file, offload);
    let left_up = up(left, directory, "left", left_file, offload);
    (left_up, right_up)
}

fn down(namespace: &Namespace, up: Up) {
    namespace.run(move || up.stop(false).map_err(|error| error.to_string())).unwrap().unwrap();
}

fn up(
    namespace: &Namespace,
    directory: &Arc<tempfile::TempDir>,
    name: &'static str,
    file: String,
    offload: Offload,
) -> Up {
    let directory = Arc::clone(directory);
    namespace
        .run(move || {
            let path = directory.path().join(format!("{name}0.conf"));
            std::fs::write(&path, file).unwrap();
            Up::start(&Arguments {
                file: path,
                records: directory.path().join(format!("{name}-records")),
                server: "http://127.0.0.1:9".to_owned(),
                upload_at_end: false,
                full_exit_flows: false,
                no_offload: offload == Offload::Off,
            })
            .map_err(|error| error.to_string())
        })
        .unwrap()
        .unwrap()
}

/// Joins two namespaces by a virtual cable: 192.0.2.1 on the left, 192.0.2.2 on the right.
fn connect(left: &Namespace, right: &Namespace) {
    let right_thread = right.run(rustix::thread::gettid).unwrap().as_raw_nonzero().to_string();
    left.run(move || {
        let ip = |arguments: &[&str]| Ip::SYSTEM.run(arguments).unwrap();
        ip(&["link", "add", "cable0", "type", "veth", "peer", "name", "cable0", "netns", &right_thread]);
        ip(&["address", "add", "192.0.2.1/24", "dev", "cable0"]);
        ip(&["link", "set", "dev", "cable0", "up"]);
    })
    .unwrap();
    right
        .run(|| {
            let ip = |arguments: &[&str]| Ip::SYSTEM.run(arguments).unwrap();
            ip(&["address", "add", "192.0.2.2/24", "dev", "cable0"]);
            ip(&["link", "set", "dev", "cable0", "up"]);
        })
        .unwrap();
}

/// The names of the links, the rules and the routes; not whether the cable has its carrier yet.
fn interfaces() -> (Vec<String>, String, String) {
    let ip = |arguments: &[&str]| Ip::SYSTEM.run(arguments).unwrap();
    let links = ip(&["-o", "link", "show"]);
    let names = links.lines().map(|line| line.split(':').nth(1).unwrap().trim().to_owned()).collect();
    (names, ip(&["-4", "rule", "show"]), ip(&["-4", "route", "show"]).replace(" linkdown", ""))
}

fn records(directory: &Path) -> Vec<Message> {
    let segments = std::fs::read_dir(directory.join("netlog/w-ext")).unwrap();
    let paths = segments.map(|entry| entry.unwrap().path());
    let sealed: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
    let segments = sealed.iter().map(|path| tuntrail::store::open_segment(path).unwrap());
    segments
        .flat_map(|segment| {
            segment
                .records()
                .map(|record| serde_json::from_slice(record.payload).unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}
