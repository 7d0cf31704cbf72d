//! The client side of a TCP transfer: send a request, read the response, check every byte, close in order.

use std::{
    net::{IpAddr, SocketAddr},
    sync::mpsc::SyncSender,
    time::Duration,
};

use smoltcp::{
    iface::SocketHandle,
    socket::tcp::{Socket, State},
};
use tuntrail::clock::Instant;

use crate::{content::Content, error::HostError};

/// The most bytes that one direction of a transfer may have: 1 GiB. A test that needs more needs another tool.
pub const MAX_STREAM: u64 = 1 << 30;

/// Time for a transfer unless the caller says otherwise: a lossy wire can stall TCP for some seconds.
pub(crate) const DEFAULT_WITHIN: Duration = Duration::from_secs(30);

/// A TCP connection to make: send a request of a given length, close the sending side, read the response to its end.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<IpAddr>,
    pub(crate) request: u64,
    pub(crate) response: u64,
    pub(crate) within: Duration,
}

impl Transfer {
    /// Sends `request` bytes to `to` and expects exactly `response` bytes back; each at most [`MAX_STREAM`].
    ///
    /// The request starts with 16 bytes that name both lengths, so [`crate::TcpService::Exchange`] needs at least as
    /// many. An echo service answers with `request` bytes, a sink with none, a source with its own number.
    #[must_use]
    pub const fn new(to: SocketAddr, request: u64, response: u64) -> Self {
        Self { to, from: None, request, response, within: DEFAULT_WITHIN }
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

/// A transfer that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferReport {
    /// The client's endpoint.
    pub local: SocketAddr,
    /// The server's endpoint.
    pub remote: SocketAddr,
    /// Content bytes sent and acknowledged.
    pub sent: u64,
    /// Content bytes received and found correct.
    pub received: u64,
    /// From the command to the end of the connection.
    pub elapsed: Duration,
}

/// Where an answer goes; its caller waits for it.
pub(crate) type Reply<T> = SyncSender<Result<T, HostError>>;

/// What became of a look at a socket.
pub(crate) enum Progress<T> {
    /// There was nothing to do.
    Idle,
    /// Bytes moved: the stack may have something to send.
    Moved,
    /// The exchange is over.
    Done(Result<T, HostError>),
}

/// A running transfer.
pub(crate) struct Client {
    pub(crate) handle: SocketHandle,
    pub(crate) transfer: Transfer,
    pub(crate) local: SocketAddr,
    pub(crate) content: Content,
    pub(crate) started: Instant,
    pub(crate) reply: Reply<TransferReport>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) established: bool,
    pub(crate) peer_finished: bool,
}

impl Client {
    pub(crate) fn deadline(&self) -> Instant {
        self.started + self.transfer.within
    }

    pub(crate) fn timeout(&self) -> HostError {
        HostError::Timeout {
            to: self.transfer.to,
            within: self.transfer.within,
            sent: self.sent,
            received: self.received,
        }
    }

    /// Moves bytes. Must be called after each time that the stack ran.
    pub(crate) fn service(&mut self, now: Instant, socket: &mut Socket<'_>) -> Progress<TransferReport> {
        let mut moved = false;
        if matches!(socket.state(), State::SynSent) {
            return Progress::Idle;
        }
        self.established |= socket.state() != State::Closed;
        if self.established {
            match self.receive(socket) {
                Ok(some) => moved |= some,
                Err(error) => return Progress::Done(Err(error)),
            }
            moved |= self.send(socket);
        }
        self.peer_finished |=
            matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        if self.peer_finished && !socket.can_recv() && self.received < self.transfer.response {
            return Progress::Done(Err(self.wrong_length()));
        }
        match socket.state() {
            State::TimeWait => Progress::Done(Ok(self.report(now))),
            State::Closed => Progress::Done(self.closed(now)),
            _ if moved => Progress::Moved,
            _ => Progress::Idle,
        }
    }

    fn receive(&mut self, socket: &mut Socket<'_>) -> Result<bool, HostError> {
        let mut moved = false;
        while socket.can_recv() {
            let (offset, content) = (self.received, &self.content);
            let part = socket.recv(|bytes| (bytes.len(), (bytes.len(), content.matches(offset, bytes))));
            let Ok((len, matches)) = part else { break };
            moved = true;
            self.received += len as u64;
            if self.received > self.transfer.response {
                return Err(self.wrong_length());
            }
            if !matches {
                return Err(HostError::Corrupt { to: self.transfer.to, offset });
            }
        }
        Ok(moved)
    }

    fn send(&mut self, socket: &mut Socket<'_>) -> bool {
        let mut moved = false;
        while self.sent < self.transfer.request && socket.can_send() {
            let (offset, content) = (self.sent, &self.content);
            let left = usize::try_from(self.transfer.request - offset).unwrap_or(usize::MAX);
            let part = socket.send(|space| {
                let len = space.len().min(left);
                content.fill(offset, space.get_mut(..len).unwrap_or_default());
                (len, len)
            });
            let Ok(len) = part else { break };
            self.sent += len as u64;
            moved = true;
        }
        if self.sent == self.transfer.request
            && matches!(socket.state(), State::Established | State::CloseWait)
        {
            socket.close();
            moved = true;
        }
        moved
    }

    fn report(&self, now: Instant) -> TransferReport {
        TransferReport {
            local: self.local,
            remote: self.transfer.to,
            sent: self.sent,
            received: self.received,
            elapsed: now.saturating_duration_since(self.started),
        }
    }

    fn closed(&self, now: Instant) -> Result<TransferReport, HostError> {
        let to = self.transfer.to;
        let all = self.sent == self.transfer.request && self.received == self.transfer.response;
        match self.established {
            false => Err(HostError::Refused { to }),
            true if all && self.peer_finished => Ok(self.report(now)),
            true => Err(HostError::Reset { to, sent: self.sent, received: self.received }),
        }
    }

    fn wrong_length(&self) -> HostError {
        HostError::Length { to: self.transfer.to, received: self.received, expected: self.transfer.response }
    }
}
