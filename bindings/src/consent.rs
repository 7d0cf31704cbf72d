//! What the user agreed to.

use tuntrail::consent;

/// What the user agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Consent {
    /// Not asked yet: nothing is recorded, sent or deleted.
    Unknown,
    /// Recording and, on demand, sending are allowed.
    Granted,
    /// Refused or withdrawn: everything recorded is deleted.
    Denied,
}

impl From<Consent> for consent::Consent {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::Unknown => Self::Unknown,
            Consent::Granted => Self::Granted,
            Consent::Denied => Self::Denied,
        }
    }
}
