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

/// How much of our own log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiagnosticsLimits {
    /// Bytes of one file, at least 4 KiB. Default: 256 KiB.
    pub file_bytes: u64,
    /// Files, at least 2. Default: 4.
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
}

impl Rotation {
    /// Looks at what is there. Nothing is created but the directory.
    pub(super) fn open(directory: &Path, limits: DiagnosticsLimits) -> io::Result<Self> {
        create_private_directory(directory)?;
        let limits =
            DiagnosticsLimits { file_bytes: limits.file_bytes.max(4096), files: limits.files.max(2) };
        let next_number = numbered(directory)?.last().map_or(0, |(number, _)| number.saturating_add(1));
        Ok(Self { directory: directory.to_owned(), limits, next_number, current: None })
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

    fn begin(&mut self) -> io::Result<()> {
        self.current = None;
        let present = numbered(&self.directory)?;
        let surplus = (present.len() + 1).saturating_sub(self.limits.files);
        for (_, path) in present.iter().take(surplus) {
            fs::remove_file(path)?;
        }
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
