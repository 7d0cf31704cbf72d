//! The client's streams: one per kind of record, in the store and at the server.
//!
//! All of them exist, whatever is being recorded, so that records of an earlier configuration are sent, counted and, if
//! consent is withdrawn, deleted.

use serde::{Deserialize, Serialize};

use super::{ClientConfig, Collections};
use crate::{
    clock::SharedClock,
    store::{Store, StoreConfig, StoreError, StreamConfig, StreamHandle, StreamName, StreamStats},
    upload::Collection,
};

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// Records of windows.
    Windows,
    /// Events of single flows.
    Flows,
    /// Access sessions.
    Sessions,
    /// Socket statistics.
    Sockets,
    /// Our own log, and the records of debug uploads.
    Diagnostics,
}

impl StreamKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Windows, Self::Flows, Self::Sessions, Self::Sockets, Self::Diagnostics];

    /// Its stream's name in the store, in exports and in [`UploadOptions`](crate::upload::UploadOptions).
    #[must_use]
    pub const fn stream_name(self) -> &'static str {
        match self {
            Self::Windows => "netlog",
            Self::Flows => "flowlog",
            Self::Sessions => "sessions",
            Self::Sockets => "sockstats",
            // Not `diagnostics`: the log's own files are in a directory of that name.
            Self::Diagnostics => "clientlog",
        }
    }
}

/// The streams of a store that is open.
pub(super) struct Streams {
    pub(super) windows: StreamHandle,
    pub(super) flows: StreamHandle,
    pub(super) sessions: StreamHandle,
    pub(super) sockets: StreamHandle,
    pub(super) diagnostics: StreamHandle,
}

/// The figures of each kind of record on disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreStats {
    /// Records of windows.
    pub windows: StreamStats,
    /// Events of single flows.
    pub flows: StreamStats,
    /// Access sessions.
    pub sessions: StreamStats,
    /// Socket statistics.
    pub sockets: StreamStats,
    /// Lines of our own log that somebody asked for, and records of debug uploads. The log's files are not part of it: see
    /// [`ClientStats::diagnostics`](super::ClientStats::diagnostics).
    pub diagnostics: StreamStats,
}

impl StoreStats {
    /// Records that were taken for writing.
    #[must_use]
    pub fn appended(&self) -> u64 {
        self.all().map(|(_, stream)| stream.appended).sum()
    }

    /// Records given up, of this and of earlier processes; each is in a drop report.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.all().map(|(_, stream)| stream.dropped.total().records).sum()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.all().map(|(_, stream)| stream.disk_bytes).sum()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (StreamKind, &StreamStats)> {
        let Self { windows, flows, sessions, sockets, diagnostics } = self;
        StreamKind::ALL.into_iter().zip([windows, flows, sessions, sockets, diagnostics])
    }
}

fn name(kind: StreamKind) -> Result<StreamName, StoreError> {
    StreamName::new(kind.stream_name())
}

fn stream_config(config: &ClientConfig, kind: StreamKind) -> Result<StreamConfig, StoreError> {
    Ok(StreamConfig { max_disk_bytes: config.max_disk_bytes, ..StreamConfig::new(name(kind)?) })
}

impl Streams {
    /// Whether what `config` says of them is usable.
    pub(super) fn check(config: &ClientConfig) -> Result<(), StoreError> {
        StreamKind::ALL.into_iter().try_for_each(|kind| stream_config(config, kind)?.check())
    }

    pub(super) fn open(config: &ClientConfig) -> Result<(Store, Self), StoreError> {
        let store = Store::open(
            StoreConfig {
                root: config.directory.clone(),
                role: config.role.clone(),
                clock: SharedClock::clone(&config.clock),
            },
            StreamKind::ALL
                .into_iter()
                .map(|kind| stream_config(config, kind))
                .collect::<Result<_, StoreError>>()?,
        )?;
        let handle = |kind| store.stream(&name(kind)?).ok_or(StoreError::Closed);
        let streams = Self {
            windows: handle(StreamKind::Windows)?,
            flows: handle(StreamKind::Flows)?,
            sessions: handle(StreamKind::Sessions)?,
            sockets: handle(StreamKind::Sockets)?,
            diagnostics: handle(StreamKind::Diagnostics)?,
        };
        Ok((store, streams))
    }

    /// Gives everything in the queues to the disk. All streams try; the first failure is told.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.all().map(StreamHandle::flush).fold(Ok(()), Result::and)
    }

    pub(super) fn stats(&self) -> StoreStats {
        StoreStats {
            windows: self.windows.stats(),
            flows: self.flows.stats(),
            sessions: self.sessions.stats(),
            sockets: self.sockets.stats(),
            diagnostics: self.diagnostics.stats(),
        }
    }

    /// The streams, with the collections they go to.
    pub(super) fn with_collections<'a>(
        &self,
        collections: &'a Collections,
    ) -> Vec<(StreamHandle, &'a Collection)> {
        let Collections { windows, flows, sessions, sockets, diagnostics } = collections;
        self.all().cloned().zip([windows, flows, sessions, sockets, diagnostics]).collect()
    }

    fn all(&self) -> impl Iterator<Item = &StreamHandle> {
        let Self { windows, flows, sessions, sockets, diagnostics } = self;
        [windows, flows, sessions, sockets, diagnostics].into_iter()
    }
}
