//! Debug uploads: everything support needs, sent now, under a marker that the user can read out.
//!
//! A request leaves a record in the stream of our own log, with the marker, the user's note and the state of the SDK, and
//! then uploads that stream and whichever others were chosen. Support finds the record by the marker, and by the log ID in it
//! everything else. The record is on disk before the request returns, and the upload outlives the process, as any does.
//!
//! The record names no address, no host and no key; what the user writes in the note is the user's own. Works on the caller's
//! thread, under the client's lock, and waits for the disk, not for the network.

mod note;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::{debug, info, warn};

pub(super) use self::note::MAX_NOTE_INPUT;
use self::note::{MAX_APP_VERSION, MAX_NOTE, Text};
use super::{Client, ClientConfig, ClientError, ClientStats, State, StreamKind, own_log};
use crate::{
    diagnostics::Selection,
    store::StoreError,
    upload::{
        Envelope, IdError, ProgressListener, PublicId, UploadOptions, UploadTicket, encode_trusted_object,
    },
};

/// What the uploader's lines say of it.
const REASON: &str = "debug upload";

/// What a debug upload is to tell and to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugRequest {
    /// What the user has to say about it. Control characters, line ends and what turns the direction of text become spaces;
    /// what is longer than 1 KiB is cut and its length noted; more than 64 KiB are refused. Default: nothing.
    pub note: String,
    /// Which kinds of records are sent: all of each that waits, also what is older than `window`. Segments of a stream leave
    /// in order, oldest first, because a reader takes a number that is missing before one that arrived for a loss. The stream of
    /// our own log is always sent, because the record is in it; its lines only if it is chosen. Default: all.
    pub streams: Vec<StreamKind>,
    /// How far back lines of our own log are sent; older ones wait for who asks for them. Default: `None`, all there are.
    pub window: Option<Duration>,
    /// Lines below `INFO`, too, as far as the filter let them into the log: they may name addresses and hosts. Only for an app
    /// whose user knows that; no remote command can ask for it. Default: false.
    pub verbose: bool,
}

impl Default for DebugRequest {
    fn default() -> Self {
        Self { note: String::new(), streams: StreamKind::ALL.to_vec(), window: None, verbose: false }
    }
}

/// A debug upload on its way.
#[derive(Debug, Clone)]
pub struct DebugUpload {
    /// What the user reads out to support.
    pub marker: DebugMarker,
    /// Its progress, its report, and the way to cancel it. The record stays, and goes with the next upload.
    pub upload: UploadTicket,
}

/// Names one debug upload: `BUG-<log ID>-<UTC time>-<16 random digits>`, as Tailscale's bug reports are named. It gives no
/// access.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DebugMarker(String);

impl DebugMarker {
    fn new(log: PublicId, wall: Timestamp, random: u64) -> Self {
        Self(format!("BUG-{log}-{}-{random:016x}", wall.strftime("%Y%m%d%H%M%SZ")))
    }

    /// The marker as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DebugMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Client {
    /// Uploads what support needs, under a marker that the user can read out: see [`DebugRequest`]. Puts everything recorded
    /// so far and the record of this request on disk, and returns when sending has begun; wait on the ticket for the report.
    /// `progress` is told how the upload proceeds, on the upload thread. If the process is killed before it has ended, the
    /// next start goes on with it.
    ///
    /// If the disk refuses, the record is only in memory, and the upload is tried all the same.
    ///
    /// # Errors
    /// [`ClientError::NoConsent`] without consent, [`ClientError::NoteTooLong`], and when the client is shut down. Nothing is
    /// sent then.
    pub fn request_debug_upload(
        &self,
        request: &DebugRequest,
        progress: Option<ProgressListener>,
    ) -> Result<DebugUpload, ClientError> {
        upload(&self.config, &*self.lock()?, request, progress)
    }
}

/// See [`Client::request_debug_upload`].
pub(super) fn upload(
    config: &ClientConfig,
    state: &State,
    request: &DebugRequest,
    progress: Option<ProgressListener>,
) -> Result<DebugUpload, ClientError> {
    let recording = state.recording.as_ref().ok_or(ClientError::NoConsent(state.consent))?;
    if request.note.len() > MAX_NOTE_INPUT {
        return Err(ClientError::NoteTooLong { bytes: request.note.len() });
    }
    let now = config.clock.wall();
    let random = getrandom::u64().map_err(|_| IdError::Random)?;
    let marker = DebugMarker::new(recording.log_id(), now, random);
    let mut streams = request.streams.clone();
    streams.push(StreamKind::Diagnostics);
    streams.sort_unstable();
    streams.dedup();
    info!(%marker, ?streams, "debug upload asked for");

    state.close_window(recording);
    let since = request.window.map(|window| now.saturating_sub(window).unwrap_or(Timestamp::MIN));
    if request.streams.contains(&StreamKind::Diagnostics) {
        own_log::take(config, recording, Selection { since, verbose: request.verbose });
    }
    let mut stats = state.stats();
    stats.diagnostics = config.diagnostics.as_ref().map(crate::diagnostics::Diagnostics::stats);
    let record = Record {
        time: format!("{now:.3}"),
        severity: "INFO",
        message: format!("user bugreport: {marker}"),
        target: module_path!(),
        marker: marker.as_str(),
        note: Text::new(&request.note, MAX_NOTE),
        app: config.app_version.as_deref().map(|app| Text::new(app, MAX_APP_VERSION).text),
        sdk: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        role: config.role.as_str(),
        consent: "granted",
        since: since.map(|since| format!("{since:.3}")),
        until: format!("{now:.3}"),
        streams: &streams,
        verbose: request.verbose,
        stats: state_of(&stats),
    };
    let json = serde_json::to_vec(&record).map_err(std::io::Error::from)?;
    let mut entry = Vec::new();
    encode_trusted_object(&json, &Envelope { client_time: Some(now), ids: None }, &mut entry);
    recording.own_log().append(&entry)?;
    match recording.flush_store() {
        Err(error @ StoreError::Closed) => return Err(error.into()),
        Err(error) => {
            warn!("the record of a debug upload is only in memory");
            debug!(%error, "the disk refuses");
        }
        Ok(()) => {}
    }
    let streams = streams.iter().map(|kind| kind.stream_name().to_owned()).collect();
    let options = UploadOptions { streams: Some(streams), progress };
    Ok(DebugUpload { upload: recording.uploader().upload(REASON, options), marker })
}

