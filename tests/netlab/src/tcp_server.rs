//! The server side of TCP connections.

use std::net::SocketAddr;

use smoltcp::{
    iface::SocketHandle,
    socket::tcp::{Socket, State},
};

use crate::{
    content::{Content, HEADER, Pattern},
    options::TcpService,
    tcp_client::MAX_STREAM,
};

/// How a look at a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to do.
    Idle,
    /// Bytes moved: the stack may have something to send.
    Moved,
    /// Closed in order. The socket may still wait for late packets.
    Completed,
    /// Reset or timed out.
    Failed,
    /// The content was damaged: the socket must be reset.
    Corrupt,
}

/// One accepted connection.
pub(crate) struct Session {
    pub(crate) handle: SocketHandle,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    job: Job,
    peer_finished: bool,
}

enum Job {
    /// Reading the first bytes of a request.
    Header {
        bytes: [u8; HEADER],
        have: usize,
    },
    /// Reading the rest of it.
    Request {
        content: Content,
        received: u64,
    },
    /// Sending bytes, then close.
    Response {
        content: Content,
        sent: u64,
        len: u64,
    },
    Echo,
    Sink,
}

impl Session {
    pub(crate) fn new(
        handle: SocketHandle,
        local: SocketAddr,
        remote: SocketAddr,
        service: TcpService,
        pattern: &Pattern,
    ) -> Self {
        let job = match service {
            TcpService::Exchange => Job::Header { bytes: [0; HEADER], have: 0 },
            TcpService::Echo => Job::Echo,
            TcpService::Sink => Job::Sink,
            TcpService::Source(len) => Job::Response { content: Content::new(pattern, 0, len), sent: 0, len },
        };
        Self { handle, local, remote, job, peer_finished: false }
    }

    /// Moves bytes. Must be called after each time that the stack ran. `scratch` is any buffer.
    pub(crate) fn service(
        &mut self,
        socket: &mut Socket<'_>,
        pattern: &Pattern,
        scratch: &mut [u8],
    ) -> Outcome {
        match socket.state() {
            State::Closed if self.peer_finished => return Outcome::Completed,
            State::Closed => return Outcome::Failed,
            State::SynReceived | State::Listen => return Outcome::Idle,
            State::TimeWait => return Outcome::Completed,
            _ => {}
        }
        let mut moved = false;
        loop {
            match self.step(socket, pattern, scratch) {
                Outcome::Moved => moved = true,
                Outcome::Idle => break,
                end => return end,
            }
        }
        self.peer_finished |= matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing);
        if moved { Outcome::Moved } else { Outcome::Idle }
    }

    fn step(&mut self, socket: &mut Socket<'_>, pattern: &Pattern, scratch: &mut [u8]) -> Outcome {
        let finished = socket.state() == State::CloseWait && !socket.can_recv();
        match &mut self.job {
            Job::Header { bytes, have } => {
                let Ok(len @ 1..) = socket.recv_slice(bytes.get_mut(*have..).unwrap_or_default()) else {
                    return if finished { Outcome::Corrupt } else { Outcome::Idle };
                };
                *have += len;
                if *have == HEADER {
                    let content = Content::from_header(pattern, *bytes);
                    let (request, response) = content.lengths();
                    if request < HEADER as u64 || request > MAX_STREAM || response > MAX_STREAM {
                        return Outcome::Corrupt;
                    }
                    self.job = Job::Request { content, received: HEADER as u64 };
                }
                Outcome::Moved
            }
            Job::Request { content, received } => {
                let (request, response) = content.lengths();
                if *received == request {
                    let content = content.clone();
                    self.job = Job::Response { content, sent: 0, len: response };
                    return Outcome::Moved;
                }
                let offset = *received;
                let part = socket.recv(|bytes| (bytes.len(), (bytes.len(), content.matches(offset, bytes))));
                match part {
                    Ok((0, _)) | Err(_) if finished => Outcome::Corrupt,
                    Ok((0, _)) | Err(_) => Outcome::Idle,
                    Ok((len, true)) if offset + len as u64 <= request => {
                        *received += len as u64;
                        Outcome::Moved
                    }
                    Ok(_) => Outcome::Corrupt,
                }
            }
            Job::Response { content, sent, len } => {
                if sent == len {
                    return close(socket);
                }
                let (offset, left) = (*sent, usize::try_from(*len - *sent).unwrap_or(usize::MAX));
                let part = socket.send(|space| {
                    let len = space.len().min(left);
                    content.fill(offset, space.get_mut(..len).unwrap_or_default());
                    (len, len)
                });
                match part {
                    Ok(0) | Err(_) => Outcome::Idle,
                    Ok(len) => {
                        *sent += len as u64;
                        Outcome::Moved
                    }
                }
            }
            Job::Echo => {
                if finished {
                    return close(socket);
                }
                let room = socket.send_capacity() - socket.send_queue();
                let room = room.min(scratch.len());
                let Some(space) = scratch.get_mut(..room) else { return Outcome::Idle };
                match socket.recv_slice(space) {
                    Ok(0) | Err(_) => Outcome::Idle,
                    Ok(len) => match socket.send_slice(space.get(..len).unwrap_or_default()) {
                        Ok(_) => Outcome::Moved,
                        Err(_) => Outcome::Idle,
                    },
                }
            }
            Job::Sink => {
                if finished {
                    return close(socket);
                }
                match socket.recv(|bytes| (bytes.len(), bytes.len())) {
                    Ok(0) | Err(_) => Outcome::Idle,
                    Ok(_) => Outcome::Moved,
                }
            }
        }
    }
}

fn close(socket: &mut Socket<'_>) -> Outcome {
    if matches!(socket.state(), State::Established | State::CloseWait) {
        socket.close();
        return Outcome::Moved;
    }
    Outcome::Idle
}
