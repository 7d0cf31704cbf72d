//! What a window of 1,000 connections costs from the counter's hand-over to the JSON in the sink, the way through the
//! worker thread included. `cargo bench -p tuntrail --bench window`.

#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark may fail loudly; the macros document nothing"
)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use tuntrail::{
    clock::{Clock, ManualClock},
    flow::{ExitFlows, FlowConfig, FlowLogger, Layer, RecordSink},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    netmap::{NetworkMap, Node, NodeId, Routes},
};

const FLOWS: u32 = 1_000;

/// Takes records as a store does: by copying them.
struct Buffer(Vec<u8>);

impl RecordSink for Buffer {
    fn append(&mut self, _wall: Timestamp, json: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(json);
    }
}

fn network(v6: bool) -> NetworkMap {
    let node = |id: i64| Node {
        id: NodeId(id),
        stable_id: format!("n{id}CNTRL"),
        name: format!("host-{id}.example.ts.net."),
        addresses: vec![address(v6, id as u32).into()],
        os: "linux".into(),
        user: None,
        tags: vec!["tag:server".into()],
    };
    NetworkMap::new(Some(node(0)), (1..=20).map(node), []).expect("all texts are short")
}

fn address(v6: bool, number: u32) -> std::net::IpAddr {
    let [_, _, high, low] = number.to_be_bytes();
    if v6 {
        [0xfd7a, 0x115c, 0xa1e0, 0xab12, 0x4843, 0xcd96, 0x6250, number as u16].into()
    } else {
        [100, 64, high, low].into()
    }
}

fn window(criterion: &mut Criterion) {
    for (name, v6, exit_flows) in [
        ("window/v4 full", false, ExitFlows::Full),
        ("window/v4 anonymised", false, ExitFlows::Aggregated),
        ("window/v6 full", true, ExitFlows::Full),
    ] {
        criterion.bench_function(name, |bencher| {
            let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
            let config = FlowConfig { exit_flows, ..FlowConfig::default() };
            let logger = FlowLogger::start(config, Arc::new(clock.clone()), Box::new(Buffer(Vec::new())));
            let logger = logger.expect("the configuration is valid");
            logger.set_network(network(v6), Routes::default());
            let count_all = || {
                let mut counter = logger.counter(Layer::Virtual);
                for flow in 0..FLOWS {
                    // Half to nodes, half through an exit node.
                    let far = if flow.is_multiple_of(2) { 1 + flow % 20 } else { 5_000 + flow };
                    let connection = Connection {
                        protocol: Protocol::TCP,
                        src: Some(SocketAddr::new(address(v6, 0), 30_000 + flow as u16)),
                        dst: Some(SocketAddr::new(address(v6, far), 443)),
                    };
                    for direction in [Direction::Tx, Direction::Rx] {
                        counter.count(clock.now(), &connection, 12, 34_567, direction);
                    }
                }
                counter
            };
            bencher.iter_batched(
                count_all,
                |mut counter| {
                    counter.flush(clock.now());
                    logger.flush();
                    counter
                },
                BatchSize::PerIteration,
            );
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2));
    targets = window
}
criterion_main!(benches);
