//! Reading a store from outside, as support tools do: never changes a file, takes no lock, and goes on while writers work.
//!
//! [`find_segments`] walks a directory and lists what is there; [`SegmentFile::read`] reads one of them. Both work on the
//! caller's thread, with one segment in memory at a time. A writer that works meanwhile seals and removes files between
//! the two steps, which is no error: a sealed segment stands in for the open one of the same name, and one that is gone
//! is reported as [`ReadError::NotFound`].

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    DropCount, ReadError, Segment, SegmentId,
    frame::flag,
    fs::{RealFs, read},
    segment::{MAX_FILE, read_header, scan_segment},
};

/// A client's directory has a stream, a writer, `claimed` and a role below it; two more for a parent that was named.
const MAX_DEPTH: usize = 6;

/// What a store has in a writer's directory besides segments, and what a seal leaves for a moment.
const OWN_FILES: [&str; 3] = ["LOCK", "TURN", "RESERVE"];

/// Whether a segment is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentState {
    /// Complete: it is never changed again.
    Sealed,
    /// Being appended to, or left by a process that ended.
    Open,
}

/// A segment file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// Where it is.
    pub path: PathBuf,
    /// The stream's name, as far as the directories tell it.
    pub stream: String,
    /// The writer's directory without `w-`; for what it took over from another role `<role>/claimed/<other>`.
    pub writer: String,
    /// Its name.
    pub id: SegmentId,
    /// Whether it was complete when it was found.
    pub state: SegmentState,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub struct FoundSegments {
    /// The segments: by stream, writer, and age.
    pub segments: Vec<SegmentFile>,
    /// Files in writers' directories that are none of a store's.
    pub foreign: Vec<PathBuf>,
    /// Directories that could not be listed.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

/// A segment as it is on disk at this moment.
#[derive(Debug)]
pub struct SegmentContent {
    /// Whether it is complete.
    pub state: SegmentState,
    /// Its valid records; `None` as long as an open one holds none.
    pub segment: Option<Segment>,
    /// Wall-clock milliseconds since 1970 at which it was begun, as its writer believed.
    pub created_ms: i64,
    /// What its directory had ever given up by then.
    pub dropped: DropCount,
    /// Bytes behind the last valid record: a frame that is being written, or damage.
    pub invalid_bytes: usize,
    /// Bytes of the file.
    pub disk_bytes: u64,
}

/// Lists the segments at and below `directory`: a client's directory, a stream's, or a writer's. Links are not followed.
///
/// # Errors
///
/// If `directory` itself can't be listed.
pub fn find_segments(directory: &Path) -> io::Result<FoundSegments> {
    // The names above tell stream and writer, also for ".".
    let directory = fs::canonicalize(directory)?;
    let mut found = FoundSegments::default();
    walk(&directory, 0, &mut found)?;
    found
        .segments
        .sort_by(|a, b| (&a.stream, &a.writer, a.id, a.state).cmp(&(&b.stream, &b.writer, b.id, b.state)));
    // Of a sealed segment and the open one it was made of, the first has all.
    found.segments.dedup_by(|later, kept| later.path.with_extension("") == kept.path.with_extension(""));
    found.foreign.sort();
    Ok(found)
}

fn walk(directory: &Path, depth: usize, found: &mut FoundSegments) -> io::Result<()> {
    let names = Names::of(directory);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            if depth < MAX_DEPTH
                && let Err(error) = walk(&path, depth + 1, found)
                && error.kind() != io::ErrorKind::NotFound
            {
                found.unreadable.push((path, error));
            }
            continue;
        }
        let name = entry.file_name();
        match name.to_str().and_then(segment_name).filter(|_| kind.is_file()) {
            Some((_, None)) => {}
            Some((id, Some(state))) => {
                let (stream, writer) = (names.stream.clone(), names.writer.clone());
                found.segments.push(SegmentFile { path, stream, writer, id, state });
            }
            None if names.is_writer && !OWN_FILES.iter().any(|own| name == *own) => found.foreign.push(path),
            None => {}
        }
    }
    Ok(())
}

/// Reads a file name; without a state for what a seal has in the making.
fn segment_name(name: &str) -> Option<(SegmentId, Option<SegmentState>)> {
    let (stem, extension) = name.split_once('.')?;
    let state = match extension {
        "seg" => Some(SegmentState::Sealed),
        "open" => Some(SegmentState::Open),
        "tmp" => None,
        _ => return None,
    };
    Some((SegmentId::parse(stem)?, state))
}

/// What the names of a directory and those above say about it.
struct Names {
    stream: String,
    writer: String,
    is_writer: bool,
}

impl Names {
    fn of(directory: &Path) -> Self {
        let parts: Vec<_> =
            directory.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let writer_at = parts.iter().rposition(|part| part.starts_with("w-"));
        let (above, below) = parts.split_at(writer_at.unwrap_or(parts.len()));
        // Diagnostics and noted uploads are kept per writer, too.
        let stream = above.last().cloned().unwrap_or_default();
        let is_writer = !below.is_empty() && !matches!(stream.as_str(), "diagnostics" | "upload");
        let writer = below.join("/");
        Self { stream, writer: writer.strip_prefix("w-").unwrap_or(&writer).to_owned(), is_writer }
    }
}

impl SegmentFile {
    /// Reads it as it is now.
    ///
    /// # Errors
    ///
    /// [`ReadError::NotFound`] if it was acknowledged or dropped meanwhile, and those about its content.
    pub fn read(&self) -> Result<SegmentContent, ReadError> {
        self.read_as(self.state)
    }

