//! A disk that is always full: a tiny tmpfs that only this process and its children see.

use std::path::Path;
#[cfg(target_os = "linux")]
use std::path::PathBuf;

use super::HarnessError;

/// The size of the disk, in bytes.
pub(super) const BYTES: u64 = 1 << 20;

/// The mounted disk. Dropping it unmounts it.
#[derive(Debug)]
pub(super) struct SmallDisk {
    #[cfg(target_os = "linux")]
    target: PathBuf,
}

#[cfg(target_os = "linux")]
impl SmallDisk {
    /// Moves the calling thread into a mount namespace of its own and mounts the disk at `target` there. Threads and
    /// processes that it starts from here on see the disk; the rest of the machine does not, and the kernel removes it
    /// with the last of them, however they end.
    pub(super) fn mount(target: &Path) -> Result<Self, HarnessError> {
        use rustix::{
            mount::{MountFlags, MountPropagationFlags, mount, mount_change},
            thread::{UnshareFlags, unshare_unsafe},
        };

        let failed = |step: &'static str| {
            move |errno: rustix::io::Errno| HarnessError::SmallDisk { step, error: errno.into() }
        };
        // SAFETY: NEWNS changes only which mounts this thread sees, and gives it a working directory and root of its
        // own. It touches neither memory nor descriptors, which are what makes other flags unsafe.
        let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
        unshared.map_err(failed("make a mount namespace"))?;
        // Without this, the mount would go on to where the namespace was copied from.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(failed("make the mounts private"))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tuntrail-kill", target, "tmpfs", flags, c"size=1m,mode=0700")
            .map_err(failed("mount a tmpfs"))?;
        Ok(Self { target: target.to_owned() })
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Else the directory could not be removed. If it fails, the kernel does it a little later.
        let _ = rustix::mount::unmount(&self.target, rustix::mount::UnmountFlags::DETACH);
    }
}

#[cfg(not(target_os = "linux"))]
impl SmallDisk {
    /// Mount namespaces are Linux's.
    pub(super) fn mount(_target: &Path) -> Result<Self, HarnessError> {
        let error = std::io::ErrorKind::Unsupported.into();
        Err(HarnessError::SmallDisk { step: "make a mount namespace: this needs Linux", error })
    }
}
