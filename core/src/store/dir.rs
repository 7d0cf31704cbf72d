//! A writer directory: its files, their names, and who may change them.
//!
//! ```text
//! w-<role>/LOCK                    held for life by the process of an exclusive role
//! w-<role>/TURN                    held by whoever changes files at this moment, if the role is shared
//! w-<role>/RESERVE                 room for a drop report on a full disk
//! w-<role>/<id>.seg .open .tmp     segments
//! w-<role>/claimed/<other>/<id>.seg   taken over from another role
//! ```

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Role, SegmentId, StoreError,
    active::write_all,
    fs::{AppendFile, Fs, read},
};

/// Says that a process of an exclusive role lives.
const LOCK: &str = "LOCK";
/// Says that somebody is at work: for a shared role, during a turn of the writer; for any, while it is opened or
/// claimed from, so that neither takes the other's short hold of `LOCK` for that of a living process.
const TURN: &str = "TURN";
const RESERVE: &str = "RESERVE";
const CLAIMED: &str = "claimed";

/// The three forms of a segment on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// A segment file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) id: SegmentId,
    pub(super) form: Form,
    pub(super) len: u64,
}

/// How the processes of a role keep out of each other's way.
#[derive(Debug)]
pub(super) enum Hold {
    /// One process has the directory to itself, as long as it keeps this lock.
    Exclusive { _lock: File },
    /// Any number of processes take turns. The lock of this one's turn, if it has it.
    Shared { turn: Option<File> },
}

impl Hold {
    /// Whether files may be changed now.
    pub(super) fn is_held(&self) -> bool {
        !matches!(self, Self::Shared { turn: None })
    }
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

    pub(super) fn of_role(fs: Arc<dyn Fs>, stream: &Path, role: &str) -> Self {
        Self::new(fs, stream.join(format!("w-{role}")))
    }

    /// The directory of another role of the same stream.
    pub(super) fn of_other(&self, role: &str) -> Self {
        let stream = self.path.parent().unwrap_or(&self.path);
        Self::of_role(Arc::clone(&self.fs), stream, role)
    }

    /// Where what was claimed from `role` is kept.
    pub(super) fn claimed_from(&self, role: &str) -> Self {
        Self::new(Arc::clone(&self.fs), self.path.join(CLAIMED).join(role))
    }

    /// The roles from which something was claimed.
    pub(super) fn claimed_roles(&self) -> Vec<String> {
        // Most often there is no such directory.
        self.fs.subdirs(&self.path.join(CLAIMED)).unwrap_or_default()
    }

    pub(super) fn create_dirs(&self) -> Result<(), StoreError> {
        self.fs.create_dirs(&self.path).map_err(|source| self.no_access(source))
    }

    /// Creates the directory and takes it for a process of this role.
    pub(super) fn hold(&self, role: &Role) -> Result<Hold, StoreError> {
        self.create_dirs()?;
        let failed = |source| StoreError::Directory { path: self.path.join(LOCK), source };
        // For a shared role this only finds out whether it can be had.
        let _turn = self.lock_turn().map_err(failed)?;
        if role.is_shared() {
            return Ok(Hold::Shared { turn: None });
        }
        match self.fs.lock(&self.path.join(LOCK)) {
            Ok(Some(lock)) => Ok(Hold::Exclusive { _lock: lock }),
            Ok(None) => Err(StoreError::InUse { path: self.path.clone() }),
            Err(source) => Err(failed(source)),
        }
    }

    /// Waits for the turn of this process.
    pub(super) fn lock_turn(&self) -> io::Result<File> {
        self.fs.lock_wait(&self.path.join(TURN))
    }

    /// Both locks, if no process of this role lives or is at work. Dropping the pair gives `LOCK` back first, so that
    /// whoever waits for the turn finds it free.
    pub(super) fn lock_if_idle(&self) -> Option<(File, File)> {
        // Waiting for a turn here could be mutual.
        let turn = self.fs.lock(&self.path.join(TURN)).ok().flatten()?;
        let lock = self.fs.lock(&self.path.join(LOCK)).ok().flatten()?;
        Some((lock, turn))
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
        read(&*self.fs, &self.path(id, form), limit)
    }

    pub(super) fn read_sealed(&self, id: SegmentId, limit: usize) -> io::Result<Vec<u8>> {
        self.read(id, Form::Sealed, limit)
    }

    pub(super) fn sync(&self, id: SegmentId, form: Form) -> io::Result<()> {
        self.fs.sync(&self.path(id, form))
    }

    pub(super) fn rename(&self, id: SegmentId, from: Form, to: Form) -> io::Result<()> {
        self.fs.rename(&self.path(id, from), &self.path(id, to))
    }

    /// Moves a file to another writer directory under the same name.
    pub(super) fn move_to(&self, other: &Self, id: SegmentId, form: Form) -> io::Result<()> {
        self.fs.rename(&self.path(id, form), &other.path(id, form))
    }

    /// Removes a file; that it is gone already is as good.
    pub(super) fn remove(&self, id: SegmentId, form: Form) -> io::Result<()> {
        gone_is_good(self.fs.remove_file(&self.path(id, form)))
    }

    /// The size of the reserve, if there is one.
    pub(super) fn reserve_len(&self) -> Option<u64> {
        self.fs.open(&self.path.join(RESERVE)).ok().map(|(_, len)| len)
    }

    /// Takes up disk space of `len` bytes.
    pub(super) fn create_reserve(&self, len: usize) -> io::Result<()> {
        self.remove_reserve()?;
        let written = self.fs.create(&self.path.join(RESERVE)).and_then(|mut file| {
            // Written, since a file that is only made longer has no space of its own.
            write_all(file.as_mut(), &vec![0; len])
        });
        if written.is_err() {
            // What there is of it is of no use.
            let _ = self.remove_reserve();
        }
        written
    }

    /// The file of the reserve, to be written over.
    pub(super) fn open_reserve(&self) -> io::Result<Box<dyn AppendFile>> {
        self.fs.overwrite(&self.path.join(RESERVE))
    }

    /// Makes the reserve a segment.
    pub(super) fn rename_reserve(&self, id: SegmentId) -> io::Result<()> {
        self.fs.rename(&self.path.join(RESERVE), &self.path(id, Form::Sealed))
    }

    pub(super) fn remove_reserve(&self) -> io::Result<()> {
        gone_is_good(self.fs.remove_file(&self.path.join(RESERVE)))
    }

    /// Removes the directories of claims that are empty.
    pub(super) fn remove_empty_claims(&self) {
        for role in self.claimed_roles() {
            // What can't be removed is not empty, and then still needed.
            let _ = self.fs.remove_dir(&self.path.join(CLAIMED).join(role));
        }
        let _ = self.fs.remove_dir(&self.path.join(CLAIMED));
    }

    /// Removes the locks, the directory and the stream's directory, as far as they are empty.
    pub(super) fn remove_if_empty(&self) {
        // What can't be removed is empty or not ours; nothing depends on it.
        self.remove_empty_claims();
        let _ = self.remove_reserve();
        let _ = self.fs.remove_file(&self.path.join(LOCK));
        let _ = self.fs.remove_file(&self.path.join(TURN));
        if self.fs.remove_dir(&self.path).is_ok()
            && let Some(parent) = self.path.parent()
        {
            let _ = self.fs.remove_dir(parent);
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.fs.list(&self.path).is_ok()
    }

    pub(super) fn display(&self) -> &Path {
        &self.path
    }

    pub(super) fn no_access(&self, source: io::Error) -> StoreError {
        StoreError::Directory { path: self.path.clone(), source }
    }
}

fn gone_is_good(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
