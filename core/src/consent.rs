//! What may be recorded and sent.
//!
//! The host app asks its user, keeps the answer and tells the client at every start and whenever it changes. Without
//! [`Consent::Granted`] nothing is counted, written or sent. A denial is also written down beside the records, so that
//! their deletion is finished even if the process is killed in the middle and the host has forgotten about it.

/// The user's answer to whether connections may be recorded on this device and sent when asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Consent {
    /// Not asked yet: nothing is recorded or sent. Nothing is deleted either, but for the rest of a deletion that a kill
    /// interrupted.
    #[default]
    Unknown,
    /// Recording and, on demand, sending are allowed.
    Granted,
    /// Refused or withdrawn: recording stops, a running upload is cancelled, and every record on disk is deleted.
    Denied,
}
