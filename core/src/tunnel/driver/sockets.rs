//! The tunnel's UDP sockets: one per address family, non-blocking.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Type};

use super::{
    TunnelError, options,
    socket::{Received, Socket},
};
use crate::tunnel::stats::IoCounts;

/// Room for what comes while the thread is busy: 34 ms at 1 Gbit/s. Systems cap it silently at what they allow.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Room for bursts. More would only wait in front of a slow link.
const SEND_BUFFER: usize = 1 << 20;
/// Tries to find a port that is free in both families when the system chooses it.
const PORT_ATTEMPTS: usize = 8;

/// A socket as [`Protect`] gets it.
#[cfg(unix)]
pub type SocketHandle<'a> = std::os::fd::BorrowedFd<'a>;
/// A socket as [`Protect`] gets it.
#[cfg(windows)]
pub type SocketHandle<'a> = std::os::windows::io::BorrowedSocket<'a>;

/// Exempts a socket from the VPN's own routes, or binds it to an interface.
pub type Protect = Box<dyn Fn(SocketHandle<'_>) -> io::Result<()> + Send>;

/// What the sockets are bound to; `None` for a family that the system doesn't have or that was not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalAddrs {
    /// IPv4.
    pub v4: Option<SocketAddr>,
    /// IPv6.
    pub v6: Option<SocketAddr>,
}

pub(super) struct Options {
    pub(super) bind: Option<IpAddr>,
    /// 0 leaves the choice to the system.
    pub(super) port: u16,
    #[cfg_attr(
        not(any(target_os = "linux", target_os = "android")),
        expect(dead_code, reason = "only Linux marks datagrams")
    )]
    pub(super) mark: Option<u32>,
    pub(super) protect: Option<Protect>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// See the module.
pub(super) struct Sockets {
    options: Options,
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl Sockets {
    pub(super) fn open(options: Options) -> Result<Self, TunnelError> {
        let mut sockets = Self { options, v4: None, v6: None };
        sockets.reopen()?;
        Ok(sockets)
    }

    /// Closes the sockets and makes new ones. They must not be registered with a poller.
    pub(super) fn reopen(&mut self) -> Result<(), TunnelError> {
        self.v4 = None;
        self.v6 = None;
        match self.options.bind {
            Some(ip) => {
                let socket = self.bind(SocketAddr::new(ip, self.options.port))?;
                match ip {
                    IpAddr::V4(_) => self.v4 = Some(socket),
                    IpAddr::V6(_) => self.v6 = Some(socket),
                }
                Ok(())
            }
            None => self.reopen_both(),
        }
    }

    /// One port for both families, as peers behind one name may see us through either.
    fn reopen_both(&mut self) -> Result<(), TunnelError> {
        let mut attempt = 1;
        loop {
            let v4 = self.bind((Ipv4Addr::UNSPECIFIED, self.options.port).into());
            let port = match &v4 {
                Ok(socket) => {
                    socket.as_udp().local_addr().map_or(self.options.port, |address| address.port())
                }
                Err(_) => self.options.port,
            };
            match (v4, self.bind((Ipv6Addr::UNSPECIFIED, port).into())) {
                (Ok(_), Err(TunnelError::Socket { source, .. }))
                    if source.kind() == io::ErrorKind::AddrInUse
                        && self.options.port == 0
                        && attempt < PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                (Ok(_), Err(error)) if !is_missing_family(&error) => return Err(error),
                (Err(error), Ok(_)) if !is_missing_family(&error) => return Err(error),
                (Err(error), Err(_)) => return Err(error),
                (v4, v6) => {
                    self.v4 = v4.ok();
                    self.v6 = v6.ok();
                    return Ok(());
                }
            }
        }
    }

    fn bind(&self, address: SocketAddr) -> Result<Socket, TunnelError> {
        self.try_bind(address).map_err(|source| TunnelError::Socket { address, source })
    }

    fn try_bind(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Smaller buffers work too; they lose more in bursts.
        options::enlarge_receive_buffer(&socket, RECEIVE_BUFFER);
        drop(socket.set_send_buffer_size(SEND_BUFFER));
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(mark) = self.options.mark {
            socket.set_mark(mark)?;
        }
        if let Some(protect) = &self.options.protect {
            protect(handle(&socket))?;
        }
        socket.bind(&address.into())?;
        Socket::new(socket.into())
    }

    pub(super) fn local(&self) -> LocalAddrs {
        let local = |family| self.get(family).and_then(|socket| socket.as_udp().local_addr().ok());
        LocalAddrs { v4: local(Family::V4), v6: local(Family::V6) }
    }

    pub(super) fn get(&self, family: Family) -> Option<&Socket> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    fn get_mut(&mut self, family: Family) -> Option<&mut Socket> {
        match family {
            Family::V4 => self.v4.as_mut(),
            Family::V6 => self.v6.as_mut(),
        }
    }

    /// Whether there is a socket of the address's family.
    pub(super) fn can_reach(&self, address: SocketAddr) -> bool {
        self.get(Family::of(address)).is_some()
    }

    /// Sends a datagram, at the latest with [`Self::flush`]. What can't be sent is counted.
    #[inline]
    pub(super) fn send(&mut self, to: SocketAddr, datagram: &[u8], counts: &mut IoCounts) {
        match self.get_mut(Family::of(to)) {
            Some(socket) => socket.send(to, datagram, counts),
            None => counts.send_failed += 1,
        }
    }

    /// Sends what [`Self::send`] collected, except on blocked sockets.
    pub(super) fn flush(&mut self, counts: &mut IoCounts) {
        for socket in [&mut self.v4, &mut self.v6].into_iter().flatten().filter(|s| !s.is_blocked()) {
            socket.flush(counts);
        }
    }

    /// Sends what blocked sockets hold, if there is room now.
    pub(super) fn retry(&mut self, counts: &mut IoCounts) {
        for socket in [&mut self.v4, &mut self.v6].into_iter().flatten().filter(|s| s.is_blocked()) {
            socket.flush(counts);
        }
    }

    /// Whether a socket waits to be writable: whatever more is sent to it is dropped.
    pub(super) fn is_blocked(&self) -> bool {
        Family::ALL.into_iter().any(|family| self.get(family).is_some_and(Socket::is_blocked))
    }

    /// Receives what is there; nothing without such a socket.
    pub(super) fn receive(&self, family: Family, received: &mut Received) -> io::Result<()> {
        match self.get(family) {
            Some(socket) => socket.receive(received),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Gives up what was not sent.
    pub(super) fn discard(&mut self, counts: &mut IoCounts) {
        for socket in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            socket.discard(counts);
        }
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("v4", &self.v4).field("v6", &self.v6).finish_non_exhaustive()
    }
}

/// Whether the system lacks the address family (a kernel without IPv6, an address-less namespace).
fn is_missing_family(error: &TunnelError) -> bool {
    let TunnelError::Socket { source, .. } = error else {
        return false;
    };
    #[cfg(unix)]
    let unsupported = source.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    // WSAEAFNOSUPPORT
    #[cfg(windows)]
    let unsupported = source.raw_os_error() == Some(10_047);
    unsupported || matches!(source.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
}

#[cfg(unix)]
fn handle(socket: &socket2::Socket) -> SocketHandle<'_> {
    std::os::fd::AsFd::as_fd(socket)
}

#[cfg(windows)]
fn handle(socket: &socket2::Socket) -> SocketHandle<'_> {
    std::os::windows::io::AsSocket::as_socket(socket)
}
