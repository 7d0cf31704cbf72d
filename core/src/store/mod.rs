//! The bounded buffer on disk.
//!
//! Owns one directory per stream and process role under a root that the host chooses:
//!
//! ```text
//! <root>/<stream>/w-<role>/0000000000000017-9f3c21aa.seg     sealed, never changed again
//! <root>/<stream>/w-<role>/0000000000000018-9f3c21aa.open    being appended to
//! <root>/<stream>/w-<role>/LOCK, TURN                        who may write (see Processes)
//! <root>/<stream>/w-<role>/RESERVE                           room for a drop report on a full disk
//! <root>/<stream>/w-<role>/claimed/<other>/….seg             taken over from another role
//! ```
//!
//! File names are generation and process id ([`SegmentId`]); their order is the order of age, and no clock takes
//! part in it. The bytes inside are described in `frame`. Files with other names, directories and symbolic links
//! are never touched.
//!
//! **Append.** [`StreamHandle::append`] copies the record into a bounded queue and returns. One thread per store
//! writes: when 16 KiB wait, or one second after the first waiting record, or when somebody flushes. With nothing
//! to write it sleeps without a timeout. Nothing is on disk before the first record but the directory and its locks.
//!
//! **Seal.** A segment whose next record would not fit is compressed into `<name>.tmp`, which is renamed to
//! `<name>.seg`; then the `.open` file goes. A crash in between leaves both, and the sealed one is used if it is whole.
//! Acknowledging a segment removes its file: there is no cursor that could disagree with the data.
//!
//! **Rotation.** A stream never uses more than its cap. Before a segment is begun for which there may be no
//! room, the oldest ones are dropped: a drop report that says which records go, and repeats the reports they held,
//! is written first; then the files are removed. A crash in between reports twice, never less.
//!
//! **Recovery** runs on the writer thread. Files of earlier processes are read up to the first frame that does
//! not check, sealed, and never appended to. Sealed segments cost one read of 64 bytes.
//!
//! **Processes.** The process of an exclusive role holds `LOCK` while its store is open; a second one is refused.
//! Those of a shared role, such as the app, hold `TURN` while their writer works and nothing while it sleeps
//! ([`Role`]). A process that starts seals what others of its role have open; they go on in a new segment. A role
//! may claim what another has sealed ([`StreamHandle::claim`]): one rename, so that exactly one process has it.
//!
//! **Failure.** On a full disk the stream gives up its own oldest segments: the report of that is written where
//! `RESERVE` kept the space, then they are removed. If a write fails all the same, the newest 64 KiB of records
//! stay in memory and the next record that comes after 1, 2, 4 … 60 minutes triggers another attempt;
//! [`StreamStats::state`] says so. Nothing here panics, and no append waits for a disk.
//!
//! **Promise.** A record whose `flush` returned `Ok` survives the death of the process. Such a record is removed
//! only after it was acknowledged, or after the report that it was dropped is on disk: at whatever moment the
//! process dies, it is delivered, on disk, or inside a drop report there. Records that no flush covered, and
//! reports of records that never got to the disk (a full queue, a degraded stream), are in memory; a death then
//! shows as a gap in the numbers of the process. Power loss may cost the last seconds ([`Durability`]). Files that
//! somebody else deletes are no drops: only the loss of a whole directory is noticed and reported.

mod active;
mod catalog;
mod claim;
mod degrade;
mod dir;
mod error;
mod frame;
mod fs;
mod handle;
mod id;
mod queue;
mod reader;
mod recover;
mod report;
mod reserve;
mod ring;
mod rotate;
mod segment;
mod stats;
mod stream;
mod turn;
mod writer;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use self::{
    dir::Dir,
    fs::{Fs, RealFs},
    queue::{Queue, Shared},
    stream::Stream,
    writer::Writer,
};
pub use self::{
    error::{AppendError, ReadError, StoreError},
    frame::{MAX_PAYLOAD, Record, RecordKind},
    handle::StreamHandle,
    id::{ProcId, ProcSeq, Role, SegmentId, StreamName},
    reader::{FoundSegments, SegmentContent, SegmentFile, SegmentState, find_segments},
    report::{DropCount, DropReason, DropReport, SeqRange, drop_reports},
    segment::{Segment, SegmentInfo, open_segment, parse_segment},
    stats::{DropTotals, StreamState, StreamStats},
};
use crate::clock::SharedClock;

