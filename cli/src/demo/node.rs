//! One node of the demo: a client with its store, and a tunnel.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tuntrail::{
    client::{Client, ClientConfig, Collections, DebugMarker, DebugRequest},
    consent::Consent,
    flow::{LifecycleConfig, Message, session::SessionConfig},
    tunnel::{Config, TunDevice, TunnelOptions},
    upload::{UploadOptions, UploadReport},
};

use super::{live::Display, outage, topology::Role};
use crate::{CommandError, text};

/// Shorter than the product's 5 s, so that a short demo has something to show.
const WINDOW: Duration = Duration::from_secs(1);

/// A running node.
pub(super) struct Node {
    role: Role,
    directory: PathBuf,
    client: Client,
}

/// What a node has to say when it has stopped.
pub(super) struct NodeResult {
    /// Bytes of inner packets, both directions.
    pub(super) carried_bytes: u64,
    /// Records of traffic appended to the store.
    pub(super) written: u64,
    /// Records dropped and reported.
    pub(super) dropped: u64,
}

impl Node {
    /// Starts a node. With `impatient` it gives an upload up sooner than a phone would.
    pub(super) fn start(
        role: Role,
        directory: &Path,
        server: &str,
        impatient: bool,
    ) -> Result<Self, CommandError> {
        let directory = directory.join(role.name());
        let mut config = ClientConfig::new(&directory, server)?;
        config.consent = Consent::Granted;
        config.flow.window = WINDOW;
        config.flow.lifecycle = Some(LifecycleConfig::default());
        config.sessions = Some(SessionConfig { rules: role.resources(), ..SessionConfig::default() });
        config.collections = Collections::of_host(SERVER)?;
        if impatient {
            config.upload.request_timeout = outage::REQUEST_TIMEOUT;
            config.upload.max_wait = outage::MAX_WAIT;
        }
        let client = Client::start(config)?;
        client.set_network(role.network_map()?, role.routes())?;
        Ok(Self { role, directory, client })
    }

    pub(super) const fn name(&self) -> &'static str {
        self.role.name()
    }

    pub(super) fn up(&self, config: Config, device: TunDevice) -> Result<(), CommandError> {
        let options =
            TunnelOptions { bind: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..TunnelOptions::default() };
        Ok(self.client.start_tunnel(config, device, options)?)
    }

    pub(super) fn udp_port(&self) -> Result<u16, CommandError> {
        let address = self.client.with_tunnel(|tunnel| tunnel.local_addr().v4).flatten();
        Ok(address.ok_or("the tunnel has no socket")?.port())
    }

    pub(super) fn observe(
        &self,
        observer: impl Fn(&Message) + Send + Sync + 'static,
    ) -> Result<(), CommandError> {
        Ok(self.client.set_observer(observer)?)
    }

    /// Stops the tunnel and puts everything recorded on disk.
    pub(super) fn down(&self) -> Result<(), CommandError> {
        self.client.stop_tunnel();
        Ok(self.client.flush()?)
    }

    /// Copies the records, as they are before the upload, to a directory named after the node below `place`. They can be
    /// read, and uploaded again, from there.
    pub(super) fn copy_records_to(&self, place: &Path) -> io::Result<()> {
        copy_files(&self.directory, &place.join(self.role.name()))
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.client.stats().store.map_or(0, |store| store.disk_bytes())
    }

    /// Sends everything, with a progress bar on a terminal.
    pub(super) fn upload(&self, display: Display) -> Result<UploadReport, CommandError> {
        let bar = if display == Display::Terminal { ProgressBar::no_length() } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{prefix:>8} {bar:40} {pos}/{len} records, {msg}")?);
        bar.set_prefix(self.role.name());
        let shown = bar.clone();
        let options = UploadOptions {
            progress: Some(Box::new(move |progress| {
                shown.set_length(progress.total_records);
                shown.set_position(progress.sent_records);
                shown.set_message(text::bytes(progress.sent_bytes));
            })),
            ..UploadOptions::default()
        };
        let report = self.client.upload_with("demo", options)?.wait();
        bar.finish();
        if display == Display::Lines {
            println!(
                "{:>8}  uploaded {} records in {} requests, {}: {}",
                self.role.name(),
                report.sent_records,
                report.attempts,
                text::bytes(report.sent_bytes),
                report.outcome
            );
        }
        Ok(report)
    }

    /// Sends everything under a marker, as an app does for support.
    pub(super) fn debug_upload(&self, note: &str) -> Result<(DebugMarker, UploadReport), CommandError> {
        let request = DebugRequest { note: note.to_owned(), ..DebugRequest::default() };
        let debug = self.client.request_debug_upload(&request, None)?;
        Ok((debug.marker, debug.upload.wait()))
    }

    pub(super) fn finish(self) -> NodeResult {
        let stats = self.client.shutdown().stats;
        let (tunnel, store) = (stats.tunnel.unwrap_or_default(), stats.store.unwrap_or_default());
        NodeResult {
            carried_bytes: tunnel.carried.tx_bytes + tunnel.carried.rx_bytes,
            // The record of a debug upload tells of no traffic.
            written: store.appended() - store.diagnostics.appended,
            dropped: store.dropped(),
        }
    }
}

/// Names the collections that both nodes' records go to.
pub(super) const SERVER: &str = "demo.example";

/// Copies the directory with all below it.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
