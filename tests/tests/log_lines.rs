//! The rule for our own log: above DEBUG, no line names an address, a host, or a key, whatever happens. So that the log can be
//! uploaded, and read by anybody who supports the app.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use support::{Lab, PATIENCE, addr, ip, said::Said};
use tuntrail::{
    client::{AtEnd, Client, DebugRequest, RemoteCommands},
    consent::Consent,
    tunnel::{Config, Endpoint, PeerConfig, PrivateKey, TunDevice, TunnelOptions, packet_queue},
    upload::UploadOutcome,
};
use tuntrail_logserver::{Fault, Times};
use tuntrail_netlab::{Transfer, UdpExchange};

#[test]
fn above_debug_no_line_names_an_address_a_host_or_a_key() {
    let said = Said::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .without_time()
        .with_ansi(false)
        .with_writer(said.clone())
        .init();
    let mut lab = Lab::new();
    let server = lab.server.base_url();
    let phone = lab.phone_host();
    for to in ["100.64.0.2:443", "10.20.0.5:22", "[2001:db8::7]:443"] {
        phone.tcp_transfer(Transfer::new(addr(to), 10_000, 10_000).within(PATIENCE)).unwrap();
    }
    phone.udp_exchange(UdpExchange::new((ip("198.51.100.53"), 53).into(), 64, 3).within(PATIENCE)).unwrap();
    lab.phone.client.with_tunnel(|tunnel| tunnel.network_changed().unwrap()).unwrap();
    lab.phone.client.stop_tunnel();
    lab.phone.client.shutdown();

    // Uploads that fail in every way, with a server that is talkative about it.
    let mut config = support::full_config(lab.phone.directory.path(), &server);
    config.upload.max_wait = Duration::ZERO;
    config.remote_commands = RemoteCommands::FromServer;
    let client = Client::start(config.clone()).unwrap();
    let talk = "192.0.2.66 (phone.test.example) is not welcome at logs.test.example";
    for code in [400, 403, 404, 413, 503] {
        let fault = Fault::Status { code, retry_after: None, body: talk.to_owned() };
        lab.server.inject(fault, Times::exactly(8).unwrap()).unwrap();
        let debug = client.request_debug_upload(&DebugRequest::default(), None).unwrap();
        assert_ne!(debug.upload.wait().outcome, UploadOutcome::NothingToSend);
        lab.server.clear_faults();
    }
    let hostile = serde_json::json!({ "v": 1, "id": "x", "kind": "ask 192.0.2.67" });
    lab.server.inject(Fault::Commands(vec![hostile]), Times::ONCE).unwrap();
    let _ = client.upload("test").unwrap().wait();
    client.enable_socket_stats(Duration::from_secs(60), AtEnd::Upload).unwrap_err();
    client.handle_command(r#"{"v":1,"id":"a","kind":"debug_upload"}"#).unwrap();
    client.handle_command(r#"{"v":1,"id":"b","kind":"name of 192.0.2.68"}"#).unwrap_err();
    client.export(&lab.phone.directory.path().join("logs.tar.zst")).unwrap();

    // A tunnel to peers that don't answer, one of them without an address that can be found.
    start_tunnel(&client);
    client.stop_tunnel();
    let private_id = fs::read_to_string(lab.phone.directory.path().join("log-id")).unwrap();
    lab.server.stop();
    let unreachable = client.upload("test").unwrap().wait();
    assert!(matches!(unreachable.outcome, UploadOutcome::Unreachable { .. }), "{unreachable:?}");
    client.clear().unwrap();
    client.set_consent(Consent::Denied).unwrap();
    drop(client);
    // The name that nobody has, in the server's place.
    config.upload = tuntrail::upload::UploadConfig::new("https://no-such-host.invalid").unwrap();
    config.upload.max_wait = Duration::ZERO;
    let client = Client::start(config).unwrap();
    let debug = client.request_debug_upload(&DebugRequest::default(), None).unwrap();
    let report = debug.upload.wait();
    assert!(matches!(report.outcome, UploadOutcome::Unreachable { .. }), "{report:?}");
    drop(client);
    drop(lab);

    let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
    for expected in ["client starts", "tunnel started", "upload ended", "a command", "consent", "BUG-"] {
        assert!(said.contains(expected), "the scenario has {expected:?}:\n{said}");
    }
    for line in said.lines() {
        assert_eq!(addresses(line), Vec::<String>::new(), "an address in {line:?}");
        for name in
            ["test.example", ".invalid", "localhost", "http", "node-1", "tuntrail/", private_id.trim()]
        {
            assert!(!line.contains(name), "{name:?} in {line:?}");
        }
        // 32 bytes in base64.
        let mut words = line.split(|char: char| !(char.is_ascii_alphanumeric() || "+/".contains(char)));
        assert!(!words.any(|word| word.len() == 43), "a key in {line:?}");
    }
}

/// A tunnel of a client that has none, to one peer with an address and one with a name.
fn start_tunnel(client: &Client) {
    let mut config = Config::new(PrivateKey::generate().unwrap());
    for endpoint in [
        Endpoint::Address(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9)),
        Endpoint::Name { host: "no-such-host.invalid".to_owned(), port: 51820 },
    ] {
        let mut peer = PeerConfig::new(PrivateKey::generate().unwrap().public_key());
        peer.endpoint = Some(endpoint);
        config.peers.push(peer);
        let (device, queue) = packet_queue(16, 1280);
        // The second one can't start.
        let _ = client.start_tunnel(config.clone(), TunDevice::Queue(device), TunnelOptions::default());
        drop(queue);
        client.stop_tunnel();
    }
}

/// What reads as an IP address in `line`, with or without a port.
fn addresses(line: &str) -> Vec<String> {
    let words = line.split(|char: char| !(char.is_ascii_alphanumeric() || ".:[]%".contains(char)));
    let is_address = |word: &&str| {
        let bare = word.trim_matches(['.', ':']);
        let v4_with_port = bare.rsplit_once(':').map_or(bare, |(host, _)| host);
        [*word, bare, v4_with_port, bare.trim_matches(['[', ']'])]
            .iter()
            .any(|text| text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok())
    };
    words.filter(|word| word.len() > 2).filter(is_address).map(str::to_owned).collect()
}

#[test]
fn the_search_finds_addresses_in_any_dress() {
    for (line, expected) in [
        ("WARN tuntrail::upload::engine: upload ended sent=12 after=1.5s version=0.1.0", 0),
        ("error=Os { code: 111, kind: ConnectionRefused }", 0),
        ("to 10.0.0.1, and [::1]:80.", 2),
        ("endpoint=192.0.2.1:51820 local=[fd7a:115c:a1e0::1] x=fe80::1", 3),
        ("dst=\"203.0.113.9\"", 1),
    ] {
        assert_eq!(addresses(line).len(), expected, "{line}: {:?}", addresses(line));
    }
}
