//! `docs/records.md` tells the truth: its examples are what the product makes, and every member is described.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tuntrail::{
    clock::{Clock, ManualClock},
    flow::{ExitFlows, FlowConfig, FlowLogger, Layer, RecordSink},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    netmap::{NetworkMap, Node, NodeId, Routes, UserId},
    sockstat::{Bytes, Label, SocketEvent},
    store::{DropReason, drop_reports},
    upload::{EntryIds, Envelope, encode_trusted_object, splice_ids},
};

const DOC: &str = include_str!("../../docs/records.md");
const WINDOW: Duration = Duration::from_secs(5);

#[test]
fn the_example_of_a_record_is_what_the_product_makes() {
    let made: Value = serde_json::from_slice(&entry(&record(FlowConfig::default()))).unwrap();
    assert_eq!(examples()[0], made, "{}", serde_json::to_string(&made).unwrap());
}

#[test]
fn the_example_of_a_drop_report_is_understood() {
    let example = &examples()[1];
    let reports = drop_reports(example["tuntrail"].to_string().as_bytes());
    assert_eq!(reports.len(), example["tuntrail"]["drops"].as_array().unwrap().len());
    assert_eq!(reports[0].reason, DropReason::Rotation);
    assert!(reports[0].range.is_some());
    for reason in DropReason::ALL {
        assert!(DOC.contains(&format!("`{reason}`")), "{reason} is not described");
    }
}

#[test]
fn the_example_of_a_socket_event_is_what_the_product_makes() {
    let app = Label::app(Label::FIRST_APP).unwrap();
    let rows = [(Label::MAGICSOCK_CONN_UDP4, 148, 92), (Label::NETLOG_LOGGER, 4211, 0), (app, 517, 20_480)];
    let event = SocketEvent {
        start_ms: 1_767_323_045_120,
        duration_ms: 100,
        cellular: true,
        bytes: rows.map(|(label, tx, rx)| (label, Bytes { tx, rx })).into(),
    };
    let mut json = Vec::new();
    event.write_json(&mut json);
    let client_time = Some("2026-01-02T03:04:05.221Z".parse().unwrap());
    let (mut stored, mut sent) = (Vec::new(), Vec::new());
    encode_trusted_object(&json, &Envelope { client_time, ids: None }, &mut stored);
    splice_ids(&stored, EntryIds { proc_id: 2_546_809_706, proc_seq: 1 }, &mut sent);
    let made: Value = serde_json::from_slice(&sent).unwrap();
    let example = examples().into_iter().find(|example| example["s"].is_object()).unwrap();
    assert_eq!(example, made, "{}", String::from_utf8(sent).unwrap());
    for (label, ..) in rows.into_iter().filter(|(label, ..)| *label != app) {
        assert!(DOC.contains(&format!("| `{}` | **{label}**", label.number())), "{label} is not described");
    }
}

#[test]
fn every_member_of_a_record_is_described() {
    // Without room for all connections, so that this is reported, too.
    let config = FlowConfig { max_flows: 3, exit_flows: ExitFlows::Full, ..FlowConfig::default() };
    let mut members = BTreeSet::new();
    for entry in [entry(&record(config)), entry(&record(FlowConfig::default()))] {
        names(&serde_json::from_slice(&entry).unwrap(), &mut members);
    }
    examples().iter().for_each(|example| names(example, &mut members));
    assert!(["overflowPkts", "proc_seq", "user", "reason"].iter().all(|name| members.contains(*name)));
    let missing: Vec<_> = members.iter().filter(|name| !DOC.contains(&format!("| `{name}` |"))).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// The JSON blocks of the document.
fn examples() -> Vec<Value> {
    let blocks = DOC.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|json| serde_json::from_str(json).unwrap()).collect()
}

/// All names of members, at any depth.
fn names(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                into.insert(name.clone());
                names(value, into);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}

#[derive(Default)]
struct Keep(Arc<Mutex<Vec<u8>>>);

impl RecordSink for Keep {
    fn append(&mut self, _wall: Timestamp, json: &[u8]) {
        *self.0.lock().unwrap() = json.to_vec();
    }
}

/// The record of a window with traffic of each kind.
fn record(config: FlowConfig) -> Vec<u8> {
    let clock = ManualClock::new("2026-01-02T03:04:05.12Z".parse().unwrap());
    let record = Arc::default();
    let sink = Box::new(Keep(Arc::clone(&record)));
    let logger = FlowLogger::start(config, Arc::new(clock.clone()), sink).unwrap();
    let (map, routes) = network();
    logger.set_network(map, routes);
    let mut inner = logger.counter(Layer::Virtual);
    let mut outer = logger.counter(Layer::Physical);
    let now = clock.now();
    for (protocol, dst, tx, rx) in [
        (6, "100.64.0.2:443", (48, 21_932), (488, 619_532)),
        (6, "100.64.0.2:22", (3, 180), (2, 120)),
        (17, "10.20.0.53:53", (1, 148), (1, 148)),
        (6, "93.184.216.34:443", (47, 14_072), (561, 702_052)),
        (17, "1.1.1.1:53", (1, 60), (1, 92)),
    ] {
        let connection = connection(protocol, "100.64.0.1:49325", dst);
        inner.count(now, &connection, tx.0, tx.1, Direction::Tx);
        inner.count(now, &connection, rx.0, rx.1, Direction::Rx);
    }
    let tunnel = connection(0, "100.64.0.2:0", "203.0.113.9:51820");
    outer.count(now, &tunnel, 100, 39_952, Direction::Tx);
    outer.count(now, &tunnel, 1_053, 1_355_644, Direction::Rx);
    clock.advance(WINDOW);
    for counter in [&mut inner, &mut outer] {
        counter.handle_deadline(clock.now());
    }
    logger.flush();
    record.lock().unwrap().clone()
}

/// The record as it is uploaded.
fn entry(record: &[u8]) -> Vec<u8> {
    let client_time = Some("2026-01-02T03:04:10.12Z".parse().unwrap());
    let (mut stored, mut sent) = (Vec::new(), Vec::new());
    encode_trusted_object(record, &Envelope { client_time, ids: None }, &mut stored);
    splice_ids(&stored, EntryIds { proc_id: 2_546_809_706, proc_seq: 8 }, &mut sent);
    sent
}

fn connection(protocol: u8, src: &str, dst: &str) -> Connection {
    Connection { protocol: Protocol(protocol), src: src.parse().ok(), dst: dst.parse().ok() }
}

fn network() -> (NetworkMap, Routes) {
    let nets = |prefixes: &[&str]| prefixes.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>();
    let node = |id, name: &str, addresses: &[&str], os: &str| Node {
        id: NodeId(id),
        stable_id: format!("n{id}EXAMPLE"),
        name: format!("{name}.example.com."),
        addresses: nets(addresses),
        os: os.into(),
        user: (id == 1).then_some(UserId(7)),
        tags: if id == 1 { Vec::new() } else { vec!["tag:router".into()] },
    };
    let phone = node(1, "phone", &["100.64.0.1/32", "fd7a:115c:a1e0::1/128"], "android");
    let router = node(2, "router", &["100.64.0.2/32", "fd7a:115c:a1e0::2/128"], "linux");
    let map = NetworkMap::new(Some(phone), [router], [(UserId(7), "user@example.com".into())]).unwrap();
    (map, Routes::new(nets(&["100.64.0.1/32"]), nets(&["100.64.0.2/32", "10.20.0.0/16", "0.0.0.0/0"]), []))
}
