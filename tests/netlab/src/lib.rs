//! Userspace hosts on in-process tunnel devices: real TCP, UDP and ICMP traffic without root.
//!
//! A [`Host`] is a small TCP/IP stack (smoltcp) with addresses, services and clients. Its network card is a
//! [`Wire`]: the host side of a tunnel's packet queue, or one end of a [`memory_wire`]. The demo and the
//! end-to-end tests put one host behind each end of a tunnel and move real connections through it. What a host saw
//! on its wire, per connection and to the byte, is in [`HostStats`]: the truth that counters are held against.
//!
//! Every host has two threads: one takes packets from the wire, the other runs the stack. Both sleep until a packet,
//! a command or the stack's own next deadline. Nothing here polls.
//!
//! On Linux there are also private network namespaces, for tests with the kernel's own TCP/IP.

mod content;
mod device;
mod error;
mod host;
mod inbox;
#[cfg(target_os = "linux")]
pub mod linux;
mod memory;
mod options;
mod ping;
mod stack;
mod stats;
mod tcp_client;
mod tcp_server;
mod udp;
mod wire;

pub use error::HostError;
pub use host::Host;
pub use memory::{MemoryWire, memory_wire};
pub use options::{HostOptions, Ports, TcpService};
pub use ping::{Ping, PingReport};
pub use stats::{Counts, HostStats, TcpStats, Totals};
pub use tcp_client::{MAX_STREAM, Transfer, TransferReport};
pub use udp::{UdpExchange, UdpReport};
pub use wire::{Recv, Wire};
