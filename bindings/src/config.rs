//! What a host decides about its client.

use std::time::Duration;

use tuntrail::{
    client::{self, SocketStats},
    flow::{self, LifecycleConfig, session::SessionConfig},
    store,
    upload::{AutomaticPolicy, Limits, PinnedRoots, PrivateId, Transport, Trust, UploadConfig, UploadPolicy},
};

use crate::{Consent, ExitFlows, RemoteCommands, ResourceRule, TuntrailError};

/// Everything a client is told when it starts. What is left out has the default that it names. Printed, it shows no secrets.
#[derive(Clone, uniffi::Record)]
#[uniffi::export(Display)]
pub struct ClientConfig {
    /// Directory for records, of the app's own and excluded from backups; made if missing. App and extension may share one.
    pub directory: String,
    /// `https://host[:port][/path]` of the log server; `http` for a loopback address only. Nothing is sent on its own
    /// unless [`UploadSettings::automatic`] says so.
    pub base_url: String,
    /// What the user agreed to so far.
    pub consent: Consent,
    /// Which of the app's processes this is; each has its own files. Default: extension.
    #[uniffi(default = None)]
    pub role: Option<Role>,
    /// Flow records. Default: windows of 5 s, exit flows aggregated.
    #[uniffi(default = None)]
    pub flows: Option<FlowSettings>,
    /// Access sessions. Default: none are recorded.
    #[uniffi(default = None)]
    pub sessions: Option<SessionSettings>,
    /// How records are sent. Default: on demand only.
    #[uniffi(default = None)]
    pub uploads: Option<UploadSettings>,
    /// Record socket statistics at all times, instead of only while `Client.enableSocketStats` says so.
    #[uniffi(default = false)]
    pub socket_stats_always: bool,
    /// Disk budget in bytes of each kind of record, at least 1 MiB. Default: 5 MiB, which hold about 25 MiB of records.
    #[uniffi(default = None)]
    pub max_disk_bytes: Option<u64>,
    /// Names of the kinds of records at the server. Default: made of the server's host, see [`Collections`].
    #[uniffi(default = None)]
    pub collections: Option<Collections>,
    /// Names this device's log at the server and allows writing to it: 64 hexadecimal digits, a secret. Default: made at
    /// random at the first grant and kept in `directory`.
    #[uniffi(default = None)]
    pub private_id: Option<String>,
    /// A second log that the server copies every record to: 64 hexadecimal digits, a secret. Default: none.
    #[uniffi(default = None)]
    pub copy_id: Option<String>,
    /// What the SDK's own log has: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), and exceptions such as
    /// `info,tuntrail::tunnel=debug`. It goes to files below `directory` while consent is granted, and to the system's log.
    /// There is one log per process, with one filter: those of the first client that has one, until it is shut down.
    #[uniffi(default = "info")]
    pub log_filter: String,
    /// Name and version of the app, for the records of debug uploads. Default: none.
    #[uniffi(default = None)]
    pub app_version: Option<String>,
    /// Whose commands are obeyed. Default: nobody's.
    #[uniffi(default = None)]
    pub remote_commands: Option<RemoteCommands>,
}

/// Which of the app's processes has a client. Extension and service: one process at a time. App: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Role {
    /// The network extension or the VPN service's process.
    Extension,
    /// The app itself.
    App,
    /// A background service.
    Service,
}

/// How flows are recorded.
#[derive(Debug, Clone, uniffi::Record)]
pub struct FlowSettings {
    /// Length of a window, 1 s to 60 s. Default: 5 s.
    #[uniffi(default = None)]
    pub window: Option<Duration>,
    /// Flows per window and counter, 1 to 65,536; what is beyond is counted in sum. Default: 16,384.
    #[uniffi(default = None)]
    pub max_flows: Option<u32>,
    /// What is recorded of exit traffic. Default: aggregated.
    #[uniffi(default = None)]
    pub exit_flows: Option<ExitFlows>,
    /// Record the begin and end of every single flow, too.
    #[uniffi(default = false)]
    pub events: bool,
    /// Whether records say who the nodes are: names, addresses, users, tags.
    #[uniffi(default = true)]
    pub include_node_info: bool,
}

