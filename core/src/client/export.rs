//! One file with everything recorded, for a user who mails it instead of uploading.
//!
//! A tar archive, zstd-compressed, written on the caller's thread one segment at a time: memory doesn't grow with what is
//! recorded. Inside, below `tuntrail/`:
//!
//! - `manifest.json`: version of this layout, when it was made, the log's public ID, the collection of each stream;
//! - `<stream>/<segment>.jsonl`: the stream's entries as an upload would send them, one per line, oldest segment first;
//! - `diagnostics/<number>.log`: our own log lines;
//! - `summary.json`, the last: what was written, and what could not be read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::MutexGuard,
};

use jiff::Timestamp;
use serde::Serialize;
use tracing::warn;

use super::{Client, ClientError, State};
use crate::{
    diagnostics::Diagnostics,
    store::{RecordKind, Segment, StreamHandle},
    upload::{Collection, EntryIds, PublicId, encode_meta, splice_ids},
};

/// Of the layout.
const VERSION: u32 = 1;
/// The directory inside the archive, so that unpacking makes one thing.
const TOP: &str = "tuntrail";
/// The fastest level, as uploads use.
const LEVEL: i32 = 1;
/// 256 KiB, one segment: more would only take memory.
const WINDOW_LOG: u32 = 18;

/// What an export holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Records of all streams, without drop reports.
    pub records: u64,
    /// Segments whose records these are.
    pub segments: u64,
    /// Segments that could not be read or made room for newer ones meanwhile.
    pub unreadable: u64,
    /// Files of our own log.
    pub log_files: u64,
    /// Size of the export.
    #[serde(skip)]
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
struct Manifest<'a> {
    version: u32,
    /// RFC 3339.
    created: String,
    sdk: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_id: Option<String>,
    streams: &'a [ExportStream],
}

/// A stream as the manifest of an export names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportStream {
    /// Its name and directory.
    pub name: String,
    /// What the server calls it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
}

/// Appends the entries of a segment as an upload would send them, one per line. Returns how many of them are records, the
/// others being drop reports.
pub fn segment_entries(segment: &Segment, lines: &mut Vec<u8>) -> u64 {
    let proc_id = segment.info().proc_id.get();
    let mut records = 0;
    for record in segment.records() {
        let ids = EntryIds { proc_id, proc_seq: record.seq.get() };
        match record.kind {
            RecordKind::Data => {
                splice_ids(record.payload, ids, lines);
                records += 1;
            }
            RecordKind::Meta => encode_meta(record.payload, ids, lines),
        }
        if !lines.ends_with(b"\n") {
            lines.push(b'\n');
        }
    }
    records
}

impl Client {
    /// Writes everything recorded so far into one file at `path`, which must not exist: a `.tar.zst` of JSON lines that a
    /// user can look at and mail, instead of an upload. What it holds is described in `docs/records.md`. Records stay where
    /// they are. Works on the caller's thread, in constant memory; the file appears when it is complete.
    ///
    /// # Errors
    /// Without consent (also if it is withdrawn meanwhile: nothing is left then), and when the file can't be written
    /// ([`ClientError::Export`]).
    pub fn export(&self, path: &Path) -> Result<ExportReport, ClientError> {
        self.export_to(path).map_err(|error| match error {
            ClientError::Io(source) => ClientError::Export { path: path.to_owned(), source },
            other => other,
        })
    }

    fn export_to(&self, path: &Path) -> Result<ExportReport, ClientError> {
        let (streams, log_id, refusals) = {
            let state = self.lock()?;
            let recording = state.recording.as_ref().ok_or(ClientError::NoConsent(state.consent))?;
            state.close_window(recording);
            (recording.streams(&self.config), recording.log_id(), state.refusals)
        };
        let written = self.write_export(path, &streams, log_id, refusals);
        // Whatever else went wrong then: the records went, because the user said so.
        written.or_else(|error| self.check_agreed(refusals).and(Err(error)))
    }

    /// No longer than the user agrees: fails after a refusal since there were `refusals`, also if consent was granted anew.
    fn check_agreed(&self, refusals: u64) -> Result<MutexGuard<'_, State>, ClientError> {
        let state = self.lock()?;
        if state.refusals == refusals { Ok(state) } else { Err(ClientError::NoConsent(state.consent)) }
    }

    fn write_export(
        &self,
        path: &Path,
        streams: &[(StreamHandle, &Collection)],
        log_id: PublicId,
        refusals: u64,
    ) -> Result<ExportReport, ClientError> {
        let named = streams.iter().map(|(stream, collection)| ExportStream {
            name: stream.name().to_string(),
            collection: Some(collection.to_string()),
        });
        let named: Vec<_> = named.collect();
        let mut export = Export::begin(path, self.config.clock.wall(), Some(log_id), &named)?;
        for (stream, _) in streams {
            for info in stream.seal()? {
                match stream.read(&info.id) {
                    Ok(segment) => export.add_segment(stream.name().as_str(), &segment)?,
                    Err(error) => {
                        warn!(stream = stream.name().as_str(), %error, "a segment is not in the export");
                        export.miss_segment();
                    }
                }
                drop(self.check_agreed(refusals)?);
            }
        }
        if let Some(diagnostics) = &self.config.diagnostics {
            // What the disk did not take is counted there.
            let _ = diagnostics.flush();
        }
        for path in Diagnostics::files(&self.config.diagnostics_directory())? {
            export.add_log(&path)?;
        }
        // Nobody refuses between this look and the appearance of the file.
        let _agreed = self.check_agreed(refusals)?;
        Ok(export.finish()?)
    }
}

