//! Networks of namespaces, cables and foreign processes, for tests and measurements against other WireGuards.
//!
//! A [`Pair`] is two hosts joined by a cable. On either of them run tuntrail on a [`create_tun`] device, or a
//! [`WireguardGo`]; a [`Relay`] between them delays and reorders, an [`Nft`] table loses. Everything needs root and is gone when
//! it is dropped, also after a panic: namespaces have no names, and processes are ended by their id. Should this
//! process be killed, the kernel ends its children.

mod config;
mod error;
mod nft;
mod pair;
mod process;
mod relay;
mod tun;
mod wireguard_go;

pub use config::NodeConfig;
pub use error::NetError;
pub use nft::Nft;
pub use pair::{Pair, Side};
pub use process::{CpuTime, Process};
pub use relay::{Relay, RelayOptions};
pub use tun::{Offload, create_tun};
pub use wireguard_go::{DIRECTORY, PeerState, Version, WireguardGo};
