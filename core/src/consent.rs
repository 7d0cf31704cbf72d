//! What may be recorded and sent.
//!
//! The host app asks its user, keeps the answer and tells the client at every start and whenever it changes. Without
//! [`Consent::Granted`] nothing is counted, written or sent.

/// The user's answer to whether connections may be recorded on this device and sent when asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Consent {
    /// Not asked yet: nothing is recorded, sent or deleted.
    #[default]
    Unknown,
    /// Recording and, on demand, sending are allowed.
    Granted,
    /// Refused or withdrawn: recording stops, a running upload is cancelled, and every record on disk is deleted.
    Denied,
}