type Archive = tar::Builder<zstd::Encoder<'static, File>>;

/// An export in the making, on the caller's thread: a draft beside its place, which is taken at the end. Dropped before
/// that, nothing is left of it. For tools that export a store of which no client runs; an app uses [`Client::export`].
pub struct Export {
    archive: Archive,
    draft: Draft,
    mtime: u64,
    report: ExportReport,
    /// Kept from one segment to the next.
    lines: Vec<u8>,
}

impl Export {
    /// Begins an export that will be at `path`, which must not exist.
    ///
    /// # Errors
    /// If there is a file already, or none can be made.
    pub fn begin(
        path: &Path,
        created: Timestamp,
        log_id: Option<PublicId>,
        streams: &[ExportStream],
    ) -> io::Result<Self> {
        let (draft, file) = Draft::create(path)?;
        let mut encoder = zstd::Encoder::new(file, LEVEL)?;
        encoder.include_checksum(true)?;
        encoder.window_log(WINDOW_LOG)?;
        let mtime = u64::try_from(created.as_second()).unwrap_or_default();
        let mut export = Self {
            archive: tar::Builder::new(encoder),
            draft,
            mtime,
            report: ExportReport::default(),
            lines: Vec::new(),
        };
        let manifest = Manifest {
            version: VERSION,
            created: created.to_string(),
            sdk: env!("CARGO_PKG_VERSION"),
            log_id: log_id.map(|id| id.to_string()),
            streams,
        };
        export.append("manifest.json", &pretty(&manifest)?)?;
        Ok(export)
    }

    /// Adds what `segment` of `stream` holds.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn add_segment(&mut self, stream: &str, segment: &Segment) -> io::Result<()> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        self.report.records += segment_entries(segment, &mut lines);
        let added = self.append(&format!("{stream}/{}.jsonl", segment.info().id), &lines);
        self.report.segments += 1;
        self.lines = lines;
        added
    }

    /// Notes a segment that can't be added.
    pub const fn miss_segment(&mut self) {
        self.report.unreadable += 1;
    }

    /// Adds a file of our own log. One that was rotated away meanwhile is no error.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub fn add_log(&mut self, path: &Path) -> io::Result<()> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        // It may grow while it is read: what it had at first is what the archive says it has.
        let len = file.metadata()?.len();
        let mut content = Vec::new();
        file.take(len).read_to_end(&mut content)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("log");
        self.append(&format!("diagnostics/{name}"), &content)?;
        self.report.log_files += 1;
        Ok(())
    }

    /// Completes the export and puts it into its place.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn finish(mut self) -> io::Result<ExportReport> {
        self.append("summary.json", &pretty(&self.report)?)?;
        let mut file = self.archive.into_inner()?.finish()?;
        file.flush()?;
        let bytes = file.metadata()?.len();
        // Windows renames no open file.
        drop(file);
        self.draft.publish()?;
        Ok(ExportReport { bytes, ..self.report })
    }

    fn append(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.mtime);
        self.archive.append_data(&mut header, format!("{TOP}/{name}"), content)
    }
}

fn pretty(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    Ok(json)
}

/// A file that is deleted unless it takes its final place.
struct Draft {
    path: PathBuf,
    place: Option<PathBuf>,
}

impl Draft {
    /// Makes the file. One that a killed process left is replaced; one that is being written is somebody else's.
    fn create(place: &Path) -> io::Result<(Self, File)> {
        let exists = |what: &str| {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} {what}", place.display())))
        };
        if place.exists() {
            return exists("exists");
        }
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = place.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if File::open(&path)?.try_lock().is_err() {
                    return exists("is being written by another export");
                }
                fs::remove_file(&path)?;
                options.open(&path)?
            }
            file => file?,
        };
        // Tells others that it is being written. Where files can't be locked, one that is left must be deleted by hand.
        let _ = file.try_lock();
        Ok((Self { path, place: Some(place.to_owned()) }, file))
    }

    fn publish(mut self) -> io::Result<()> {
        match self.place.take() {
            Some(place) => fs::rename(&self.path, place).inspect_err(|_| self.remove()),
            None => Ok(()),
        }
    }

    fn remove(&self) {
        // It holds nothing that is not elsewhere; a half export that stays is the host's to delete.
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.remove();
        }
    }
}
