//! The start of a client: checks what was asked for, picks the local endpoint, makes the socket.

use std::net::{IpAddr, SocketAddr};

use smoltcp::{
    iface::SocketSet,
    socket::{Socket as AnySocket, icmp},
};
use tuntrail::clock::Instant;

use super::{Stack, tcp_socket};
use crate::{
    content::{Content, HEADER},
    error::HostError,
    options::{FIRST_PORT, is_unicast},
    ping::{self, ICMP_HEADER, Ping, PingReport},
    tcp_client::{self, MAX_STREAM, Reply, Transfer, TransferReport},
    udp::{self as udp_client, INDEX, MAX_COUNT, UdpExchange, UdpReport},
};

/// UDP header.
const UDP_HEADER: usize = 8;

impl Stack {
    pub(super) fn open_transfer(
        &mut self,
        now: Instant,
        transfer: Transfer,
        reply: Reply<TransferReport>,
    ) -> Result<tcp_client::Client, HostError> {
        for (name, len) in [("request", transfer.request), ("response", transfer.response)] {
            if len > MAX_STREAM {
                return Err(HostError::Request(format!(
                    "{name} of {len} bytes; at most {MAX_STREAM} are possible"
                )));
            }
        }
        let local = self.local(transfer.to, transfer.from)?;
        self.room()?;
        let mut socket = tcp_socket();
        socket
            .connect(self.interface.context(), transfer.to, local)
            .map_err(|error| HostError::Request(format!("{} to {}: {error}", local, transfer.to)))?;
        Ok(tcp_client::Client {
            handle: self.sockets.add(socket),
            transfer,
            local,
            content: Content::new(&self.pattern, transfer.request, transfer.response),
            started: now,
            reply,
            sent: 0,
            received: 0,
            established: false,
            peer_finished: false,
        })
    }

    pub(super) fn open_exchange(
        &mut self,
        now: Instant,
        exchange: UdpExchange,
        reply: Reply<UdpReport>,
    ) -> Result<udp_client::Client, HostError> {
        let UdpExchange { to, from, size, count, .. } = exchange;
        let most = self.content_room(to.ip(), UDP_HEADER);
        if !(INDEX..=most).contains(&size) {
            return Err(HostError::Request(format!(
                "datagrams of {size} bytes; {INDEX} to {most} are possible"
            )));
        }
        if count > MAX_COUNT {
            return Err(HostError::Request(format!("{count} datagrams; at most {MAX_COUNT} are possible")));
        }
        if to.port() == 0 {
            return Err(HostError::Request("port 0 can't be a destination".to_owned()));
        }
        let local = self.local(to, from)?;
        self.room()?;
        let mut socket = udp_client::socket(self.options.mtu);
        socket.bind(local).map_err(|error| HostError::Request(format!("{local}: {error}")))?;
        let handle = self.sockets.add(socket);
        let content = Content::new(&self.pattern, size as u64, count);
        Ok(udp_client::Client::new(handle, exchange, local, content, now, reply))
    }

    pub(super) fn open_ping(
        &mut self,
        now: Instant,
        ping: Ping,
        reply: Reply<PingReport>,
    ) -> Result<ping::Client, HostError> {
        let most = self.content_room(ping.to, ICMP_HEADER);
        if ping.size > most {
            return Err(HostError::Request(format!(
                "echo requests of {} bytes; at most {most} are possible",
                ping.size
            )));
        }
        // The identifier comes from the same counter as the ports: no two running pings share one.
        let ident = self.local(SocketAddr::new(ping.to, 0), None)?.port();
        self.room()?;
        let mut socket = ping::socket(self.options.mtu);
        socket
            .bind(icmp::Endpoint::Ident(ident))
            .map_err(|error| HostError::Request(format!("identifier {ident}: {error}")))?;
        let handle = self.sockets.add(socket);
        let content = Content::new(&self.pattern, HEADER as u64, u64::from(ping.count));
        Ok(ping::Client::new(handle, ping, ident, &content, now, reply))
    }

    /// Content bytes that fit into one packet with a transport header of this length.
    fn content_room(&self, to: IpAddr, header: usize) -> usize {
        let ip = if to.is_ipv4() { 20 } else { 40 };
        self.options.mtu.saturating_sub(ip + header)
    }

    fn room(&mut self) -> Result<(), HostError> {
        if self.make_room() {
            Ok(())
        } else {
            Err(HostError::TooManySockets { limit: self.options.max_sockets })
        }
    }

    /// The local endpoint for an exchange with `to`.
    fn local(&mut self, to: SocketAddr, from: Option<IpAddr>) -> Result<SocketAddr, HostError> {
        if !is_unicast(to.ip()) {
            return Err(HostError::Request(format!("{} is not a unicast address", to.ip())));
        }
        let own = &self.options.addresses;
        let from = match from {
            None => own.iter().copied().find(|own| own.is_ipv4() == to.is_ipv4()),
            Some(from) => Some(from)
                .filter(|from| from.is_ipv4() == to.is_ipv4() && is_unicast(*from))
                .filter(|from| self.options.any_ip || own.contains(from)),
        };
        let from = from.ok_or(HostError::NoSource { to: to.ip() })?;
        let used = |sockets: &SocketSet<'_>, port| {
            sockets.iter().any(|(_, socket)| match socket {
                AnySocket::Tcp(socket) => socket.local_endpoint().is_some_and(|local| local.port == port),
                AnySocket::Udp(socket) => socket.endpoint().port == port,
                AnySocket::Icmp(_) => false,
            })
        };
        // Sockets are far fewer than ports, so this ends.
        let mut port = self.next_port;
        while used(&self.sockets, port) {
            port = port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        Ok(SocketAddr::new(from, port))
    }
}
