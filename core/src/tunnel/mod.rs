//! The WireGuard tunnel.
//!
//! [`Config`] says what to run (parsed from a wg-quick file or filled in by hand). [`Tunnel`] runs it: one
//! thread that moves packets between a [`TunDevice`] and UDP sockets, and sleeps for ever while there is nothing to do.
//! [`Engine`] is the tunnel without thread, sockets and clock, for hosts that bring their own loop and for tests.
//!
//! Every inner packet and every datagram is reported to the counters of [`crate::hook`]; what they do with it is
//! none of the tunnel's business. The tunnel never writes to disk and never resolves names on its own thread.

mod allowed_ips;
mod config;
mod driver;
mod engine;
mod key;
mod message;
mod peer;
mod stats;

pub use config::{Config, ConfigError, DEFAULT_MTU, Endpoint, IgnoredKey, PeerConfig};
#[cfg(unix)]
pub use driver::{FdDevice, Framing};
pub use driver::{
    LocalAddrs, PacketQueue, PacketQueueStats, Protect, QueueDevice, QueueError, Resolver, SocketHandle,
    TunDevice, Tunnel, TunnelError, TunnelOptions, packet_queue,
};
pub use engine::{CountedDevice, Engine, EngineError, Sink};
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use stats::{CarriedCounts, DropCounts, EventCounts, IoCounts, PeerStats, TunnelStats};
