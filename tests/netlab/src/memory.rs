//! A wire between two hosts in one process, perfect or lossy.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::wire::{Recv, Wire};

/// A pair of connected ends. Each direction holds up to `capacity` packets; more are dropped, as by a network card.
#[must_use]
pub fn memory_wire(capacity: usize) -> (MemoryWire, MemoryWire) {
    let there = Arc::new(Lane::new(capacity));
    let back = Arc::new(Lane::new(capacity));
    (
        MemoryWire { out: Arc::clone(&there), into: Arc::clone(&back), lose_every: None },
        MemoryWire { out: back, into: there, lose_every: None },
    )
}

/// One end of a wire made by [`memory_wire`].
#[derive(Debug)]
pub struct MemoryWire {
    out: Arc<Lane>,
    into: Arc<Lane>,
    lose_every: Option<u64>,
}

impl MemoryWire {
    /// Loses every `n`-th packet sent from this end after it has left the host, as a bad link does. 0 loses none.
    #[must_use]
    pub fn losing_every(mut self, n: u64) -> Self {
        self.lose_every = (n > 0).then_some(n);
        self
    }
}

impl Wire for MemoryWire {
    fn send(&self, packet: &[u8]) -> bool {
        self.out.push(packet, self.lose_every)
    }

    fn recv(&self, buffer: &mut Vec<u8>) -> Recv {
        self.into.pop(buffer)
    }

    fn close(&self) {
        self.out.close();
        self.into.close();
    }
}

/// One direction.
struct Lane {
    capacity: usize,
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    /// Buffers of delivered packets, to be filled again.
    spare: Vec<Vec<u8>>,
    sent: u64,
    closed: bool,
}

impl Lane {
    fn new(capacity: usize) -> Self {
        Self { capacity, queue: Mutex::default(), ready: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, packet: &[u8], lose_every: Option<u64>) -> bool {
        let mut queue = self.lock();
        if queue.closed || queue.packets.len() >= self.capacity {
            return false;
        }
        queue.sent += 1;
        if lose_every.is_some_and(|n| queue.sent.is_multiple_of(n)) {
            return true;
        }
        let mut buffer = queue.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        queue.packets.push_back(buffer);
        drop(queue);
        self.ready.notify_one();
        true
    }

    fn pop(&self, buffer: &mut Vec<u8>) -> Recv {
        let mut queue = self.lock();
        loop {
            if let Some(mut packet) = queue.packets.pop_front() {
                std::mem::swap(buffer, &mut packet);
                queue.spare.push(packet);
                return Recv::Packet;
            }
            if queue.closed {
                return Recv::Closed;
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_arrive_in_order_and_a_full_wire_refuses() {
        let (a, b) = memory_wire(2);
        assert!(a.send(b"one"));
        assert!(a.send(b"two"));
        assert!(!a.send(b"three"));
        let mut buffer = Vec::new();
        assert_eq!((b.recv(&mut buffer), buffer.as_slice()), (Recv::Packet, b"one".as_slice()));
        assert_eq!((b.recv(&mut buffer), buffer.as_slice()), (Recv::Packet, b"two".as_slice()));
    }

    #[test]
    fn a_lossy_wire_swallows_each_nth_packet() {
        let (a, b) = memory_wire(8);
        let a = a.losing_every(2);
        for packet in [b"1", b"2", b"3", b"4"] {
            assert!(a.send(packet));
        }
        a.close();
        let mut buffer = Vec::new();
        let mut arrived = Vec::new();
        while b.recv(&mut buffer) == Recv::Packet {
            arrived.extend_from_slice(&buffer);
        }
        assert_eq!(arrived, b"13");
    }

    #[test]
    fn closing_one_end_ends_a_waiting_receive_at_the_other() {
        let (a, b) = memory_wire(1);
        let waiting = std::thread::spawn(move || b.recv(&mut Vec::new()));
        a.close();
        assert_eq!(waiting.join().unwrap(), Recv::Closed);
        assert!(!a.send(b"late"));
    }
}
