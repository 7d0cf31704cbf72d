//! What the session log has done so far.

use super::DropCount;

/// Sums since the log was made, and what it holds now. Nothing in them identifies anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionStats {
    /// Sessions that were started.
    pub started: u64,
    /// Of these, those that ended by silence.
    pub ended_by_silence: u64,
    /// Of these, those that were ended, and recorded, to make room for another.
    pub evicted: u64,
    /// Sessions that could not be started: the log was shut down, or the system gave no random numbers.
    pub refused: u64,
    /// Bytes that came for a session that was not active any more, or could not be started.
    pub unattributed_bytes: u64,
    /// Sessions that are active now.
    pub active: usize,
    /// Records that wait now, those of a batch that is being sent included.
    pub waiting: usize,
    /// Batches that were taken.
    pub batches: u64,
    /// Records in them.
    pub sent: u64,
    /// The sessions that these stand for.
    pub sent_connections: u64,
    /// Batches that were not taken. Their sessions wait.
    pub failed_batches: u64,
    /// What was given up because too many waited.
    pub dropped: DropCount,
}