/// The record of a request: a line of our own log, with the members that every line has and more.
#[derive(Debug, Serialize)]
struct Record<'a> {
    time: String,
    severity: &'static str,
    message: String,
    target: &'static str,
    marker: &'a str,
    #[serde(flatten)]
    note: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    sdk: &'static str,
    os: &'static str,
    arch: &'static str,
    role: &'a str,
    consent: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    until: String,
    streams: &'a [StreamKind],
    verbose: bool,
    stats: Value,
}

/// The counts that tell what is wrong with a device: no addresses, no names, no keys.
fn state_of(stats: &ClientStats) -> Value {
    let store = stats.store.as_ref().map(|store| {
        let of = |(kind, stream): (StreamKind, &crate::store::StreamStats)| {
            let figures = json!({
                "appended": stream.appended,
                "dropped": stream.dropped.total().records,
                "pending": stream.pending,
                "disk_bytes": stream.disk_bytes,
                "segments": stream.segments,
                "skipped_files": stream.skipped_files,
                "degraded": matches!(stream.state, crate::store::StreamState::Degraded { .. }),
            });
            (kind.stream_name().to_owned(), figures)
        };
        store.all().map(of).collect::<serde_json::Map<_, _>>()
    });
    let tunnel = stats.tunnel.as_ref().map(|tunnel| {
        json!({
            "peers": tunnel.peers.len(),
            "device_ended": tunnel.device_ended,
            "tx_packets": tunnel.carried.tx_packets,
            "tx_bytes": tunnel.carried.tx_bytes,
            "rx_packets": tunnel.carried.rx_packets,
            "rx_bytes": tunnel.carried.rx_bytes,
            "initiations": tunnel.events.initiations,
            "sessions": tunnel.events.sessions,
            "gave_up": tunnel.events.gave_up,
            "roamed": tunnel.events.roamed,
            "no_peer": tunnel.drops.no_peer,
            "no_endpoint": tunnel.drops.no_endpoint,
            "staged_expired": tunnel.drops.staged_expired,
            "invalid": tunnel.drops.invalid,
            "replayed": tunnel.drops.replayed,
            "wrong_source": tunnel.drops.wrong_source,
            "send_failed": tunnel.io.send_failed,
            "send_too_large": tunnel.io.send_too_large,
            "device_full": tunnel.io.device_full,
            "device_failed": tunnel.io.device_failed,
        })
    });
    let uploads = stats.uploads.as_ref().map(|uploads| {
        json!({
            "passes": uploads.passes,
            "failed_passes": uploads.failed_passes,
            "sent_records": uploads.sent_records,
            "dropped_records": uploads.dropped_records,
            "wire_bytes": uploads.wire_bytes,
            "last_outcome": uploads.last_report.as_ref().map(|report| report.outcome.name()),
        })
    });
    let log = stats.diagnostics.as_ref().map(|log| {
        json!({ "lines": log.lines, "written": log.written, "lost": log.lost, "failed": log.error.is_some() })
    });
    json!({ "store": store, "tunnel": tunnel, "uploads": uploads, "log": log })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_written_as_tailscale_writes_it() {
        let log = PublicId::from_bytes([0xab; 32]);
        let marker = DebugMarker::new(log, "2026-01-02T03:04:05.678Z".parse().unwrap(), 0x1f);
        let expected = format!("BUG-{}-20260102030405Z-000000000000001f", "ab".repeat(32));
        assert_eq!(marker.as_str(), expected);
    }

    #[test]
    fn counts_tell_nothing_about_peers_but_how_many_they_are() {
        let mut stats = ClientStats { tunnel: Some(Default::default()), ..ClientStats::default() };
        let key = crate::tunnel::PrivateKey::generate().unwrap().public_key();
        stats.tunnel.as_mut().unwrap().peers.push(crate::tunnel::PeerStats {
            public_key: key,
            endpoint: Some("192.0.2.77:51820".parse().unwrap()),
            last_handshake: None,
            tx_datagrams: 1,
            tx_bytes: 2,
            rx_datagrams: 3,
            rx_bytes: 4,
        });
        let text = state_of(&stats).to_string();
        assert!(text.contains("\"peers\":1"), "{text}");
        assert!(!text.contains("192.0.2.77") && !text.contains(&key.to_string()), "{text}");
    }
}
