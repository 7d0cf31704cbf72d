//! Our own log as a stream: its lines, copied out of its files when somebody asks for an upload.
//!
//! The files under `diagnostics/` are the log ([`diagnostics`](crate::diagnostics)). While nobody asks, the stream is empty
//! and costs nothing. Who asks gets the lines that were not copied before, each as an entry with the time of the line; what was
//! copied is remembered beside the files. A kill between copying and remembering copies twice, never not at all.
//!
//! Nothing feeds itself: lines are copied once per request, before its upload begins, so what an upload logs waits for the next
//! request. And the lines that uploads leave are no reason for another one ([`join`]).
//!
//! Called under the client's lock, on the thread of whoever asks; reads at most the files, 1 MiB, and waits for the disk.

use tracing::{Level, warn};

use super::{ClientConfig, ClientError, recording::Recording};
use crate::{
    diagnostics::{Selection, Unsent},
    store::StreamHandle,
    upload::{Envelope, Limits, encode},
};

/// Entries between two flushes: half of what the stream's queue takes, so that none is refused however slow the disk.
const FLUSH_RECORDS: u32 = 128;
/// The same in bytes, and little, for memory's sake.
const FLUSH_BYTES: usize = 128 * 1024;
/// Whose lines are about uploads.
const UPLOADS: &str = "tuntrail::upload";

/// Copies the new lines for an ordinary upload, unless there are none but what earlier uploads have logged. A log that can't be
/// copied must not hold up the records.
pub(super) fn join(config: &ClientConfig, recording: &Recording) {
    let copied = has_news(config)
        .and_then(|news| if news { copy(config, recording.own_log(), Selection::default()) } else { Ok(0) });
    if let Err(error) = copied {
        tell(&error);
    }
}

/// Copies the lines in `selection`, for a debug upload.
pub(super) fn take(config: &ClientConfig, recording: &Recording, selection: Selection) {
    if let Err(error) = copy(config, recording.own_log(), selection) {
        tell(&error);
    }
}

fn tell(error: &ClientError) {
    // The next request tries again. A path may name the user, so it is not for everybody.
    warn!("lines of our own log can't be uploaded");
    tracing::debug!(%error, "copying our own log failed");
}

fn has_news(config: &ClientConfig) -> Result<bool, ClientError> {
    let mut news = false;
    flush(config);
    Unsent::load(&config.diagnostics_directory())?.take(Selection::default(), |line| {
        let of_uploads =
            line.target.strip_prefix(UPLOADS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        news |= line.level <= Level::WARN || !of_uploads;
        Ok::<_, ClientError>(())
    })?;
    Ok(news)
}

/// Says how many lines were copied.
fn copy(config: &ClientConfig, stream: &StreamHandle, selection: Selection) -> Result<u64, ClientError> {
    flush(config);
    let mut unsent = Unsent::load(&config.diagnostics_directory())?;
    let (mut copied, mut records, mut bytes) = (0, 0, 0);
    let mut entry = Vec::new();
    unsent.take(selection, |line| {
        entry.clear();
        let envelope = Envelope { client_time: Some(line.time), ids: None };
        // Scanned as foreign text: whatever is in the file, what goes out is one valid entry.
        encode(line.json, &envelope, &Limits::NORMAL, &mut entry);
        if records >= FLUSH_RECORDS || bytes + entry.len() > FLUSH_BYTES {
            stream.flush()?;
            (records, bytes) = (0, 0);
        }
        stream.append(&entry)?;
        copied += 1;
        records += 1;
        bytes += entry.len();
        Ok::<_, ClientError>(())
    })?;
    if copied > 0 {
        stream.flush()?;
        unsent.save()?;
    }
    Ok(copied)
}

/// Puts the lines that wait in memory into the files.
fn flush(config: &ClientConfig) {
    if let Some(diagnostics) = &config.diagnostics {
        // What the disk did not take is counted there.
        let _ = diagnostics.flush();
    }
}
