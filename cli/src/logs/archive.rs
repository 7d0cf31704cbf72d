//! An export as a source: read as a stream, a line at a time.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use tuntrail::store::DropCount;

use super::{
    directory::tell_line,
    manifest::{Manifest, Part, TOP},
    notice::Notice,
    source::{Event, SegmentHead, Sink},
};
use crate::CommandError;

/// Exports are written with 256 KiB (2^18); more than 8 MiB is nothing that we wrote.
const WINDOW_LOG_MAX: u32 = 23;
/// A record has at most 262,144 bytes and its envelope; four times that leaves room for later versions.
const MAX_LINE: usize = 1 << 20;

type Archive = tar::Archive<zstd::Decoder<'static, BufReader<File>>>;

fn open(path: &Path) -> std::io::Result<Archive> {
    let mut decoder = zstd::Decoder::new(File::open(path)?)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(tar::Archive::new(decoder))
}

/// What the export at `path` says it is of; nothing, unless it says so at its beginning.
pub(super) fn manifest(path: &Path) -> Result<Manifest, String> {
    let mut archive = open(path).map_err(|error| error.to_string())?;
    let first = archive.entries().map_err(|error| error.to_string())?.next();
    let first = first.ok_or("is empty")?.map_err(|error| error.to_string())?;
    match inside(&first.path_bytes()).as_deref().map(Part::of) {
        Some(Part::Manifest) => Manifest::read(first),
        _ => Err("does not begin with a manifest".into()),
    }
}

/// The name of a file below our directory.
fn inside(path: &[u8]) -> Option<String> {
    String::from_utf8_lossy(path).strip_prefix(TOP)?.strip_prefix('/').map(str::to_owned)
}

/// Tells everything in the export at `path`.
pub(super) fn read(path: &Path, sink: &mut Sink<'_>) -> Result<(), CommandError> {
    let mut archive = open(path)?;
    let (mut is_export, mut is_complete) = (false, false);
    for file in archive.entries()? {
        let mut file = match file {
            Ok(file) => file,
            Err(error) => return cut(path, &error, sink),
        };
        let place = format!("{}:{}", path.display(), String::from_utf8_lossy(&file.path_bytes()));
        let name = inside(&file.path_bytes());
        match name.as_deref().map_or(Part::Foreign, Part::of) {
            Part::Manifest => {
                is_export = true;
                Manifest::check(&Manifest::read(&mut file), &place, sink)?;
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
            Part::Log(name) => sink(Event::Log { name, content: &mut file })?,
            // Other tools write directories of their own accord.
            Part::Foreign if file.header().entry_type().is_dir() => {}
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

/// Tells the entries of a file. The inner error is that of the file.
pub(super) fn lines(
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
