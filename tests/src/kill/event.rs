//! What the child tells its parent through a pipe: one line for each event, each written by one system call, so that
//! whatever the parent has read whole did happen before the kill.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    str::FromStr,
};

use tuntrail::upload::PublicId;

/// Something the child did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// It is at work, as the process with this id, under this log id. A child that only uses a client has no process
    /// id to tell (0) and may have no log id.
    Began { proc_id: u32, log: Option<PublicId> },
    /// The records `number ..` were taken under the sequence numbers `seq ..`, `len` of each.
    Appended { number: u64, seq: u64, len: u64 },
    /// All records with a number below this were flushed.
    Promised { below: u64 },
    /// An upload was asked for.
    Uploading,
    /// The server has confirmed a request. The upload thread stands still until the end.
    Confirmed,
    /// It is about to withdraw consent.
    Revoking,
    /// Consent was withdrawn, and the call has returned.
    Revoked,
    /// It has ended in order.
    Done,
    /// It could not go on.
    Failed(String),
}

/// The child's end of the pipe: its standard output, without a buffer.
#[derive(Debug)]
pub(super) struct Teller(File);

impl Teller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    /// May be called from any thread: lines of this length are never mixed.
    pub(super) fn tell(&self, event: &Event) -> io::Result<()> {
        (&self.0).write_all(format!("{event}\n").as_bytes())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Began { proc_id, log: Some(log) } => write!(f, "began {proc_id} {log}"),
            Self::Began { proc_id, log: None } => write!(f, "began {proc_id}"),
            Self::Appended { number, seq, len } => write!(f, "appended {number} {seq} {len}"),
            Self::Promised { below } => write!(f, "promised {below}"),
            Self::Uploading => f.write_str("uploading"),
            Self::Confirmed => f.write_str("confirmed"),
            Self::Revoking => f.write_str("revoking"),
            Self::Revoked => f.write_str("revoked"),
            Self::Done => f.write_str("done"),
            Self::Failed(error) => write!(f, "failed {}", error.replace('\n', " ")),
        }
    }
}

impl FromStr for Event {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        if let Some(error) = line.strip_prefix("failed ") {
            return Ok(Self::Failed(error.to_owned()));
        }
        let mut words = line.split(' ');
        let name = words.next();
        let rest: Vec<&str> = words.collect();
        let number = |text: &str| text.parse::<u64>().map_err(drop);
        Ok(match (name, rest.as_slice()) {
            (Some("began"), [proc_id]) => Self::Began { proc_id: proc_id.parse().map_err(drop)?, log: None },
            (Some("began"), [proc_id, log]) => {
                Self::Began { proc_id: proc_id.parse().map_err(drop)?, log: Some(log.parse().map_err(drop)?) }
            }
            (Some("appended"), [first, seq, len]) => {
                Self::Appended { number: number(first)?, seq: number(seq)?, len: number(len)? }
            }
            (Some("promised"), [below]) => Self::Promised { below: number(below)? },
            (Some("uploading"), []) => Self::Uploading,
            (Some("confirmed"), []) => Self::Confirmed,
            (Some("revoking"), []) => Self::Revoking,
            (Some("revoked"), []) => Self::Revoked,
            (Some("done"), []) => Self::Done,
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_reads_back() {
        for event in [
            Event::Began { proc_id: u32::MAX, log: Some(PublicId::from_bytes([0xab; 32])) },
            Event::Began { proc_id: 0, log: None },
            Event::Appended { number: 1, seq: 2, len: 3 },
            Event::Promised { below: u64::MAX },
            Event::Uploading,
            Event::Confirmed,
            Event::Revoking,
            Event::Revoked,
            Event::Done,
            Event::Failed("no such  file".to_owned()),
        ] {
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        for nonsense in ["", "appended 1 2", "promised x", "began -1", "done now"] {
            assert_eq!(nonsense.parse::<Event>(), Err(()), "{nonsense}");
        }
    }
}
