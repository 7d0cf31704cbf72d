//! The user's last decision about recording, kept beside the records, so that a deletion which a kill interrupted is
//! finished at the next start, whatever the host says then.
//!
//! Two files: `CONSENT`, shared by all of the app's processes, counts how often consent was denied; `CONSENT-<role>` says
//! how many of these denials this process's records have been deleted for. Files are made by the first denial: before
//! it, nothing on disk tells anything about the user. The host's word decides what is recorded; these files only decide
//! what must go first.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    consent::Consent,
    files::{Survive, read_small, replace},
    store::Role,
};

/// Larger than any version of these files.
const MAX_LEN: u64 = 1024;
const VERSION: u32 = 1;

/// What `CONSENT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Shared {
    version: u32,
    consent: Word,
    /// Withdrawals and refusals so far.
    denials: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    #[default]
    Granted,
    Denied,
}

/// What `CONSENT-<role>` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Own {
    version: u32,
    /// The denials for which this role's records are deleted.
    deleted: u64,
}

/// The decision as the files have it.
#[derive(Debug)]
pub(super) struct Decision {
    shared_path: PathBuf,
    own_path: PathBuf,
    shared: Shared,
    own: Own,
}

impl Decision {
    /// Reads the files in `directory`. A `CONSENT` that can't be understood counts as a denial: what is no longer known
    /// to be agreed to must not be sent.
    pub(super) fn load(directory: &Path, role: &Role) -> io::Result<Self> {
        let shared_path = directory.join("CONSENT");
        let own_path = directory.join(format!("CONSENT-{}", role.as_str()));
        let own: Own = read(&own_path)?.map(Option::unwrap_or_default).unwrap_or_default();
        let shared = match read::<Shared>(&shared_path)? {
            None => Shared::default(),
            Some(Some(shared)) if shared.version == VERSION => shared,
            Some(unknown) => {
                tracing::warn!(version = ?unknown.map(|shared| shared.version), "the consent file can't be read: deleting records");
                Shared { version: VERSION, consent: Word::Denied, denials: own.deleted.saturating_add(1) }
            }
        };
        Ok(Self { shared_path, own_path, shared, own })
    }

    /// Whether this role may still have records from before a denial.
    pub(super) fn deletion_is_due(&self) -> bool {
        self.shared.denials > self.own.deleted
    }

    /// Whether the last word was a denial.
    pub(super) fn is_denied(&self) -> bool {
        self.shared.consent == Word::Denied
    }

    /// Writes a denial down, once. To be called before anything is deleted.
    pub(super) fn deny(&mut self) -> io::Result<()> {
        if self.is_denied() {
            return Ok(());
        }
        self.write_shared(Consent::Denied)
    }

    /// Writes down that the user agreed again, after whatever was denied is gone.
    pub(super) fn grant(&mut self) -> io::Result<()> {
        if self.is_denied() { self.write_shared(Consent::Granted) } else { Ok(()) }
    }

    /// Writes down that this role has nothing left from before the last denial.
    pub(super) fn deleted(&mut self) -> io::Result<()> {
        if !self.deletion_is_due() {
            return Ok(());
        }
        let own = Own { version: VERSION, deleted: self.shared.denials };
        write(&self.own_path, &own, Survive::Kill)?;
        self.own = own;
        Ok(())
    }

    fn write_shared(&mut self, consent: Consent) -> io::Result<()> {
        let denied = consent == Consent::Denied;
        let shared = Shared {
            version: VERSION,
            consent: if denied { Word::Denied } else { Word::Granted },
            denials: self.shared.denials.saturating_add(denied.into()),
        };
        // The one file that must survive a power loss: a denial that was confirmed to the user holds.
        write(&self.shared_path, &shared, Survive::PowerLoss)?;
        self.shared = shared;
        Ok(())
    }
}

/// `None`: no such file; `Some(None)`: not understood.
fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<Option<T>>> {
    Ok(read_small(path, MAX_LEN)?.map(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn write(path: &Path, content: &impl Serialize, survive: Survive) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(content)?;
    bytes.push(b'\n');
    replace(path, &bytes, survive)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn load(directory: &Path) -> Decision {
        Decision::load(directory, &Role::Extension).unwrap()
    }

    #[test]
    fn before_the_first_denial_there_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut decision = load(directory.path());
        assert!(!decision.is_denied() && !decision.deletion_is_due());
        decision.grant().unwrap();
        decision.deleted().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_deletion_stays_due_until_it_is_done_also_over_a_new_grant() {
        let directory = tempfile::tempdir().unwrap();
        load(directory.path()).deny().unwrap();
        assert!(load(directory.path()).is_denied());
        load(directory.path()).grant().unwrap();
        let mut again = load(directory.path());
        assert!(!again.is_denied() && again.deletion_is_due());
        again.deleted().unwrap();
        assert!(!load(directory.path()).deletion_is_due());
        // Denied twice in a row is denied once; denied anew is a new deletion.
        for (due, act) in [(true, Decision::deny as fn(&mut Decision) -> _), (false, Decision::deleted)] {
            act(&mut load(directory.path())).unwrap();
            act(&mut load(directory.path())).unwrap();
            assert_eq!(load(directory.path()).deletion_is_due(), due);
        }
        let text = fs::read_to_string(directory.path().join("CONSENT")).unwrap();
        assert_eq!(text, "{\"version\":1,\"consent\":\"denied\",\"denials\":2}\n");
    }

    #[test]
    fn each_role_deletes_for_itself() {
        let directory = tempfile::tempdir().unwrap();
        let mut extension = load(directory.path());
        extension.deny().unwrap();
        extension.deleted().unwrap();
        extension.grant().unwrap();
        let mut app = Decision::load(directory.path(), &Role::App).unwrap();
        assert!(app.deletion_is_due(), "the app's own records are from before the denial");
        app.deleted().unwrap();
        assert!(!Decision::load(directory.path(), &Role::App).unwrap().deletion_is_due());
    }

    #[test]
    fn what_cannot_be_understood_is_a_denial() {
        let directory = tempfile::tempdir().unwrap();
        for content in [
            &b""[..],
            b"granted",
            &[0; 4096],
            b"{\"version\":2,\"consent\":\"granted\",\"denials\":0}",
            b"{\"version\":1,\"consent\":\"maybe\",\"denials\":0}",
        ] {
            fs::write(directory.path().join("CONSENT"), content).unwrap();
            let mut decision = load(directory.path());
            assert!(decision.is_denied() && decision.deletion_is_due(), "{content:?}");
            decision.deleted().unwrap();
            decision.grant().unwrap();
            assert!(!load(directory.path()).is_denied());
        }
    }
}
