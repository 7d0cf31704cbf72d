//! `logs export`: a store as one file, in the layout of the app's own export.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tuntrail::{
    client::{Export, ExportReport, ExportStream},
    diagnostics::Diagnostics,
    store::{ReadError, find_segments},
    upload::{PrivateId, PublicId},
};

use super::notice::Notice;
use crate::{CommandError, text};

/// More than the 64 digits of a log ID.
const MAX_ID_FILE: u64 = 256;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The app's directory with records, or one of its streams.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The file to write, which must not exist.
    #[arg(value_name = "OUT.tar.zst")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let report = export(&arguments.directory, &arguments.out, Timestamp::now())?;
    println!(
        "{}: {} records in {} segments, {} log files, {}; {} segments could not be read",
        arguments.out.display(),
        report.records,
        report.segments,
        report.log_files,
        text::bytes(report.bytes),
        report.unreadable,
    );
    Ok(())
}

/// Writes what is below `directory` to `out`.
pub(super) fn export(directory: &Path, out: &Path, now: Timestamp) -> Result<ExportReport, CommandError> {
    let found =
        find_segments(directory).map_err(|error| format!("can't read {}: {error}", directory.display()))?;
    let mut names: Vec<_> = found.segments.iter().map(|file| file.stream.clone()).collect();
    names.dedup();
    // What the server calls them is only in the app's configuration.
    let streams: Vec<_> = names.into_iter().map(|name| ExportStream { name, collection: None }).collect();
    let mut export = Export::begin(out, now, log_id(directory), &streams)
        .map_err(|error| format!("can't write {}: {error}", out.display()))?;
    for (place, error) in &found.unreadable {
        Notice::damage(place.display(), format!("can't be listed: {error}")).tell();
        export.miss_segment();
    }
    for file in &found.segments {
        match file.read() {
            Ok(content) => {
                if let Some(segment) = content.segment {
                    export.add_segment(&file.stream, &segment)?;
                }
            }
            Err(error) => {
                if matches!(error, ReadError::NotFound { .. }) {
                    Notice::remark(file.path.display(), error).tell();
                } else {
                    Notice::damage(file.path.display(), error).tell();
                }
                export.miss_segment();
            }
        }
    }
    for writer in subdirectories(&directory.join("diagnostics")) {
        for path in Diagnostics::files(&writer)? {
            export.add_log(&path)?;
        }
    }
    Ok(export.finish()?)
}

/// The public name of the log, if the app keeps the private one there. That is a secret and stays where it is.
fn log_id(directory: &Path) -> Option<PublicId> {
    let mut text = String::new();
    File::open(directory.join("log-id")).ok()?.take(MAX_ID_FILE).read_to_string(&mut text).ok()?;
    text.trim().parse::<PrivateId>().ok().map(|id| id.public())
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}
