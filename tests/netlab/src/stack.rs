//! The stack thread: a smoltcp interface, its sockets, and the services and clients on top.
//!
//! It owns everything here alone. It sleeps in the inbox until packets or commands come or the earliest deadline of
//! the interface and the clients is due, then feeds the packets in, lets services and clients move bytes, sends what
//! the sockets have, and sleeps again.
//!
//! Server sockets are made when a connection request arrives, not before, so that a service on all ports of all
//! addresses costs nothing.

mod open;

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use smoltcp::{
    iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet},
    socket::{icmp, tcp, udp},
    time::{Duration as StackDuration, Instant as StackInstant},
    wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint, Ipv4Address, Ipv6Address},
};
use tuntrail::{
    clock::{Clock, Instant, SystemClock},
    hook::{Direction, Protocol},
    packet::{Header, TcpFlags},
};

use crate::{
    content::Pattern,
    device::Card,
    error::HostError,
    inbox::{Closed, Inbox},
    options::HostOptions,
    ping::{self, Ping, PingReport},
    stats::Board,
    tcp_client::{self, Progress, Reply, Transfer, TransferReport},
    tcp_server::{Outcome, Session},
    udp::{self as udp_client, UdpExchange, UdpReport},
    wire::Wire,
};

/// Bytes of one TCP buffer: the largest window without scaling, so that a slow reader can't hold megabytes.
const TCP_BUFFER: usize = 65_535;
/// A TCP peer that is silent for so long is gone. Longer than the longest default deadline of a client.
const TCP_SILENCE: StackDuration = StackDuration::from_secs(60);
/// Room for the largest packet.
const SCRATCH: usize = 65_536;

/// What callers ask for.
pub(crate) enum Command {
    Transfer(Transfer, Reply<TransferReport>),
    Udp(UdpExchange, Reply<UdpReport>),
    Ping(Ping, Reply<PingReport>),
}

