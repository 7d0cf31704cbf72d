//! The seam to the file system: everything the store does to files goes through [`Fs`].
//!
//! [`RealFs`] is the one implementation that ships. Tests wrap it to make single operations fail. Files are
//! 0600 and directories 0700 where there are modes. Nothing here follows a symbolic link inside a writer
//! directory, maps memory, or reads times.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

/// A regular file in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirEntry {
    pub(crate) name: String,
    pub(crate) len: u64,
}

/// A file that is only ever appended to, or cut back.
pub(crate) trait AppendFile: fmt::Debug + Send {
    /// Appends some of `bytes`, one system call, and says how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file to `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Orders the data before whatever is done to the file afterwards.
    fn sync(&mut self) -> io::Result<()>;
}

/// Operations on files. Called from the writer thread, except `read` (any thread) and those used at open.
pub(crate) trait Fs: fmt::Debug + Send + Sync {
    /// Creates `dir` and its parents as far as they are missing.
    fn create_dirs(&self, dir: &Path) -> io::Result<()>;

    /// Creates and locks a file until the handle is dropped; `None` if somebody else has locked it.
    fn lock(&self, path: &Path) -> io::Result<Option<File>>;

    /// The same, and waits while somebody else has it.
    fn lock_wait(&self, path: &Path) -> io::Result<File>;

    /// The regular files of a directory whose names are UTF-8, in no order. No links, no directories.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// The directories in a directory whose names are UTF-8, in no order. No links.
    fn subdirs(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a file that must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;

    /// Opens a file that must exist, to write over it from its head. What is not written over stays.
    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;

    /// Opens a file for reading, and says how long it is.
    fn open(&self, path: &Path) -> io::Result<(Box<dyn Read>, u64)>;

    /// Orders a file's data before whatever is done to it afterwards, through a descriptor of its own.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Renames within a file system, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
}

/// Reads at most the first `limit` bytes of a file.
pub(crate) fn read(fs: &dyn Fs, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let (file, len) = fs.open(path)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(limit);
    // One spare byte lets the last read see the end of the file without growing the buffer.
    let mut bytes = Vec::with_capacity(len.saturating_add(1));
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RealFs;

impl Fs for RealFs {
    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<File>> {
        loop {
            let file = open_lock(path)?;
            // Named in full: std's own File::lock is unsupported on Android before Rust 1.98.
            match fs4::FileExt::try_lock(&file) {
                Ok(()) if is_linked(&file)? => return Ok(Some(file)),
                Ok(()) => {}
                Err(fs4::TryLockError::WouldBlock) => return Ok(None),
                Err(fs4::TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn lock_wait(&self, path: &Path) -> io::Result<File> {
        loop {
            let file = open_lock(path)?;
            fs4::FileExt::lock(&file)?;
            if is_linked(&file)? {
                return Ok(file);
            }
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => entries.push(DirEntry { name, len: metadata.len() }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn subdirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.file_type()?.is_dir() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        Ok(Box::new(RealFile(private(&mut options).open(path)?)))
    }

    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let mut options = OpenOptions::new();
        options.write(true);
        Ok(Box::new(RealFile(private(&mut options).open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<(Box<dyn Read>, u64)> {
        let mut options = OpenOptions::new();
        options.read(true);
        let file = private(&mut options).open(path)?;
        let len = file.metadata()?.len();
        Ok((Box::new(file), len))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        // Windows flushes only what may be written.
        options.write(true);
        sync_data(&private(&mut options).open(path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}

#[derive(Debug)]
struct RealFile(File);

impl AppendFile for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        sync_data(&self.0)
    }
}

/// Waits until a file's data is written: fdatasync, and what comes nearest to it elsewhere.
#[cfg(not(target_vendor = "apple"))]
fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// A barrier: the data gets to the drive before what is written later. std's `sync_data` would empty the drive's
/// whole cache, which takes tens of milliseconds.
#[cfg(target_vendor = "apple")]
fn sync_data(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    // SAFETY: the descriptor is open while `file` is borrowed, and the command reads and writes no memory of ours.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_BARRIERFSYNC) };
    if done != -1 {
        return Ok(());
    }
    // Only Apple's own file systems know the barrier.
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOTSUP | libc::ENOTTY | libc::EINVAL) => rustix::fs::fsync(file).map_err(io::Error::from),
        _ => Err(error),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    private(&mut options).open(path)
}

/// Whether a locked file still has its name. If its directory was deleted meanwhile, the lock keeps nobody out.
#[cfg(unix)]
fn is_linked(file: &File) -> io::Result<bool> {
    Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 0)
}

/// Whether a locked file still has its name. Since Windows 10 an open file can lose it.
#[cfg(windows)]
fn is_linked(file: &File) -> io::Result<bool> {
    use std::os::windows::io::AsRawHandle;

    use windows_sys::Win32::Storage::FileSystem::{
        FILE_STANDARD_INFO, FileStandardInfo, GetFileInformationByHandleEx,
    };

    let mut info = FILE_STANDARD_INFO::default();
    // SAFETY: the handle is open while `file` is borrowed, and pointer and length are those of a structure of the kind
    // that the call fills in, which outlives it.
    let done = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            FileStandardInfo,
            (&raw mut info).cast(),
            size_of::<FILE_STANDARD_INFO>() as u32,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(!info.DeletePending && info.NumberOfLinks > 0)
}

/// Mode 0600 for a file that is created, and no link followed at the end of the path.
#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    options.mode(0o600).custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed())
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"0123456789").unwrap();
        assert_eq!(read(&RealFs, &path, 4).unwrap(), b"0123");
        assert_eq!(read(&RealFs, &path, 10).unwrap().len(), 10);
        assert_eq!(read(&RealFs, &path, 1_000_000).unwrap().len(), 10);
    }

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = RealFs.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(RealFs.lock(&path).unwrap().is_none());
        drop(held);
        assert!(RealFs.lock(&path).unwrap().is_some());
        let waited = RealFs.lock_wait(&path).unwrap();
        assert!(RealFs.lock(&path).unwrap().is_none());
        drop(waited);
    }

    #[test]
    fn writing_over_a_file_keeps_what_is_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"0123456789").unwrap();
        let mut file = RealFs.overwrite(&path).unwrap();
        file.write(b"ab").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ab23456789");
        file.truncate(4).unwrap();
        file.sync().unwrap();
        RealFs.sync(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ab23");
        assert!(RealFs.overwrite(&dir.path().join("missing")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_on_a_deleted_file_is_not_taken_for_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let old = RealFs.lock(&path).unwrap().unwrap();
        let (started, start) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || {
                started.send(()).unwrap();
                RealFs.lock_wait(&path).unwrap()
            }
        });
        start.recv().unwrap();
        fs::remove_file(&path).unwrap();
        drop(old);
        let held = waiting.join().unwrap();
        assert!(is_linked(&held).unwrap());
        assert!(RealFs.lock(&path).unwrap().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn files_and_directories_are_private_and_links_are_not_followed() {
        use std::os::unix::fs::PermissionsExt;

        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        RealFs.create_dirs(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let path = dir.join("file");
        RealFs.create(&path).unwrap().write(b"x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(&path, dir.join("link")).unwrap();
        fs::create_dir(dir.join("directory")).unwrap();
        std::os::unix::fs::symlink(dir.join("directory"), dir.join("linked directory")).unwrap();
        assert_eq!(RealFs.list(&dir).unwrap(), [DirEntry { name: "file".into(), len: 1 }]);
        assert_eq!(RealFs.subdirs(&dir).unwrap(), ["directory"]);
        assert!(read(&RealFs, &dir.join("link"), 10).is_err());
    }
}
