//! What `up` and `demo --tun` need of Linux: private network namespaces, TUN devices and routes.
//!
//! All of it needs root. Nothing here is done behind the user's back: a [`netns::Namespace`] is a world of its own
//! that ends with its owner, and [`route::Routes`] undoes what it did.

mod error;
pub(crate) mod ip;
pub(crate) mod netns;
pub(crate) mod route;
pub(crate) mod tun;

pub(crate) use error::LinuxError;

#[cfg(test)]
pub(crate) mod testing {
    use super::netns::Namespace;

    /// A namespace to test in, or `None`, with a word about why, where the system doesn't allow one.
    pub(crate) fn namespace_or_skip() -> Option<Namespace> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        if !std::path::Path::new("/dev/net/tun").exists() {
            println!("skipped: /dev/net/tun is missing (modprobe tun)");
            return None;
        }
        Some(Namespace::new().unwrap())
    }
}
