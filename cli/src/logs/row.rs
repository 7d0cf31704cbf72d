//! What a table, a filter and a CSV file see of an entry: flat rows with the same columns for all kinds.
//!
//! An entry makes as many rows as it names things: one per connection, label or drop. Pure.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde_json::Value;
use tuntrail::{
    flow::{ConnectionCounts, Counts, FlowEvent, FlowEventKind, Message, NodeInfo, session::AccessSession},
    hook::Protocol,
    sockstat::Label,
    store::DropReport,
};

use super::entry::{Body, Entry, LogLine, Sockets};

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Window,
    Flow,
    Session,
    Sockets,
    Drop,
    Log,
    Other,
}

impl Kind {
    pub(crate) const NAMES: [&'static str; 7] =
        ["window", "flow", "session", "sockets", "drop", "log", "other"];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Flow => "flow",
            Self::Session => "session",
            Self::Sockets => "sockets",
            Self::Drop => "drop",
            Self::Log => "log",
            Self::Other => "other",
        }
    }
}

/// One row. What a kind does not have is empty.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) stream: String,
    pub(crate) proc_id: Option<u32>,
    pub(crate) proc_seq: Option<u64>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) end: Option<Timestamp>,
    /// The device that recorded it: ID and name.
    pub(crate) node: (String, String),
    /// The node at the other end: ID and name.
    pub(crate) peer: (String, String),
    /// `virtual`, `subnet`, `exit` or `physical`.
    pub(crate) class: &'static str,
    pub(crate) protocol: Option<u8>,
    pub(crate) src: Option<Endpoint>,
    pub(crate) dst: Option<Endpoint>,
    pub(crate) counts: Counts,
    /// Of a flow or a session.
    pub(crate) id: String,
    pub(crate) event: &'static str,
    pub(crate) reason: String,
    /// Of socket statistics, the resource of a session, or the target of a line of our own log.
    pub(crate) label: String,
    pub(crate) cellular: Option<bool>,
    /// How many things the row stands for: dropped records, connections of a session.
    pub(crate) records: Option<u64>,
    pub(crate) text: String,
}

/// An address, with the port where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) ip: IpAddr,
    pub(crate) port: Option<u16>,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip(), port: Some(address.port()).filter(|&port| port != 0) }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// The classes of a window's connections, by name.
