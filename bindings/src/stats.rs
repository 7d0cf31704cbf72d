//! What a client has done so far, as plain records.

use std::time::Duration;

use tuntrail::{
    client, clock::Instant, diagnostics::DiagnosticsStats, flow, flow::session, sockstat, store, tunnel,
    upload,
};

use crate::uploads::UploadReport;

/// What a client has done so far. All counts are since it started; those of records are since the consent in force was granted,
/// and absent without consent.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct ClientStats {
    /// Flow records.
    pub flows: Option<FlowStats>,
    /// Access sessions, if the configuration has them.
    pub sessions: Option<SessionStats>,
    /// Socket statistics, while they are recorded.
    pub sockets: Option<SocketStatsTotals>,
    /// The records on disk.
    pub store: Option<StoreStats>,
    /// The running tunnel, or the last one.
    pub tunnel: Option<TunnelStats>,
    /// Uploads.
    pub uploads: Option<UploaderStats>,
    /// The SDK's own log, if this client has its files.
    pub log: Option<LogStats>,
    /// Events for the listener.
    pub events: EventStats,
}

/// Packets and bytes of one kind of traffic, IP headers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct Traffic {
    /// Connections, counted anew in each window.
    pub flows: u64,
    /// Packets from this device.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets to this device.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
}

/// Flow records. Counts cover the windows that have ended.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct FlowStats {
    /// Records of windows.
    pub records: u64,
    /// Between this device and other nodes.
    pub virtual_traffic: Traffic,
    /// Through subnet routers.
    pub subnet_traffic: Traffic,
    /// Through exit nodes. Counted in any case, recorded as the policy says.
    pub exit_traffic: Traffic,
    /// Of unknown kind, undecodable packets among it.
    pub unknown_traffic: Traffic,
    /// The tunnel's own datagrams.
    pub physical_traffic: Traffic,
    /// Exit and unknown traffic of which nothing is recorded, because exit flows are off.
    pub withheld: Traffic,
    /// Packets of connections that found no room in the table; counted in the sums of their kind.
    pub overflow_packets: u64,
    /// Events of single flows that were recorded.
    pub flow_events: u64,
}

/// Access sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct SessionStats {
    /// Started.
    pub started: u64,
    /// Active now.
    pub active: u64,
    /// Recorded, consolidated.
    pub records: u64,
    /// Records given up because too many waited.
    pub dropped: u64,
}

/// Socket statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct SocketStatsTotals {
    /// Events recorded.
    pub events: u64,
    /// Their bytes of JSON.
    pub event_bytes: u64,
}

/// The records on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct StoreStats {
    /// Windows.
    pub windows: StreamStats,
    /// Events of single flows.
    pub flows: StreamStats,
    /// Access sessions.
    pub sessions: StreamStats,
    /// Socket statistics.
    pub sockets: StreamStats,
}

/// One kind of record on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct StreamStats {
    /// Records taken for writing by this process.
    pub appended: u64,
    /// Records given up, of this and of earlier processes. Each is in a drop report.
    pub dropped: u64,
    /// Bytes of files.
    pub disk_bytes: u64,
    /// The disk refuses to take records; the newest are kept in memory.
    pub degraded: bool,
}

/// A tunnel.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct TunnelStats {
    /// Inner packets sent.
    pub tx_packets: u64,
    /// Their bytes, IP headers included.
    pub tx_bytes: u64,
    /// Inner packets received.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// WireGuard sessions made.
    pub sessions: u64,
    /// Handshakes given up after 90 s without an answer.
    pub gave_up: u64,
    /// Inner packets that could not be sent: no peer, no endpoint, no session in time, or too large.
    pub dropped_outgoing: u64,
    /// Datagrams that were not accepted: malformed, forged, replayed or of nobody that we know.
    pub dropped_incoming: u64,
    /// The TUN device has ended: nothing is carried any more.
    pub device_ended: bool,
    /// One per peer, in the order of the configuration.
    pub peers: Vec<PeerStats>,
}

/// One peer of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct PeerStats {
    /// Who.
    pub public_key: String,
    /// Where it was last heard from, as `address:port`.
    pub endpoint: Option<String>,
    /// Since the newest session was made.
    pub since_handshake: Option<Duration>,
    /// Bytes of datagrams sent.
    pub tx_bytes: u64,
    /// Bytes of datagrams received.
    pub rx_bytes: u64,
}

/// Uploads.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct UploaderStats {
    /// One runs or is about to.
    pub running: bool,
    /// Held up by `Client.pauseUploads`.
    pub paused: bool,
    /// Uploads that have ended.
    pub uploads: u64,
    /// Of them, those that did not deliver everything.
    pub failed: u64,
    /// Records that the server has confirmed.
    pub sent_records: u64,
    /// Bytes of all requests, repetitions included.
    pub wire_bytes: u64,
    /// How the last one ended.
    pub last_report: Option<UploadReport>,
}

/// The SDK's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct LogStats {
    /// Lines logged.
    pub lines: u64,
    /// Lines written to files.
    pub written: u64,
    /// Lines lost because too many waited, or the disk refused them.
    pub lost: u64,
}

/// Events for the listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, uniffi::Record)]
pub struct EventStats {
    /// Calls that returned.
    pub delivered: u64,
    /// Calls that threw.
    pub failed: u64,
    /// Events dropped because the listener was too slow.
    pub dropped: u64,
}

