//! What a host needs from its network card, and the one that leads into a tunnel.

use tuntrail::tunnel::PacketQueue;

/// How a blocking receive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recv {
    /// The buffer holds a packet.
    Packet,
    /// The wire is closed and empty: no packet will come any more.
    Closed,
}

/// A point-to-point link that carries whole IP packets.
///
/// A host calls [`Self::send`] from one of its threads and [`Self::recv`] from another, at the same time.
pub trait Wire: Send + Sync {
    /// Puts a packet on the wire without waiting. `false` if it had to be dropped: the wire is full or closed.
    fn send(&self, packet: &[u8]) -> bool;

    /// Waits for a packet and puts it into `buffer`, whose old content is replaced.
    fn recv(&self, buffer: &mut Vec<u8>) -> Recv;

    /// Closes the wire in both directions and ends a waiting [`Self::recv`]. Closing twice is harmless.
    fn close(&self);
}

/// The host side of a tunnel. A full queue drops the packet, as its statistics say.
impl Wire for PacketQueue {
    fn send(&self, packet: &[u8]) -> bool {
        Self::send(self, packet).is_ok()
    }

    fn recv(&self, buffer: &mut Vec<u8>) -> Recv {
        loop {
            match Self::recv(self, buffer, None) {
                Ok(true) => return Recv::Packet,
                // Without a time limit there is no empty return; should there be one, wait again.
                Ok(false) => {}
                Err(_) => return Recv::Closed,
            }
        }
    }

    fn close(&self) {
        Self::close(self);
    }
}
