//! What a sink gets: sessions that ended, and what was given up before.

use std::{
    io::{self, Write},
    ops::AddAssign,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::ZlibEncoder};
use serde::Serialize;

use super::AccessSession;

/// Sessions that were given up because too many waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DropCount {
    /// Records.
    #[serde(rename = "droppedSessions")]
    pub sessions: u64,
    /// The sessions that these stood for.
    #[serde(rename = "droppedConnections")]
    pub connections: u64,
    /// What they carried, in both directions.
    #[serde(rename = "droppedBytes")]
    pub bytes: u64,
}

impl DropCount {
    pub(super) fn add(&mut self, session: &AccessSession) {
        let bytes = session.bytes_tx.saturating_add(session.bytes_rx);
        *self += Self { sessions: 1, connections: session.connections(), bytes };
    }

    /// What is left when `told` was told.
    pub(super) fn without(self, told: Self) -> Self {
        Self {
            sessions: self.sessions.saturating_sub(told.sessions),
            connections: self.connections.saturating_sub(told.connections),
            bytes: self.bytes.saturating_sub(told.bytes),
        }
    }
}

impl AddAssign for DropCount {
    fn add_assign(&mut self, other: Self) {
        self.sessions = self.sessions.saturating_add(other.sessions);
        self.connections = self.connections.saturating_add(other.connections);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Consolidated sessions, in the order of their starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionBatch {
    sessions: Vec<AccessSession>,
    dropped: DropCount,
}

impl SessionBatch {
    /// A batch of these sessions, as they are.
    #[must_use]
    pub fn new(sessions: Vec<AccessSession>, dropped: DropCount) -> Self {
        Self { sessions, dropped }
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &[AccessSession] {
        &self.sessions
    }

    /// What was given up since the last batch that was taken. newt's format has no place for it: a sink that sends
    /// [`Self::to_base64_zlib`] should report it in its own way.
    #[must_use]
    pub fn dropped(&self) -> DropCount {
        self.dropped
    }

    /// The sessions as a JSON array.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Neither a Vec as the writer nor these types, which are made of texts and numbers, can fail.
        serde_json::to_vec(&self.sessions).unwrap_or_default()
    }

    /// What newt sends as `compressed`: the JSON array, compressed as zlib (RFC 1950), in padded base64.
    #[must_use]
    pub fn to_base64_zlib(&self) -> String {
        // A Vec as the writer can't fail.
        STANDARD.encode(compress(&self.to_json()).unwrap_or_default())
    }
}

fn compress(json: &[u8]) -> io::Result<Vec<u8>> {
    // As newt. It costs little: a batch has a few hundred bytes per session, once a minute at most.
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(json)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::flow::session::testing::session;

    #[test]
    fn a_batch_is_the_json_array_compressed_in_base64() {
        let sessions = (0..100_u64).map(|n| session("100.90.0.1:1", "10.0.0.1:22", n, n)).collect();
        let batch = SessionBatch::new(sessions, DropCount::default());
        let text = batch.to_base64_zlib();
        let mut json = Vec::new();
        let compressed = STANDARD.decode(&text).unwrap();
        flate2::read::ZlibDecoder::new(&compressed[..]).read_to_end(&mut json).unwrap();
        assert_eq!(json, batch.to_json());
        assert_eq!(serde_json::from_slice::<Vec<AccessSession>>(&json).unwrap(), batch.sessions());
        assert!(text.len() < json.len() / 3, "{} bytes of {}", text.len(), json.len());
    }

    #[test]
    fn an_empty_batch_is_an_empty_array() {
        assert_eq!(SessionBatch::default().to_json(), b"[]");
    }
}
