//! Where entries are read from, whatever kind it is.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tuntrail::store::{DropCount, SegmentState};

use super::{
    archive, directory,
    entry::Entry,
    manifest::{Manifest, StreamNames},
    notice::Notice,
    server, unpacked,
};
use crate::CommandError;

/// The options that name a source.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SourceArguments {
    /// A directory with records (the app's, a stream's or a writer's) or an export (a .tar.zst or a directory).
    #[arg(value_name = "PATH", required_unless_present = "server", conflicts_with = "server")]
    pub(crate) path: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) server: server::ServerArguments,
}

/// Where entries come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A store's directory; its writer may be at work.
    Directory(PathBuf),
    /// A file of `Client::export` or `tuntrail logs export`.
    Archive(PathBuf),
    /// The same as a directory.
    Unpacked(PathBuf),
    /// A log server.
    Server(server::ServerArguments),
}

/// What a source tells, in order.
pub(crate) enum Event<'a> {
    /// The entries that follow, up to the next of these, are of this segment.
    Segment(&'a SegmentHead),
    Entry(Entry),
    /// A file of the SDK's own log.
    Log {
        name: &'a str,
        content: &'a mut dyn Read,
    },
    Notice(Notice),
    /// How many entries a server ever stored of a log that was read, also if some have expired.
    Stored {
        stream: &'a str,
        name: &'a str,
        records: u64,
    },
}

/// A segment of a store, a file of an export, or a log at a server.
#[derive(Debug, Clone)]
pub(crate) struct SegmentHead {
    pub(crate) stream: String,
    /// The role in a store, the log at a server.
    pub(crate) writer: String,
    pub(crate) name: String,
    /// `None` where there is no such thing.
    pub(crate) state: Option<SegmentState>,
    pub(crate) bytes: u64,
    /// What had ever been dropped when it was begun; 0 where that is not known.
    pub(crate) dropped: DropCount,
}

/// Takes what a source tells; its error ends the reading.
pub(crate) type Sink<'a> = dyn FnMut(Event<'_>) -> Result<(), CommandError> + 'a;

impl Source {
    /// Finds out what the arguments name.
    ///
    /// # Errors
    ///
    /// If there is nothing, or it is neither a directory nor an export.
    pub(crate) fn open(arguments: &SourceArguments) -> Result<Self, CommandError> {
        match &arguments.path {
            Some(path) => Self::at(path),
            None => Ok(Self::Server(arguments.server.clone())),
        }
    }

    /// What is at `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub(crate) fn at(path: &Path) -> Result<Self, CommandError> {
        let cannot = |error| format!("can't read {}: {error}", path.display());
        if fs::metadata(path).map_err(cannot)?.is_dir() {
            let export = unpacked::find(path).map(Self::Unpacked);
            return Ok(export.unwrap_or_else(|| Self::Directory(path.to_owned())));
        }
        // Every zstd frame begins so, and every file of SQLite.
        const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
        const SQLITE: [u8; 4] = *b"SQLi";
        let mut magic = Vec::new();
        File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic)).map_err(cannot)?;
        let place = path.display();
        if magic == SQLITE {
            return Err(format!(
                "{place} is a database: if it is a log server's, run `tuntrail serve --database {place}` and read it with \
                 --server URL"
            )
            .into());
        }
        if magic != ZSTD {
            return Err(format!("{place} is neither a directory nor an export, which is a .tar.zst").into());
        }
        Ok(Self::Archive(path.to_owned()))
    }

    /// Tells `sink` everything, one segment in memory at a time. `since` spares a server what is older.
    ///
    /// # Errors
    ///
    /// If nothing can be read at all, and those of `sink`. What can't be read of it is told as a notice.
    pub(crate) fn read(&self, since: Option<Timestamp>, sink: &mut Sink<'_>) -> Result<(), CommandError> {
        match self {
            Self::Directory(path) => directory::read(path, sink),
            Self::Archive(path) => archive::read(path, sink),
            Self::Unpacked(path) => unpacked::read(path, sink),
            Self::Server(arguments) => server::read(arguments, since, sink),
        }
    }

    /// What it is of, as far as that is known beforehand: the log and its streams, for the manifest of an export.
    ///
    /// # Errors
    ///
    /// If a directory can't be listed, or a server does not answer.
    pub(super) fn manifest(&self) -> Result<Manifest, CommandError> {
        let named = |name: String| StreamNames { collection: Some(name.clone()), name };
        Ok(match self {
            Self::Directory(path) => directory::manifest(path)?,
            // What is wrong with it is told when it is read.
            Self::Archive(path) => archive::manifest(path).unwrap_or_default(),
            Self::Unpacked(path) => unpacked::manifest(path).unwrap_or_default(),
            Self::Server(arguments) => {
                let streams = server::collections(arguments)?.into_iter().map(named).collect();
                Manifest { streams, ..Manifest::default() }
            }
        })
    }

    /// As it is named in a report.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Directory(path) | Self::Archive(path) | Self::Unpacked(path) => path.display().to_string(),
            Self::Server(arguments) => arguments.url(),
        }
    }
}
