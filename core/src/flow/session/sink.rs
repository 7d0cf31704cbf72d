//! Where batches of sessions go.

use std::fmt;

use super::SessionBatch;
use crate::{clock::SharedClock, flow::RecordSink};

/// Takes batches of sessions. Called on the session logger's worker thread, which waits for it: sessions that end
/// meanwhile wait in the log, within its limits.
pub trait SessionSink: Send {
    /// Takes a batch for good, or fails; then all of its sessions are offered again later, consolidated with those that
    /// ended since. A sink that confirms only what its server has acknowledged loses nothing.
    ///
    /// # Errors
    /// [`SinkError`] when the batch could not be delivered.
    fn send(&mut self, batch: &SessionBatch) -> Result<(), SinkError>;
}

/// Why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sessions not taken: {reason}")]
pub struct SinkError {
    reason: String,
}

impl SinkError {
    /// An error for this reason. It may get into diagnostics: no addresses, no secrets.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Writes each session as a record of its own, for example into the store; it never fails, since such a sink accounts
/// for its own losses. Where sessions were given up before, a record with the members of
/// [`DropCount`](super::DropCount) comes first.
pub struct SessionRecords {
    records: Box<dyn RecordSink>,
    clock: SharedClock,
    json: Vec<u8>,
}

impl SessionRecords {
    /// Writes into `records`, at the wall-clock time of `clock`.
    #[must_use]
    pub fn new(records: Box<dyn RecordSink>, clock: SharedClock) -> Self {
        Self { records, clock, json: Vec::new() }
    }

    fn write<T: serde::Serialize>(&mut self, record: &T) {
        self.json.clear();
        // Neither a Vec as the writer nor these types, which are made of texts and numbers, can fail.
        if serde_json::to_writer(&mut self.json, record).is_ok() {
            self.records.append(self.clock.wall(), &self.json);
        }
    }
}

impl SessionSink for SessionRecords {
    fn send(&mut self, batch: &SessionBatch) -> Result<(), SinkError> {
        if batch.dropped().sessions != 0 {
            self.write(&batch.dropped());
        }
        for session in batch.sessions() {
            self.write(session);
        }
        Ok(())
    }
}

impl fmt::Debug for SessionRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRecords").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use jiff::Timestamp;

    use super::*;
    use crate::{
        clock::ManualClock,
        flow::session::{AccessSession, DropCount, testing::session},
    };

    type Kept = Arc<Mutex<Vec<(Timestamp, String)>>>;

    struct Keep(Kept);

    impl RecordSink for Keep {
        fn append(&mut self, wall: Timestamp, json: &[u8]) {
            self.0.lock().unwrap().push((wall, String::from_utf8(json.to_vec()).unwrap()));
        }
    }

    #[test]
    fn each_session_is_a_record_and_losses_come_first() {
        let (wall, kept) = (Timestamp::UNIX_EPOCH, Kept::default());
        let clock = Arc::new(ManualClock::new(wall));
        let mut sink = SessionRecords::new(Box::new(Keep(Arc::clone(&kept))), clock);
        let sessions =
            [session("100.90.0.1:1", "10.0.0.1:22", 0, 9), session("[fd00::1]:1", "[fd00::2]:22", 0, 9)];
        sink.send(&SessionBatch::new(sessions.to_vec(), DropCount::default())).unwrap();
        let dropped = DropCount { sessions: 2, connections: 5, bytes: 70 };
        sink.send(&SessionBatch::new(vec![], dropped)).unwrap();
        let kept = kept.lock().unwrap();
        let read: Vec<AccessSession> =
            kept[..2].iter().map(|(_, json)| serde_json::from_str(json).unwrap()).collect();
        assert_eq!(read, sessions);
        let losses = r#"{"droppedSessions":2,"droppedConnections":5,"droppedBytes":70}"#;
        assert_eq!(kept[2..], [(wall, losses.to_owned())]);
    }
}
