//! The stack's network card: packets from the inbox go in, packets for the wire are counted and sent.

use std::{collections::VecDeque, sync::Arc};

use smoltcp::{
    phy::{self, DeviceCapabilities, Medium},
    time::Instant,
};

use crate::{stats::Board, wire::Wire};

pub(crate) struct Card {
    wire: Arc<dyn Wire>,
    board: Arc<Board>,
    mtu: usize,
    /// Packets that the stack has yet to take.
    pub(crate) incoming: VecDeque<Vec<u8>>,
    /// Buffers of packets it took.
    pub(crate) spent: Vec<Vec<u8>>,
    outgoing: Vec<u8>,
}

impl Card {
    pub(crate) fn new(wire: Arc<dyn Wire>, board: Arc<Board>, mtu: usize) -> Self {
        Self { wire, board, mtu, incoming: VecDeque::new(), spent: Vec::new(), outgoing: Vec::new() }
    }
}

impl phy::Device for Card {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((
            Incoming { packet, spent: &mut self.spent },
            Outgoing { wire: &*self.wire, board: &self.board, buffer: &mut self.outgoing },
        ))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing { wire: &*self.wire, board: &self.board, buffer: &mut self.outgoing })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(crate) struct Incoming<'a> {
    packet: Vec<u8>,
    spent: &'a mut Vec<Vec<u8>>,
}

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        let result = take(&self.packet);
        self.spent.push(self.packet);
        result
    }
}

pub(crate) struct Outgoing<'a> {
    wire: &'a dyn Wire,
    board: &'a Board,
    buffer: &'a mut Vec<u8>,
}

impl phy::TxToken for Outgoing<'_> {
    /// A wire that is full drops the packet, as any network does; TCP sends it again.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        self.buffer.clear();
        self.buffer.resize(len, 0);
        let result = write(self.buffer);
        self.board.sending(self.buffer, |packet| self.wire.send(packet));
        result
    }
}
