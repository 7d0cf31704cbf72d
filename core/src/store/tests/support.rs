//! A store in a temporary directory, a file system that fails on request, and a reader that adds everything up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use jiff::Timestamp;
use tempfile::TempDir;

use super::super::{
    fs::{AppendFile, DirEntry, Fs, RealFs},
    *,
};
use crate::clock::ManualClock;

pub(super) fn name() -> StreamName {
    StreamName::new("netlog").unwrap()
}

/// Small limits, so that tests rotate soon.
pub(super) fn small() -> StreamConfig {
    StreamConfig { max_disk_bytes: 64 * 1024, segment_bytes: 4 * 1024, ..StreamConfig::new(name()) }
}

/// A record whose content says which one it is and which does not compress well.
pub(super) fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = number.to_le_bytes().to_vec();
    while bytes.len() < len.max(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len.max(8));
    bytes
}

pub(super) struct Bed {
    pub(super) root: TempDir,
    pub(super) clock: ManualClock,
    pub(super) fs: Arc<FaultFs>,
}

impl Bed {
    pub(super) fn new() -> Self {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        Self { root: tempfile::tempdir().unwrap(), clock, fs: Arc::new(FaultFs::default()) }
    }

    pub(super) fn config(&self) -> StoreConfig {
        StoreConfig {
            root: self.root.path().to_owned(),
            role: Role::Extension,
            clock: Arc::new(self.clock.clone()),
        }
    }

    pub(super) fn try_open(&self, stream: StreamConfig) -> Result<Store, StoreError> {
        Store::open_on(Arc::clone(&self.fs) as Arc<dyn Fs>, self.config(), vec![stream])
    }

    /// Opens a stream in another role.
    pub(super) fn open_as(&self, role: Role, stream: StreamConfig) -> (Store, StreamHandle) {
        let config = StoreConfig { role, ..self.config() };
        let store = Store::open_on(Arc::clone(&self.fs) as Arc<dyn Fs>, config, vec![stream]).unwrap();
        let handle = store.stream(&name()).unwrap();
        (store, handle)
    }

    pub(super) fn dir_of(&self, role: &str) -> PathBuf {
        self.root.path().join(format!("netlog/w-{role}"))
    }

    pub(super) fn open(&self, stream: StreamConfig) -> (Store, StreamHandle) {
        let store = self.try_open(stream).unwrap();
        let handle = store.stream(&name()).unwrap();
        (store, handle)
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.root.path().join("netlog/w-ext")
    }

    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap());
        files
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .filter(|(name, _)| !["LOCK", "TURN", "RESERVE"].contains(&name.as_str()))
            .collect()
    }

    /// The names of files with this extension, oldest first.
    pub(super) fn named(&self, extension: &str) -> Vec<PathBuf> {
        let names = self.files().into_keys().filter(|name| name.ends_with(extension));
        names.map(|name| self.dir().join(name)).collect()
    }

    /// Everything in the directory, the reserve and claims too. Locks are empty.
    pub(super) fn disk_bytes(&self) -> u64 {
        bytes_in(&self.dir())
    }

    /// What a kill at this moment would leave: a copy of the files, without the process.
    pub(super) fn crashed(&self) -> Self {
        let copy = Self::new();
        copy_dir(self.root.path(), copy.root.path());
        copy
    }
}

/// The bytes of all files below a directory.
pub(super) fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => bytes_in(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

/// Copies all files and directories below `from`. Nobody may change them meanwhile.
pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Everything a reader learns from a stream.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// Data records by process and number.
    pub(super) data: BTreeMap<(ProcId, ProcSeq), Vec<u8>>,
    pub(super) reports: Vec<DropReport>,
}

impl Seen {
    pub(super) fn read(&mut self, handle: &StreamHandle, id: &SegmentId) {
        let segment = handle.read(id).unwrap();
        for record in segment.records() {
            match record.kind {
                RecordKind::Data => {
                    let old = self.data.insert((id.proc_id, record.seq), record.payload.to_vec());
                    assert_eq!(old, None, "delivered twice");
                }
                RecordKind::Meta => self.reports.extend(drop_reports(record.payload)),
            }
        }
    }