/// What a store needs to know.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The directory of all streams. Created if missing. It should be excluded from backups: a restored copy
    /// would send the same records under the same numbers from a second device.
    pub root: PathBuf,
    /// Which process this is.
    pub role: Role,
    /// The time, for write deadlines and for the pause between attempts of a degraded stream.
    pub clock: SharedClock,
}

/// The limits of one stream.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// Its name and directory.
    pub name: StreamName,
    /// The most bytes its files in this role's directory may have together, the one being written included.
    /// At least four segments and 64 KiB; at least 540 KiB if records of [`MAX_PAYLOAD`] bytes are to fit.
    pub max_disk_bytes: u64,
    /// The size at which a segment is closed, before compression: 4 KiB to 256 KiB. A record that is larger
    /// than this gets a segment of its own.
    pub segment_bytes: u32,
    /// How long the first unwritten record waits for others, at most. Zero writes at once. Every write wakes
    /// the device's flash, so a second is a fair price for what a power loss may cost.
    pub write_delay: Duration,
    /// Whether to wait for the disk.
    pub durability: Durability,
}

impl StreamConfig {
    /// 20 uncompressed segments; compressed, a day of heavy use.
    pub const DEFAULT_MAX_DISK_BYTES: u64 = 5 * 1024 * 1024;
    /// The largest body of an upload, so that one segment makes one request.
    pub const DEFAULT_SEGMENT_BYTES: u32 = 256 * 1024;
    /// For processes with little memory.
    pub const LOW_MEMORY_SEGMENT_BYTES: u32 = 64 * 1024;
    /// Long enough to gather what one event causes, short enough to lose little.
    pub const DEFAULT_WRITE_DELAY: Duration = Duration::from_secs(1);

    /// A stream with the default limits.
    #[must_use]
    pub fn new(name: StreamName) -> Self {
        Self {
            name,
            max_disk_bytes: Self::DEFAULT_MAX_DISK_BYTES,
            segment_bytes: Self::DEFAULT_SEGMENT_BYTES,
            write_delay: Self::DEFAULT_WRITE_DELAY,
            durability: Durability::None,
        }
    }

    /// The longest payload that fits twice into the cap, beside the reports.
    fn max_payload(&self) -> usize {
        let half = usize::try_from(self.max_disk_bytes / 2).unwrap_or(usize::MAX);
        half.saturating_sub(catalog::OVERHEAD).min(MAX_PAYLOAD)
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let invalid = |setting, value, allowed| {
            Err(StoreError::InvalidLimit { stream: self.name.to_string(), setting, value, allowed })
        };
        if !(4 * 1024..=Self::DEFAULT_SEGMENT_BYTES).contains(&self.segment_bytes) {
            return invalid("segment_bytes", self.segment_bytes.into(), "4096 to 262144".into());
        }
        let least = (4 * u64::from(self.segment_bytes)).max(64 * 1024);
        if self.max_disk_bytes < least {
            return invalid("max_disk_bytes", self.max_disk_bytes, format!("at least {least}"));
        }
        Ok(())
    }
}

/// Whether the store waits for the disk. A kill of the process loses nothing that was written in either case;
/// this is about power loss only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Never: the system writes when it likes.
    #[default]
    None,
    /// Once per segment, when it is sealed: its data is on the drive (on Apple systems: on its way there, before
    /// anything later) when it gets its final name. The name itself may follow when the file system next commits,
    /// after seconds; until then the unsealed file is what a power loss leaves. A disk that refuses is not asked
    /// twice; it is counted in [`StreamStats::sync_failures`].
    OnSeal,
}