impl Command {
    /// Tells the caller that it won't happen. A caller that has gone is no error.
    fn refuse(self, error: HostError) {
        match self {
            Self::Transfer(_, reply) => drop(reply.send(Err(error))),
            Self::Udp(_, reply) => drop(reply.send(Err(error))),
            Self::Ping(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

pub(crate) struct Stack {
    options: HostOptions,
    inbox: Arc<Inbox<Command>>,
    board: Arc<Board>,
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    sessions: Vec<Session>,
    transfers: Vec<tcp_client::Client>,
    exchanges: Vec<udp_client::Client>,
    pings: Vec<ping::Client>,
    /// Echo sockets, oldest first, with their ports.
    echoes: VecDeque<(SocketHandle, u16)>,
    /// Closed connections that wait for late packets, oldest first.
    lingering: VecDeque<SocketHandle>,
    /// Reset connections whose last packet must still be sent.
    dying: Vec<SocketHandle>,
    pattern: Pattern,
    next_port: u16,
    scratch: Vec<u8>,
}

impl Stack {
    /// `options` must have been checked.
    pub(crate) fn new(
        options: HostOptions,
        wire: Arc<dyn Wire>,
        inbox: Arc<Inbox<Command>>,
        board: Arc<Board>,
    ) -> Self {
        let now = SystemClock.now();
        let mut card = Card::new(wire, Arc::clone(&board), options.mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = now.as_nanos();
        let mut interface = Interface::new(config, &mut card, stack_time(now));
        interface.set_any_ip(options.any_ip);
        interface.update_ip_addrs(|own| {
            for address in &options.addresses {
                let address = IpAddress::from(*address);
                let host = if address.version() == smoltcp::wire::IpVersion::Ipv4 { 32 } else { 128 };
                // The check of the options keeps this within the capacity.
                let _ = own.push(IpCidr::new(address, host));
            }
        });
        // On a point-to-point link the gateway is never asked for; the routes only say that everything is reachable.
        let _ = interface.routes_mut().add_default_ipv4_route(Ipv4Address::UNSPECIFIED);
        let _ = interface.routes_mut().add_default_ipv6_route(Ipv6Address::UNSPECIFIED);
        Self {
            next_port: options.first_port,
            options,
            inbox,
            board,
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
            sessions: Vec::new(),
            transfers: Vec::new(),
            exchanges: Vec::new(),
            pings: Vec::new(),
            echoes: VecDeque::new(),
            lingering: VecDeque::new(),
            dying: Vec::new(),
            pattern: Pattern::new(),
            scratch: vec![0; SCRATCH],
        }
    }

    /// Runs until the host is stopped or its wire closed; then every waiting caller is told.
    pub(crate) fn run(mut self) {
        let mut commands = VecDeque::new();
        loop {
            let timeout = self.timeout(SystemClock.now());
            let inbox = Arc::clone(&self.inbox);
            let waited = inbox.wait(timeout, &mut self.card.incoming, &mut commands, &mut self.card.spent);
            if let Err(closed) = waited {
                return self.end(closed, commands);
            }
            let now = SystemClock.now();
            for command in commands.drain(..) {
                self.start(now, command);
            }
            self.ingress(now);
            while self.egress(now) | self.service(now) {}
            self.expire(now);
            self.bury(now);
        }
    }

    fn timeout(&mut self, now: Instant) -> Option<std::time::Duration> {
        let clients = self.transfers.iter().map(tcp_client::Client::deadline);
        let clients = clients.chain(self.exchanges.iter().map(udp_client::Client::deadline));
        let clients = clients.chain(self.pings.iter().map(ping::Client::deadline));
        let clients = clients.min().map(|deadline| deadline.saturating_duration_since(now));
        let stack = self.interface.poll_delay(stack_time(now), &self.sockets).map(Into::into);
        clients.into_iter().chain(stack).min()
    }

    fn end(self, closed: Closed, commands: VecDeque<Command>) {
        for command in commands {
            command.refuse(closed.into());
        }
        for client in self.transfers {
            drop(client.reply.send(Err(closed.into())));
        }
        for client in self.exchanges {
            drop(client.reply.send(Err(closed.into())));
        }
        for client in self.pings {
            drop(client.reply.send(Err(closed.into())));
        }
    }

    // Packets

    fn ingress(&mut self, now: Instant) {
        let time = stack_time(now);
        while let Some(packet) = self.card.incoming.front() {
            let header = Header::parse(packet);
            let listener = self.prepare(&header);
            let result = self.interface.poll_ingress_single(time, &mut self.card, &mut self.sockets);
            if let Some(session) = listener {
                self.admit(session);
            }
            if result == PollIngressSingleResult::None {
                break;
            }
        }
    }

    /// Whether anything was sent.
    fn egress(&mut self, now: Instant) -> bool {
        let time = stack_time(now);
        let mut sent = false;
        while self.interface.poll_egress(time, &mut self.card, &mut self.sockets)
            == PollResult::SocketStateChanged
        {
            sent = true;
        }
        sent
    }

    /// Makes the socket that a packet is going to need, if it belongs to a service.
    fn prepare(&mut self, header: &Header) -> Option<Session> {
        let connection = header.connection(Direction::Rx);
        let (local, remote) = (connection.src?, connection.dst?);
        match header.protocol {
            Protocol::TCP
                if header.tcp_flags.contains(TcpFlags::SYN) && !header.tcp_flags.contains(TcpFlags::ACK) =>
            {
                self.prepare_tcp(local, remote)
            }
            Protocol::UDP => {
                self.prepare_udp(local.port());
                None
            }
            _ => None,
        }
    }

    fn prepare_tcp(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<Session> {
        if self.sessions.iter().any(|session| session.local == local && session.remote == remote) {
            return None;
        }
        let service = self.options.tcp.iter().find(|(ports, _)| ports.contains(local.port()));
        let service = service.map(|(_, service)| *service).filter(|_| self.make_room());
        let Some(service) = service else {
            self.board.update(|stats| stats.tcp.refused += 1);
            return None;
        };
        let mut socket = tcp_socket();
        let at = IpListenEndpoint { addr: Some(local.ip().into()), port: local.port() };
        socket.listen(at).ok()?;
        let handle = self.sockets.add(socket);
        Some(Session::new(handle, local, remote, service, &self.pattern))
    }

    /// Keeps the prepared session if the stack accepted its connection request.
    fn admit(&mut self, session: Session) {
        let state = self.sockets.get_mut::<tcp::Socket<'_>>(session.handle).state();
        if matches!(state, tcp::State::Listen | tcp::State::Closed) {
            self.sockets.remove(session.handle);
            return;
        }
        self.board.update(|stats| stats.tcp.accepted += 1);
        self.sessions.push(session);
    }

    fn prepare_udp(&mut self, port: u16) {
        let taken = self.echoes.iter().any(|(_, own)| *own == port)
            || self.exchanges.iter().any(|client| client.local.port() == port);
        if taken || !self.options.udp_echo.iter().any(|ports| ports.contains(port)) {
            return;
        }
        if !self.make_room() {
            return;
        }
        let mut socket = udp_client::socket(self.options.mtu);
        if socket.bind(port).is_ok() {
            self.echoes.push_back((self.sockets.add(socket), port));
        }
    }

    /// Whether one more socket may be made: at the cost of the oldest lingering one, or else of the oldest echo
    /// socket, if need be. An echo socket has nothing to lose, it is made anew with the next datagram.
    fn make_room(&mut self) -> bool {
        if self.sockets.iter().count() < self.options.max_sockets {
            return true;
        }
        let oldest = self.lingering.pop_front().or_else(|| self.echoes.pop_front().map(|(handle, _)| handle));
        oldest.map(|oldest| self.sockets.remove(oldest)).is_some()
    }

    // Commands

    fn start(&mut self, now: Instant, command: Command) {
        match command {
            Command::Transfer(transfer, reply) => match self.open_transfer(now, transfer, reply.clone()) {
                Ok(client) => self.transfers.push(client),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Udp(exchange, reply) => match self.open_exchange(now, exchange, reply.clone()) {
                Ok(client) => self.exchanges.push(client),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Ping(ping, reply) => match self.open_ping(now, ping, reply.clone()) {
                Ok(client) => self.pings.push(client),
                Err(error) => drop(reply.send(Err(error))),
            },
        }
    }

    // Services and clients

    /// Whether the sockets may have something to send.
    fn service(&mut self, now: Instant) -> bool {
        self.service_sessions() | self.service_echoes() | self.service_clients(now)
    }

    fn service_sessions(&mut self) -> bool {
        let mut moved = false;
        let Self { sessions, sockets, pattern, scratch, board, lingering, dying, .. } = self;
        sessions.retain_mut(|session| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(session.handle);
            match session.service(socket, pattern, scratch) {
                Outcome::Idle => return true,
                Outcome::Moved => {
                    moved = true;
                    return true;
                }
                Outcome::Completed => {
                    lingering.push_back(session.handle);
                    board.update(|stats| stats.tcp.completed += 1);
                }
                Outcome::Failed => {
                    dying.push(session.handle);
                    board.update(|stats| stats.tcp.failed += 1);
                }
                Outcome::Corrupt => {
                    socket.abort();
                    moved = true;
                    dying.push(session.handle);
                    board.update(|stats| stats.tcp.corrupt += 1);
                }
            }
            false
        });
        moved
    }

    fn service_echoes(&mut self) -> bool {
        let mut moved = false;
        for (handle, _) in &self.echoes {
            moved |= udp_client::echo(self.sockets.get_mut::<udp::Socket<'_>>(*handle), &mut self.scratch);
        }
        moved
    }

    fn service_clients(&mut self, now: Instant) -> bool {
        let mut moved = false;
        let Self { transfers, exchanges, pings, sockets, scratch, lingering, dying, .. } = self;
        transfers.retain_mut(|client| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(client.handle);
            let Some(result) = over(client.service(now, socket), &mut moved) else { return true };
            if result.is_ok() {
                lingering.push_back(client.handle);
            } else {
                moved |= socket.is_open();
                socket.abort();
                dying.push(client.handle);
            }
            drop(client.reply.send(result));
            false
        });
        exchanges.retain_mut(|client| {
            let socket = sockets.get_mut::<udp::Socket<'_>>(client.handle);
            let Some(result) = over(client.service(now, socket, scratch), &mut moved) else {
                return true;
            };
            dying.push(client.handle);
            drop(client.reply.send(result));
            false
        });
        pings.retain_mut(|client| {
            let socket = sockets.get_mut::<icmp::Socket<'_>>(client.handle);
            let Some(result) = over(client.service(now, socket), &mut moved) else { return true };
            dying.push(client.handle);
            drop(client.reply.send(result));
            false
        });
        moved
    }

    /// Ends transfers whose time is over. The other clients look at the time themselves.
    fn expire(&mut self, now: Instant) {
        let Self { transfers, sockets, dying, .. } = self;
        transfers.retain(|client| {
            if now < client.deadline() {
                return true;
            }
            sockets.get_mut::<tcp::Socket<'_>>(client.handle).abort();
            dying.push(client.handle);
            drop(client.reply.send(Err(client.timeout())));
            false
        });
    }

    /// Removes sockets that have nothing left to do.
    fn bury(&mut self, now: Instant) {
        if !self.dying.is_empty() {
            self.egress(now);
        }
        for handle in self.dying.drain(..) {
            self.sockets.remove(handle);
        }
        let sockets = &mut self.sockets;
        self.lingering.retain(|handle| {
            let waits = sockets.get_mut::<tcp::Socket<'_>>(*handle).state() == tcp::State::TimeWait;
            if !waits {
                sockets.remove(*handle);
            }
            waits
        });
    }
}

fn over<T>(progress: Progress<T>, moved: &mut bool) -> Option<Result<T, HostError>> {
    match progress {
        Progress::Idle => None,
        Progress::Moved => {
            *moved = true;
            None
        }
        Progress::Done(result) => Some(result),
    }
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_timeout(Some(TCP_SILENCE));
    // Packets come in batches, each answered at once: waiting to merge acknowledgements or small segments only adds
    // delay here.
    socket.set_ack_delay(None);
    socket.set_nagle_enabled(false);
    socket
}

fn stack_time(now: Instant) -> StackInstant {
    StackInstant::from_micros(i64::try_from(now.as_nanos() / 1_000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::memory::{MemoryWire, memory_wire};

    #[test]
    fn a_stack_without_work_sleeps_for_ever() {
        let (mut stack, _far) = stack();
        let now = SystemClock.now();
        assert_eq!(stack.timeout(now), None);
        // An echo socket has no deadline, however long it lives.
        stack.prepare_udp(53);
        stack.egress(now);
        assert_eq!(stack.echoes.len(), 1);
        assert_eq!(stack.timeout(now), None);
    }

    #[test]
    fn a_client_sets_the_deadline_and_leaves_none_behind() {
        let (mut stack, _far) = stack();
        let (reply, answer) = mpsc::sync_channel(1);
        let now = SystemClock.now();
        let ping = Ping::new("10.0.0.2".parse().unwrap(), 1).within(std::time::Duration::from_millis(7));
        stack.start(now, Command::Ping(ping, reply));
        while stack.egress(now) | stack.service(now) {}
        assert_eq!(stack.timeout(now), Some(ping.within));
        let later = now + ping.within;
        while stack.egress(later) | stack.service(later) {}
        stack.bury(later);
        assert!(matches!(answer.recv().unwrap(), Err(HostError::Timeout { sent: 1, .. })));
        assert_eq!(stack.timeout(later), None);
        assert_eq!(stack.sockets.iter().count(), 0);
    }

    fn stack() -> (Stack, MemoryWire) {
        let (near, far) = memory_wire(16);
        let options = HostOptions::new(["10.0.0.1".parse().unwrap()]).udp_echo(crate::Ports::Any);
        (Stack::new(options, Arc::new(near), Arc::new(Inbox::new()), Arc::default()), far)
    }
}
