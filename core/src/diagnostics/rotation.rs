//! The files: numbered, bounded, oldest deleted first.
//!
//! Only the thread `tuntrail-log` writes, one process per directory; a process never appends to a file of another. Files
//! with other names are left alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::unsent;
use crate::files::create_private_directory;

const EXTENSION: &str = "log";
/// Digits of a file's number, so that the order of names is the order of age.
const DIGITS: usize = 10;

/// Every process begins a file of its own, however few lines the one before wrote. So many short ones are kept, that a series of
/// crashes does not push out the lines of the first; fewer than the ranges that [`unsent`] remembers.
const MAX_FILES: usize = 48;

/// How much of our own log is kept: `file_bytes` × `files`, in at most 48 files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiagnosticsLimits {
    /// Bytes of one file, at least 4 KiB. Default: 256 KiB.
    pub file_bytes: u64,
    /// Full files, 2 to 48. Default: 4.
    pub files: usize,
}

impl Default for DiagnosticsLimits {
    fn default() -> Self {
        Self { file_bytes: 256 * 1024, files: 4 }
    }
}

/// The file being written, and those before it.
#[derive(Debug)]
pub(super) struct Rotation {
    directory: PathBuf,
    limits: DiagnosticsLimits,
    next_number: u64,
    current: Option<(File, u64)>,
    /// Lines that made room for newer ones before anybody asked for them.
    displaced: u64,
}

impl Rotation {
    /// Looks at what is there. Nothing is created but the directory.
    pub(super) fn open(directory: &Path, limits: DiagnosticsLimits) -> io::Result<Self> {
        create_private_directory(directory)?;
        let limits = DiagnosticsLimits {
            file_bytes: limits.file_bytes.max(4096),
            files: limits.files.clamp(2, MAX_FILES),
        };
        let next_number = numbered(directory)?.last().map_or(0, |(number, _)| number.saturating_add(1));
        Ok(Self { directory: directory.to_owned(), limits, next_number, current: None, displaced: 0 })
    }

    /// Appends whole lines. After an error the file is left behind, and the next call begins another.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        for chunk in self.chunks(lines) {
            let result = self.write_chunk(chunk);
            if result.is_err() {
                self.current = None;
            }
            result?;
        }
        Ok(())
    }

    /// Lines in portions that fit into a file.
    fn chunks<'a>(&self, mut lines: &'a [u8]) -> Vec<&'a [u8]> {
        let most = usize::try_from(self.limits.file_bytes).unwrap_or(usize::MAX);
        let mut chunks = Vec::new();
        while !lines.is_empty() {
            let window = lines.get(..most).unwrap_or(lines);
            // A single line longer than a file gets one of its own.
            let end = if window.len() == lines.len() {
                lines.len()
            } else {
                let last = window.iter().rposition(|&byte| byte == b'\n');
                last.or_else(|| lines.iter().position(|&byte| byte == b'\n')).map_or(lines.len(), |at| at + 1)
            };
            let (chunk, rest) = lines.split_at(end);
            chunks.push(chunk);
            lines = rest;
        }
        chunks
    }

    fn write_chunk(&mut self, chunk: &[u8]) -> io::Result<()> {
        let len = chunk.len() as u64;
        if self
            .current
            .as_ref()
            .is_none_or(|(_, written)| written.saturating_add(len) > self.limits.file_bytes)
        {
            self.begin()?;
        }
        if let Some((file, written)) = &mut self.current {
            file.write_all(chunk)?;
            *written += len;
        }
        Ok(())
    }

    /// How many lines have made room, of those that somebody could have asked for and nobody did, without those that were told.
    pub(super) const fn displaced(&self) -> u64 {
        self.displaced
    }

    /// So many of them are in the log now.
    pub(super) const fn told(&mut self, displaced: u64) {
        self.displaced = self.displaced.saturating_sub(displaced);
    }

    fn begin(&mut self) -> io::Result<()> {
        self.current = None;
        self.make_room()?;
        let path = self.directory.join(format!("{:0DIGITS$}.{EXTENSION}", self.next_number));
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        self.next_number = self.next_number.saturating_add(1);
        self.current = Some((file, 0));
        Ok(())
    }

    /// Removes the oldest files until a full one fits.
    fn make_room(&mut self) -> io::Result<()> {
        let mut present = Vec::new();
        for (number, path) in numbered(&self.directory)? {
            let len = fs::metadata(&path)?.len();
            present.push((number, path, len));
        }
        let most = self.limits.file_bytes.saturating_mul(self.limits.files as u64);
        let mut bytes: u64 = present.iter().map(|(_, _, len)| len).sum();
        let mut files = present.len();
        for (number, path, len) in present {
            if files < MAX_FILES && bytes.saturating_add(self.limits.file_bytes) <= most {
                break;
            }
            // What can't be read is not worth keeping the rest for.
            let unsent = unsent::left_in(&self.directory, number, &path).unwrap_or_default();
            fs::remove_file(path)?;
            self.displaced += unsent;
            bytes = bytes.saturating_sub(len);
            files -= 1;
        }
        Ok(())
    }
}

/// Our files in `directory`, oldest first; none if there is no such directory.
pub(super) fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(numbered(directory)?.into_iter().map(|(_, path)| path).collect())
}

/// Deletes our files, and the directory if nothing else is in it.
pub(super) fn delete_all(directory: &Path) -> io::Result<()> {
    // First: numbers begin anew without files, and what is remembered of old ones must not hide new lines.
    let mut result = unsent::forget(directory);
    for (_, path) in numbered(directory)? {
        let removed = fs::remove_file(path);
        result = result.and(removed);
    }
    // Something foreign may be in it, or it may never have been made.
    let _ = fs::remove_dir(directory);
    result
}

/// Our files with their numbers, oldest first; none if there is no such directory.
pub(super) fn numbered(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbered = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .filter(|stem| stem.len() == DIGITS && stem.bytes().all(|byte| byte.is_ascii_digit()));
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && entry.file_type()?.is_file()
            && let Some(number) = name.and_then(|name| name.parse().ok())
        {
            numbered.push((number, path));
        }
    }
    numbered.sort_unstable();
    Ok(numbered)
}
