//! The tunnel's socket statistics are the kernel's own figures.
//!
//! UDP sockets have no byte counts in the kernel, but a network stack has: in a network namespace of its own, whose only
//! traffic is the tunnel's, the bytes of all IP packets less their headers are what the tunnel moved.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{env, fs, process::Command};

use serde_json::Value;
use support::{Lab, PATIENCE, addr, collections, ip, read};
use tuntrail::{sockstat::Label, upload::UploadOutcome};
use tuntrail_netlab::{Ping, Transfer};

const INSIDE: &str = "TUNTRAIL_INSIDE_NAMESPACE";
const REQUIRED: &str = "TUNTRAIL_REQUIRE_NAMESPACES";
const TEST: &str = "events_add_up_to_what_the_kernel_counted_of_the_tunnels_datagrams";
/// Headers of IPv4 and UDP.
const HEADERS: u64 = 20 + 8;

#[test]
fn events_add_up_to_what_the_kernel_counted_of_the_tunnels_datagrams() {
    if env::var_os(INSIDE).is_some() {
        return compare();
    }
    // The namespace goes when the process in it ends.
    let made = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    if !made.is_ok_and(|output| output.status.success()) {
        assert!(env::var_os(REQUIRED).is_none(), "no network namespace can be made");
        eprintln!("SKIPPED: no network namespace can be made");
        return;
    }
    let test = env::current_exe().unwrap();
    let inside = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(test)
        .args(["--exact", TEST, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout) + String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.success() && said.contains("1 passed"), "{said}");
}

fn compare() {
    let mut lab = Lab::new();
    let phone = lab.phone_host();
    for to in ["100.64.0.2:443", "10.20.0.5:22"] {
        phone.tcp_transfer(Transfer::new(addr(to), 300_000, 2_000_000).within(PATIENCE)).unwrap();
    }
    phone.ping(Ping::new(ip("100.64.0.2"), 3).within(PATIENCE)).unwrap();
    lab.router.host.as_ref().unwrap().wait_for(PATIENCE, |stats| stats.tcp.completed == 2).unwrap();
    for side in [&mut lab.phone, &mut lab.router] {
        drop(side.host.take().unwrap().stop());
    }
    // What one has sent must have been read by the other: the kernel counted it.
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let [phone, router] =
            [&lab.phone, &lab.router].map(|side| side.client.stats().tunnel.unwrap().peers[0]);
        if phone.tx_datagrams == router.rx_datagrams && router.tx_datagrams == phone.rx_datagrams {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "datagrams were lost: {phone:?} {router:?}");
        std::thread::yield_now();
    }
    lab.phone.client.stop_tunnel();
    lab.router.client.stop_tunnel();
    let kernel = Kernel::read();
    assert_eq!((kernel.tcp_segments, kernel.icmp_messages), (0, 0), "nothing but the tunnel's UDP");

    for side in [&lab.phone, &lab.router] {
        assert_eq!(side.client.upload("test").unwrap().wait().outcome, UploadOutcome::Complete);
    }
    let events: Vec<Value> = read(&lab.server, &collections()[3]);
    let label = Label::MAGICSOCK_CONN_UDP4.number().to_string();
    let sum = |way: usize| events.iter().filter_map(|event| event["s"][&label][way].as_u64()).sum::<u64>();
    assert!(events.len() >= 2 && kernel.sent > 4_600_000, "{kernel:?}");
    assert_eq!((sum(0), sum(1)), (kernel.sent, kernel.received), "{kernel:?}");
}

/// What this namespace's kernel counted.
#[derive(Debug)]
struct Kernel {
    /// Payload of UDP, if there was nothing else.
    sent: u64,
    received: u64,
    tcp_segments: u64,
    icmp_messages: u64,
}

impl Kernel {
    fn read() -> Self {
        let tables = ["/proc/net/snmp", "/proc/net/netstat"].map(|path| fs::read_to_string(path).unwrap());
        let count = |table: &str, name: &str| -> u64 {
            let lines: Vec<_> =
                tables.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with(table)).collect();
            let column = lines[0].split_whitespace().position(|column| column == name).unwrap();
            lines[1].split_whitespace().nth(column).unwrap().parse().unwrap()
        };
        // A packet that is to be segmented later is one packet with one header to the kernel, too.
        Self {
            sent: count("IpExt:", "OutOctets") - HEADERS * count("Ip:", "OutRequests"),
            received: count("IpExt:", "InOctets") - HEADERS * count("Ip:", "InReceives"),
            tcp_segments: count("Tcp:", "OutSegs"),
            icmp_messages: count("Icmp:", "OutMsgs"),
        }
    }
}