    pub(super) fn all(handle: &StreamHandle) -> Self {
        let mut seen = Self::default();
        for info in handle.seal().unwrap() {
            seen.read(handle, &info.id);
        }
        seen
    }

    pub(super) fn seqs(&self, proc_id: ProcId) -> BTreeSet<u64> {
        self.data.keys().filter(|(of, _)| *of == proc_id).map(|(_, seq)| seq.get()).collect()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.reports.iter().map(|report| report.count.records).sum()
    }

    pub(super) fn dropped_for(&self, reason: DropReason) -> u64 {
        let of = self.reports.iter().filter(|report| report.reason == reason);
        of.map(|report| report.count.records).sum()
    }

    pub(super) fn reports_cover(&self, proc_id: ProcId, seq: ProcSeq) -> bool {
        let mut ranges = self.reports.iter().filter_map(|report| report.range);
        ranges.any(|range| range.proc_id == proc_id && range.from <= seq && seq <= range.to)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    CreateDirs,
    Lock,
    List,
    Create,
    Read,
    Write,
    Truncate,
    Sync,
    Rename,
    Remove,
}

impl Op {
    pub(super) const ALL: [Self; 10] = [
        Self::CreateDirs,
        Self::Lock,
        Self::List,
        Self::Create,
        Self::Read,
        Self::Write,
        Self::Truncate,
        Self::Sync,
        Self::Rename,
        Self::Remove,
    ];
}

/// Says whether an operation on a file fails, and how.
type Rule = Box<dyn FnMut(Op, &Path) -> Option<io::Error> + Send>;

/// The real file system with a rule for failures, with a size, and with how much a call transfers at a time.
#[derive(Default, Clone)]
pub(super) struct FaultFs {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    /// A directory and the bytes that its files may have together.
    capacity: Option<(PathBuf, u64)>,
    transfer_limit: Option<usize>,
    writes: usize,
    syncs: Vec<PathBuf>,
    on_write: Option<mpsc::Sender<usize>>,
}

impl std::fmt::Debug for FaultFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultFs")
    }
}

impl FaultFs {
    pub(super) fn rule(&self, mut rule: impl FnMut(Op, &Path) -> Option<io::ErrorKind> + Send + 'static) {
        self.rule_errors(move |op, path| rule(op, path).map(Into::into));
    }

    pub(super) fn rule_errors(&self, rule: impl FnMut(Op, &Path) -> Option<io::Error> + Send + 'static) {
        self.state.lock().unwrap().rule = Some(Box::new(rule));
    }

    /// Every operation of this kind fails from now on.
    pub(super) fn fail(&self, op: Op, error: io::ErrorKind) {
        self.rule(move |of, _| (of == op).then_some(error));
    }

    pub(super) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.rule = None;
        state.capacity = None;
    }

    /// From now on all files below `dir` have at most this many bytes together.
    pub(super) fn limit_capacity(&self, dir: &Path, bytes: u64) {
        self.state.lock().unwrap().capacity = Some((dir.to_owned(), bytes));
    }

    /// From now on a call reads or writes at most this many bytes.
    pub(super) fn limit_transfers(&self, bytes: usize) {
        self.state.lock().unwrap().transfer_limit = Some(bytes);
    }

    pub(super) fn writes(&self) -> usize {
        self.state.lock().unwrap().writes
    }

    /// The files for whose data somebody waited.
    pub(super) fn syncs(&self) -> Vec<PathBuf> {
        self.state.lock().unwrap().syncs.clone()
    }

    /// The lengths of the writes to come to segments, as they happen.
    pub(super) fn watch(&self) -> mpsc::Receiver<usize> {
        let (sender, receiver) = mpsc::channel();
        self.state.lock().unwrap().on_write = Some(sender);
        receiver
    }

    fn check(&self, op: Op, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.rule.as_mut().and_then(|rule| rule(op, path)).map_or(Ok(()), Err)
    }

    /// Bytes that a write may add.
    fn space(&self) -> usize {
        let capacity = self.state.lock().unwrap().capacity.clone();
        capacity.map_or(usize::MAX, |(dir, bytes)| bytes.saturating_sub(bytes_in(&dir)) as usize)
    }

    fn file(&self, path: &Path, file: Box<dyn AppendFile>, allocated: u64) -> Box<dyn AppendFile> {
        Box::new(FaultFile { file, fs: self.clone(), path: path.to_owned(), allocated, at: 0 })
    }
}

