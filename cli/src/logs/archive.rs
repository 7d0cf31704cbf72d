//! An export as a source: read as a stream, a line at a time.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use serde::Deserialize;
use tuntrail::store::DropCount;

use super::{
    directory::tell_line,
    notice::Notice,
    source::{Event, SegmentHead, Sink},
};
use crate::CommandError;

/// The layout that is read.
const VERSION: u32 = 1;
/// Exports are written with 256 KiB (2^18); more than 8 MiB is nothing that we wrote.
const WINDOW_LOG_MAX: u32 = 23;
/// A record has at most 262,144 bytes and its envelope; four times that leaves room for later versions.
const MAX_LINE: usize = 1 << 20;
/// The manifest names a handful of streams.
const MAX_MANIFEST: u64 = 64 * 1024;

#[derive(Deserialize)]
struct Manifest {
    version: u32,
}

/// Tells everything in the export at `path`.
pub(super) fn read(path: &Path, sink: &mut Sink<'_>) -> Result<(), CommandError> {
    let mut decoder = zstd::Decoder::new(File::open(path)?)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut archive = tar::Archive::new(decoder);
    let (mut is_export, mut is_complete) = (false, false);
    for file in archive.entries()? {
        let mut file = match file {
            Ok(file) => file,
            Err(error) => return cut(path, &error, sink),
        };
        let name = String::from_utf8_lossy(&file.path_bytes()).into_owned();
        let place = format!("{}:{name}", path.display());
        match parts(&name) {
            Part::Manifest => {
                is_export = true;
                let manifest = match serde_json::from_reader((&mut file).take(MAX_MANIFEST)) {
                    Ok(manifest) => manifest,
                    Err(error) => {
                        sink(Event::Notice(Notice::damage(&place, error)))?;
                        continue;
                    }
                };
                let Manifest { version } = manifest;
                if version != VERSION {
                    let what = format!(
                        "has version {version} of the layout, this reads {VERSION}; some of it may be missing"
                    );
                    sink(Event::Notice(Notice::damage(&place, what)))?;
                }
            }
            Part::Entries { stream, segment } => {
                is_export = true;
                let head = SegmentHead {
                    stream: stream.to_owned(),
                    writer: String::new(),
                    name: segment.to_owned(),
                    state: None,
                    bytes: file.size(),
                    dropped: DropCount::default(),
                };
                sink(Event::Segment(&head))?;
                if let Err(error) = lines(stream, &place, file, sink)? {
                    return cut(path, &error, sink);
                }
            }
            Part::Summary => is_complete = true,
            Part::Ours => {}
            Part::Foreign => {
                sink(Event::Notice(Notice::remark(&place, "is no part of an export; left out")))?;
            }
        }
    }
    if !is_export {
        return Err(format!("{} is an archive, but no export of records", path.display()).into());
    }
    if !is_complete {
        sink(Event::Notice(Notice::damage(path.display(), "is cut: its end, summary.json, is missing")))?;
    }
    Ok(())
}

fn cut(path: &Path, error: &std::io::Error, sink: &mut Sink<'_>) -> Result<(), CommandError> {
    sink(Event::Notice(Notice::damage(path.display(), format!("is damaged or cut from here on: {error}"))))
}

enum Part<'a> {
    Manifest,
    Entries {
        stream: &'a str,
        segment: &'a str,
    },
    Summary,
    /// Diagnostics.
    Ours,
    Foreign,
}

fn parts(name: &str) -> Part<'_> {
    let Some(inside) = name.strip_prefix("tuntrail/") else { return Part::Foreign };
    match inside.split_once('/') {
        None if inside == "manifest.json" => Part::Manifest,
        None if inside == "summary.json" => Part::Summary,
        Some(("diagnostics", _)) => Part::Ours,
        Some((stream, file)) => match file.strip_suffix(".jsonl") {
            Some(segment) if !segment.contains('/') => Part::Entries { stream, segment },
            _ => Part::Foreign,
        },
        None => Part::Foreign,
    }
}

/// Tells the entries of a file. The inner error is that of the file.
fn lines(
    stream: &str,
    place: &str,
    file: impl Read,
    sink: &mut Sink<'_>,
) -> Result<std::io::Result<()>, CommandError> {
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut file).take(MAX_LINE as u64).read_until(b'\n', &mut line) {
            Err(error) => return Ok(Err(error)),
            Ok(0) => return Ok(Ok(())),
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') && line.len() >= MAX_LINE {
            let what = format!("holds a line of more than {MAX_LINE} bytes; the rest of it is left out");
            sink(Event::Notice(Notice::damage(place, what)))?;
            return Ok(Ok(()));
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        if !line.is_empty() {
            tell_line(stream, line, &place, sink)?;
        }
    }
}
