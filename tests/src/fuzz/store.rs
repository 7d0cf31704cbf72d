//! Any bytes as a sequence of operations on a store and accidents to its files, against a map.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tempfile::TempDir;
use tuntrail::{
    clock::ManualClock,
    store::{
        DropReason, DropReport, Durability, ProcId, ReadError, RecordKind, Role, SegmentId, Store,
        StoreConfig, StreamConfig, StreamHandle, StreamName, drop_reports,
    },
};

use super::input::Input;

/// Operations per input: many rotations, and still some dozens of inputs a second.
const MAX_OPS: usize = 200;
const CAP: u64 = 64 * 1024;

/// `data` says what happens to a store of 64 KiB. No record is ever altered; the cap holds; and as long as nobody
/// damages a file, each record is delivered once, or in a drop report, or was deleted on request.
pub fn store_actions(data: &[u8]) {
    let mut input = Input(data);
    let mut run = Run::new(input.byte().unwrap_or(0));
    for _ in 0..MAX_OPS {
        if run.step(&mut input).is_none() {
            break;
        }
    }
    run.finish();
}

/// What is open, and what the world knows.
struct Run {
    root: TempDir,
    clock: ManualClock,
    role: Role,
    durability: Durability,
    open: Option<(Store, StreamHandle)>,
    /// Records that are to be delivered, by process and number.
    expected: BTreeMap<(ProcId, u64), Vec<u8>>,
    delivered: BTreeMap<(ProcId, u64), Vec<u8>>,
    reports: Vec<DropReport>,
    /// Somebody changed a file: what is in it may be lost, and counts are estimates.
    is_damaged: bool,
    next: u64,
}

impl Run {
    fn new(settings: u8) -> Self {
        let durability = if settings & 2 == 0 { Durability::None } else { Durability::OnSeal };
        let mut run = Self {
            root: tempfile::tempdir().expect("a temporary directory"),
            clock: ManualClock::new(Timestamp::UNIX_EPOCH),
            role: if settings & 1 == 0 { Role::Extension } else { Role::App },
            durability,
            open: None,
            expected: BTreeMap::new(),
            delivered: BTreeMap::new(),
            reports: Vec::new(),
            is_damaged: false,
            next: 0,
        };
        run.open = Some(run.open_as(run.role.clone()));
        run
    }

    fn open_as(&self, role: Role) -> (Store, StreamHandle) {
        let name = StreamName::new("netlog").expect("a name");
        let clock = Arc::new(self.clock.clone());
        let config = StoreConfig { root: self.root.path().to_owned(), role, clock };
        let stream = StreamConfig {
            max_disk_bytes: CAP,
            segment_bytes: 4 * 1024,
            durability: self.durability,
            ..StreamConfig::new(name.clone())
        };
        let store = Store::open(config, vec![stream]).expect("a store");
        let handle = store.stream(&name).expect("the stream");
        (store, handle)
    }

    fn handle(&self) -> StreamHandle {
        self.open.as_ref().expect("a store").1.clone()
    }

