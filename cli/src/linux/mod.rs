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
    use super::{LinuxError, netns::Namespace};

    /// Set where these tests must not be skipped, as in CI.
    const REQUIRED: &str = "TUNTRAIL_REQUIRE_NAMESPACES";

    /// A namespace to test in, or `None`, with a word about why, where the system doesn't allow one: without root, inside a
    /// container, without iproute2.
    pub(crate) fn namespace_or_skip() -> Option<Namespace> {
        let namespace = if std::path::Path::new("/dev/net/tun").exists() {
            Namespace::new()
        } else {
            Err(LinuxError::NoTunModule)
        };
        match namespace {
            Ok(namespace) => Some(namespace),
            Err(error) if std::env::var_os(REQUIRED).is_some() => panic!("{REQUIRED} is set, but {error}"),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }
}
