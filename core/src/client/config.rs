//! What a host app decides about its client.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    clock::{SharedClock, SystemClock},
    consent::Consent,
    diagnostics::Diagnostics,
    flow::{FlowConfig, session::SessionConfig},
    store::{Role, StreamConfig},
    upload::{Collection, ConfigError, PrivateId, UploadConfig},
};

/// Everything a client is told when it starts. Make one with [`ClientConfig::new`] and change the fields that matter.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where records wait to be sent. Should be excluded from backups; is created with mode 0700.
    pub directory: PathBuf,
    /// Which of the app's processes this is; each has its own files.
    pub role: Role,
    /// What the user agreed to. Default: [`Consent::Unknown`], which records nothing.
    pub consent: Consent,
    /// What the records of windows hold and how often they are made; with `lifecycle`, the events of single flows are
    /// recorded, too. Default: windows only.
    pub flow: FlowConfig,
    /// Which flows are recorded as access sessions of which resource. Default: none.
    pub sessions: Option<SessionConfig>,
    /// When socket statistics are recorded. Default: only while [`Client::enable_socket_stats`] says so.
    ///
    /// [`Client::enable_socket_stats`]: super::Client::enable_socket_stats
    pub socket_stats: SocketStats,
    /// Disk budget in bytes of each kind of record, at least 1 MiB. Default: 5 MiB, which hold about 25 MiB of records.
    pub max_disk_bytes: u64,
    /// Names of the kinds of records at the server.
    pub collections: Collections,
    /// Names this device's logs at the server and allows writing to them. `None`: made at random at the first start and kept
    /// in `directory`; a new one after consent was withdrawn.
    pub private_id: Option<PrivateId>,
    /// A second log that the server copies every record to, for example one for all devices of an organisation.
    pub copy_id: Option<PrivateId>,
    /// Where, how and when records are sent. Without a `request_directory` of its own, an upload that a kill interrupts is
    /// noted below `directory`, and goes on at the next start.
    pub upload: UploadConfig,
    /// Our own log lines. The client writes them to files below `directory` while consent is granted, and deletes them with
    /// everything else. Lines of `INFO` and above go with uploads that somebody asks for. Default: none.
    pub diagnostics: Option<Diagnostics>,
    /// Name and version of the app, such as `Example VPN 3.2 (417)`, for the records of debug uploads; cut to 128 bytes.
    /// Default: none.
    pub app_version: Option<String>,
    /// Whose [commands](super::Client::handle_command) are obeyed. Default: nobody's.
    pub remote_commands: RemoteCommands,
    /// The clock. Only tests need another than [`SystemClock`].
    pub clock: SharedClock,
}

impl ClientConfig {
    /// A configuration that keeps records in `directory` and, when asked, sends them to the server at `base_url`
    /// (`https://host[:port][/path]`; plain http only to a loopback address).
    ///
    /// # Errors
    /// [`ConfigError::BaseUrl`] when `base_url` is not such a URL.
    pub fn new(directory: impl AsRef<Path>, base_url: &str) -> Result<Self, ConfigError> {
        let upload = UploadConfig::new(base_url)?;
        Ok(Self {
            directory: directory.as_ref().to_owned(),
            role: Role::Extension,
            consent: Consent::default(),
            flow: FlowConfig::default(),
            sessions: None,
            socket_stats: SocketStats::default(),
            max_disk_bytes: StreamConfig::DEFAULT_MAX_DISK_BYTES,
            collections: Collections::of_host(upload.host())?,
            private_id: None,
            copy_id: None,
            upload,
            diagnostics: None,
            app_version: None,
            remote_commands: RemoteCommands::default(),
            clock: Arc::new(SystemClock),
        })
    }

    /// Where the request for an upload outlives the process.
    pub(super) fn request_directory(&self) -> PathBuf {
        let own = || self.directory.join("upload").join(format!("w-{}", self.role.as_str()));
        self.upload.request_directory.clone().unwrap_or_else(own)
    }

    /// Where our own log is written.
    pub(super) fn diagnostics_directory(&self) -> PathBuf {
        self.directory.join("diagnostics").join(format!("w-{}", self.role.as_str()))
    }
}

/// When socket statistics are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SocketStats {
    /// Only for a time, when somebody asks for it.
    #[default]
    OnDemand,
    /// At all times.
    Always,
}

/// Whose commands the client obeys: requests of support that no user has made. They hold only under
/// [`Consent::Granted`], and send nothing that the user has not agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RemoteCommands {
    /// Nobody's.
    #[default]
    Refused,
    /// Those that the host passes on, for example from a push message.
    Allowed,
    /// Also those in the log server's answers to uploads. The client never asks for them: they come with uploads that are
    /// made anyway. With [`Transport::Host`](crate::upload::Transport::Host) the host passes them on.
    FromServer,
}

/// What the server calls each kind of record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collections {
    /// Records of windows. Default: `tailtraffic.log.` followed by the host of the base URL.
    pub windows: Collection,
    /// Events of single flows. Default: `flows.log.` and the host.
    pub flows: Collection,
    /// Access sessions. Default: `sessions.log.` and the host.
    pub sessions: Collection,
    /// Socket statistics. Default: `sockstats.log.` and the host.
    pub sockets: Collection,
    /// Our own log, and the records of debug uploads. Default: `diagnostics.log.` and the host.
    pub diagnostics: Collection,
}

impl Collections {
    /// The default names for a server: a domain name or an address.
    ///
    /// # Errors
    /// [`ConfigError::Collection`] if no name can be made of the host.
    pub fn of_host(host: &str) -> Result<Self, ConfigError> {
        // An IPv6 address has characters that a collection's name can't have.
        let host: String = host
            .trim_matches(['[', ']'])
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' })
            .collect();
        Ok(Self {
            windows: format!("tailtraffic.log.{host}").parse()?,
            flows: format!("flows.log.{host}").parse()?,
            sessions: format!("sessions.log.{host}").parse()?,
            sockets: format!("sockstats.log.{host}").parse()?,
            diagnostics: format!("diagnostics.log.{host}").parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collection_is_named_after_the_servers_host() {
        for (url, collection) in [
            ("https://logs.example.com/base", "tailtraffic.log.logs.example.com"),
            ("http://127.0.0.1:8765", "tailtraffic.log.127.0.0.1"),
            ("http://[::1]:8765", "tailtraffic.log.--1"),
        ] {
            assert_eq!(ClientConfig::new("/unused", url).unwrap().collections.windows.as_str(), collection);
        }
        assert!(
            ClientConfig::new("/unused", "http://logs.example.com").is_err(),
            "plain http leaves the device"
        );
    }
}