/// The streams of one process, and the thread that writes them.
///
/// Dropping it is the same as [`shutdown`](Self::shutdown) without the result. Handles may outlive it; they
/// then answer with `Closed`.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    handles: Vec<StreamHandle>,
    dirs: Vec<Dir>,
    writer: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Store {
    /// Opens the streams: creates their directories, locks those of an exclusive [`Role`], and starts the writer thread, which then looks
    /// at the files of earlier processes while records are already accepted.
    ///
    /// Call it from a thread that may wait for a disk.
    ///
    /// # Errors
    ///
    /// An invalid configuration; [`StoreError::InUse`] if an exclusive role has a writer already;
    /// [`StoreError::Directory`] without access to a directory. A full disk is no error here.
    pub fn open(config: StoreConfig, streams: Vec<StreamConfig>) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(RealFs), config, streams)
    }

    fn open_on(fs: Arc<dyn Fs>, config: StoreConfig, streams: Vec<StreamConfig>) -> Result<Self, StoreError> {
        let mut names = BTreeSet::new();
        for stream in &streams {
            stream.check()?;
            if !names.insert(stream.name.clone()) {
                return Err(StoreError::DuplicateStream { stream: stream.name.to_string() });
            }
        }
        let mut dirs = Vec::new();
        let mut holds = Vec::new();
        let mut present = BTreeSet::new();
        for stream in &streams {
            let path = config.root.join(stream.name.as_str());
            let dir = Dir::of_role(Arc::clone(&fs), &path, config.role.as_str());
            holds.push(dir.hold(&config.role)?);
            present.extend(dir.ids()?);
            dirs.push(dir);
        }
        let proc_id = draw_proc_id(&present)?;
        let queues = streams.iter().map(|stream| Queue::new(proc_id, stream.max_payload())).collect();
        let shared = Arc::new(Shared::new(queues));
        let handles = streams
            .iter()
            .zip(&dirs)
            .enumerate()
            .map(|(index, (stream, dir))| {
                StreamHandle::new(Arc::clone(&shared), index, stream.name.clone(), proc_id, dir.clone())
            })
            .collect();
        let generation = present.iter().map(|id| id.generation + 1).max().unwrap_or(1);
        let streams = streams
            .into_iter()
            .zip(dirs.iter().cloned())
            .zip(holds)
            .enumerate()
            .map(|(index, ((stream, dir), hold))| {
                let (role, shared) = (config.role.clone(), Arc::clone(&shared));
                Stream::new(stream, role, (dir, hold), proc_id, generation, shared, index)
            })
            .collect();
        let writer = Writer::spawn(Arc::clone(&shared), streams, config.clock)?;
        Ok(Self { shared, handles, dirs, writer: Some(writer) })
    }

    /// The handle of a stream, or `None` if it was not configured.
    #[must_use]
    pub fn stream(&self, name: &StreamName) -> Option<StreamHandle> {
        self.handles.iter().find(|handle| handle.name() == name).cloned()
    }

    /// Flushes every stream: for a host that goes to the background or stops. All are tried, whatever one of them
    /// answers. Waits for the writer; afterwards it is idle and holds no lock in a shared role, unless more is
    /// appended.
    ///
    /// # Errors
    ///
    /// The first of [`StoreError::Degraded`], [`StoreError::Closed`].
    pub fn flush_all(&self) -> Result<(), StoreError> {
        self.handles.iter().map(StreamHandle::flush).fold(Ok(()), Result::and)
    }

    /// Deletes every record of this role: those in memory, those on disk, claims and drop reports too. For the withdrawal
    /// of consent; stop appending first. The store stays usable, and numbers go on. Waits for the writer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if a file can't be removed (the others are), [`StoreError::Closed`].
    pub fn clear(&self) -> Result<(), StoreError> {
        let mut result = Ok(());
        for handle in &self.handles {
            let cleared = handle.clear();
            result = result.and(cleared);
        }
        result
    }

    /// Writes what is waiting, seals, and ends the writer thread. Waits for it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Degraded`] if records could not be written and are lost.
    pub fn shutdown(mut self) -> Result<(), StoreError> {
        self.end()
    }

    /// Deletes everything as [`clear`](Self::clear) does, ends the writer thread and removes the directories of
    /// this role, if nothing foreign is in them.
    ///
    /// # Errors
    ///
    /// As [`clear`](Self::clear).
    pub fn destroy(mut self) -> Result<(), StoreError> {
        let cleared = self.clear();
        let ended = self.end();
        for dir in &self.dirs {
            dir.remove_if_empty();
        }
        cleared.and(ended)
    }

    fn end(&mut self) -> Result<(), StoreError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        self.shared.close();
        writer.join().unwrap_or(Err(StoreError::Closed))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure; `shutdown` is the way to know.
        let _ = self.end();
    }
}

/// A random id that no file in `present` has.
fn draw_proc_id(present: &BTreeSet<SegmentId>) -> Result<ProcId, StoreError> {
    loop {
        let random = getrandom::u32()
            .map_err(|error| StoreError::System { what: "a random number", error: error.to_string() })?;
        if let Some(id) = ProcId::new(random)
            && present.iter().all(|segment| segment.proc_id != id)
        {
            return Ok(id);
        }
    }
}
