//! tuntrail against wireguard-go: real tunnels between two network namespaces. See `docs/interop.md`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may fail loudly")]

#[path = "interop/handshake.rs"]
mod handshake;
#[path = "interop/lab.rs"]
mod lab;
#[path = "interop/long.rs"]
mod long;
#[path = "interop/network.rs"]
mod network;
#[path = "interop/roaming.rs"]
mod roaming;
#[path = "interop/timers.rs"]
mod timers;

/// One test per release of wireguard-go for each check.
macro_rules! against_both {
    ($($check:ident)*) => {
        $(
            mod $check {
                use tuntrail_tests::net::Version;

                #[test]
                fn newest() {
                    super::check::$check(Version::Newest);
                }

                #[test]
                fn bookworm() {
                    super::check::$check(Version::Bookworm);
                }
            }
        )*
    };
}
use against_both;
