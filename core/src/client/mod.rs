//! The assembled SDK.
//!
//! A [`Client`] owns the flow logger, the store and the uploader, and at most one tunnel of ours. It may be shared
//! between threads; every method may be called from any of them. Methods that wait say so. None of them may be called from
//! the tunnel's packet thread.
//!
//! Records exist only under consent: with [`Consent::Unknown`] and [`Consent::Denied`] the tunnel runs, but nothing is
//! counted, written or sent.

mod commands;
mod config;
mod debug;
mod decision;
mod export;
mod identity;
mod own_log;
mod recording;
mod revocation;
mod socket_stats;
mod streams;
mod tunnels;
mod uploads;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thiserror::Error;
use tracing::{debug, info};

pub use self::{
    commands::{CommandError, CommandOutcome},
    config::{ClientConfig, Collections, RemoteCommands, SocketStats},
    debug::{DebugMarker, DebugRequest, DebugUpload},
    export::{Export, ExportReport, ExportStream, segment_entries},
    socket_stats::AtEnd,
    streams::{StoreStats, StreamKind},
};
use self::{recording::Recording, streams::Streams, tunnels::TunnelState, uploads::UploadState};
use crate::{
    consent::Consent,
    diagnostics::{Diagnostics, DiagnosticsStats},
    flow::{
        ExitFlows, FlowConfigError, FlowCounter, FlowStats, Layer, Message,
        session::{self, ResourceRule, SessionConfig, SessionConfigError, SessionStats},
    },
    netmap::{NetworkMap, Routes},
    sockstat::{SocketCounters, SocketStatsError, SocketStatsTotals},
    store::{AppendError, StoreError},
    tunnel::{TunnelError, TunnelStats},
    upload::{self, IdError, PublicId, TaskError, UploadStats},
};

