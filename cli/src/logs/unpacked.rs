//! An export as a directory as a source: what `logs export` writes into one, or an archive that somebody unpacked.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use tuntrail::store::DropCount;

use super::{
    archive::lines,
    manifest::{MANIFEST, Manifest, Part, SUMMARY, TOP},
    notice::Notice,
    source::{Event, SegmentHead, Sink},
};
use crate::CommandError;

/// The directory at or in `path` that is an export, if there is one. A manifest of something else makes none; a damaged one
/// does, beside a summary.
pub(super) fn find(path: &Path) -> Option<PathBuf> {
    let is_export = |place: &PathBuf| {
        place.join(MANIFEST).is_file() && (place.join(SUMMARY).is_file() || manifest(place).is_ok())
    };
    [path.to_owned(), path.join(TOP)].into_iter().find(is_export)
}

/// What the export in `directory` says it is of; nothing, if that can't be read.
pub(super) fn manifest(directory: &Path) -> Result<Manifest, String> {
    File::open(directory.join(MANIFEST)).map_err(|error| error.to_string()).and_then(Manifest::read)
}

/// Tells everything in `directory`.
pub(super) fn read(directory: &Path, sink: &mut Sink<'_>) -> Result<(), CommandError> {
    let place = directory.join(MANIFEST).display().to_string();
    Manifest::check(&manifest(directory), &place, sink)?;
    for (name, path) in files(directory, sink)? {
        let place = path.display().to_string();
        let file = match Part::of(&name) {
            Part::Manifest | Part::Summary => continue,
            Part::Foreign => {
                sink(Event::Notice(Notice::remark(place, "is no part of an export; left out")))?;
                continue;
            }
            Part::Entries { .. } | Part::Log(_) => File::open(&path),
        };
        let mut file = match file {
            Ok(file) => file,
            Err(error) => {
                sink(Event::Notice(Notice::damage(place, error)))?;
                continue;
            }
        };
        match Part::of(&name) {
            Part::Entries { stream, segment } => {
                let head = SegmentHead {
                    stream: stream.to_owned(),
                    writer: String::new(),
                    name: segment.to_owned(),
                    state: None,
                    bytes: file.metadata().map_or(0, |metadata| metadata.len()),
                    dropped: DropCount::default(),
                };
                sink(Event::Segment(&head))?;
                if let Err(error) = lines(stream, &place, file, sink)? {
                    sink(Event::Notice(Notice::damage(place, error)))?;
                }
            }
            Part::Log(name) => sink(Event::Log { name, content: &mut file })?,
            Part::Manifest | Part::Summary | Part::Foreign => {}
        }
    }
    if !directory.join(SUMMARY).is_file() {
        let what = "is not whole: its summary.json is missing";
        sink(Event::Notice(Notice::damage(directory.display(), what)))?;
    }
    Ok(())
}

/// The files in `directory` and one level below it, by name. Links are not followed.
fn files(directory: &Path, sink: &mut Sink<'_>) -> Result<Vec<(String, PathBuf)>, CommandError> {
    let mut found = Vec::new();
    for (name, path, is_directory) in list(directory)? {
        if !is_directory {
            found.push((name, path));
            continue;
        }
        match list(&path) {
            Ok(files) => {
                let names = files.into_iter().map(|(inner, path, _)| (format!("{name}/{inner}"), path));
                found.extend(names);
            }
            Err(error) => {
                let what = format!("can't be listed: {error}");
                sink(Event::Notice(Notice::damage(path.display(), what)))?;
            }
        }
    }
    found.sort();
    Ok(found)
}

fn list(directory: &Path) -> std::io::Result<Vec<(String, PathBuf, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() || kind.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name, entry.path(), kind.is_dir()));
        }
    }
    Ok(found)
}