    /// One operation; `None` at the end of the input.
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match input.below(16)? {
            0..=5 => self.append(input)?,
            6 => self.handle().flush().expect("a disk that works"),
            7 | 8 => self.deliver(&self.handle(), input.below(8)?),
            9 => {
                if let Some(info) = self.handle().seal().expect("an open store").first() {
                    self.handle().discard(&info.id, DropReason::Rejected).expect("a disk that works");
                }
            }
            10 => self.restart(|_| ()),
            11 => self.crash(),
            12 => {
                let (which, at, bit) = (input.byte()?, input.byte()?, input.byte()?);
                self.restart(|root| {
                    damage(root, which, |bytes| {
                        let at = usize::from(at) * 37 % bytes.len().max(1);
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte ^= 1 << (bit % 8);
                        }
                    });
                });
                self.is_damaged = true;
            }
            13 => {
                let (which, len) = (input.byte()?, input.byte()?);
                self.restart(|root| damage(root, which, |bytes| bytes.truncate(usize::from(len) * 16)));
                self.is_damaged = true;
            }
            14 => self.claim(input.byte()? % 2 == 0),
            _ => match input.below(3)? {
                0 => self.clear(),
                1 => self.clock.advance(Duration::from_secs(u64::from(input.byte()?) * 60)),
                _ => {
                    let seconds = i64::from(input.byte()?) * 10_000_000 - 1_000_000_000;
                    self.clock.set_wall(Timestamp::from_second(seconds).expect("a time"));
                }
            },
        }
        Some(())
    }

    fn append(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (count, size) = (input.below(20)? + 1, usize::from(input.byte()?));
        // Most are small; some are larger than a segment.
        let len = if size >= 250 { size * 80 } else { size * 4 };
        let handle = self.handle();
        for _ in 0..count {
            self.next += 1;
            let payload = payload(self.next, len);
            if len > 4 * 1024 {
                // A dozen of them fill the queue.
                handle.flush().expect("a disk that works");
            }
            let seq = handle.append(&payload).expect("room in the queue");
            self.expected.insert((handle.proc_id(), seq.get()), payload);
        }
        handle.flush().expect("a disk that works");
        let used = bytes_in(&self.dir(&self.role));
        assert!(used <= CAP, "{used}");
        Some(())
    }

    /// Reads and acknowledges the oldest segments.
    fn deliver(&mut self, handle: &StreamHandle, count: usize) {
        for info in handle.seal().expect("an open store").into_iter().take(count) {
            if self.read(handle, &info.id) {
                handle.acknowledge(&info.id).expect("a disk that works");
            }
        }
    }

    fn read(&mut self, handle: &StreamHandle, id: &SegmentId) -> bool {
        let segment = match handle.read(id) {
            Ok(segment) => segment,
            Err(error) => {
                assert!(self.is_damaged, "{error}");
                if matches!(error, ReadError::Corrupt { .. }) {
                    handle.discard(id, DropReason::Corrupt).expect("a disk that works");
                }
                return false;
            }
        };
        for record in segment.records() {
            if record.kind == RecordKind::Meta {
                self.reports.extend(drop_reports(record.payload));
                continue;
            }
            let key = (id.proc_id, record.seq.get());
            assert_eq!(self.expected.get(&key).map(Vec::as_slice), Some(record.payload), "altered");
            let old = self.delivered.insert(key, record.payload.to_vec());
            assert!(old.is_none() || self.is_damaged, "delivered twice");
        }
        true
    }

    /// Ends the process, lets something happen to its files, and starts the next one.
    fn restart(&mut self, accident: impl FnOnce(&Path)) {
        if let Some((store, _)) = self.open.take() {
            store.shutdown().expect("a disk that works");
        }
        accident(&self.dir(&self.role));
        self.open = Some(self.open_as(self.role.clone()));
    }

    /// Goes on with what a kill would leave at this moment.
    fn crash(&mut self) {
        self.handle().flush().expect("a disk that works");
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_dir(self.root.path(), copy.path());
        let old = std::mem::replace(&mut self.root, copy);
        self.open = None;
        drop(old);
        self.open = Some(self.open_as(self.role.clone()));
    }

    /// Another role takes over what is sealed, and delivers it or gives it back at its next start.
    fn claim(&mut self, deliver: bool) {
        self.handle().flush().expect("a disk that works");
        let (store, handle) = self.open_as(Role::Service);
        handle.claim(&self.role).expect("a disk that works");
        assert!(bytes_in(&self.dir(&Role::Service)) <= CAP);
        if deliver {
            self.deliver(&handle, usize::MAX);
        }
        store.shutdown().expect("a disk that works");
        drop(self.open_as(Role::Service));
        // What came back is seen, and stays under the cap.
        self.handle().seal().expect("an open store");
    }

    fn clear(&mut self) {
        if let Some((store, _)) = &self.open {
            store.clear().expect("a disk that works");
        }
        assert_eq!(bytes_in(&self.dir(&self.role)), 0);
        // Also what another role may hold.
        let (store, _) = self.open_as(Role::Service);
        store.clear().expect("a disk that works");
        self.expected.clear();
        self.delivered.clear();
        self.reports.clear();
        self.is_damaged = false;
    }

    fn finish(mut self) {
        let handle = self.handle();
        self.deliver(&handle, usize::MAX);
        let (store, service) = self.open_as(Role::Service);
        self.deliver(&service, usize::MAX);
        drop(store);
        if self.is_damaged {
            return;
        }
        let dropped: u64 = self.reports.iter().map(|report| report.count.records).sum();
        assert_eq!(self.delivered.len() as u64 + dropped, self.expected.len() as u64);
        let has_totals = self.reports.iter().any(|report| report.range.is_none());
        for (proc_id, seq) in self.expected.keys() {
            let covers = |report: &DropReport| {
                let range = report.range.filter(|range| range.proc_id == *proc_id);
                range.is_some_and(|range| (range.from.get()..=range.to.get()).contains(seq))
            };
            let known = self.delivered.contains_key(&(*proc_id, *seq)) || self.reports.iter().any(covers);
            assert!(known || has_totals, "{proc_id} {seq} is in no report");
        }
    }

    fn dir(&self, role: &Role) -> PathBuf {
        self.root.path().join("netlog").join(format!("w-{}", role.as_str()))
    }
}

/// Changes the content of one of the segment files in a directory.
fn damage(dir: &Path, which: u8, change: impl FnOnce(&mut Vec<u8>)) {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    files.sort();
    if files.is_empty() {
        return;
    }
    if let Some(path) = files.get(usize::from(which) % files.len()) {
        let mut bytes = fs::read(path).expect("a file");
        change(&mut bytes);
        fs::write(path, bytes).expect("a disk that works");
    }
}

/// A record whose content says which one it is and which does not compress well.
fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = number.to_le_bytes().to_vec();
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| {
        let metadata = entry.metadata().expect("metadata");
        if metadata.is_dir() { bytes_in(&entry.path()) } else { metadata.len() }
    };
    entries.map(|entry| size(entry.expect("an entry"))).sum()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
