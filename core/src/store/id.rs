//! Names and numbers of the store: streams, writer roles, processes, sequence numbers, segments.
//!
//! All are plain values that parse once; nothing here touches a file.

use std::{fmt, num::NonZeroU32, str::FromStr};

use super::StoreError;

/// The name of a stream, which is also its directory: 1 to 32 characters of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(String);

impl StreamName {
    /// The longest name, in bytes. Keeps every path of the store far below the limits of all systems.
    pub const MAX_LEN: usize = 32;

    /// Checks `name`.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidName`] if it is empty, too long, or has a character other than `a-z`, `0-9`, `-`.
    pub fn new(name: impl Into<String>) -> Result<Self, StoreError> {
        let name = name.into();
        if is_plain(&name) { Ok(Self(name)) } else { Err(StoreError::InvalidName { name }) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StreamName {
    type Err = StoreError;

    fn from_str(name: &str) -> Result<Self, StoreError> {
        Self::new(name)
    }
}

/// Which process of the app writes. Each role has a writer directory of its own, so that processes of different
/// roles never share a file that is written.
///
/// [`Extension`](Self::Extension) and [`Service`](Self::Service) are exclusive: their process holds a file lock from
/// open to shutdown, and a second one is refused. The other roles are shared: any number of processes take turns, and
/// a lock is held only while the writer thread works, milliseconds at a time. So a system that suspends an idle app
/// finds no lock held (iOS ends an app that holds one then, with the code 0xdead10cc); to be sure that the writer
/// is idle, flush before the app goes to the background.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// The network extension or VPN service process: directory `w-ext`. Exclusive.
    Extension,
    /// The app itself: directory `w-app`. Shared.
    App,
    /// A background service: directory `w-svc`. Exclusive.
    Service,
    /// Anything else: directory `w-` and the name, which obeys the rules of [`StreamName`]. Shared.
    Other(StreamName),
}

impl Role {
    /// The short name in the directory name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Extension => "ext",
            Self::App => "app",
            Self::Service => "svc",
            Self::Other(name) => name.as_str(),
        }
    }

    /// Whether any number of processes may have this role at a time.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Extension | Self::Service => false,
            Self::App | Self::Other(_) => true,
        }
    }
}

/// Names one run of a process: random, never zero, never equal to another one in the same directory.
/// Together with [`ProcSeq`] it identifies a record for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcId(NonZeroU32);

impl ProcId {
    /// `None` if `value` is zero.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.get())
    }
}

/// The number of a record within its stream and process: 1 for the first one, without gaps as long as nothing
/// is lost. Records that were refused have a number too, so that the gap shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcSeq(u64);

impl ProcSeq {
    /// The sequence number `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ProcSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a segment within a writer directory. The order of ids is the order of age.
///
/// Shown and parsed as in the file name: 16 hexadecimal digits, `-`, 8 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// Counts the segments of a directory, over all processes. Below 2^63, so that adding one never overflows.
    pub generation: u64,
    /// The process that wrote the segment.
    pub proc_id: ProcId,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.generation, self.proc_id)
    }
}

impl SegmentId {
    /// Reads the form that [`Display`](fmt::Display) writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (generation, proc_id) = text.split_once('-')?;
        let hex = |text: &str, len: usize| {
            text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !hex(generation, 16) || !hex(proc_id, 8) {
            return None;
        }
        let generation = u64::from_str_radix(generation, 16).ok().filter(|&value| value >> 63 == 0)?;
        let proc_id = ProcId::new(u32::from_str_radix(proc_id, 16).ok()?)?;
        Some(Self { generation, proc_id })
    }
}

fn is_plain(name: &str) -> bool {
    (1..=StreamName::MAX_LEN).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_are_plain_directory_names() {
        for good in ["netlog", "a", "sock-stat-2", &"x".repeat(32)] {
            assert_eq!(StreamName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "Netlog", "a/b", "..", "a b", "ä", &"x".repeat(33)] {
            assert!(StreamName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn segment_ids_parse_exactly_what_they_show() {
        let id = SegmentId { generation: 0x17, proc_id: ProcId::new(0x9f3c_21aa).unwrap() };
        assert_eq!(id.to_string(), "0000000000000017-9f3c21aa");
        assert_eq!(SegmentId::parse("0000000000000017-9f3c21aa"), Some(id));
        for bad in [
            "",
            "17-9f3c21aa",
            "0000000000000017-9F3C21AA",
            "0000000000000017-00000000",
            "8000000000000000-9f3c21aa",
            "+000000000000017-9f3c21aa",
            "0000000000000017-9f3c21aa0",
        ] {
            assert_eq!(SegmentId::parse(bad), None, "{bad}");
        }
    }
}
