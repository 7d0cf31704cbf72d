//! A writer directory: its files, their names, and what the writer knows of the sealed ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    SegmentId, SegmentInfo, StoreError,
    frame::{FRAME_LEN, HEADER_LEN},
    fs::{AppendFile, Fs},
    report::Ledger,
};

/// What a segment may need beside the frames of its data: header, a report, and the frame of one record.
pub(super) const OVERHEAD: usize = HEADER_LEN + 2 * FRAME_LEN + Ledger::MAX_JSON;

/// Sealed segments a stream keeps at most. 5 MiB hold some 150 compressed segments of 256 KiB, or 500 of 64 KiB;
/// beyond that, starts would cost too many reads of headers.
pub(super) const MAX_FILES: usize = 512;

const LOCK: &str = "LOCK";

/// The three forms of a segment on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Being appended to.
    Open,
    /// Being compressed.
    Temporary,
    /// Final.
    Sealed,
}

impl Form {
    fn extension(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Temporary => "tmp",
            Self::Sealed => "seg",
        }
    }
}

/// A file of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) id: SegmentId,
    pub(super) form: Form,
    pub(super) len: u64,
}

/// A writer directory and the file system it is on.
#[derive(Debug, Clone)]
pub(super) struct Dir {
    fs: Arc<dyn Fs>,
    path: PathBuf,
}

impl Dir {
    pub(super) fn new(fs: Arc<dyn Fs>, path: PathBuf) -> Self {
        Self { fs, path }
    }

    pub(super) fn create_and_lock(&self) -> Result<File, StoreError> {
        self.fs.create_dirs(&self.path).map_err(|source| self.no_access(source))?;
        let path = self.path.join(LOCK);
        match self.fs.lock(&path) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(StoreError::InUse { path: self.path.clone() }),
            Err(source) => Err(StoreError::Directory { path, source }),
        }
    }

    /// The ids of all our files.
    pub(super) fn ids(&self) -> Result<BTreeSet<SegmentId>, StoreError> {
        let found = self.list().map_err(|source| self.no_access(source))?;
        Ok(found.into_iter().map(|file| file.id).collect())
    }

    /// All our files, in no order.
    pub(super) fn list(&self) -> io::Result<Vec<Found>> {
        let entries = self.fs.list(&self.path)?;
        let found = entries.into_iter().filter_map(|entry| {
            let (stem, extension) = entry.name.split_once('.')?;
            let forms = [Form::Open, Form::Temporary, Form::Sealed];
            let form = forms.into_iter().find(|form| form.extension() == extension)?;
            Some(Found { id: SegmentId::parse(stem)?, form, len: entry.len })
        });
        Ok(found.collect())
    }

    pub(super) fn path(&self, id: SegmentId, form: Form) -> PathBuf {
        self.path.join(format!("{id}.{}", form.extension()))
    }

    pub(super) fn create(&self, id: SegmentId, form: Form) -> io::Result<Box<dyn AppendFile>> {
        self.fs.create(&self.path(id, form))
    }

    pub(super) fn read(&self, id: SegmentId, form: Form, limit: usize) -> io::Result<Vec<u8>> {
        self.fs.read(&self.path(id, form), limit)
    }

    pub(super) fn read_sealed(&self, id: SegmentId, limit: usize) -> io::Result<Vec<u8>> {
        self.read(id, Form::Sealed, limit)
    }

    pub(super) fn rename(&self, id: SegmentId, from: Form, to: Form) -> io::Result<()> {
        self.fs.rename(&self.path(id, from), &self.path(id, to))
    }

    /// Removes a file; that it is gone already is as good.
    pub(super) fn remove(&self, id: SegmentId, form: Form) -> io::Result<()> {
        match self.fs.remove_file(&self.path(id, form)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the lock file, the directory and the stream's directory, as far as they are empty.
    pub(super) fn remove_if_empty(&self) {
        // What can't be removed is empty or not ours; nothing depends on it.
        let _ = self.fs.remove_file(&self.path.join(LOCK));
        if self.fs.remove_dir(&self.path).is_ok()
            && let Some(parent) = self.path.parent()
        {
            let _ = self.fs.remove_dir(parent);
        }
    }

    pub(super) fn display(&self) -> &Path {
        &self.path
    }

    fn no_access(&self, source: io::Error) -> StoreError {
        StoreError::Directory { path: self.path.clone(), source }
    }
}

/// A sealed segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) info: SegmentInfo,
    /// Whether drop reports may be in it.
    pub(super) has_meta: bool,
    /// Records found damaged and reported already.
    pub(super) damaged: u32,
    /// In the ledger already; to be removed as soon as the ledger is on disk.
    pub(super) condemned: bool,
    /// Condemned, and could not be removed.
    pub(super) stuck: bool,
}

impl Entry {
    pub(super) fn new(info: SegmentInfo, has_meta: bool) -> Self {
        Self { info, has_meta, damaged: 0, condemned: false, stuck: false }
    }
}

/// The sealed segments of a directory.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    entries: BTreeMap<SegmentId, Entry>,
    disk_bytes: u64,
}

impl Catalog {
    pub(super) fn insert(&mut self, entry: Entry) {
        self.remove(entry.info.id);
        self.disk_bytes += entry.info.disk_bytes;
        self.entries.insert(entry.info.id, entry);
    }

    pub(super) fn remove(&mut self, id: SegmentId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.disk_bytes -= entry.info.disk_bytes;
        Some(entry)
    }

    pub(super) fn get_mut(&mut self, id: SegmentId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    pub(super) fn stuck(&self) -> Vec<SegmentId> {
        self.entries.values().filter(|entry| entry.stuck).map(|entry| entry.info.id).collect()
    }

    /// Bytes and files that stay when the condemned ones are gone.
    pub(super) fn remaining(&self) -> (u64, usize) {
        let kept = self.entries.values().filter(|entry| !entry.condemned || entry.stuck);
        kept.fold((0, 0), |(bytes, files), entry| (bytes + entry.info.disk_bytes, files + 1))
    }

    pub(super) fn oldest(&self) -> Option<Entry> {
        self.entries.values().find(|entry| !entry.condemned).copied()
    }

    pub(super) fn condemned(&self) -> Vec<SegmentId> {
        self.entries.values().filter(|entry| entry.condemned).map(|entry| entry.info.id).collect()
    }

    /// What readers may see, oldest first.
    pub(super) fn list(&self) -> Vec<SegmentInfo> {
        self.entries.values().filter(|entry| !entry.condemned).map(|entry| entry.info).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
