//! Writing an export: a draft beside its place, which is taken at the end. Dropped before that, nothing is left of it.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Serialize;
use tempfile::{TempDir, TempPath};
use tuntrail::client::ExportReport;

use crate::logs::manifest::{DIAGNOSTICS, MANIFEST, Manifest, SUMMARY, TOP};

/// As the app's export: the fastest level, and a window of 256 KiB.
const LEVEL: i32 = 1;
const WINDOW_LOG: u32 = 18;
/// What is longer becomes several files: an archive names the length of a file before its content, so it is in memory.
const MAX_FILE: usize = 4 << 20;
/// Of a file of our own log; it rotates long before.
const MAX_LOG: u64 = 16 << 20;
/// Of a name of a file; some file systems allow no more than 143.
const MAX_NAME: usize = 100;

/// Where an export is written.
enum Place {
    File { archive: Box<tar::Builder<zstd::Encoder<'static, File>>>, draft: TempPath },
    Directory(TempDir),
}

/// An export in the making.
pub(super) struct Writer {
    place: Place,
    out: PathBuf,
    mtime: u64,
    report: ExportReport,
    /// Names that are taken: two writers' logs may have the same.
    names: HashSet<String>,
    /// Stream and name of the segment that comes, and how many files it has.
    segment: (String, String, usize),
    lines: Vec<u8>,
}

impl Writer {
    /// Begins an export that will be at `out`: a file if its name ends so, else a directory.
    ///
    /// # Errors
    ///
    /// If something is there already, or nothing can be made there.
    pub(super) fn begin(out: &Path, created: Timestamp, manifest: &Manifest) -> io::Result<Self> {
        let is_file = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zst"));
        let is_empty = !is_file && fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
        if out.symlink_metadata().is_ok() && !is_empty {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists; name another place"));
        }
        let beside = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut draft = tempfile::Builder::new();
        draft.prefix(".tuntrail-");
        // Both are for their owner only; a file is by default.
        #[cfg(unix)]
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let place = if is_file {
            let (file, draft) = draft.tempfile_in(beside)?.into_parts();
            let mut encoder = zstd::Encoder::new(file, LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.window_log(WINDOW_LOG)?;
            Place::File { archive: Box::new(tar::Builder::new(encoder)), draft }
        } else {
            #[cfg(unix)]
            draft.permissions(private);
            Place::Directory(draft.tempdir_in(beside)?)
        };
        let mut writer = Self {
            place,
            out: out.to_owned(),
            mtime: u64::try_from(created.as_second()).unwrap_or_default(),
            report: ExportReport::default(),
            names: HashSet::new(),
            segment: Default::default(),
            lines: Vec::new(),
        };
        writer.put(MANIFEST, &pretty(manifest)?)?;
        Ok(writer)
    }

    /// The lines that follow are of this segment.
    pub(super) fn segment(&mut self, stream: &str, name: &str) -> io::Result<()> {
        self.flush()?;
        self.segment = (directory(stream), component(name), 0);
        self.report.segments += 1;
        Ok(())
    }

    /// Adds an entry.
    pub(super) fn line(&mut self, line: &str, is_record: bool) -> io::Result<()> {
        if self.lines.len() + line.len() >= MAX_FILE {
            self.flush()?;
        }
        self.lines.extend_from_slice(line.as_bytes());
        self.lines.push(b'\n');
        self.report.records += u64::from(is_record);
        Ok(())
    }

    /// Adds a file of our own log.
    pub(super) fn log(&mut self, name: &str, content: &mut dyn Read) -> io::Result<()> {
        self.flush()?;
        let mut bytes = Vec::new();
        if content.take(MAX_LOG).read_to_end(&mut bytes).is_err() {
            // Cut or damaged: what came before is worth having.
            self.miss();
        }
        let name = format!("{DIAGNOSTICS}/{}", component(name));
        self.put(&name, &bytes)?;
        self.report.log_files += 1;
        Ok(())
    }

    /// Notes something that can't be added.
    pub(super) const fn miss(&mut self) {
        self.report.unreadable += 1;
    }

    /// Completes the export and puts it into its place.
    pub(super) fn finish(mut self) -> io::Result<ExportReport> {
        self.flush()?;
        self.put(SUMMARY, &pretty(&self.report)?)?;
        match self.place {
            Place::File { archive, draft } => {
                let mut file = archive.into_inner()?.finish()?;
                file.flush()?;
                self.report.bytes = file.metadata()?.len();
                // Windows renames no open file.
                drop(file);
                draft.persist_noclobber(&self.out)?;
            }
            Place::Directory(draft) => {
                // An empty one may be there, which not all systems replace.
                match fs::remove_dir(&self.out) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => fs::rename(draft.path(), &self.out)?,
                }
            }
        }
        Ok(self.report)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let (stream, name, files) = &mut self.segment;
        *files += 1;
        let name = match files {
            1 => format!("{stream}/{name}.jsonl"),
            files => format!("{stream}/{name}_{files:04}.jsonl"),
        };
        let lines = std::mem::take(&mut self.lines);
        let done = self.put(&name, &lines);
        self.lines = lines;
        self.lines.clear();
        done
    }

