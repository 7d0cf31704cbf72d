//! What can go wrong, with the values and what to do about it.

use std::{io, path::PathBuf};

use super::{DropReason, SegmentId};

/// A failure of the store as a whole or of a request to its writer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A stream or role name that can't be a directory name.
    #[error("invalid name {name:?}: use 1 to 32 characters of a-z, 0-9 and '-'")]
    InvalidName {
        /// The name as given.
        name: String,
    },
    /// A limit outside its range.
    #[error("invalid {setting} {value} for stream {stream}: it must be {allowed}")]
    InvalidLimit {
        /// The stream it was set for.
        stream: String,
        /// Name of the setting.
        setting: &'static str,
        /// The value as given.
        value: u64,
        /// The values that are allowed.
        allowed: String,
    },
    /// Two streams of one store have the same name.
    #[error("stream {stream} is configured twice: give every stream a name of its own")]
    DuplicateStream {
        /// The name.
        stream: String,
    },
    /// Another process, or another store in this one, writes in the same role.
    #[error("{} is in use by another writer: run one per role, or give this one a role of its own", path.display())]
    InUse {
        /// The writer directory.
        path: PathBuf,
    },
    /// The directory can't be created, listed or locked.
    #[error("no access to {}: {source}; check that it is writable by this process and unlocked", path.display())]
    Directory {
        /// The directory or the lock file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stream can't write at present. Its newest records are in memory and it tries again by itself.
    #[error(
        "stream {stream} is degraded ({reason}: {error}): its newest records are only in memory; free some space"
    )]
    Degraded {
        /// The stream's name.
        stream: String,
        /// What kind of failure it was.
        reason: DropReason,
        /// What the system said.
        error: io::ErrorKind,
    },
    /// The store was shut down.
    #[error("the store is closed: open it again")]
    Closed,
    /// No thread or no random number could be had from the system.
    #[error("the system refused {what}: {error}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        error: String,
    },
}

/// Why a record was not taken. It is counted and reported in the stream in each case but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The payload is longer than a record may be.
    #[error("a record of {len} bytes is too large: the most is {max}")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The longest payload of this stream, in bytes.
        max: usize,
    },
    /// The writer is behind: the queue holds `records` records of `bytes` bytes.
    #[error("the queue is full ({records} records, {bytes} bytes): the disk is slower than the records come")]
    QueueFull {
        /// Records waiting.
        records: usize,
        /// Their payload bytes.
        bytes: usize,
    },
    /// The store was shut down.
    #[error("the store is closed: open it again")]
    Closed,
}

/// Why a segment can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not there (any more): acknowledged, or dropped to make room.
    #[error("segment {id} is gone: it was acknowledged or dropped to make room")]
    NotFound {
        /// The segment.
        id: SegmentId,
    },
    /// Not a segment, or one whose header is damaged, or one without a single valid record. Discard it with
    /// [`DropReason::Corrupt`].
    #[error("the segment is damaged: {what}")]
    Corrupt {
        /// What does not fit.
        what: &'static str,
    },
    /// Written by a later version of this library. Leave it alone.
    #[error("the segment has format version {version}; this library reads version {}", super::frame::VERSION)]
    Version {
        /// The version it has.
        version: u8,
    },
    /// Encrypted, which this version can't read. Leave it alone.
    #[error("the segment is encrypted, which this version can't read")]
    Encrypted,
    /// The system failed to read the file.
    #[error("can't read the segment: {0}")]
    Io(#[from] io::Error),
}
