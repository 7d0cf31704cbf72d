//! The canary: traffic to addresses, ports and names that occur nowhere else, and then a search for them in everything
//! the product wrote, sent and said, as text and as bytes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{net::IpAddr, sync::Arc};

use support::{Lab, PATIENCE, addr, files, ip, said::Said};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};
use tuntrail::{
    client::DebugRequest,
    clock::SystemClock,
    diagnostics::{Diagnostics, DiagnosticsLimits},
    upload::UploadOutcome,
};
use tuntrail_netlab::{Transfer, UdpExchange};

/// Exit destinations. Their ports and the marked parts of the addresses are nowhere else in the test.
const CANARIES: [(&str, u16); 3] =
    [("203.0.113.213", 51234), ("2001:db8:feed:c0de::5", 51235), ("198.51.100.197", 51236)];

#[test]
fn exit_destinations_are_in_no_file_no_request_and_no_diagnostic_line() {
    let said = Said::default();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(said.clone());
    // What a user turns on who wants to help: all lines of our own, to be uploaded.
    let log = Diagnostics::new("info,tuntrail=trace,flow_logs=trace", Arc::new(SystemClock)).unwrap();
    tracing_subscriber::registry().with(lines).with(log.layer()).init();
    let mut lab = Lab::new();
    // Where a client with a log would have it.
    let log_directory = lab.phone.directory.path().join("diagnostics/w-ext");
    log.open(&log_directory, DiagnosticsLimits { files: 64, ..DiagnosticsLimits::default() }).unwrap();
    let phone = lab.phone_host();
    for (address, port) in &CANARIES[..2] {
        let to = (ip(address), *port).into();
        phone.tcp_transfer(Transfer::new(to, 10_000, 10_000).within(PATIENCE)).unwrap();
    }
    let (address, port) = CANARIES[2];
    phone.udp_exchange(UdpExchange::new((ip(address), port).into(), 64, 3).within(PATIENCE)).unwrap();
    // Something that may be told, to show that the search looks in the right places.
    phone.tcp_transfer(Transfer::new(addr("10.20.0.5:22"), 10_000, 10_000).within(PATIENCE)).unwrap();
    lab.phone.client.stop_tunnel();
    lab.router.client.stop_tunnel();

    for side in [&mut lab.phone, &mut lab.router] {
        // Shut down without sending, so that everything is on disk; then send it from there.
        side.client.shutdown();
        let mut written = Vec::new();
        for (path, content) in files(side.directory.path()) {
            if path.extension().is_some_and(|extension| extension == "seg") {
                let segment = tuntrail::store::open_segment(&path).unwrap();
                segment.records().for_each(|record| written.extend_from_slice(record.payload));
            }
            written.extend(content);
        }
        assert!(contains(&written, b"10.20.0.5:22") && contains(&written, b"exitTraffic"));
        assert_clean(&written, "a file");
        let config = support::full_config(side.directory.path(), &lab.server.base_url());
        side.client = tuntrail::client::Client::start(config).unwrap();
        log.flush().unwrap();
        let everything = DebugRequest { verbose: true, note: "test".to_owned(), ..DebugRequest::default() };
        let debug = side.client.request_debug_upload(&everything, None).unwrap();
        assert_eq!(debug.upload.wait().outcome, UploadOutcome::Complete);
    }

    let mut sent = Vec::new();
    for collection in support::collections() {
        let entries = lab.server.entries(&collection).unwrap();
        assert!(!entries.is_empty(), "{collection}");
        entries.iter().for_each(|entry| sent.extend(entry.payload.bytes()));
    }
    for request in lab.server.requests() {
        sent.extend(format!("{request:?}").into_bytes());
    }
    assert!(contains(&sent, b"10.20.0.5:22"));
    assert_clean(&sent, "a request");
    let mut uploaded = Vec::new();
    for entry in lab.server.entries("diagnostics.log.test.example").unwrap() {
        uploaded.extend(entry.payload.bytes());
    }
    assert!(contains(&uploaded, b"flow_logs") && contains(&uploaded, b"user bugreport: BUG-"));
    assert_clean(&uploaded, "a line of the log at the server");
    for side in [&lab.phone, &lab.router] {
        let private_id = std::fs::read(side.directory.path().join("log-id")).unwrap();
        assert!(!contains(&uploaded, private_id.trim_ascii()), "the log says who may write to it");
    }

    let said = said.0.lock().unwrap();
    assert!(contains(&said, b"flow_logs") && contains(&said, b"upload"), "the product says something");
    assert_clean(&said, "a diagnostic line");
}

fn assert_clean(bytes: &[u8], what: &str) {
    for (address, port) in CANARIES {
        let octets = match ip(address) {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            // The marked part: what is before it is a prefix that others have, too.
            IpAddr::V6(v6) => v6.octets()[4..8].to_vec(),
        };
        let text = if address.contains(':') { "feed:c0de" } else { address };
        for canary in [text.as_bytes(), port.to_string().as_bytes(), &octets] {
            assert!(!contains(bytes, canary), "{address} is in {what}: {canary:?}");
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
