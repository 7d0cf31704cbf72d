//! What the library costs an app in memory: a C program without a virtual machine runs a tunnel with 16,000 flows, records
//! them and uploads them, and is compared with the same program without the library.
//!
//! `bindings/cross/run memory` runs this with the stripped library as it ships, which `TUNTRAIL_SHIPPED_LIBRARY` names;
//! otherwise it is the one built for the tests, whose code is larger.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

use std::{collections::HashSet, env, error::Error, net::Ipv4Addr, thread, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use tuntrail::tunnel::{Config, PeerConfig, PrivateKey, TunDevice, Tunnel, TunnelOptions, packet_queue};
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{Program, bindings, fresh_folder, library, search_path, skip, sources, write};
use tuntrail_logserver::{Server, ServerConfig};

/// As many as the SDK promises to hold at once, but for a few.
const FLOWS: usize = 16_000;
/// What an app's extension can spare of the 50 MiB that iOS gives it.
const LIMIT_KIB: u64 = 15 * 1024;
/// The same for a library that is not optimised: its code alone takes 5 MiB more.
const DEBUG_LIMIT_KIB: u64 = 20 * 1024;
/// Far above what a handshake on loopback takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_tunnel_with_16000_flows_and_an_upload_take_little_memory() -> Result<(), Box<dyn Error>> {
    let Some(compiler) = search_path("cc") else {
        return Ok(skip("a C compiler", "install gcc")?);
    };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "memory")?;
    let host = compile(&compiler, &folder)?;
    let (library, limit) = match env::var("TUNTRAIL_SHIPPED_LIBRARY") {
        Ok(path) => (Utf8PathBuf::from(path), LIMIT_KIB),
        Err(_) => (library("tuntrail_ffi")?, DEBUG_LIMIT_KIB),
    };

    let server = Server::start(ServerConfig::default())?;
    let (host_key, peer_key) = (PrivateKey::generate()?, PrivateKey::generate()?);
    let peer = Peer::start(&peer_key, &host_key)?;
    let config = folder.join("tunnel.conf");
    write(
        &config,
        &format!(
            "[Interface]\nPrivateKey = {}\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.0.0.2/32\nEndpoint = {}\n",
            *host_key.to_base64(),
            peer_key.public_key(),
            peer.endpoint,
        ),
    )?;

    let empty = Program::new(&host).arg("empty").run()?;
    let records = folder.join("records");
    let run = Program::new(&host)
        .args(["run", library.as_str(), config.as_str(), records.as_str(), &server.base_url()])
        .arg(FLOWS.to_string())
        .run()?;
    peer.stop();

    // It did what was to be measured.
    assert_eq!(flows_at(&server)?, (FLOWS, 0), "flows, and records that were lost");
    let before = peak_kib(&empty, "empty");
    let after = peak_kib(&run, "end");
    let report = format!("{empty}{run}{library}: {} KiB above an empty host", after.saturating_sub(before));
    println!("{report}");
    assert!(after <= before + limit, "more than {limit} KiB above an empty host:\n{report}");
    Ok(())
}

/// Compiles the C program with the header of the library that was built for the tests: a stripped one tells no types.
fn compile(compiler: &Utf8Path, folder: &Utf8Path) -> Result<Utf8PathBuf, Box<dyn Error>> {
    bindings("tuntrail_ffi", Language::Swift, folder)?;
    let host = folder.join("host");
    Program::new(compiler)
        .args([
            "-std=gnu11",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-I",
            folder.as_str(),
            "-o",
            host.as_str(),
        ])
        .args([sources().join("c/host.c").as_str(), "-ldl"])
        .run()?;
    Ok(host)
}

/// The highest resident memory until a line that begins with `when`.
fn peak_kib(printed: &str, when: &str) -> u64 {
    let line = printed.lines().find(|line| line.starts_with(when)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// How many flows of the program the server has records of, and how many records it was told are lost.
fn flows_at(server: &Server) -> Result<(usize, u64), Box<dyn Error>> {
    let (mut flows, mut lost) = (HashSet::new(), 0);
    for entry in server.entries("windows.test.example")? {
        let record: serde_json::Value = serde_json::from_str(&entry.payload)?;
        let traffic = record["virtualTraffic"].as_array().cloned().unwrap_or_default();
        flows.extend(traffic.iter().filter_map(|flow| flow["src"].as_str().map(str::to_owned)));
        let drops = record["tuntrail"]["drops"].as_array().cloned().unwrap_or_default();
        lost += drops.iter().filter_map(|drop| drop["records"].as_u64()).sum::<u64>();
    }
    Ok((flows.iter().filter(|source| source.starts_with("10.0.0.1:")).count(), lost))
}

/// The other end of the tunnel: answers the first packet, and takes the rest.
struct Peer {
    endpoint: String,
    tunnel: Tunnel,
    answering: thread::JoinHandle<()>,
}

impl Peer {
    fn start(own: &PrivateKey, other: &PrivateKey) -> Result<Self, Box<dyn Error>> {
        let mut peer = PeerConfig::new(other.public_key());
        peer.allowed_ips = vec!["10.0.0.1/32".parse()?];
        let mut config = Config::new(own.clone());
        config.peers.push(peer);
        let (device, queue) = packet_queue(64, 1420);
        let options = TunnelOptions { bind: Some(Ipv4Addr::LOCALHOST.into()), ..TunnelOptions::default() };
        let tunnel = Tunnel::start(config, TunDevice::Queue(device), options)?;
        let endpoint = tunnel.local_addr().v4.unwrap().to_string();
        let answering = thread::spawn(move || {
            let mut packet = Vec::new();
            // Without an answer the program fails, and says so.
            if queue.recv(&mut packet, Some(PATIENCE)) == Ok(true) {
                let _ = queue.send(&answer(&packet));
            }
            while queue.recv(&mut packet, None).is_ok() {}
        });
        Ok(Self { endpoint, tunnel, answering })
    }

    fn stop(self) {
        self.tunnel.stop();
        self.answering.join().unwrap();
    }
}

/// The same UDP packet back.
fn answer(packet: &[u8]) -> Vec<u8> {
    let mut answer = packet.to_vec();
    answer[12..16].copy_from_slice(&packet[16..20]);
    answer[16..20].copy_from_slice(&packet[12..16]);
    answer[20..22].copy_from_slice(&packet[22..24]);
    answer[22..24].copy_from_slice(&packet[20..22]);
    answer
}
