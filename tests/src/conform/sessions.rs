//! Access sessions: what is consolidated of finished sessions, and the batch made of it, must be what newt makes.
//!
//! newt lists consolidated sessions in random order, so they are compared as sets; the batch is compared as the text that
//! it decodes to, since another compressor makes other bytes of the same text.

use std::io::Read;

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::ZlibDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use tuntrail::flow::session::{AccessSession, DropCount, SessionBatch, consolidate};

use super::difference;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    /// Finished sessions in any order.
    sessions: Vec<AccessSession>,
    /// The exact text of each, in the order of their starts.
    consolidated: Vec<Box<RawValue>>,
    batch_base64_zlib: String,
}

/// Checks one line of `access_sessions.jsonl`.
pub(super) fn run(line: &str) -> Result<(), String> {
    let vector: Vector = serde_json::from_str(line).map_err(|error| format!("not a vector: {error}"))?;
    let sessions = consolidate(vector.sessions);
    let mut want: Vec<_> = vector.consolidated.iter().map(|session| session.get().to_owned()).collect();
    let mut got = Vec::new();
    for session in &sessions {
        got.push(serde_json::to_string(session).map_err(|error| error.to_string())?);
    }
    want.sort_unstable();
    got.sort_unstable();
    compare("consolidated", &want.join("\n"), &got.join("\n"))?;
    let batch = SessionBatch::new(sessions, DropCount::default());
    compare("batch", &decode(&vector.batch_base64_zlib)?, &decode(&batch.to_base64_zlib())?)
}

fn decode(batch: &str) -> Result<String, String> {
    let compressed = STANDARD.decode(batch).map_err(|error| format!("batch: {error}"))?;
    let mut text = String::new();
    let read = ZlibDecoder::new(compressed.as_slice()).read_to_string(&mut text);
    read.map(|_| text).map_err(|error| format!("batch: {error}"))
}

fn compare(what: &str, want: &str, got: &str) -> Result<(), String> {
    difference(want, got).map_or(Ok(()), |difference| Err(format!("{what}: {difference}")))
}

#[cfg(test)]
mod tests {
    const VECTORS: &str = include_str!("../../vectors/access_sessions.jsonl");

    #[test]
    fn every_vector_is_consolidated_as_newt_does() {
        let failed: Vec<_> = VECTORS.lines().filter_map(|line| super::run(line).err()).collect();
        assert_eq!(failed, Vec::<String>::new());
    }

    #[test]
    fn a_wrong_record_and_a_wrong_batch_are_noticed() {
        let line = VECTORS.lines().next().unwrap();
        let wrong = line.replacen("\"connectionCount\":2", "\"connectionCount\":3", 1);
        assert!(super::run(&wrong).unwrap_err().starts_with("consolidated:"));
        let batch = |line: &str| line.split('"').nth(3).unwrap().to_owned();
        let other = batch(VECTORS.lines().nth(1).unwrap());
        let wrong = line.replacen(&batch(line), &other, 1);
        assert!(super::run(&wrong).unwrap_err().starts_with("batch:"));
    }
}
