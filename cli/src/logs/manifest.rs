//! The layout of an export: the same files in an archive and in a directory. Described in `docs/records.md`; the app's own
//! export (`tuntrail::client::Export`) has it, too.

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::{
    notice::Notice,
    source::{Event, Sink},
};
use crate::CommandError;

/// The layout that is read and written.
pub(super) const VERSION: u32 = 1;
/// The directory inside an archive, so that unpacking makes one thing.
pub(super) const TOP: &str = "tuntrail";
/// Says what the export is of.
pub(super) const MANIFEST: &str = "manifest.json";
/// The last one, so that its lack tells of a cut.
pub(super) const SUMMARY: &str = "summary.json";
/// Holds our own log.
pub(super) const DIAGNOSTICS: &str = "diagnostics";
/// The manifest names a handful of streams.
const MAX_MANIFEST: u64 = 64 * 1024;

/// What an export is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: u32,
    /// RFC 3339.
    #[serde(default)]
    pub(super) created: String,
    #[serde(default)]
    pub(super) sdk: String,
    /// The public ID of the log, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log_id: Option<String>,
    #[serde(default)]
    pub(super) streams: Vec<StreamNames>,
}

/// A stream in a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamNames {
    pub(super) name: String,
    /// What the server calls it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) collection: Option<String>,
}

impl Manifest {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// If it is none, in words.
    pub(super) fn read(file: impl Read) -> Result<Self, String> {
        serde_json::from_reader(file.take(MAX_MANIFEST)).map_err(|error| error.to_string())
    }

    /// Tells what is wrong with the manifest at `place`.
    pub(super) fn check(
        manifest: &Result<Self, String>,
        place: &str,
        sink: &mut Sink<'_>,
    ) -> Result<(), CommandError> {
        let what = match manifest {
            Ok(Self { version: VERSION, .. }) => return Ok(()),
            Ok(Self { version, .. }) => {
                format!(
                    "has version {version} of the layout, this reads {VERSION}; some of it may be missing"
                )
            }
            Err(error) => error.clone(),
        };
        sink(Event::Notice(Notice::damage(place, what)))
    }
}

/// What a file is, by its name below [`TOP`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Manifest,
    Entries {
        stream: &'a str,
        segment: &'a str,
    },
    Summary,
    /// Our own log.
    Log(&'a str),
    Foreign,
}

impl<'a> Part<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        match name.split_once('/') {
            None if name == MANIFEST => Part::Manifest,
            None if name == SUMMARY => Part::Summary,
            Some((DIAGNOSTICS, file)) if !file.contains('/') => Part::Log(file),
            Some((stream, file)) => match file.strip_suffix(".jsonl") {
                Some(segment) if !segment.contains('/') => Part::Entries { stream, segment },
                _ => Part::Foreign,
            },
            None => Part::Foreign,
        }
    }
}
