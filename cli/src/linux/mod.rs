//! What `up` and `demo --tun` need of Linux: private network namespaces, TUN devices and routes.
//!
//! All of it needs root. Nothing here is done behind the user's back: a [`netns::Namespace`] is a world of its own
//! that ends with its owner, and [`route::Routes`] undoes what it did.

pub(crate) mod route;
pub(crate) mod tun;

pub(crate) use tuntrail_netlab::linux::LinuxError;

/// The `ip` command.
pub(crate) mod ip {
    pub(crate) use tuntrail_netlab::linux::Ip;
}

/// Network namespaces.
pub(crate) mod netns {
    pub(crate) use tuntrail_netlab::linux::Namespace;
}

#[cfg(test)]
pub(crate) mod testing {
    use super::netns::Namespace;

    /// A namespace to test in, or `None`, with a word about why, where the system doesn't allow one.
    pub(crate) fn namespace_or_skip() -> Option<Namespace> {
        Namespace::new_or_skip()
    }
}
