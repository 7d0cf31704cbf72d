//! The tunnel as it runs: an [`Engine`] on a thread of its own, between UDP sockets and a TUN device.
//!
//! [`Tunnel`] is the handle; its methods may be called from any thread but the tunnel's own. Commands reach the
//! thread through a bounded channel and a wake-up. The thread sleeps until a packet, a command or the engine's
//! next deadline, or for ever.
//!
//! The cost per packet is mostly that of system calls, so the thread collects what goes the same way: datagrams to one
//! peer are sent as one, and received as one where the system joins them (UDP GSO and GRO on Linux and Android, USO on
//! Windows); a Linux TUN device can hand over and take many packets at once ([`Framing::VnetHdr`]). Buffers are made
//! once: 0.8 MiB on Linux and Android, 0.3 MiB elsewhere, and up to 0.6 MiB more with such a device; what no packet
//! touched takes no memory.
//!
//! The MTU of the configuration is that of inner packets. WireGuard adds 60 bytes over IPv4 and 80 over IPv6; a
//! datagram that is too large for the path is fragmented by the system, or, if that won't, dropped and counted
//! ([`IoCounts::send_too_large`](super::IoCounts::send_too_large)).

mod batch;
mod device;
#[cfg(target_os = "linux")]
mod offload;
mod options;
mod output;
mod prepare;
mod queue;
mod resolve;
mod run;
mod runs;
mod socket;
mod sockets;
mod watch;
#[cfg(windows)]
mod wintun;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use polling::Poller;

#[cfg(unix)]
pub use self::device::{FdDevice, Framing};
use self::run::Command;
#[cfg(windows)]
pub use self::wintun::{WintunDevice, WintunError};
pub use self::{
    device::TunDevice,
    prepare::PreparedTunnel,
    queue::{PacketQueue, PacketQueueStats, QueueDevice, QueueError, packet_queue},
    resolve::Resolver,
    sockets::{LocalAddrs, Protect, SocketHandle},
};
use super::{config::Config, engine::EngineError, key::PublicKey, stats::TunnelStats};
use crate::{
    clock::{SharedClock, SystemClock},
    hook::ConnectionCounter,
};

/// Commands that may wait for the thread. It takes them at once; senders wait if it is behind.
const COMMANDS: usize = 16;

/// How to run a tunnel, apart from what WireGuard calls its configuration.
pub struct TunnelOptions {
    /// Must be the system's clock outside of tests: boringtun reads that one.
    pub clock: SharedClock,
    /// Called for each socket before it is used, on the thread that makes it (the caller's at the start, the
    /// tunnel's after a network change), such as for Android's `VpnService.protect`. An error fails the socket.
    pub protect: Option<Protect>,
    /// Mark of outgoing datagrams (Linux `SO_MARK`); overrides the configuration's. Ignored on other systems.
    pub mark: Option<u32>,
    /// The address to bind to; by default all addresses of both families.
    pub bind: Option<IpAddr>,
    /// Resolves the endpoints' host names; by default the system's resolver does. On systems where an app's own
    /// look-ups go into its tunnel (Android), pass one that asks the underlying network.
    pub resolver: Option<Resolver>,
    /// Told what becomes of peers and device, on the tunnel's thread, which waits for it: it must be quick and must not call
    /// the tunnel.
    pub observer: Option<TunnelObserver>,
    /// Counts inner packets.
    pub virtual_counter: Option<Box<dyn ConnectionCounter>>,
    /// Counts datagrams.
    pub physical_counter: Option<Box<dyn ConnectionCounter>>,
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            protect: None,
            mark: None,
            bind: None,
            resolver: None,
            observer: None,
            virtual_counter: None,
            physical_counter: None,
        }
    }
}

impl fmt::Debug for TunnelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelOptions")
            .field("mark", &self.mark)
            .field("bind", &self.bind)
            .finish_non_exhaustive()
    }
}

/// Something that a user of the device may want to see. Nothing is told twice in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelEvent {
    /// The first session with a peer was made, or the first after [`Self::Silent`].
    Connected(PublicKey),
    /// A peer has not answered handshakes for 90 s. The next packet for it tries again.
    Silent(PublicKey),
    /// The TUN device has ended, or was closed by the system: nothing can be carried any more.
    DeviceEnded,
    /// The tunnel's thread has ended by itself, by a failure of the system or a fault of ours; the log says which. Stop the
    /// tunnel and start a new one.
    Failed,
}

/// Is told what happens to a tunnel.
pub type TunnelObserver = Box<dyn Fn(TunnelEvent) + Send>;