/// How access sessions are recorded.
#[derive(Debug, Clone, uniffi::Record)]
pub struct SessionSettings {
    /// Which connections are sessions of which resource. Can be changed by `Client.setSessionRules`.
    #[uniffi(default = [])]
    pub rules: Vec<ResourceRule>,
    /// How long finished sessions wait for others before they are written, 1 s to 1 h. Default: 60 s.
    #[uniffi(default = None)]
    pub flush_interval: Option<Duration>,
    /// Silence after which a session without an end, such as one of UDP, is over; 1 s to 1 h. Default: 60 s.
    #[uniffi(default = None)]
    pub silence: Option<Duration>,
}

/// How records are sent.
#[derive(Clone, uniffi::Record)]
#[uniffi::export(Display)]
pub struct UploadSettings {
    /// Headers of every request, such as one for authorisation. Values are treated as secrets.
    #[uniffi(default = [])]
    pub headers: Vec<Header>,
    /// Root certificates in PEM; if given, only servers whose certificate leads to one of them are believed. Default: those
    /// of the platform, on Android those of Mozilla that are built in.
    #[uniffi(default = None)]
    pub root_certificates_pem: Option<String>,
    /// How long a connection may take. Default: 30 s.
    #[uniffi(default = None)]
    pub connect_timeout: Option<Duration>,
    /// How long a request may take in all. Default: 45 s.
    #[uniffi(default = None)]
    pub request_timeout: Option<Duration>,
    /// When the SDK may send by itself. Default: never.
    #[uniffi(default = None)]
    pub automatic: Option<AutomaticUploads>,
    /// The host carries the requests itself, by `Client.nextUploadTask`: for WorkManager or a background URLSession.
    #[uniffi(default = false)]
    pub host_transport: bool,
    /// Smaller requests, for a process that has little memory.
    #[uniffi(default = false)]
    pub low_memory: bool,
}

/// A header of requests. Printed, it hides its value.
#[derive(Clone, uniffi::Record)]
#[uniffi::export(Display)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// When the SDK may send by itself. All conditions must hold; while roaming it never does.
#[derive(Debug, Clone, uniffi::Record)]
pub struct AutomaticUploads {
    /// Begin when there are so many bytes of new records. Default: 128 KiB.
    #[uniffi(default = None)]
    pub min_pending_bytes: Option<u64>,
    /// Or when the oldest new record is so old. Default: 6 h.
    #[uniffi(default = None)]
    pub max_age: Option<Duration>,
    /// Bytes of requests that a day may cost on metered networks.
    #[uniffi(default = 0)]
    pub daily_metered_bytes: u64,
    /// Unless it is being charged, the battery must have more than so many percent.
    #[uniffi(default = 15)]
    pub min_battery_percent: u8,
    /// From the end of one upload to the begin of the next. Default: 15 min.
    #[uniffi(default = None)]
    pub min_interval: Option<Duration>,
}

/// What the server calls each kind of record: letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Collections {
    /// Windows. Default: `tailtraffic.log.` and the server's host.
    #[uniffi(default = None)]
    pub windows: Option<String>,
    /// Events of single flows. Default: `flows.log.` and the host.
    #[uniffi(default = None)]
    pub flows: Option<String>,
    /// Access sessions. Default: `sessions.log.` and the host.
    #[uniffi(default = None)]
    pub sessions: Option<String>,
    /// Socket statistics. Default: `sockstats.log.` and the host.
    #[uniffi(default = None)]
    pub sockets: Option<String>,
    /// The SDK's own log. Default: `diagnostics.log.` and the host.
    #[uniffi(default = None)]
    pub diagnostics: Option<String>,
}

impl ClientConfig {
    /// Everything but the log, which is the process's.
    pub(crate) fn into_core(self) -> Result<client::ClientConfig, TuntrailError> {
        if self.directory.is_empty() {
            return Err(TuntrailError::config("the directory is empty: give a path of the app's own"));
        }
        let mut core = client::ClientConfig::new(&self.directory, &self.base_url)?;
        core.consent = self.consent.into();
        if let Some(role) = self.role {
            core.role = role.into();
        }
        if let Some(flows) = self.flows {
            core.flow = flows.into_core()?;
        }
        core.sessions = self.sessions.map(SessionSettings::into_core).transpose()?;
        if let Some(uploads) = self.uploads {
            uploads.apply(&mut core.upload)?;
        }
        if self.socket_stats_always {
            core.socket_stats = SocketStats::Always;
        }
        if let Some(bytes) = self.max_disk_bytes {
            core.max_disk_bytes = bytes;
        }
        if let Some(collections) = self.collections {
            collections.apply(&mut core.collections)?;
        }
        core.private_id = self.private_id.map(|id| parse_id("private_id", &id)).transpose()?;
        core.copy_id = self.copy_id.map(|id| parse_id("copy_id", &id)).transpose()?;
        core.app_version = self.app_version;
        if let Some(commands) = self.remote_commands {
            core.remote_commands = commands.into();
        }
        Ok(core)
    }
}

