//! Packets that wait for a handshake: a queue that is bounded in packets and in bytes.
//!
//! Belongs to a peer. It allocates for each packet, which is the exception: once a session stands, none comes here.

use std::collections::VecDeque;

/// Packets that wait, as many as Linux keeps per peer.
const MAX_PACKETS: usize = 128;
/// Their bytes: as many packets of the usual length, so that jumbo packets can't take more.
const MAX_BYTES: usize = MAX_PACKETS * 1500;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Staged {
    packets: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Staged {
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Adds a packet, and drops the oldest ones for it if it must. Returns how many.
    pub(super) fn push(&mut self, packet: &[u8]) -> u64 {
        self.bytes += packet.len();
        self.packets.push_back(packet.into());
        let mut dropped = 0;
        // One packet may stay whatever its length.
        while self.packets.len() > MAX_PACKETS || (self.bytes > MAX_BYTES && self.packets.len() > 1) {
            if let Some(oldest) = self.packets.pop_front() {
                self.bytes -= oldest.len();
                dropped += 1;
            }
        }
        dropped
    }

    /// Takes all packets, the oldest first, and their memory.
    pub(super) fn take(&mut self) -> VecDeque<Box<[u8]>> {
        self.bytes = 0;
        std::mem::take(&mut self.packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_beyond_128_packets() {
        let mut staged = Staged::default();
        let dropped: u64 = (0..200_u8).map(|number| staged.push(&[number])).sum();
        assert_eq!(dropped, 72);
        assert_eq!(staged.take().iter().map(|packet| packet[0]).collect::<Vec<_>>(), Vec::from_iter(72..200));
        assert!(staged.is_empty());
    }

    #[test]
    fn the_oldest_go_first_beyond_their_bytes_and_one_may_stay_at_any_length() {
        let mut staged = Staged::default();
        assert_eq!(staged.push(&vec![1; MAX_BYTES + 1]), 0);
        assert_eq!(staged.push(&[2]), 1);
        assert_eq!((0..10).map(|_| staged.push(&vec![3; MAX_BYTES / 4])).sum::<u64>(), 7);
        assert_eq!(staged.bytes, MAX_BYTES);
        assert_eq!((staged.take().len(), staged.bytes), (4, 0));
    }
}
