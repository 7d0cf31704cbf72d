//! `logs export`: whatever a source holds as one file or one directory, in the layout of the app's own export.
//!
//! Entries are copied as they are, one segment in memory at a time, and our own log with them. What can't be read is told on
//! standard error and counted in the summary.

#[cfg(test)]
mod tests;
mod writer;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tuntrail::client::ExportReport;

use self::writer::Writer;
use super::{
    entry::Body,
    manifest::{Manifest, VERSION},
    server::ServerArguments,
    source::{Event, Source, SourceArguments},
};
use crate::{CommandError, text};

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuntrail logs export <PATH> <OUT>\n       tuntrail logs export --server <URL> <OUT>"
)]
pub(crate) struct Arguments {
    /// What to export, unless --server names it: a directory with records or an export. Then what to write: a file, if its
    /// name ends in .zst, else a directory. It must not exist, or be an empty directory.
    #[arg(value_names = ["PATH", "OUT"], num_args = 1..=2, required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    server: ServerArguments,
}

impl Arguments {
    fn places(&self) -> Result<(SourceArguments, &Path), CommandError> {
        let server = self.server.clone();
        match (self.paths.as_slice(), server.is_some()) {
            ([path, out], false) => Ok((SourceArguments { path: Some(path.clone()), server }, out)),
            ([out], true) => Ok((SourceArguments { path: None, server }, out)),
            (_, false) => Err("name what to export and what to write: tuntrail logs export PATH OUT".into()),
            (_, true) => Err("with --server, name only what to write: a file .tar.zst or a directory".into()),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let (source, out) = arguments.places()?;
    let report = export(&Source::open(&source)?, out, Timestamp::now())?;
    let problems = match report.unreadable {
        0 => String::new(),
        count => format!("; {count} parts could not be read"),
    };
    Ok(writeln!(
        std::io::stdout(),
        "{}: {} records in {} segments, {} log files, {}{problems}",
        out.display(),
        report.records,
        report.segments,
        report.log_files,
        text::bytes(report.bytes),
    )?)
}

/// Writes what `source` holds to `out`.
pub(super) fn export(source: &Source, out: &Path, now: Timestamp) -> Result<ExportReport, CommandError> {
    let cannot = |error: std::io::Error| format!("can't write {}: {error}", out.display());
    let manifest = Manifest {
        version: VERSION,
        created: now.to_string(),
        sdk: env!("CARGO_PKG_VERSION").into(),
        ..source.manifest()?
    };
    let mut writer = Writer::begin(out, now, &manifest).map_err(cannot)?;
    source.read(None, &mut |event| {
        match event {
            Event::Segment(head) => writer.segment(&head.stream, &head.name).map_err(cannot)?,
            Event::Entry(entry) => {
                let is_record = !matches!(entry.body, Body::Drops(_));
                writer.line(&entry.line, is_record).map_err(cannot)?;
            }
            Event::Log { name, content } => writer.log(name, content).map_err(cannot)?,
            Event::Notice(notice) => {
                notice.tell();
                if notice.is_damage {
                    writer.miss();
                }
            }
            Event::Stored { .. } => {}
        }
        Ok(())
    })?;
    Ok(writer.finish().map_err(cannot)?)
}
