//! What a child is told to do, and where its files are. Parent and child both know these.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tuntrail::{
    client::{ClientConfig, Collections},
    clock::{Clock, Instant, SharedClock, SystemClock},
    consent::Consent,
    store::{Role, StoreConfig, StoreError, StreamConfig, StreamName},
    upload::{Collection, ConfigError, PrivateId},
};

/// The stream that a [`Client`](tuntrail::client::Client) keeps records of windows in: what the harness appends is what
/// a client finds as its own leftovers, sends and deletes.
const STREAM: &str = "netlog";
/// Where a client keeps its log id.
pub(super) const LOG_ID: &str = "log-id";
/// What a kill while the id is being written leaves.
pub(super) const LOG_ID_DRAFT: &str = "log-id.tmp";
/// Where a client writes down that consent was denied.
const DECISION: &str = "CONSENT";
/// The server's name in the collections' names.
const HOST: &str = "kill.test";

/// One child's work. Goes to it as JSON on its command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    /// Where records and identity are kept.
    pub(super) directory: PathBuf,
    /// The server's base URL.
    pub(super) server: String,
    /// The number of the cycle; goes into every record.
    pub(super) cycle: u64,
    /// Decides everything that is left open here.
    pub(super) seed: u64,
    /// The stream's cap, in bytes.
    pub(super) cap_bytes: u64,
    /// How much faster than real time its clock runs. A stream whose disk is full tries again after minutes.
    pub(super) clock_speed: u64,
    pub(super) task: Task,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Task {
    /// Append, flush, rotate and upload.
    Record {
        /// Steps before it ends in order.
        steps: u32,
        /// Of 100 steps so many ask for an upload.
        uploads: u64,
        /// Stop dead at this confirmation of a request, counted from 1.
        stop_at: Option<u32>,
    },
    /// Start a client on what is there, record, upload, and withdraw consent meanwhile.
    Revoke,
    /// Start a client with this answer, and let it finish what a kill has interrupted.
    Finish(Answer),
}

/// What the host says about consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Unknown,
    Granted,
    Denied,
}

impl From<Answer> for Consent {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Unknown => Self::Unknown,
            Answer::Granted => Self::Granted,
            Answer::Denied => Self::Denied,
        }
    }
}

impl Order {
    pub(super) fn stream_config(
        &self,
        segment_bytes: u32,
        write_delay: Duration,
    ) -> Result<StreamConfig, StoreError> {
        Ok(StreamConfig {
            max_disk_bytes: self.cap_bytes,
            segment_bytes,
            write_delay,
            ..StreamConfig::new(stream_name()?)
        })
    }

    pub(super) fn store_config(&self) -> StoreConfig {
        StoreConfig { root: self.directory.clone(), role: Role::Extension, clock: self.clock() }
    }

    pub(super) fn client_config(&self, consent: Consent) -> Result<ClientConfig, ConfigError> {
        let mut config = ClientConfig::new(&self.directory, &self.server)?;
        config.consent = consent;
        config.max_disk_bytes = self.cap_bytes;
        config.collections = Collections::of_host(HOST)?;
        // Repetitions come at once: nobody waits for a real clock here.
        config.upload.max_wait = Duration::ZERO;
        Ok(config)
    }

    pub(super) fn clock(&self) -> SharedClock {
        Arc::new(FastClock { start: SystemClock.now(), speed: self.clock_speed.max(1) })
    }

    /// Whether a denial was written down, and not yet a new grant.
    pub(super) fn is_denied(&self) -> bool {
        std::fs::read_to_string(self.directory.join(DECISION)).is_ok_and(|text| text.contains("denied"))
    }

    /// The id that the client has made, if it has.
    pub(super) fn log_id(&self) -> Option<PrivateId> {
        std::fs::read_to_string(self.directory.join(LOG_ID)).ok()?.trim().parse().ok()
    }
}

pub(super) fn stream_name() -> Result<StreamName, StoreError> {
    StreamName::new(STREAM)
}

pub(super) fn collection() -> Result<Collection, ConfigError> {
    Ok(Collections::of_host(HOST)?.windows)
}

/// The directory of the stream's files.
pub(super) fn stream_directory(root: &Path) -> PathBuf {
    root.join(STREAM)
}

/// The system's clock, running faster.
#[derive(Debug)]
struct FastClock {
    start: Instant,
    speed: u64,
}

impl Clock for FastClock {
    fn now(&self) -> Instant {
        let passed = SystemClock.now().saturating_duration_since(self.start);
        let nanos = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.start + Duration::from_nanos(nanos.saturating_mul(self.speed))
    }

    fn wall(&self) -> jiff::Timestamp {
        SystemClock.wall()
    }
}
