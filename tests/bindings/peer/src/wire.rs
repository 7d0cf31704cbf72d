//! The other end of the descriptor that the SDK takes for a TUN device.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
        socketpair,
    },
};
use tuntrail_netlab::{Recv, Wire};

/// Room for any IP packet.
const LONGEST_PACKET: usize = 1 << 16;

/// One end of a pair of sockets that keep packets apart, as a TUN device does, and tell when the other end is closed.
pub(crate) struct SocketWire {
    socket: OwnedFd,
}

impl SocketWire {
    /// A wire, and the descriptor at its other end.
    pub(crate) fn pair() -> Result<(Self, OwnedFd), Errno> {
        let (device, socket) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket }, device))
    }
}

impl Wire for SocketWire {
    fn send(&self, packet: &[u8]) -> bool {
        send(&self.socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
    }

    fn recv(&self, buffer: &mut Vec<u8>) -> Recv {
        buffer.resize(LONGEST_PACKET, 0);
        loop {
            match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                // No IP packet is empty: this is the end.
                Ok((0, _)) => return Recv::Closed,
                Ok((length, _)) => {
                    buffer.truncate(length);
                    return Recv::Packet;
                }
                Err(Errno::INTR) => {}
                Err(_) => return Recv::Closed,
            }
        }
    }

    fn close(&self) {
        // Ends the receive that waits. An error means that it is closed already.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}