pub(crate) fn classes(message: &Message) -> [(&'static str, &[ConnectionCounts]); 4] {
    [
        ("virtual", &message.virtual_traffic),
        ("subnet", &message.subnet_traffic),
        ("exit", &message.exit_traffic),
        ("physical", &message.physical_traffic),
    ]
}

/// The name of a protocol, or its number; empty where it is not known.
pub(crate) fn protocol_name(protocol: u8) -> String {
    match Protocol(protocol) {
        Protocol::UNKNOWN => String::new(),
        Protocol::ICMPV4 => "icmp".into(),
        Protocol::TCP => "tcp".into(),
        Protocol::UDP => "udp".into(),
        Protocol::ICMPV6 => "icmpv6".into(),
        Protocol::SCTP => "sctp".into(),
        Protocol::FRAGMENT => "fragment".into(),
        Protocol(number) => number.to_string(),
    }
}

/// The name of a label of socket statistics.
pub(crate) fn label_name(number: u16) -> String {
    const UPSTREAM: [Label; 13] = [
        Label::CONTROL_CLIENT_AUTO,
        Label::CONTROL_CLIENT_DIALER,
        Label::DERP_HTTP_CLIENT,
        Label::LOGTAIL_LOGGER,
        Label::DNS_FORWARDER_DOH,
        Label::DNS_FORWARDER_UDP,
        Label::NETCHECK_CLIENT,
        Label::PORTMAPPER_CLIENT,
        Label::MAGICSOCK_CONN_UDP4,
        Label::MAGICSOCK_CONN_UDP6,
        Label::NETLOG_LOGGER,
        Label::SOCKSTATLOG_LOGGER,
        Label::DNS_FORWARDER_TCP,
    ];
    let known = UPSTREAM.into_iter().find(|label| label.number() == number).or_else(|| Label::app(number));
    known.map_or_else(|| format!("Label({number})"), |label| label.to_string())
}

/// Bytes of a name in a row: DNS allows 253. An entry makes thousands of rows with the same names, which must not take memory
/// for as many copies of a name without end.
const MAX_NAME: usize = 300;

fn name(text: &str) -> String {
    match text.get(..text.floor_char_boundary(MAX_NAME)).filter(|start| start.len() < text.len()) {
        Some(start) => format!("{start}…"),
        None => text.to_owned(),
    }
}

/// The rows of an entry. A name that is absurdly long is cut in them.
pub(crate) fn rows(entry: &Entry) -> Vec<Row> {
    let base = |kind| Row {
        kind,
        stream: name(&entry.stream),
        proc_id: entry.proc_id,
        proc_seq: entry.proc_seq,
        time: entry.client_time,
        end: None,
        node: Default::default(),
        peer: Default::default(),
        class: "",
        protocol: None,
        src: None,
        dst: None,
        counts: Counts::default(),
        id: String::new(),
        event: "",
        reason: String::new(),
        label: String::new(),
        cellular: None,
        records: None,
        text: String::new(),
    };
    match &entry.body {
        Body::Window(message) => window(message, &base(Kind::Window)),
        Body::Flow(event) => vec![flow(event, base(Kind::Flow))],
        Body::Session(session) => vec![access(session, base(Kind::Session))],
        Body::Sockets(sockets) => labels(sockets, &base(Kind::Sockets)),
        Body::Drops(reports) => reports.iter().map(|report| drop_row(report, base(Kind::Drop))).collect(),
        Body::LostSessions(lost) => {
            let counts = Counts { rx_bytes: lost.dropped_bytes, ..Counts::default() };
            let reason = "too_many_sessions".into();
            vec![Row { records: Some(lost.dropped_sessions), counts, reason, ..base(Kind::Drop) }]
        }
        Body::Log(line) => vec![log(line, base(Kind::Log))],
        Body::Other => vec![Row { text: entry.line.clone(), ..base(Kind::Other) }],
    }
}

fn window(message: &Message, base: &Row) -> Vec<Row> {
    let own = message.src_node.as_ref().map_or("", |node| node.name.as_str());
    let base = Row {
        time: Some(message.start),
        end: Some(message.end),
        node: (name(&message.node_id), name(own)),
        ..base.clone()
    };
    let mut rows = Vec::new();
    for (class, connections) in classes(message) {
        for connection in connections {
            // In physical traffic the peer is the source.
            let far = if class == "physical" { connection.src } else { connection.dst };
            let near = if class == "physical" { connection.dst } else { connection.src };
            let peer = [far, near].into_iter().flatten().find_map(|end| owner(&message.dst_nodes, end.ip()));
            rows.push(Row {
                class,
                protocol: Some(connection.protocol.0).filter(|&number| number != 0),
                src: connection.src.map(Endpoint::from),
                dst: connection.dst.map(Endpoint::from),
                peer: peer.map(|node| (name(&node.node_id), name(&node.name))).unwrap_or_default(),
                counts: connection.counts,
                ..base.clone()
            });
        }
    }
    if rows.is_empty() {
        rows.push(base);
    }
    rows
}

/// The node that has an address.
pub(crate) fn owner(nodes: &[NodeInfo], address: IpAddr) -> Option<&NodeInfo> {
    nodes.iter().find(|node| node.addresses.contains(&address))
}

fn flow(event: &FlowEvent, base: Row) -> Row {
    Row {
        time: Some(event.start),
        end: event.end.or(event.last_packet),
        protocol: Some(event.protocol.0).filter(|&number| number != 0),
        src: Some(event.src.into()),
        dst: Some(event.dst.into()),
        counts: event.counts,
        id: event.id.to_string(),
        event: match event.kind {
            FlowEventKind::Open => "open",
            FlowEventKind::Update => "update",
            FlowEventKind::Close => "close",
        },
        reason: event.reason.map(|reason| format!("{reason:?}").to_lowercase()).unwrap_or_default(),
        ..base
    }
}

fn access(session: &AccessSession, base: Row) -> Row {
    let source = session.source_addr.to_string();
    let source = source.parse().map(|address: SocketAddr| address.into());
    let source = source
        .or_else(|_| session.source_addr.to_string().parse().map(|ip: IpAddr| Endpoint { ip, port: None }));
    let json = serde_json::to_value(session).unwrap_or_default();
    let member =
        |name: &str| json.get(name).map(|value| value.to_string().replace('"', "")).unwrap_or_default();
    Row {
        time: Some(session.started_at),
        end: Some(session.ended_at),
        protocol: Some(session.protocol.0).filter(|&number| number != 0),
        src: source.ok(),
        dst: Some(session.dest_addr.into()),
        counts: Counts { tx_bytes: session.bytes_tx, rx_bytes: session.bytes_rx, ..Counts::default() },
        id: member("sessionId"),
        reason: member("outcome"),
        label: format!("resource {}", member("resourceId")),
        records: Some(session.connections()),
        ..base
    }
}

fn labels(sockets: &Sockets, base: &Row) -> Vec<Row> {
    let time = sockets.start();
    let end = i64::try_from(sockets.duration_ms)
        .ok()
        .and_then(|duration| Timestamp::from_millisecond(sockets.start_ms.checked_add(duration)?).ok());
    let base = Row { time: time.or(base.time), end, cellular: Some(sockets.is_cellular()), ..base.clone() };
    let rows = sockets.bytes.iter().map(|(&label, &(tx_bytes, rx_bytes))| Row {
        label: label_name(label),
        counts: Counts { tx_bytes, rx_bytes, ..Counts::default() },
        ..base.clone()
    });
    rows.collect()
}

/// The severity is the row's event. Further members follow the message, as `name=value`.
fn log(line: &LogLine, base: Row) -> Row {
    let event = match line.severity.as_str() {
        "ERROR" => "error",
        "WARN" => "warn",
        "INFO" => "info",
        "DEBUG" => "debug",
        "TRACE" => "trace",
        _ => "",
    };
    let rest = line.rest.iter().map(|(name, value)| match value {
        Value::String(text) => format!(" {name}={text}"),
        value => format!(" {name}={value}"),
    });
    Row {
        time: line.time().or(base.time),
        event,
        label: name(&line.target),
        text: line.message.clone() + &rest.collect::<String>(),
        ..base
    }
}

fn drop_row(report: &DropReport, base: Row) -> Row {
    let range = report.range.map(|range| format!("{} {}..{}", range.proc_id, range.from, range.to));
    Row {
        reason: report.reason.to_string(),
        records: Some(report.count.records),
        counts: Counts { rx_bytes: report.count.bytes, ..Counts::default() },
        text: range.unwrap_or_else(|| "not numbered any more".into()),
        ..base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<Row> {
        rows(&Entry::parse("netlog", line).unwrap())
    }

    #[test]
    fn a_window_makes_a_row_per_connection_with_the_node_at_its_far_end() {
        let rows = of(r#"{"nodeId":"n1","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z",
            "srcNode":{"nodeId":"n1","name":"phone"},
            "dstNodes":[{"nodeId":"n2","name":"router","addresses":["100.64.0.2"]}],
            "virtualTraffic":[{"proto":6,"src":"100.64.0.1:5","dst":"100.64.0.2:22","txBytes":7}],
            "physicalTraffic":[{"src":"100.64.0.2:0","dst":"203.0.113.9:51820","rxBytes":9}]}"#);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].class, rows[0].peer.1.as_str(), rows[0].node.1.as_str()),
            ("virtual", "router", "phone")
        );
        assert_eq!((rows[1].class, rows[1].peer.0.as_str()), ("physical", "n2"));
        assert_eq!(rows[1].src.unwrap().to_string(), "100.64.0.2");
        assert_eq!(rows[0].dst.unwrap().to_string(), "100.64.0.2:22");
    }

    #[test]
    fn an_endless_name_is_not_copied_into_every_row() {
        let long = "ü".repeat(200_000);
        let rows = of(&format!(
            r#"{{"nodeId":"{long}","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z",
            "srcNode":{{"name":"{long}"}},"dstNodes":[{{"nodeId":"{long}","name":"{long}","addresses":["100.64.0.2"]}}],
            "virtualTraffic":[{{"dst":"100.64.0.2:22"}},{{"dst":"100.64.0.2:23"}}]}}"#
        ));
        let names = [&rows[1].node.0, &rows[1].node.1, &rows[1].peer.0, &rows[1].peer.1];
        for name in names {
            assert!(name.len() <= MAX_NAME + 3 && name.ends_with("ü…"), "{}", name.len());
        }
    }

    #[test]
    fn socket_statistics_make_a_row_per_label_and_drops_one_per_reason() {
        let rows = of(r#"{"t":1700000000123,"d":100,"c":1,"s":{"8":[148,92],"64":[1,2]}}"#);
        let labels: Vec<_> = rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["MagicsockConnUDP4", "Label(64)"]);
        assert_eq!(rows[0].cellular, Some(true));
        let rows = of(
            r#"{"tuntrail":{"drops":[{"reason":"rotation","records":2,"bytes":3,"proc_id":7,"from_seq":1,"to_seq":2},{"reason":"queue_full","records":1,"bytes":1}]}}"#,
        );
        assert_eq!(rows[0].text, "00000007 1..2");
        assert_eq!((rows[1].reason.as_str(), rows[1].records), ("queue_full", Some(1)));
    }

    #[test]
    fn a_line_of_our_own_log_has_severity_target_and_message_and_the_rest_behind_it() {
        let rows = of(r#"{"logtail":{"client_time":"2026-01-02T03:04:06Z","proc_id":7,"proc_seq":1},
            "time":"2026-01-02T03:04:05.123Z","severity":"WARN","message":"upload ended","target":"tuntrail::upload",
            "sent":12,"why":"no network"}"#);
        let row = &rows[0];
        assert_eq!((row.kind.name(), row.event, row.label.as_str()), ("log", "warn", "tuntrail::upload"));
        assert_eq!(row.text, "upload ended sent=12 why=no network");
        assert_eq!(row.time.unwrap().to_string(), "2026-01-02T03:04:05.123Z");
    }
}
