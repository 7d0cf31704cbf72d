//! The Swift compiler: this machine's, or Debian's in a folder that `tests/bindings/swift-chroot` makes.

use std::env;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{Failure, Program, search_path, skip};

/// Where Swift is.
#[derive(Debug)]
pub enum Swift {
    /// Found on the search path.
    Here,
    /// In a folder with a Debian of its own.
    Chroot(Utf8PathBuf),
}

impl Swift {
    /// Looks for it. `None`, after a loud message, where there is none.
    ///
    /// # Errors
    ///
    /// [`Failure::Toolchain`] if there must be one.
    pub fn find() -> Result<Option<Self>, Failure> {
        if search_path("swiftc").is_some() {
            return Ok(Some(Self::Here));
        }
        // The same default as in the script.
        let folder =
            env::var("TUNTRAIL_SWIFT_CHROOT").unwrap_or_else(|_| "/var/cache/tuntrail/swift".to_owned());
        let folder = Utf8PathBuf::from(folder);
        if !folder.join("usr/bin/swiftc").exists() {
            skip("Swift", "as root: apt-get install debootstrap && tests/bindings/swift-chroot")?;
            return Ok(None);
        }
        if !rustix::process::geteuid().is_root() {
            skip("root, for the Swift in a chroot", "run the tests as root")?;
            return Ok(None);
        }
        Ok(Some(Self::Chroot(folder)))
    }

    /// Runs a shell command in `folder`, which is all that it sees of this machine's files.
    ///
    /// # Errors
    ///
    /// [`Failure::Program`], as [`Program::run`].
    pub fn run(&self, folder: &Utf8Path, command: &str) -> Result<String, Failure> {
        // The backtraces of a failing program would hide what it said.
        match self {
            Self::Here => Program::new("sh")
                .args(["-euc", command])
                .env("SWIFT_BACKTRACE", "enable=no")
                .current_dir(folder)
                .run(),
            // Mounts in a namespace of their own: they are gone with the command, whatever happens to it.
            Self::Chroot(root) => Program::new("unshare")
                .args(["-m", "--propagation", "private", "sh", "-euc"])
                .arg(
                    "mount -t proc proc \"$1/proc\"; mount --bind \"$2\" \"$1/mnt\"; \
                     exec chroot \"$1\" sh -euc 'cd /mnt; eval \"$1\"' sh \"$3\"",
                )
                .args(["sh", root.as_str(), folder.as_str(), command])
                .env("SWIFT_BACKTRACE", "enable=no")
                .run(),
        }
    }
}
