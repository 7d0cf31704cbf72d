//! Private network namespaces and the `ip` command: Linux worlds for `demo --tun` and the tests that need root.
//!
//! Nothing here is done behind the user's back: a [`Namespace`] is a world of its own that ends with its owner.

mod error;
mod ip;
mod netns;

pub use error::LinuxError;
pub use ip::Ip;
pub use netns::{Namespace, REQUIRED, skip};
