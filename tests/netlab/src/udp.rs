//! UDP: echo service sockets, and clients that count what comes back.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use smoltcp::{
    iface::SocketHandle,
    socket::udp::{PacketBuffer, PacketMetadata, Socket, UdpMetadata},
    wire::IpEndpoint,
};
use tuntrail::clock::Instant;

use crate::{
    content::Content,
    error::HostError,
    tcp_client::{DEFAULT_WITHIN, Progress, Reply},
};

/// Datagrams that a socket holds in each direction; more than a client keeps on the way.
const SLOTS: usize = 64;
/// Datagrams that a client keeps on the way: enough for throughput, few enough for small queues.
const WINDOW: u64 = 16;
/// Silence after which datagrams on the way are given up. Far above any round trip inside one machine, a busy one
/// included.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(2);
/// Bytes of the index at the start of each datagram.
pub(crate) const INDEX: usize = 8;
/// The most datagrams of one exchange; bounds the table of those that came back.
pub(crate) const MAX_COUNT: u64 = 1_000_000;

/// Datagrams to send to an echo service.
#[derive(Debug, Clone, Copy)]
pub struct UdpExchange {
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<IpAddr>,
    pub(crate) size: usize,
    pub(crate) count: u64,
    pub(crate) within: Duration,
}

impl UdpExchange {
    /// Sends `count` datagrams (at most a million) of `size` content bytes, at least 8 and at most what fits into one
    /// packet, to an echo service.
    #[must_use]
    pub const fn new(to: SocketAddr, size: usize, count: u64) -> Self {
        Self { to, from: None, size, count, within: DEFAULT_WITHIN }
    }

    /// Sends from this address. Default: the host's first one of the destination's IP version.
    #[must_use]
    pub const fn from(mut self, from: IpAddr) -> Self {
        self.from = Some(from);
        self
    }

    /// Fails with [`HostError::Timeout`] if it takes longer. Default: 30 s.
    #[must_use]
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
}

/// What came back. Datagrams are never sent twice, so a lossy wire shows here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpReport {
    /// The client's endpoint.
    pub local: SocketAddr,
    /// The server's endpoint.
    pub remote: SocketAddr,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that came back unchanged, each counted once.
    pub received: u64,
    /// Datagrams that came back changed, twice or unasked.
    pub odd: u64,
    /// From the command to the last datagram, or to giving up the lost ones.
    pub elapsed: Duration,
}

/// An unbound socket for packets of up to `mtu` bytes.
pub(crate) fn socket(mtu: usize) -> Socket<'static> {
    let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; SLOTS], vec![0; SLOTS * mtu]);
    Socket::new(buffer(), buffer())
}

/// Sends back what came in, from the address it was sent to. Whether there was anything.
pub(crate) fn echo(socket: &mut Socket<'_>, scratch: &mut [u8]) -> bool {
    let mut moved = false;
    // A reply that finds no room is lost, as anywhere.
    while let Ok((len, from)) = socket.recv_slice(scratch) {
        let meta = UdpMetadata { local_address: from.local_address, ..from.endpoint.into() };
        moved |= socket.send_slice(scratch.get(..len).unwrap_or_default(), meta).is_ok();
    }
    moved
}

/// A running exchange.
pub(crate) struct Client {
    pub(crate) handle: SocketHandle,
    pub(crate) exchange: UdpExchange,
    pub(crate) local: SocketAddr,
    pub(crate) content: Content,
    pub(crate) started: Instant,
    pub(crate) reply: Reply<UdpReport>,
    state: State,
}

struct State {
    returned: Vec<bool>,
    sent: u64,
    received: u64,
    odd: u64,
    given_up: u64,
    last_progress: Instant,
}

impl Client {
    pub(crate) fn new(
        handle: SocketHandle,
        exchange: UdpExchange,
        local: SocketAddr,
        content: Content,
        started: Instant,
        reply: Reply<UdpReport>,
    ) -> Self {
        let returned = vec![false; usize::try_from(exchange.count).unwrap_or(0)];
        let state = State { returned, sent: 0, received: 0, odd: 0, given_up: 0, last_progress: started };
        Self { handle, exchange, local, content, started, reply, state }
    }

    fn end(&self) -> Instant {
        self.started + self.exchange.within
    }

    /// When the client must be looked at although nothing arrived.
    pub(crate) fn deadline(&self) -> Instant {
        self.end().min(self.state.last_progress + LOST_AFTER)
    }

    pub(crate) fn service(
        &mut self,
        now: Instant,
        socket: &mut Socket<'_>,
        scratch: &mut [u8],
    ) -> Progress<UdpReport> {
        self.receive(now, socket, scratch);
        let end = self.end();
        let state = &mut self.state;
        if now >= state.last_progress + LOST_AFTER {
            state.given_up = state.sent.saturating_sub(state.received);
            state.last_progress = now;
        }
        let on_the_way = state.sent.saturating_sub(state.received + state.given_up);
        if state.sent == self.exchange.count && on_the_way == 0 {
            return Progress::Done(self.report(now));
        }
        if now >= end {
            return Progress::Done(Err(HostError::Timeout {
                to: self.exchange.to,
                within: self.exchange.within,
                sent: state.sent,
                received: state.received,
            }));
        }
        let mut moved = false;
        for _ in on_the_way..WINDOW {
            moved |= self.send(socket, scratch);
        }
        if moved { Progress::Moved } else { Progress::Idle }
    }

    fn receive(&mut self, now: Instant, socket: &mut Socket<'_>, scratch: &mut [u8]) {
        let to = IpEndpoint::from(self.exchange.to);
        while let Ok((len, from)) = socket.recv_slice(scratch) {
            let datagram = scratch.get(..len).unwrap_or_default();
            let state = &mut self.state;
            let fresh = datagram
                .split_first_chunk::<INDEX>()
                .filter(|(_, body)| {
                    from.endpoint == to
                        && len == self.exchange.size
                        && self.content.matches(INDEX as u64, body)
                })
                .and_then(|(index, _)| usize::try_from(u64::from_be_bytes(*index)).ok())
                .filter(|index| (*index as u64) < state.sent)
                .and_then(|index| state.returned.get_mut(index))
                .filter(|returned| !**returned);
            if let Some(returned) = fresh {
                *returned = true;
                state.received += 1;
                state.given_up = state.given_up.min(state.sent - state.received);
                state.last_progress = now;
            } else {
                state.odd += 1;
            }
        }
    }

    fn send(&mut self, socket: &mut Socket<'_>, scratch: &mut [u8]) -> bool {
        let Some(datagram) = scratch.get_mut(..self.exchange.size) else { return false };
        if self.state.sent == self.exchange.count {
            return false;
        }
        if let Some((index, body)) = datagram.split_first_chunk_mut::<INDEX>() {
            *index = self.state.sent.to_be_bytes();
            self.content.fill(INDEX as u64, body);
        }
        let meta = UdpMetadata {
            local_address: Some(self.local.ip().into()),
            ..IpEndpoint::from(self.exchange.to).into()
        };
        let sent = socket.send_slice(datagram, meta).is_ok();
        self.state.sent += u64::from(sent);
        sent
    }

    fn report(&self, now: Instant) -> Result<UdpReport, HostError> {
        let State { sent, received, odd, .. } = self.state;
        if received == 0 && sent > 0 {
            return Err(HostError::NoReply { to: self.exchange.to.ip(), sent });
        }
        Ok(UdpReport {
            local: self.local,
            remote: self.exchange.to,
            sent,
            received,
            odd,
            elapsed: now.saturating_duration_since(self.started),
        })
    }
}
