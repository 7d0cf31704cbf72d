//! A store's directory as a source.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use tuntrail::{
    client::segment_entries,
    diagnostics::Diagnostics,
    store::{FoundSegments, ReadError, SegmentContent, SegmentFile, SegmentState, find_segments},
    upload::PrivateId,
};

use super::{
    entry::Entry,
    manifest::{Manifest, StreamNames},
    notice::Notice,
    source::{Event, SegmentHead, Sink},
};
use crate::CommandError;

/// More than the 64 digits of a log ID.
const MAX_ID_FILE: u64 = 256;

/// Tells everything below `path`.
pub(super) fn read(path: &Path, sink: &mut Sink<'_>) -> Result<(), CommandError> {
    let found = list(path)?;
    tell_problems(path, &found, sink)?;
    for file in &found.segments {
        read_file(file, 0, sink)?;
    }
    tell_logs(&path.join("diagnostics"), sink)
}

/// What a store says it is of. What the server calls its streams is only in the app's configuration.
pub(super) fn manifest(path: &Path) -> Result<Manifest, CommandError> {
    let mut names: Vec<_> = list(path)?.segments.into_iter().map(|file| file.stream).collect();
    names.dedup();
    let streams = names.into_iter().map(|name| StreamNames { name, collection: None }).collect();
    Ok(Manifest { log_id: log_id(path), streams, ..Manifest::default() })
}

/// The public name of the log, if the app keeps the private one there. That is a secret and stays where it is.
fn log_id(directory: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(directory.join("log-id")).ok()?.take(MAX_ID_FILE).read_to_string(&mut text).ok()?;
    text.trim().parse::<PrivateId>().ok().map(|id| id.public().to_string())
}

/// Tells the SDK's own log, of each of its writers.
fn tell_logs(directory: &Path, sink: &mut Sink<'_>) -> Result<(), CommandError> {
    let writers = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut writers: Vec<_> = writers
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    writers.sort();
    for writer in writers {
        let files = match Diagnostics::files(&writer) {
            Ok(files) => files,
            Err(error) => {
                let what = format!("can't be listed: {error}");
                sink(Event::Notice(Notice::damage(writer.display(), what)))?;
                continue;
            }
        };
        for path in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match File::open(&path) {
                Ok(mut content) => sink(Event::Log { name: &name, content: &mut content })?,
                // Rotated away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => sink(Event::Notice(Notice::damage(path.display(), error)))?,
            }
        }
    }
    Ok(())
}

/// The segments below `path`.
pub(super) fn list(path: &Path) -> Result<FoundSegments, CommandError> {
    find_segments(path).map_err(|error| format!("can't read {}: {error}", path.display()).into())
}

fn tell_problems(path: &Path, found: &FoundSegments, sink: &mut Sink<'_>) -> Result<(), CommandError> {
    for (place, error) in &found.unreadable {
        sink(Event::Notice(Notice::damage(place.display(), format!("can't be listed: {error}"))))?;
    }
    for place in &found.foreign {
        let what = "is no file of a store; left alone";
        sink(Event::Notice(Notice::remark(place.display(), what)))?;
    }
    if found.segments.is_empty() {
        sink(Event::Notice(Notice::remark(path.display(), "holds no records")))?;
    }
    Ok(())
}

/// Tells what a segment holds, without its first `skip` entries. Returns how many entries it holds.
pub(super) fn read_file(file: &SegmentFile, skip: usize, sink: &mut Sink<'_>) -> Result<usize, CommandError> {
    let content = match file.read() {
        Ok(content) => content,
        Err(ReadError::NotFound { .. }) => {
            let what = "was sent, or made room for newer ones, while this was reading";
            sink(Event::Notice(Notice::gone(file.path.display(), what)))?;
            return Ok(skip);
        }
        Err(error) => {
            sink(Event::Notice(Notice::damage(file.path.display(), error)))?;
            return Ok(skip);
        }
    };
    if skip == 0 {
        sink(Event::Segment(&head(file, &content)))?;
        tell_damage(file, &content, sink)?;
    }
    let Some(segment) = content.segment else { return Ok(skip) };
    let mut lines = Vec::new();
    segment_entries(&segment, &mut lines);
    let mut entries = 0;
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        entries += 1;
        if entries > skip {
            tell_line(&file.stream, line, &file.path.display(), sink)?;
        }
    }
    Ok(entries)
}

/// Tells an entry, or that a line is none.
pub(super) fn tell_line(
    stream: &str,
    line: &[u8],
    place: &dyn std::fmt::Display,
    sink: &mut Sink<'_>,
) -> Result<(), CommandError> {
    let entry = std::str::from_utf8(line).map_err(|error| error.to_string());
    match entry.and_then(|line| Entry::parse(stream, line).map_err(|error| error.to_string())) {
        Ok(entry) => sink(Event::Entry(entry)),
        Err(error) => {
            sink(Event::Notice(Notice::damage(place, format!("holds a line that is no entry: {error}"))))
        }
    }
}

fn head(file: &SegmentFile, content: &SegmentContent) -> SegmentHead {
    SegmentHead {
        stream: file.stream.clone(),
        writer: file.writer.clone(),
        name: file.id.to_string(),
        state: Some(content.state),
        bytes: content.disk_bytes,
        dropped: content.dropped,
    }
}

fn tell_damage(
    file: &SegmentFile,
    content: &SegmentContent,
    sink: &mut Sink<'_>,
) -> Result<(), CommandError> {
    let lost = content.segment.as_ref().map_or(0, |segment| segment.lost_records());
    let place = file.path.display();
    let notice = match (content.state, lost, content.invalid_bytes) {
        (_, 0, 0) => return Ok(()),
        (SegmentState::Open, _, bytes) => {
            let what =
                format!("{bytes} bytes behind its last whole record: being written, or torn by a crash");
            Notice::remark(place, what)
        }
        (SegmentState::Sealed, lost, bytes) => {
            let what = format!("is damaged: {lost} records are lost, {bytes} bytes don't check");
            Notice::damage(place, what)
        }
    };
    sink(Event::Notice(notice))
}
