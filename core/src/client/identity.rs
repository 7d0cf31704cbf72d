//! The log ID of this installation: a file with the private ID, made at the first start under consent.

use std::{
    io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::ClientError;
use crate::{
    files::{Survive, create_private_directory, read_small, remove, replace},
    upload::PrivateId,
};

const FILE_NAME: &str = "log-id";
/// More than the 64 digits of an ID and a line end.
const MAX_LEN: u64 = 256;

/// Reads the private ID in `directory`, or makes one. A file that holds no valid ID is replaced: its log could not be
/// written to anyway.
pub(super) fn load_or_create(directory: &Path) -> Result<PrivateId, ClientError> {
    create_private_directory(directory)?;
    let path = path(directory);
    // No text at all, for example after a power loss, is no valid ID either.
    if let Some(bytes) = read_small(&path, MAX_LEN)?.map(Zeroizing::new)
        && let Ok(text) = std::str::from_utf8(&bytes)
        && let Ok(id) = text.trim().parse()
    {
        return Ok(id);
    }
    let id = PrivateId::generate()?;
    let text = Zeroizing::new(format!("{}\n", &*id.to_hex()));
    replace(&path, text.as_bytes(), Survive::Kill)?;
    Ok(id)
}

/// Forgets the ID, so that the next one can't be linked to it.
pub(super) fn delete(directory: &Path) -> io::Result<()> {
    remove(&path(directory))
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_id_lasts_until_it_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let first = load_or_create(directory.path()).unwrap().public();
        assert_eq!(load_or_create(directory.path()).unwrap().public(), first);
        delete(directory.path()).unwrap();
        delete(directory.path()).unwrap();
        assert_ne!(load_or_create(directory.path()).unwrap().public(), first);
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        for damage in [&b"not an id"[..], b"", &[0xff; 64]] {
            fs::write(path(directory.path()), damage).unwrap();
            let id = load_or_create(directory.path()).unwrap().public();
            assert_eq!(load_or_create(directory.path()).unwrap().public(), id);
        }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_the_id() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        load_or_create(directory.path()).unwrap();
        let mode = fs::metadata(path(directory.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
