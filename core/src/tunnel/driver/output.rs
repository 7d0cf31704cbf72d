//! Where the engine's output goes: the sockets and the device.

use std::net::SocketAddr;

use super::{device::Device, sockets::Sockets};
use crate::tunnel::{engine::Sink, stats::IoCounts};

/// Takes datagrams and packets in; both are out at the latest after [`Self::flush`].
pub(super) struct Output<'a> {
    pub(super) sockets: &'a mut Sockets,
    pub(super) device: &'a mut Device,
    pub(super) counts: &'a mut IoCounts,
}

impl Output<'_> {
    pub(super) fn flush(&mut self) {
        self.sockets.flush(self.counts);
        self.device.flush(self.counts);
    }
}

impl Sink for Output<'_> {
    #[inline]
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.sockets.send(to, datagram, self.counts);
    }

    #[inline]
    fn deliver(&mut self, packet: &[u8]) {
        self.device.write(packet, self.counts);
    }
}