impl Fs for FaultFs {
    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        self.check(Op::CreateDirs, dir)?;
        RealFs.create_dirs(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<File>> {
        self.check(Op::Lock, path)?;
        RealFs.lock(path)
    }

    fn lock_wait(&self, path: &Path) -> io::Result<File> {
        self.check(Op::Lock, path)?;
        RealFs.lock_wait(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.check(Op::List, dir)?;
        RealFs.list(dir)
    }

    fn subdirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.check(Op::List, dir)?;
        RealFs.subdirs(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        self.check(Op::Create, path)?;
        Ok(self.file(path, RealFs.create(path)?, 0))
    }

    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        self.check(Op::Create, path)?;
        let file = RealFs.overwrite(path)?;
        Ok(self.file(path, file, fs::metadata(path)?.len()))
    }

    fn open(&self, path: &Path) -> io::Result<(Box<dyn Read>, u64)> {
        self.check(Op::Read, path)?;
        let (file, len) = RealFs.open(path)?;
        let limit = self.state.lock().unwrap().transfer_limit.unwrap_or(usize::MAX);
        Ok((Box::new(SlowRead { file, limit }), len))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.state.lock().unwrap().syncs.push(path.to_owned());
        self.check(Op::Sync, path)?;
        RealFs.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Op::Rename, from)?;
        RealFs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check(Op::Remove, path)?;
        RealFs.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }
}

struct SlowRead {
    file: Box<dyn Read>,
    limit: usize,
}

impl Read for SlowRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.limit);
        self.file.read(&mut buffer[..len])
    }
}

#[derive(Debug)]
struct FaultFile {
    file: Box<dyn AppendFile>,
    fs: FaultFs,
    path: PathBuf,
    /// Bytes of the file that have their place on the disk already.
    allocated: u64,
    at: u64,
}

impl AppendFile for FaultFile {
    /// A failing write takes the first third, as a disk that fills up does.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.fs.check(Op::Write, &self.path) {
            // An interrupted call has written nothing.
            if error.kind() != io::ErrorKind::Interrupted {
                self.at += self.file.write(&bytes[..bytes.len() / 3])? as u64;
            }
            return Err(error);
        }
        let owned = self.allocated.saturating_sub(self.at) as usize;
        let room = owned.saturating_add(self.fs.space());
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let limit = self.fs.state.lock().unwrap().transfer_limit.unwrap_or(usize::MAX);
        let len = self.file.write(&bytes[..bytes.len().min(limit).min(room)])?;
        self.at += len as u64;
        if self.path.ends_with("RESERVE") {
            return Ok(len);
        }
        let mut state = self.fs.state.lock().unwrap();
        state.writes += 1;
        if let Some(sender) = &state.on_write {
            let _ = sender.send(len);
        }
        Ok(len)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.fs.check(Op::Truncate, &self.path)?;
        self.at = self.at.min(len);
        self.allocated = self.allocated.min(len);
        self.file.truncate(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fs.state.lock().unwrap().syncs.push(self.path.clone());
        self.fs.check(Op::Sync, &self.path)?;
        self.file.sync()
    }
}

/// Far longer than anything takes; only a broken test gets there.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
