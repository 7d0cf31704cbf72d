//! An export as a source: read as a stream, a line at a time.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
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
/// Of what stands before a file and tells its name: ours have some 200 bytes, and whoever packs an export anew adds some
/// attributes.
const MAX_ABOUT: u64 = 64 * 1024;

type Archive = tar::Archive<zstd::Decoder<'static, BufReader<File>>>;

fn open(path: &Path) -> io::Result<Archive> {
    let mut decoder = zstd::Decoder::new(File::open(path)?)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(tar::Archive::new(decoder))
}

/// The names of an archive's files as they are read, one by one.
///
/// A name that does not fit a file's header stands before it in a file of its own kind. The archive is iterated raw, and these
/// are read here: what `tar` itself reads of them has no limit.
#[derive(Default)]
struct Names {
    next: Option<Vec<u8>>,
}

impl Names {
    /// The name of `file`; nothing if it only tells about the one behind it.
    ///
    /// # Errors
    ///
    /// If it can't be read, or is like nothing that belongs to an export.
    fn of(&mut self, file: &mut tar::Entry<'_, impl Read>) -> io::Result<Option<Vec<u8>>> {
        let kind = file.header().entry_type();
        if kind.is_gnu_longname() {
            let mut name = about(file)?;
            // It ends like a text of C.
            name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
            self.next = Some(name);
        } else if kind.is_pax_local_extensions() {
            let about = about(file)?;
            for member in tar::PaxExtensions::new(&about) {
                let member = member?;
                match member.key_bytes() {
                    b"path" => self.next = Some(member.value_bytes().to_vec()),
                    // The header has the length of all that an export holds.
                    b"size" => return Err(foreign("it has a file of several GiB")),
                    _ => {}
                }
            }
        } else if !kind.is_gnu_longlink() && !kind.is_pax_global_extensions() {
            return Ok(Some(self.next.take().unwrap_or_else(|| file.path_bytes().into_owned())));
        }
        Ok(None)
    }
}

/// What a file tells about the one behind it.
fn about(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_ABOUT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_ABOUT {
        return Err(foreign(&format!("it tells more than {MAX_ABOUT} bytes about a file")));
    }
    Ok(content)
}

fn foreign(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What the export at `path` says it is of; nothing, unless it says so at its beginning.
pub(super) fn manifest(path: &Path) -> Result<Manifest, String> {
    let mut archive = open(path).map_err(|error| error.to_string())?;
    let mut names = Names::default();
    for file in archive.entries().map_err(|error| error.to_string())?.raw(true) {
        let mut file = file.map_err(|error| error.to_string())?;
        let Some(name) = names.of(&mut file).map_err(|error| error.to_string())? else { continue };
        return match inside(&name).as_deref().map(Part::of) {
            Some(Part::Manifest) => Manifest::read(file),
            _ => Err("does not begin with a manifest".into()),
        };
    }
    Err("is empty".into())
}

/// The name of a file below our directory.
fn inside(path: &[u8]) -> Option<String> {
    String::from_utf8_lossy(path).strip_prefix(TOP)?.strip_prefix('/').map(str::to_owned)
}

/// Tells everything in the export at `path`.
pub(super) fn read(path: &Path, sink: &mut Sink<'_>) -> Result<(), CommandError> {
    let mut archive = open(path)?;
    let (mut is_export, mut is_complete) = (false, false);
    let mut names = Names::default();
    for file in archive.entries()?.raw(true) {
        let named = file.and_then(|mut file| Ok((names.of(&mut file)?, file)));
        let (name, mut file) = match named {
            Ok((Some(name), file)) => (name, file),
            Ok((None, _)) => continue,
            Err(error) => return cut(path, &error, sink),
        };
        let place = format!("{}:{}", path.display(), String::from_utf8_lossy(&name));
        let is_file = file.header().entry_type().is_file();
        let name = inside(&name).filter(|_| is_file);
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

fn cut(path: &Path, error: &io::Error, sink: &mut Sink<'_>) -> Result<(), CommandError> {
    sink(Event::Notice(Notice::damage(path.display(), format!("is damaged or cut from here on: {error}"))))
}

/// Tells the entries of a file. The inner error is that of the file.
pub(super) fn lines(
    stream: &str,
    place: &str,
    file: impl Read,
    sink: &mut Sink<'_>,
) -> Result<io::Result<()>, CommandError> {
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