/// Why the client could not start or do what it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The directory for records can't be used.
    #[error("can't keep records: {0}")]
    Store(#[from] StoreError),
    /// The address or collection for uploads is not usable.
    #[error(transparent)]
    Upload(#[from] upload::ConfigError),
    /// The settings of flow records are not usable.
    #[error(transparent)]
    Flow(#[from] FlowConfigError),
    /// The settings of access sessions are not usable.
    #[error(transparent)]
    Session(#[from] SessionConfigError),
    /// There is nothing to set rules for.
    #[error("access sessions are not in the configuration: start the client with `sessions`")]
    NoSessions,
    /// Socket statistics can't be recorded.
    #[error(transparent)]
    Sockets(#[from] SocketStatsError),
    /// There is nothing to switch on or off.
    #[error(
        "socket statistics are recorded at all times, as the configuration says; upload them when you need them"
    )]
    SocketStatsAlways,
    /// The system gives no random numbers for a log ID.
    #[error("can't make a log ID: {0}")]
    Id(#[from] IdError),
    /// A thread or a file of the client's own can't be made.
    #[error("can't start the client: {0}")]
    Io(#[from] std::io::Error),
    /// An export can't be written.
    #[error("can't write the export {}: {source}; name a new file in a folder that exists", path.display())]
    Export {
        /// Where it was to be.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The tunnel can't start.
    #[error("can't start the tunnel: {0}")]
    Tunnel(#[from] TunnelError),
    /// There is a tunnel already; stop it first.
    #[error("a tunnel is running or starting; stop it before starting another")]
    TunnelRunning,
    /// The user has not agreed to recording, so there is nothing that could be sent.
    #[error("consent is {0:?}; records are kept and sent only with Consent::Granted")]
    NoConsent(Consent),
    /// A debug upload's note is no note. It is not repeated here.
    #[error("the note has {bytes} bytes; at most {} are looked at", debug::MAX_NOTE_INPUT)]
    NoteTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The record of a debug upload was not taken.
    #[error("can't note the debug upload: {0}")]
    Append(#[from] AppendError),
    /// A result came for an upload task that nobody has now.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// [`Client::shutdown`] was called before.
    #[error("the client is shut down")]
    ShutDown,
}

/// What a client has done so far. All counts are since the client started; those of records are since the consent in
/// force was granted.
#[derive(Debug, Clone, Default)]
pub struct ClientStats {
    /// Flow records; `None` without consent.
    pub flows: Option<FlowStats>,
    /// Access sessions; `None` without consent or without sessions in the configuration.
    pub sessions: Option<SessionStats>,
    /// Socket statistics; `None` while none are recorded.
    pub sockets: Option<SocketStatsTotals>,
    /// The records on disk; `None` without consent.
    pub store: Option<StoreStats>,
    /// The running tunnel, or the last one.
    pub tunnel: Option<TunnelStats>,
    /// Uploads; `None` without consent.
    pub uploads: Option<UploadStats>,
    /// Our own log lines, if the configuration has a log.
    pub diagnostics: Option<DiagnosticsStats>,
}

/// What is left when a client has shut down.
#[derive(Debug, Clone, Default)]
pub struct ShutdownReport {
    /// The last counts.
    pub stats: ClientStats,
    /// Why the last records could not be written, if so.
    pub error: Option<String>,
}

/// The SDK of one VPN app. See the [module documentation](self).
pub struct Client {
    config: Arc<ClientConfig>,
    state: Arc<Mutex<State>>,
}

type Observer = Arc<dyn Fn(&Message) + Send + Sync>;

struct State {
    consent: Consent,
    /// How often consent was withdrawn or refused: what began before is not finished after.
    refusals: u64,
    network: (NetworkMap, Routes),
    exit_flows: ExitFlows,
    /// In place of the configuration's.
    session_rules: Option<Vec<ResourceRule>>,
    sockets: SocketCounters,
    uploads: UploadState,
    observer: Option<Observer>,
    recording: Option<Recording>,
    tunnel: TunnelState,
    shut_down: bool,
}

impl Client {
    /// Starts the client under `config`. With consent granted, opens the store, which may touch the disk; records of
    /// earlier runs stay where they are and are not sent. With consent denied, deletes what earlier runs left.
    ///
    /// # Errors
    /// When the directory can't be used, another process uses it in the same role, or the upload target is invalid.
    pub fn start(config: ClientConfig) -> Result<Self, ClientError> {
        let exit_flows = config.flow.exit_flows;
        let client = Self {
            state: Arc::new(Mutex::new(State {
                consent: Consent::Unknown,
                refusals: 0,
                network: (NetworkMap::default(), Routes::default()),
                exit_flows,
                session_rules: None,
                sockets: SocketCounters::new(),
                uploads: UploadState::default(),
                observer: None,
                recording: None,
                tunnel: TunnelState::default(),
                shut_down: false,
            })),
            config: Arc::new(config),
        };
        info!(
            version = env!("CARGO_PKG_VERSION"),
            os = std::env::consts::OS,
            arch = std::env::consts::ARCH,
            role = client.config.role.as_str(),
            "client starts"
        );
        client.config.flow.check()?;
        client.config.sessions.as_ref().map_or(Ok(()), SessionConfig::check)?;
        Streams::check(&client.config)?;
        client.set_consent(client.config.consent)?;
        Ok(client)
    }

    /// A counter for an app's own tunnel: one per packet thread and layer. `None` without consent; ask again when
    /// consent has been granted.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn counter(&self, layer: Layer) -> Result<Option<FlowCounter>, ClientError> {
        Ok(self.lock()?.recording.as_ref().map(|recording| recording.counter(layer)))
    }

    /// Sets who owns which address, and which destinations are routed where. Connections are classified by what was
    /// set when their first packet of a window came.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn set_network(&self, map: NetworkMap, routes: Routes) -> Result<(), ClientError> {
        let mut state = self.lock()?;
        if let Some(recording) = &state.recording {
            recording.set_network(map.clone(), routes.clone());
        }
        debug!("network map set");
        state.network = (map, routes);
        Ok(())
    }

    /// Sets what is recorded of exit traffic: less at once, more from the next window on.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn set_exit_flows(&self, exit_flows: ExitFlows) -> Result<(), ClientError> {
        let mut state = self.lock()?;
        if let Some(recording) = &state.recording {
            recording.set_exit_flows(exit_flows);
        }
        state.exit_flows = exit_flows;
        Ok(())
    }

    /// Sets which flows are access sessions of which resource, in place of the rules before. Sessions that are active go on as
    /// what they began as. The rules hold until the client shuts down, whatever becomes of consent.
    ///
    /// # Errors
    /// [`ClientError::NoSessions`] without sessions in the configuration, and when there are too many prefixes.
    pub fn set_session_rules(&self, rules: Vec<ResourceRule>) -> Result<(), ClientError> {
        let mut state = self.lock()?;
        if self.config.sessions.is_none() {
            return Err(ClientError::NoSessions);
        }
        session::check_rules(&rules)?;
        if let Some(recording) = &state.recording {
            recording.set_session_rules(rules.clone())?;
        }
        state.session_rules = Some(rules);
        Ok(())
    }

    /// Calls `observer` with each finished record, after privacy was applied, on the flow logger's thread: for live displays.
    /// It must be quick and must not call the client.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn set_observer(
        &self,
        observer: impl Fn(&Message) + Send + Sync + 'static,
    ) -> Result<(), ClientError> {
        let mut state = self.lock()?;
        let observer: Observer = Arc::new(observer);
        if let Some(recording) = &state.recording {
            recording.set_observer(Arc::clone(&observer));
        }
        state.observer = Some(observer);
        Ok(())
    }

    /// Closes the open window and gives everything recorded so far to the disk: for the moments after which the
    /// process may be killed, such as going to the background. Waits for the disk; does nothing without consent.
    ///
    /// # Errors
    /// When the disk does not take the records; they are kept in memory as far as there is room.
    pub fn flush(&self) -> Result<(), ClientError> {
        let state = self.lock()?;
        let Some(recording) = &state.recording else {
            return Ok(());
        };
        state.close_window(recording);
        Ok(recording.flush_store()?)
    }

    /// The name of this device's log at the server, to be read out to support or to ask for its deletion. It gives no access.
    /// `None` without consent.
    #[must_use]
    pub fn log_id(&self) -> Option<PublicId> {
        self.lock().ok()?.recording.as_ref().map(Recording::log_id)
    }

    /// What the client has done so far.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.lock().map(|state| self.stats_of(&state)).unwrap_or_default()
    }

    /// Stops the tunnel, writes every record, and stops all threads. Sends nothing: records wait on disk for the next
    /// start. Waits for the disk; a running upload is cancelled. Later calls return an empty report.
    pub fn shutdown(&self) -> ShutdownReport {
        let Ok(mut state) = self.lock() else {
            return ShutdownReport::default();
        };
        state.shut_down = true;
        info!("client shuts down");
        state.tunnel.stop();
        let mut stats = self.stats_of(&state);
        let error = state.recording.take().and_then(|recording| recording.finish(&mut stats).err());
        self.close_diagnostics();
        ShutdownReport { stats, error: error.map(|error| error.to_string()) }
    }

    fn stats_of(&self, state: &State) -> ClientStats {
        let diagnostics = self.config.diagnostics.as_ref().map(Diagnostics::stats);
        ClientStats { diagnostics, ..state.stats() }
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, ClientError> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> Result<MutexGuard<'_, State>, ClientError> {
    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if state.shut_down { Err(ClientError::ShutDown) } else { Ok(state) }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl State {
    fn stats(&self) -> ClientStats {
        ClientStats {
            flows: self.recording.as_ref().map(Recording::flow_stats),
            sessions: self.recording.as_ref().and_then(Recording::session_stats),
            sockets: self.recording.as_ref().and_then(|recording| recording.sockets.running_totals()),
            store: self.recording.as_ref().map(Recording::store_stats),
            tunnel: self.tunnel.stats(),
            uploads: self.recording.as_ref().map(|recording| recording.uploader().stats()),
            diagnostics: None,
        }
    }
}
