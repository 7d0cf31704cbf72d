//! What could not be read: one line each on standard error, so that output stays what it is.

use std::{
    fmt,
    io::{self, Write},
};

use super::output::plain;

/// Something that is missing from what is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// A file, a collection, a line of an export.
    pub(crate) place: String,
    /// What is wrong with it.
    pub(crate) what: String,
    /// Whether records are lost or doubtful. Not so for what merely happened meanwhile or belongs to somebody else.
    pub(crate) is_damage: bool,
    /// Whether the place went away while it was read: what is missing may have been there a moment ago.
    pub(crate) is_gone: bool,
}

impl Notice {
    /// Records at `place` can't be had.
    pub(crate) fn damage(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { place: place.to_string(), what: what.to_string(), is_damage: true, is_gone: false }
    }

    /// Worth knowing, and no loss.
    pub(crate) fn remark(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { is_damage: false, ..Self::damage(place, what) }
    }

    /// What was at `place` is gone, for a good reason.
    pub(crate) fn gone(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { is_gone: true, ..Self::remark(place, what) }
    }

    /// Tells the user, if somebody listens: the reader of standard error may have seen enough, as `head` has.
    pub(crate) fn tell(&self) {
        let _ = writeln!(io::stderr(), "tuntrail: {self}");
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", plain(&self.place), plain(&self.what))
    }
}
