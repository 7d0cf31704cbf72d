//! `--bug`: a debug upload of the phone at the end, and its record looked up at the server.

use serde::Serialize;
use tuntrail::client::{Collections, DebugMarker};
use tuntrail_logserver::Server;

use super::node::SERVER;
use crate::CommandError;

/// A debug upload and where the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct BugReport {
    /// What a user would read out.
    pub(super) marker: String,
    /// Where the server has its record, and everything else of our own log.
    pub(super) collection: String,
    /// Whose.
    pub(super) log: String,
    /// Whether the record is there.
    pub(super) found: bool,
    /// The note as it arrived.
    pub(super) note: String,
}

impl BugReport {
    /// Looks `marker` up.
    pub(super) fn find(server: &Server, marker: &DebugMarker) -> Result<Self, CommandError> {
        let collection = Collections::of_host(SERVER)?.diagnostics;
        let entries = server.entries(collection.as_str())?;
        let mut records = entries.iter().filter_map(|entry| {
            let record: serde_json::Value = serde_json::from_str(&entry.payload).ok()?;
            (record.get("marker")? == marker.as_str()).then_some((entry, record))
        });
        let record = records.next_back();
        let note = record.as_ref().and_then(|(_, record)| record.get("note")?.as_str());
        Ok(Self {
            marker: marker.to_string(),
            collection: collection.to_string(),
            log: record.as_ref().map(|(entry, _)| entry.public_id.clone()).unwrap_or_default(),
            found: record.is_some(),
            note: note.unwrap_or_default().to_owned(),
        })
    }
}
