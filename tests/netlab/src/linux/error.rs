//! What can go wrong with namespaces, devices and routes.

use std::io;

/// An error of the Linux parts, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinuxError {
    /// The process lacks a right.
    #[error("{action} needs root ({capability}): run it with sudo, or without --tun where that is offered")]
    NotPermitted {
        /// What was tried.
        action: &'static str,
        /// The capability that is missing.
        capability: &'static str,
    },
    /// The kernel has no TUN devices.
    #[error("/dev/net/tun is missing: load the kernel module with `modprobe tun`")]
    NoTunModule,
    /// A system call failed.
    #[error("{action} failed: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A name that the kernel would not take.
    #[error("{0:?} can't be an interface name: 1 to 15 bytes without spaces, slashes or colons are needed")]
    InterfaceName(String),
    /// The `ip` command is not installed.
    #[error("the `{program}` command was not found: install the package iproute2 (iproute on Fedora)")]
    IpMissing {
        /// The program that was looked for.
        program: String,
    },
    /// The `ip` command refused.
    #[error("`ip {arguments}` failed: {stderr}")]
    Ip {
        /// Its arguments.
        arguments: String,
        /// What it said, in one line.
        stderr: String,
    },
    /// No routing table is free for the default route.
    #[error("all routing tables from {first} to {last} are in use: remove old ones (`ip rule`, `ip route`)")]
    NoTable {
        /// The first that was tried.
        first: u32,
        /// The last that was tried.
        last: u32,
    },
    /// The thread that owns a namespace is gone.
    #[error("the network namespace has ended")]
    NamespaceEnded,
}

impl LinuxError {
    /// Tells a missing right from other failures.
    #[must_use]
    pub fn system(action: &'static str, capability: &'static str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::NotPermitted { action, capability }
        } else {
            Self::System { action, source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_names_the_action_and_the_capability() {
        let error =
            LinuxError::system("creating a TUN device", "CAP_NET_ADMIN", io::Error::from_raw_os_error(1));
        let text = error.to_string();
        assert!(text.starts_with("creating a TUN device needs root (CAP_NET_ADMIN)"), "{text}");
        let error = LinuxError::system("x", "y", io::Error::from_raw_os_error(16));
        assert!(matches!(error, LinuxError::System { .. }));
    }
}
