//! The WireGuard tunnel.
//!
//! [`Config`] says what to run (parsed from a wg-quick file or filled in by hand). [`Tunnel`] runs it: one
//! thread that moves packets between a [`TunDevice`] and UDP sockets, and sleeps for ever while there is nothing to do.
//! [`Engine`] is the tunnel without thread, sockets and clock, for hosts that bring their own loop and for tests.
//!
//! Every inner packet and every datagram is reported to the counters of [`crate::hook`]; what they do with it is
//! none of the tunnel's business. The tunnel never writes to disk and never resolves names on its own thread.
//!
//! # What boringtun decides
//! A datagram is refused as a replay if it is more than 1,024 behind the newest of its session (Linux: 8,192). A path
//! would have to reorder by more than a dozen full batches of segmentation offload to get there; what is refused is in
//! [`DropCounts::replayed`]. Timers, handshake limits, padding and the choice of session indexes are tuntrail's own.

mod allowed_ips;
mod config;
mod driver;
mod engine;
mod key;
mod limiter;
mod message;
mod peer;
mod stats;

pub use config::{Config, ConfigError, DEFAULT_MTU, Endpoint, EndpointError, IgnoredKey, PeerConfig};
#[cfg(unix)]
pub use driver::{FdDevice, Framing};
pub use driver::{
    LocalAddrs, PacketQueue, PacketQueueStats, PreparedTunnel, Protect, QueueDevice, QueueError, Resolver,
    SocketHandle, TunDevice, Tunnel, TunnelError, TunnelEvent, TunnelObserver, TunnelOptions, packet_queue,
};
#[cfg(windows)]
pub use driver::{WintunDevice, WintunError};
pub use engine::{CountedDevice, Engine, EngineError, Sink};
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use stats::{CarriedCounts, DropCounts, EventCounts, IoCounts, PeerStats, TunnelStats};