    fn read_as(&self, state: SegmentState) -> Result<SegmentContent, ReadError> {
        let path = match state {
            SegmentState::Sealed => self.path.with_extension("seg"),
            SegmentState::Open => self.path.with_extension("open"),
        };
        let file = match read(&RealFs, &path, MAX_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match state {
                    SegmentState::Open => self.read_as(SegmentState::Sealed),
                    SegmentState::Sealed => Err(ReadError::NotFound { id: self.id }),
                };
            }
            file => file?,
        };
        if file.is_empty() && state == SegmentState::Open {
            return Ok(SegmentContent {
                state,
                segment: None,
                created_ms: 0,
                dropped: DropCount::default(),
                invalid_bytes: 0,
                disk_bytes: 0,
            });
        }
        let header = read_header(&file)?;
        if header.id != self.id {
            return Err(ReadError::Corrupt { what: "its header names another segment" });
        }
        let (segment, invalid_bytes) = match scan_segment(&file) {
            Ok((segment, tail)) => (Some(segment), tail.len()),
            // Nobody has written a whole record yet.
            Err(ReadError::Corrupt { .. }) if state == SegmentState::Open && !header.has(flag::SEALED) => {
                (None, file.len().saturating_sub(super::frame::HEADER_LEN))
            }
            Err(error) => return Err(error),
        };
        Ok(SegmentContent {
            state,
            segment,
            created_ms: header.created_ms,
            dropped: DropCount { records: header.dropped_records, bytes: header.dropped_bytes },
            invalid_bytes,
            disk_bytes: file.len() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        clock::ManualClock,
        store::{Role, Store, StoreConfig, StreamConfig, StreamName},
    };

    fn open(root: &Path) -> Store {
        let name = StreamName::new("netlog").unwrap();
        let limits =
            StreamConfig { segment_bytes: 4096, max_disk_bytes: 64 * 1024, ..StreamConfig::new(name) };
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        Store::open(StoreConfig { root: root.to_owned(), role: Role::Extension, clock }, vec![limits])
            .unwrap()
    }

    fn append(store: &Store, records: u64) {
        let stream = store.stream(&StreamName::new("netlog").unwrap()).unwrap();
        for number in 0..records {
            stream.append(format!("{{\"n\":{number},\"fill\":\"{}\"}}", "x".repeat(200)).as_bytes()).unwrap();
        }
        stream.flush().unwrap();
    }

    fn records(found: &FoundSegments) -> u32 {
        let read = found.segments.iter().map(|file| file.read().unwrap());
        read.filter_map(|content| content.segment).map(|segment| segment.info().records).sum()
    }

    #[test]
    fn everything_is_read_from_every_level_while_the_writer_has_it_open() {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        append(&store, 50);
        for level in ["", "netlog", "netlog/w-ext"] {
            let found = find_segments(&root.path().join(level)).unwrap();
            assert_eq!(records(&found), 50, "{level}");
            assert!(found.segments.iter().any(|file| file.state == SegmentState::Open));
            assert!(found.segments.iter().any(|file| file.state == SegmentState::Sealed));
            assert!(found.segments.iter().all(|file| file.stream == "netlog" && file.writer == "ext"));
            assert!(found.foreign.is_empty(), "{:?}", found.foreign);
        }
        store.shutdown().unwrap();
    }

    #[test]
    fn a_segment_that_is_sealed_or_removed_after_it_was_found_is_no_damage() {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        append(&store, 3);
        let found = find_segments(root.path()).unwrap();
        assert_eq!(found.segments.len(), 1);
        store.shutdown().unwrap();
        let content = found.segments[0].read().unwrap();
        assert_eq!((content.state, content.segment.unwrap().info().records), (SegmentState::Sealed, 3));
        fs::remove_file(found.segments[0].path.with_extension("seg")).unwrap();
        assert!(matches!(found.segments[0].read(), Err(ReadError::NotFound { .. })));
    }

    #[test]
    fn damage_at_the_end_leaves_what_stands_before_and_strange_files_are_named() {
        let root = tempfile::tempdir().unwrap();
        append(&open(root.path()), 10);
        let file = find_segments(root.path()).unwrap().segments.remove(0);
        let mut bytes = fs::read(&file.path).unwrap();
        let end = bytes.len() - 40;
        bytes[end] ^= 1;
        fs::write(&file.path, bytes).unwrap();
        let lost = file.read().map(|content| content.segment.map(|segment| segment.lost_records()));
        assert!(!matches!(lost, Ok(Some(0))), "{lost:?}");
        fs::write(file.path.with_file_name("notes.txt"), "mine").unwrap();
        assert_eq!(find_segments(root.path()).unwrap().foreign.len(), 1);
    }

    #[test]
    fn a_renamed_segment_is_damage_and_one_without_records_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        append(&store, 3);
        let file = find_segments(root.path()).unwrap().segments.remove(0);
        let other = file.path.with_file_name("00000000000000ff-00000001.seg");
        fs::copy(&file.path, other).unwrap();
        let found = find_segments(root.path()).unwrap();
        assert!(matches!(found.segments[1].read(), Err(ReadError::Corrupt { .. })));
        let empty = file.path.with_file_name("00000000000000fe-00000001.open");
        fs::write(empty, b"").unwrap();
        let found = find_segments(root.path()).unwrap();
        assert!(found.segments[1].read().unwrap().segment.is_none());
        drop(store);
    }
}