    fn put(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut unique = name.to_owned();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let mut count = 1;
        while !self.names.insert(unique.clone()) {
            count += 1;
            unique = format!("{stem}-{count}.{extension}");
        }
        match &mut self.place {
            Place::File { archive, .. } => {
                let mut header = tar::Header::new_ustar();
                header.set_size(content.len() as u64);
                header.set_mode(0o600);
                header.set_mtime(self.mtime);
                archive.append_data(&mut header, format!("{TOP}/{unique}"), content)
            }
            Place::Directory(draft) => {
                let path = draft.path().join(&unique);
                if let Some(parent) = path.parent() {
                    private_directory(parent)?;
                }
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                self.report.bytes += content.len() as u64;
                options.open(path)?.write_all(content)
            }
        }
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The name of a stream's directory. One that the layout uses for something else gets `_` behind it; so do those that differ
/// in case alone, for systems that don't.
fn directory(stream: &str) -> String {
    let name = component(stream);
    let is_taken = [DIAGNOSTICS, MANIFEST, SUMMARY].iter().any(|taken| name.eq_ignore_ascii_case(taken));
    if is_taken { name + "_" } else { name }
}

/// A name of one file, made of what a server or another export calls something. It leads nowhere else.
fn component(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = name.chars().take(MAX_NAME).map(|c| if allowed(c) { c } else { '_' }).collect();
    match plain.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if plain.is_empty() => "_".into(),
        None => plain,
    }
}

fn pretty(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for (name, expected) in [
            ("netlog", "netlog"),
            ("netlog.example.com", "netlog.example.com"),
            ("..", "_."),
            ("../../etc/passwd", "_.\u{5f}..\u{5f}etc_passwd"),
            ("a\u{202e}\u{0}b c", "a__b_c"),
            ("", "_"),
        ] {
            assert_eq!(component(name), expected, "{name:?}");
        }
        assert_eq!(component(&"x".repeat(1_000)).len(), MAX_NAME);
    }

    #[test]
    fn a_stream_that_is_named_like_a_part_of_the_layout_stays_a_stream() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let mut writer = Writer::begin(&out, Timestamp::UNIX_EPOCH, &Manifest::default()).unwrap();
        for stream in ["diagnostics", "manifest.json", "Summary.json"] {
            writer.segment(stream, "log").unwrap();
            writer.line("{}", true).unwrap();
        }
        writer.log("0.log", &mut "one".as_bytes()).unwrap();
        writer.finish().unwrap();
        for name in ["diagnostics_", "manifest.json_", "Summary.json_"] {
            assert_eq!(fs::read_to_string(out.join(name).join("log.jsonl")).unwrap(), "{}\n", "{name}");
        }
        assert!(out.join("manifest.json").is_file() && out.join("diagnostics/0.log").is_file());
    }

    #[test]
    fn the_same_name_twice_is_two_files() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let mut writer = Writer::begin(&out, Timestamp::UNIX_EPOCH, &Manifest::default()).unwrap();
        writer.log("0.log", &mut "one".as_bytes()).unwrap();
        writer.log("0.log", &mut "two".as_bytes()).unwrap();
        writer.finish().unwrap();
        assert_eq!(fs::read_to_string(out.join("diagnostics/0.log")).unwrap(), "one");
        assert_eq!(fs::read_to_string(out.join("diagnostics/0-2.log")).unwrap(), "two");
    }

    #[test]
    fn a_long_log_is_several_files_in_the_order_of_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let mut writer = Writer::begin(&out, Timestamp::UNIX_EPOCH, &Manifest::default()).unwrap();
        writer.segment("c", "log").unwrap();
        let line = "x".repeat(1 << 20);
        (0..12).for_each(|_| writer.line(&line, true).unwrap());
        assert_eq!(writer.finish().unwrap().records, 12);
        let mut names: Vec<_> =
            fs::read_dir(out.join("c")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["log.jsonl", "log_0002.jsonl", "log_0003.jsonl", "log_0004.jsonl"]);
    }

    #[test]
    fn nothing_is_left_of_an_export_that_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["out", "out.tar.zst"] {
            let out = directory.path().join(name);
            let mut writer = Writer::begin(&out, Timestamp::UNIX_EPOCH, &Manifest::default()).unwrap();
            writer.segment("c", "log").unwrap();
            drop(writer);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