/// What an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct ExportReport {
    /// Records of all kinds.
    pub records: u64,
    /// Parts that could not be read, or made room for newer ones meanwhile.
    pub unreadable: u64,
    /// Files of the SDK's own log.
    pub log_files: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
}

impl ClientStats {
    pub(crate) fn new(stats: client::ClientStats, events: EventStats, now: Instant) -> Self {
        Self {
            flows: stats.flows.map(Into::into),
            sessions: stats.sessions.map(Into::into),
            sockets: stats.sockets.map(Into::into),
            store: stats.store.map(Into::into),
            tunnel: stats.tunnel.map(|tunnel| TunnelStats::new(tunnel, now)),
            uploads: stats.uploads.map(Into::into),
            log: stats.diagnostics.map(Into::into),
            events,
        }
    }
}

impl From<flow::ClassStats> for Traffic {
    fn from(stats: flow::ClassStats) -> Self {
        let flow::Counts { tx_packets, tx_bytes, rx_packets, rx_bytes } = stats.counts;
        Self { flows: stats.flows, tx_packets, tx_bytes, rx_packets, rx_bytes }
    }
}

impl From<flow::FlowStats> for FlowStats {
    fn from(stats: flow::FlowStats) -> Self {
        Self {
            records: stats.records,
            virtual_traffic: stats.virtual_traffic.into(),
            subnet_traffic: stats.subnet_traffic.into(),
            exit_traffic: stats.exit_traffic.into(),
            unknown_traffic: stats.unknown_traffic.into(),
            physical_traffic: stats.physical_traffic.into(),
            withheld: stats.withheld.into(),
            overflow_packets: stats.overflow_packets,
            flow_events: stats.lifecycle.events,
        }
    }
}

impl From<session::SessionStats> for SessionStats {
    fn from(stats: session::SessionStats) -> Self {
        Self {
            started: stats.started,
            active: stats.active as u64,
            records: stats.sent,
            dropped: stats.dropped.sessions,
        }
    }
}

impl From<sockstat::SocketStatsTotals> for SocketStatsTotals {
    fn from(totals: sockstat::SocketStatsTotals) -> Self {
        Self { events: totals.events, event_bytes: totals.event_bytes }
    }
}

impl From<client::StoreStats> for StoreStats {
    fn from(stats: client::StoreStats) -> Self {
        Self {
            windows: stats.windows.into(),
            flows: stats.flows.into(),
            sessions: stats.sessions.into(),
            sockets: stats.sockets.into(),
        }
    }
}

impl From<store::StreamStats> for StreamStats {
    fn from(stats: store::StreamStats) -> Self {
        Self {
            appended: stats.appended,
            dropped: stats.dropped.total().records,
            disk_bytes: stats.disk_bytes,
            degraded: matches!(stats.state, store::StreamState::Degraded { .. }),
        }
    }
}

impl TunnelStats {
    fn new(stats: tunnel::TunnelStats, now: Instant) -> Self {
        let drops = stats.drops;
        let outgoing =
            [drops.no_peer, drops.no_endpoint, drops.too_large, drops.staged_full, drops.staged_expired];
        let incoming = [
            drops.malformed,
            drops.unknown_peer,
            drops.too_many_handshakes,
            drops.invalid,
            drops.replayed,
            drops.no_session,
            drops.bad_inner,
            drops.wrong_source,
        ];
        Self {
            tx_packets: stats.carried.tx_packets,
            tx_bytes: stats.carried.tx_bytes,
            rx_packets: stats.carried.rx_packets,
            rx_bytes: stats.carried.rx_bytes,
            sessions: stats.events.sessions,
            gave_up: stats.events.gave_up,
            dropped_outgoing: outgoing.into_iter().sum(),
            dropped_incoming: incoming.into_iter().sum(),
            device_ended: stats.device_ended,
            peers: stats.peers.into_iter().map(|peer| PeerStats::new(peer, now)).collect(),
        }
    }
}

impl PeerStats {
    fn new(peer: tunnel::PeerStats, now: Instant) -> Self {
        Self {
            public_key: peer.public_key.to_string(),
            endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
            since_handshake: peer.last_handshake.map(|at| now.saturating_duration_since(at)),
            tx_bytes: peer.tx_bytes,
            rx_bytes: peer.rx_bytes,
        }
    }
}

impl From<upload::UploadStats> for UploaderStats {
    fn from(stats: upload::UploadStats) -> Self {
        Self {
            running: stats.state == upload::UploadState::Running,
            paused: stats.state == upload::UploadState::Paused,
            uploads: stats.passes,
            failed: stats.failed_passes,
            sent_records: stats.sent_records,
            wire_bytes: stats.wire_bytes,
            last_report: stats.last_report.map(Into::into),
        }
    }
}

impl From<DiagnosticsStats> for LogStats {
    fn from(stats: DiagnosticsStats) -> Self {
        Self { lines: stats.lines, written: stats.written, lost: stats.lost }
    }
}

impl From<client::ExportReport> for ExportReport {
    fn from(report: client::ExportReport) -> Self {
        Self {
            records: report.records,
            unreadable: report.unreadable,
            log_files: report.log_files,
            bytes: report.bytes,
        }
    }
}