/// The text is not repeated: it is a secret.
fn parse_id(field: &str, text: &str) -> Result<PrivateId, TuntrailError> {
    text.parse().map_err(|_| TuntrailError::config(format!("{field} is not 64 hexadecimal digits")))
}

impl FlowSettings {
    fn into_core(self) -> Result<flow::FlowConfig, TuntrailError> {
        let mut core = flow::FlowConfig::default();
        if let Some(window) = self.window {
            core.window = window;
        }
        if let Some(max_flows) = self.max_flows {
            core.max_flows = usize::try_from(max_flows).unwrap_or(usize::MAX);
        }
        if let Some(exit_flows) = self.exit_flows {
            core.exit_flows = exit_flows.into();
        }
        core.lifecycle = self.events.then(LifecycleConfig::default);
        core.include_node_info = self.include_node_info;
        core.check().map_err(TuntrailError::config)?;
        Ok(core)
    }
}

impl SessionSettings {
    fn into_core(self) -> Result<SessionConfig, TuntrailError> {
        let mut core = SessionConfig {
            rules: self.rules.into_iter().map(ResourceRule::into_core).collect::<Result<_, _>>()?,
            ..SessionConfig::default()
        };
        if let Some(flush_interval) = self.flush_interval {
            core.flush_interval = flush_interval;
        }
        if let Some(silence) = self.silence {
            core.silence = silence;
        }
        core.check().map_err(TuntrailError::config)?;
        Ok(core)
    }
}

impl UploadSettings {
    fn apply(self, core: &mut UploadConfig) -> Result<(), TuntrailError> {
        for Header { name, value } in self.headers {
            core.add_header(&name, &value)?;
        }
        if let Some(pem) = self.root_certificates_pem {
            core.trust = Trust::Pinned(PinnedRoots::from_pem(pem.as_bytes())?);
        }
        for (timeout, value) in [
            (&mut core.connect_timeout, self.connect_timeout),
            (&mut core.request_timeout, self.request_timeout),
        ] {
            match value {
                Some(Duration::ZERO) => {
                    return Err(TuntrailError::config("a timeout of zero lets no request finish"));
                }
                Some(value) => *timeout = value,
                None => {}
            }
        }
        if let Some(automatic) = self.automatic {
            core.policy = UploadPolicy::Automatic(automatic.into_core()?);
        }
        if self.host_transport {
            core.transport = Transport::Host;
        }
        if self.low_memory {
            core.limits = Limits::LOW_MEMORY;
        }
        Ok(())
    }
}

impl AutomaticUploads {
    fn into_core(self) -> Result<AutomaticPolicy, TuntrailError> {
        if self.min_battery_percent > 100 {
            let percent = self.min_battery_percent;
            return Err(TuntrailError::config(format!(
                "a charge of {percent} % is out of range: give 0 to 100"
            )));
        }
        let default = AutomaticPolicy::default();
        Ok(AutomaticPolicy {
            min_pending_bytes: self.min_pending_bytes.unwrap_or(default.min_pending_bytes),
            max_age: self.max_age.unwrap_or(default.max_age),
            daily_metered_bytes: self.daily_metered_bytes,
            min_battery_percent: self.min_battery_percent,
            min_interval: self.min_interval.unwrap_or(default.min_interval),
            ..default
        })
    }
}

impl Collections {
    fn apply(self, core: &mut client::Collections) -> Result<(), TuntrailError> {
        let Self { windows, flows, sessions, sockets, diagnostics } = self;
        for (collection, name) in [
            (&mut core.windows, windows),
            (&mut core.flows, flows),
            (&mut core.sessions, sessions),
            (&mut core.sockets, sockets),
            (&mut core.diagnostics, diagnostics),
        ] {
            if let Some(name) = name {
                *collection = name.parse()?;
            }
        }
        Ok(())
    }
}

impl From<Role> for store::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Extension => Self::Extension,
            Role::App => Self::App,
            Role::Service => Self::Service,
        }
    }
}
