//! logtail's entries: bytes given to its `Write`, and the line it made of them.
//!
//! Each vector is checked in both ways that tuntrail makes entries: at once, and in two steps (without ids for the
//! store, ids added at the upload). There is no deliberate deviation: every vector must agree byte for byte.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::Deserialize;
use tuntrail::upload::{EntryIds, Envelope, Limits, encode, splice_ids};

use super::difference;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    /// The clock that logtail was given.
    client_time: String,
    /// How many entries it made: 0 or 1.
    entries: usize,
    /// What it made.
    entry: String,
    input_base64: String,
    /// Whether it ran in its low-memory mode.
    low_memory: bool,
    proc_id: u32,
    proc_seq: u64,
}

/// Runs one vector of `logtail_entries.jsonl`.
///
/// # Errors
/// What differs, or why the line is not a vector.
pub(super) fn run(line: &str) -> Result<(), String> {
    let vector: Vector = serde_json::from_str(line).map_err(|error| format!("not a vector: {error}"))?;
    let input = STANDARD.decode(&vector.input_base64).map_err(|error| format!("not a vector: {error}"))?;
    let time: Timestamp =
        vector.client_time.parse().map_err(|error| format!("not a vector: client_time: {error}"))?;
    let ids = EntryIds { proc_id: vector.proc_id, proc_seq: vector.proc_seq };
    let limits = if vector.low_memory { Limits::LOW_MEMORY } else { Limits::NORMAL };
    let envelope = |ids| Envelope { client_time: Some(time), ids };

    let (mut at_once, mut stored, mut spliced) = (Vec::new(), Vec::new(), Vec::new());
    let entries = usize::from(encode(&input, &envelope(Some(ids)), &limits, &mut at_once));
    if entries != vector.entries {
        return Err(format!("expected {} entries, got {entries}", vector.entries));
    }
    if encode(&input, &envelope(None), &limits, &mut stored) {
        splice_ids(&stored, ids, &mut spliced);
    }
    compare("encoded at once", &vector.entry, &at_once)?;
    compare("ids added at the upload", &vector.entry, &spliced)
}

fn compare(how: &str, expected: &str, actual: &[u8]) -> Result<(), String> {
    difference(expected, &String::from_utf8_lossy(actual))
        .map_or(Ok(()), |difference| Err(format!("{how}: {difference}")))
}