/// Why a tunnel didn't start or take a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The engine can't be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An endpoint's host name has no answer.
    #[error("can't resolve the endpoint {host}: {source}; check the name and the network")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// An endpoint's host name has no address of a family that we can send to.
    #[error("the endpoint {host} has no address that this device can reach; check its DNS records")]
    NoAddress {
        /// The name.
        host: String,
    },
    /// A UDP socket can't be made.
    #[error("can't open the UDP socket {address}: {source}; check port, mark and permissions")]
    Socket {
        /// What it was to be bound to.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The TUN device can't be used.
    #[error("can't use the TUN device: {0}; pass an open descriptor")]
    Device(#[source] io::Error),
    /// The thread or its wake-up can't be made.
    #[error("can't start the tunnel's thread: {0}; free memory or descriptors")]
    Thread(#[source] io::Error),
    /// The tunnel has been stopped.
    #[error("the tunnel has been stopped; start a new one")]
    Stopped,
    /// A command names a peer that is not configured.
    #[error("the tunnel has no peer {0}")]
    UnknownPeer(PublicKey),
}

/// A running tunnel. Dropping it stops it.
pub struct Tunnel {
    commands: SyncSender<Command>,
    poller: Arc<Poller>,
    local: Arc<Mutex<LocalAddrs>>,
    thread: Mutex<Thread>,
}

enum Thread {
    Running(JoinHandle<TunnelStats>),
    Ended(Box<TunnelStats>),
}

impl Tunnel {
    /// Opens the sockets and resolves the endpoints' names, on the caller's thread: that may take as long as the system's
    /// resolver does. Nothing is carried yet.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing is left open then.
    pub fn prepare(config: Config, options: TunnelOptions) -> Result<PreparedTunnel, TunnelError> {
        PreparedTunnel::new(config, options)
    }

    /// Prepares a tunnel and starts its thread, `tuntrail-tunnel`.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing is left running then.
    pub fn start(config: Config, device: TunDevice, options: TunnelOptions) -> Result<Self, TunnelError> {
        Self::prepare(config, options)?.start(device)
    }

    /// The addresses that the sockets are bound to. They change with [`Self::network_changed`] unless the
    /// configuration names a port.
    #[must_use]
    pub fn local_addr(&self) -> LocalAddrs {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened so far. Wakes the tunnel's thread once and waits for it; after the end it is the final state.
    #[must_use]
    pub fn stats(&self) -> TunnelStats {
        let (reply, answer) = sync_channel(1);
        if self.command(Command::Stats(reply)).is_ok()
            && let Ok(stats) = answer.recv()
        {
            return stats;
        }
        self.finish()
    }

    /// Replaces both counters; the previous ones are flushed and dropped on the tunnel's thread.
    ///
    /// # Errors
    /// [`TunnelError::Stopped`].
    pub fn set_counters(
        &self,
        virtual_counter: Option<Box<dyn ConnectionCounter>>,
        physical_counter: Option<Box<dyn ConnectionCounter>>,
    ) -> Result<(), TunnelError> {
        self.command(Command::Counters(virtual_counter, physical_counter))
    }

    /// Tells where a peer is now.
    ///
    /// # Errors
    /// [`TunnelError::UnknownPeer`] or [`TunnelError::Stopped`].
    pub fn set_endpoint(&self, peer: PublicKey, endpoint: SocketAddr) -> Result<(), TunnelError> {
        let (reply, answer) = sync_channel(1);
        self.command(Command::Endpoint(peer, endpoint, reply))?;
        match answer.recv() {
            Ok(true) => Ok(()),
            Ok(false) => Err(TunnelError::UnknownPeer(peer)),
            Err(_) => Err(TunnelError::Stopped),
        }
    }

    /// Tells that the device's network changed: sockets are made anew, peers in use get a new handshake, and endpoints
    /// that have names are resolved again on a thread of their own. Returns at once.
    ///
    /// # Errors
    /// [`TunnelError::Stopped`].
    pub fn network_changed(&self) -> Result<(), TunnelError> {
        self.command(Command::NetworkChanged)
    }

    /// Makes both counters hand over what they have counted; returns when they have.
    ///
    /// # Errors
    /// [`TunnelError::Stopped`]; the counters were flushed at the end, then.
    pub fn flush_counters(&self) -> Result<(), TunnelError> {
        let (reply, answer) = sync_channel(1);
        self.command(Command::Flush(reply))?;
        answer.recv().map_err(|_| TunnelError::Stopped)
    }

    /// Flushes the counters, ends the thread and waits for it, well under a second. Closes sockets and device.
    /// Idempotent.
    pub fn stop(&self) {
        self.finish();
    }

    fn command(&self, command: Command) -> Result<(), TunnelError> {
        self.commands.send(command).map_err(|_| TunnelError::Stopped)?;
        self.poller.notify().map_err(|_| TunnelError::Stopped)
    }

    fn finish(&self) -> TunnelStats {
        // An error means that the thread has ended by itself.
        drop(self.command(Command::Stop));
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = match std::mem::replace(&mut *thread, Thread::Ended(Box::default())) {
            Thread::Running(handle) => handle.join().unwrap_or_else(|_| {
                tracing::error!("the tunnel's thread panicked; its statistics are lost");
                TunnelStats::default()
            }),
            Thread::Ended(stats) => *stats,
        };
        *thread = Thread::Ended(Box::new(stats.clone()));
        stats
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("local", &self.local_addr()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
