//! The log ID of this installation: a file with the private ID, made at the first start under consent.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::ClientError;
use crate::upload::PrivateId;

const FILE_NAME: &str = "log-id";

/// Reads the private ID in `directory`, or makes one. A file that holds no valid ID is replaced: its log could not be
/// written to anyway.
pub(super) fn load_or_create(directory: &Path) -> Result<PrivateId, ClientError> {
    create_private_directory(directory)?;
    let path = path(directory);
    match fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => {
            if let Ok(id) = text.trim().parse() {
                return Ok(id);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Not text at all, for example after a power loss.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
        Err(error) => return Err(error.into()),
    }
    let id = PrivateId::generate()?;
    // Written aside and renamed: a kill in between must not leave half an ID.
    let draft = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(id.to_hex().as_bytes())?;
    file.write_all(b"\n")?;
    drop(file);
    fs::rename(&draft, &path)?;
    Ok(id)
}

/// Forgets the ID, so that the next one can't be linked to it.
pub(super) fn delete(directory: &Path) -> io::Result<()> {
    match fs::remove_file(path(directory)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

fn create_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

#[cfg(test)]
mod tests {
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
