//! One UDP socket of the tunnel, with what it takes to send and receive many datagrams per system call.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

use super::{batch::Batch, options};
use crate::tunnel::stats::IoCounts;

/// Receive buffers, each of which the system may fill with many datagrams of one sender. Where it gives one datagram
/// per call anyway, one is enough.
pub(super) const BUFFERS: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 8 } else { 1 };
/// Longer than any UDP payload, which is also the most that comes joined.
const BUFFER_LEN: usize = 1 << 16;

/// What one call received. 512 KiB on Linux and Android, 64 KiB elsewhere; only what datagrams need of it is ever
/// touched.
pub(super) struct Received {
    bytes: Box<[u8]>,
    meta: [RecvMeta; BUFFERS],
    filled: usize,
}

impl Received {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BUFFERS * BUFFER_LEN].into_boxed_slice(),
            meta: [RecvMeta::default(); BUFFERS],
            filled: 0,
        }
    }

    /// Whether every buffer was used, so that there may be more.
    pub(super) fn is_full(&self) -> bool {
        self.filled == BUFFERS
    }

    /// The datagrams with their senders, and the address they came to where the system tells.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&RecvMeta, &[u8])> {
        let buffers = self.bytes.chunks(BUFFER_LEN);
        self.meta.iter().zip(buffers).take(self.filled).flat_map(|(meta, buffer)| {
            let content = buffer.get(..meta.len).unwrap_or(buffer);
            // An empty datagram is one, too.
            let empty = content.is_empty().then_some(content);
            content.chunks(meta.stride.max(1)).chain(empty).map(move |datagram| (meta, datagram))
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    /// `None` where the system's network stack lacks what quinn-udp builds on (on Windows, a provider without
    /// `WSARecvMsg`; wine): datagrams go one by one then.
    state: Option<UdpSocketState>,
    batch: Batch,
    port: u16,
}

impl Socket {
    /// Takes over a bound socket that doesn't block.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        // A socket that is broken shows that when it is used.
        let state = UdpSocketState::new((&socket).into()).ok();
        options::allow_fragments(&socket);
        options::forget_timestamps(&socket);
        let port = socket.local_addr()?.port();
        Ok(Self { socket, state, batch: Batch::default(), port })
    }

    pub(super) fn as_udp(&self) -> &UdpSocket {
        &self.socket
    }

    /// The one it is bound to.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it waits to be writable.
    pub(super) fn is_blocked(&self) -> bool {
        self.batch.is_blocked()
    }

    /// Sends soon: at the latest with [`Self::flush`].
    #[inline]
    pub(super) fn send(&mut self, to: SocketAddr, datagram: &[u8], counts: &mut IoCounts) {
        let Self { socket, state, batch, .. } = self;
        let max_segments = state.as_ref().map_or(1, UdpSocketState::max_gso_segments);
        batch.push(to, datagram, max_segments, &mut sender(socket, state.as_ref()), counts);
    }

    pub(super) fn flush(&mut self, counts: &mut IoCounts) {
        let Self { socket, state, batch, .. } = self;
        batch.flush(&mut sender(socket, state.as_ref()), counts);
    }

    /// Gives up what was not sent.
    pub(super) fn discard(&mut self, counts: &mut IoCounts) {
        self.batch.discard(counts);
    }

    /// Receives what is there, without waiting.
    pub(super) fn receive(&self, received: &mut Received) -> io::Result<()> {
        received.filled = 0;
        let mut buffers = received.bytes.chunks_mut(BUFFER_LEN);
        let mut slices: [IoSliceMut<'_>; BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        received.filled = match &self.state {
            Some(state) => state.recv((&self.socket).into(), &mut slices, &mut received.meta)?,
            None => receive_one(&self.socket, &mut slices, &mut received.meta)?,
        };
        Ok(())
    }
}

fn receive_one(
    socket: &UdpSocket,
    buffers: &mut [IoSliceMut<'_>],
    meta: &mut [RecvMeta],
) -> io::Result<usize> {
    let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) else { return Ok(0) };
    let (len, addr) = socket.recv_from(buffer)?;
    *meta = RecvMeta::default();
    (meta.addr, meta.len, meta.stride) = (addr, len, len);
    Ok(1)
}

fn sender(socket: &UdpSocket, state: Option<&UdpSocketState>) -> impl super::batch::Send {
    move |destination: SocketAddr, contents: &[u8], segment_size: Option<usize>| match state {
        Some(state) => {
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
            state.try_send(socket.into(), &transmit)
        }
        None => socket.send_to(contents, destination).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_batching_datagrams_still_come_and_go_one_by_one() {
        let bind = || UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let (from, to) = (bind(), bind());
        let destination = to.local_addr().unwrap();
        let source = from.local_addr().unwrap();
        let plain = |socket| Socket { state: None, ..Socket::new(socket).unwrap() };
        let (mut from, to) = (plain(from), plain(to));
        // As the tunnel's loop makes them.
        to.as_udp().set_nonblocking(true).unwrap();
        let mut counts = IoCounts::default();
        for datagram in [&b"first"[..], b"other"] {
            from.send(destination, datagram, &mut counts);
        }
        from.flush(&mut counts);
        assert_eq!(counts, IoCounts::default());
        let mut received = Received::new();
        for expected in [&b"first"[..], b"other"] {
            // What was sent on loopback is there when sending has returned.
            to.receive(&mut received).unwrap();
            let datagrams: Vec<_> =
                received.datagrams().map(|(meta, datagram)| (meta.addr, datagram)).collect();
            assert_eq!(datagrams, [(source, expected)]);
        }
        assert_eq!(to.receive(&mut received).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
