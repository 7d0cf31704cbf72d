//! Small private files beside the records: the log ID, the user's decision, requests that outlive the process.
//!
//! Readable by their owner alone, replaced as a whole, no symbolic link followed: a kill at any moment leaves the old
//! content or the new. Called from threads that may wait for a disk.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Creates `directory` and its parents as far as they are missing, with mode 0700.
pub(crate) fn create_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Mode 0600 for a file that is created, and no link followed at the end of the path. A pipe in a file's place blocks
/// nobody.
#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    options.mode(0o600).custom_flags(flags.bits().cast_signed())
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// The first `limit` bytes of a file; `None` if there is none.
pub(crate) fn read_small(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match private(OpenOptions::new().read(true)).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Whether a replacement must survive a power loss, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survive {
    /// The death of the process only.
    Kill,
    /// Waits for the disk.
    PowerLoss,
}

/// Replaces the content of `path`, whose directory must exist.
pub(crate) fn replace(path: &Path, content: &[u8], survive: Survive) -> io::Result<()> {
    let draft = draft(path);
    // Left by a kill, or laid by somebody else: it must not decide what the new file is.
    remove_if_present(&draft)?;
    let created = private(OpenOptions::new().write(true).create_new(true)).open(&draft);
    let written = created.and_then(|mut file| {
        file.write_all(content)?;
        if survive == Survive::PowerLoss { file.sync_all() } else { Ok(()) }
    });
    // Windows renames no open file: it is closed here.
    let replaced = written.and_then(|()| fs::rename(&draft, path));
    if replaced.is_err() {
        // It holds nothing that anybody reads; the error that counts is the first.
        let _ = fs::remove_file(&draft);
    }
    replaced?;
    #[cfg(unix)]
    if survive == Survive::PowerLoss
        && let Some(directory) = path.parent()
    {
        // The name is in the directory, not in the file.
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Removes a file that [`replace`] made, and what a kill during that left. It is no error if there is none.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = remove_if_present(&draft(path));
    remove_if_present(path).and(removed)
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Removes a file; it is no error if there is none.
fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_read_up_to_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(read_small(&path, 9).unwrap(), None);
        for (content, survive) in [(&b"first, long"[..], Survive::PowerLoss), (b"second", Survive::Kill)] {
            replace(&path, content, survive).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(read_small(&path, 3).unwrap().unwrap(), b"sec");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");
        fs::write(directory.path().join("file.tmp"), "half").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_content_and_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        // Nothing can be renamed over a directory that is not empty.
        fs::create_dir_all(path.join("occupied")).unwrap();
        replace(&path, b"new", Survive::Kill).unwrap_err();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_written_is_private_and_never_goes_through_a_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let private = directory.path().join("made/for/us");
        create_private_directory(&private).unwrap();
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
        let (path, victim) = (private.join("file"), directory.path().join("victim"));
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, private.join("file.tmp")).unwrap();
        symlink(&victim, &path).unwrap();
        read_small(&path, 9).unwrap_err();
        replace(&path, b"new", Survive::Kill).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
