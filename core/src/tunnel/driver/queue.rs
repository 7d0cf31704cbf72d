//! The packet queue: a TUN device for hosts that hand packets over themselves (NEPacketTunnelFlow, Wintun, a
//! userspace IP stack).
//!
//! Two bounded queues of recycled buffers. The host's threads call [`PacketQueue`]; the tunnel's thread owns the
//! [`QueueDevice`] and never blocks on it: it is woken when the queue towards it becomes non-empty. In the steady
//! state no packet allocates.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A buffer that grew beyond this many times the MTU isn't kept for reuse.
const MAX_SPARE_GROWTH: usize = 2;
/// Peers may send longer packets than our MTU, up to what their links carry: dropping those would break connections
/// without telling anyone. They share the bytes that `capacity` packets of this length would take.
const COMMON_MTU: usize = 1500;

/// Makes a queue of `capacity` packets (at least 1) in each direction, for packets of up to `mtu` bytes.
///
/// At most `4 * capacity * mtu` bytes are held, counting an MTU below 1500 as 1500. The device goes to the tunnel, the
/// queue to the host.
#[must_use]
pub fn packet_queue(capacity: usize, mtu: u16) -> (QueueDevice, PacketQueue) {
    let mtu = usize::from(mtu);
    let shared = Arc::new(Shared {
        mtu,
        to_tunnel: Ring::new(capacity, mtu),
        to_host: Ring::new(capacity, mtu),
        waker: Mutex::new(None),
        too_large: AtomicU64::new(0),
    });
    (QueueDevice { shared: Arc::clone(&shared) }, PacketQueue { shared })
}

/// The host's end. Clones are the same queue; any thread may call any method.
#[derive(Clone)]
pub struct PacketQueue {
    shared: Arc<Shared>,
}

impl PacketQueue {
    /// Hands one IP packet to the tunnel. Never blocks.
    ///
    /// # Errors
    /// [`QueueError::Full`] if the tunnel is behind (the packet is dropped and counted), [`QueueError::TooLarge`]
    /// for a packet longer than the queue's MTU, [`QueueError::Closed`] after [`Self::close`] or the tunnel's end.
    pub fn send(&self, packet: &[u8]) -> Result<(), QueueError> {
        if packet.len() > self.shared.mtu {
            self.shared.too_large.fetch_add(1, Ordering::Relaxed);
            return Err(QueueError::TooLarge { length: packet.len(), mtu: self.shared.mtu });
        }
        let was_empty = self.shared.to_tunnel.push(packet)?;
        // The tunnel empties the queue before it sleeps, so it needs waking only for the first packet.
        if was_empty {
            self.shared.wake();
        }
        Ok(())
    }

    /// Takes the next packet from the tunnel into `buffer`, replacing what was there. Waits up to `timeout`, or
    /// for ever with `None`. Returns whether there was a packet; `false` means the time was up.
    ///
    /// The buffer is exchanged, not copied: reuse the same one and nothing is allocated.
    ///
    /// # Errors
    /// [`QueueError::Closed`] once the queue is closed and the packets left in it are taken.
    pub fn recv(&self, buffer: &mut Vec<u8>, timeout: Option<Duration>) -> Result<bool, QueueError> {
        self.shared.to_host.pop_wait(buffer, timeout)
    }

    /// [`Self::recv`] without waiting.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub fn try_recv(&self, buffer: &mut Vec<u8>) -> Result<bool, QueueError> {
        self.shared.to_host.pop(buffer)
    }

    /// Closes both directions and wakes everyone who waits. Packets already queued towards the host can still be
    /// taken. Idempotent.
    pub fn close(&self) {
        self.shared.close();
    }

    /// What went through and what was dropped.
    #[must_use]
    pub fn stats(&self) -> PacketQueueStats {
        let (sent, send_full) = self.shared.to_tunnel.counts();
        let (received, receive_full) = self.shared.to_host.counts();
        PacketQueueStats {
            sent,
            received,
            send_full,
            receive_full,
            too_large: self.shared.too_large.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for PacketQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketQueue").field("mtu", &self.shared.mtu).field("stats", &self.stats()).finish()
    }
}

/// Counts of a [`PacketQueue`], in packets since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketQueueStats {
    /// Host to tunnel, accepted.
    pub sent: u64,
    /// Tunnel to host, accepted.
    pub received: u64,
    /// Host to tunnel, dropped because the queue was full.
    pub send_full: u64,
    /// Tunnel to host, dropped because the queue was full.
    pub receive_full: u64,
    /// Host to tunnel, refused for their length.
    pub too_large: u64,
}

/// Why a packet was not queued or taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The reader is behind.
    #[error("the packet queue is full; the packet was dropped")]
    Full,
    /// The queue or its tunnel has ended.
    #[error("the packet queue is closed; start a new tunnel with a new queue")]
    Closed,
    /// Longer than the queue's MTU.
    #[error("the packet has {length} bytes and the queue's MTU is {mtu}; lower the device's MTU")]
    TooLarge {
        /// Bytes of the packet.
        length: usize,
        /// Bytes that fit.
        mtu: usize,
    },
}

/// The tunnel's end; pass it to a tunnel. Dropping it closes the queue.
pub struct QueueDevice {
    shared: Arc<Shared>,
}

impl QueueDevice {
    /// Sets what wakes the tunnel's thread when a packet is queued for it or the queue is closed.
    pub(super) fn set_waker(&self, waker: Waker) {
        *lock(&self.shared.waker) = Some(waker);
    }

    /// Takes the next packet from the host; `Closed` only when none is left.
    pub(super) fn recv(&self, buffer: &mut Vec<u8>) -> Result<bool, QueueError> {
        self.shared.to_tunnel.pop(buffer)
    }

    /// Hands a packet to the host; `Full` and `Closed` drop it.
    pub(super) fn send(&self, packet: &[u8]) -> Result<(), QueueError> {
        self.shared.to_host.push(packet).map(drop)
    }
}

impl Drop for QueueDevice {
    fn drop(&mut self) {
        // The waker may hold the poller, which should go with the tunnel and not with the host's last clone.
        *lock(&self.shared.waker) = None;
        self.shared.close();
    }
}

impl fmt::Debug for QueueDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueDevice").field("mtu", &self.shared.mtu).finish_non_exhaustive()
    }
}

/// Wakes the tunnel's thread; called on the host's threads.
pub(super) type Waker = Box<dyn Fn() + Send>;

struct Shared {
    mtu: usize,
    to_tunnel: Ring,
    to_host: Ring,
    waker: Mutex<Option<Waker>>,
    too_large: AtomicU64,
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker();
        }
    }

    fn close(&self) {
        self.to_tunnel.close();
        self.to_host.close();
        self.wake();
    }
}

/// One direction.
struct Ring {
    state: Mutex<State>,
    filled: Condvar,
}

struct State {
    packets: VecDeque<Vec<u8>>,
    /// Empty buffers that keep their memory.
    spare: Vec<Vec<u8>>,
    capacity: usize,
    /// Bytes in `packets`, and how many there may be.
    bytes: usize,
    max_bytes: usize,
    /// Spare buffers up to this size are kept.
    max_spare: usize,
    closed: bool,
    accepted: u64,
    dropped: u64,
}

impl Ring {
    fn new(capacity: usize, mtu: usize) -> Self {
        let capacity = capacity.max(1);
        let mtu = mtu.max(COMMON_MTU);
        let state = State {
            packets: VecDeque::new(),
            spare: Vec::new(),
            capacity,
            bytes: 0,
            max_bytes: capacity.saturating_mul(mtu),
            max_spare: mtu.saturating_mul(MAX_SPARE_GROWTH),
            closed: false,
            accepted: 0,
            dropped: 0,
        };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Appends a copy of the packet. Returns whether the ring was empty before.
    fn push(&self, packet: &[u8]) -> Result<bool, QueueError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(QueueError::Closed);
        }
        if !state.has_room(packet.len()) {
            state.dropped += 1;
            return Err(QueueError::Full);
        }
        let mut buffer = state.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(packet);
        let was_empty = state.packets.is_empty();
        state.packets.push_back(buffer);
        state.bytes += packet.len();
        state.accepted += 1;
        drop(state);
        self.filled.notify_one();
        Ok(was_empty)
    }

    fn pop(&self, buffer: &mut Vec<u8>) -> Result<bool, QueueError> {
        lock(&self.state).take(buffer)
    }

    fn pop_wait(&self, buffer: &mut Vec<u8>, timeout: Option<Duration>) -> Result<bool, QueueError> {
        let nothing = |state: &mut State| state.packets.is_empty() && !state.closed;
        let state = lock(&self.state);
        let mut state = match timeout {
            None => self.filled.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.filled
                    .wait_timeout_while(state, timeout, nothing)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        state.take(buffer)
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_all();
    }

    fn counts(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.accepted, state.dropped)
    }
}

impl State {
    /// A single packet fits whatever its length.
    fn has_room(&self, length: usize) -> bool {
        self.packets.is_empty()
            || (self.packets.len() < self.capacity && self.bytes.saturating_add(length) <= self.max_bytes)
    }

    fn take(&mut self, buffer: &mut Vec<u8>) -> Result<bool, QueueError> {
        let Some(packet) = self.packets.pop_front() else {
            return if self.closed { Err(QueueError::Closed) } else { Ok(false) };
        };
        self.bytes -= packet.len();
        let mut spare = mem::replace(buffer, packet);
        spare.clear();
        let reusable = spare.capacity() > 0 && spare.capacity() <= self.max_spare;
        if reusable && self.spare.len() + self.packets.len() < self.capacity {
            self.spare.push(spare);
        }
        Ok(true)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn packets_pass_both_ways_in_order_and_empty_ones_too() {
        let (device, queue) = packet_queue(4, 1420);
        let mut buffer = Vec::new();
        for packet in [&b"one"[..], b"", b"three"] {
            queue.send(packet).unwrap();
            device.send(packet).unwrap();
        }
        for packet in [&b"one"[..], b"", b"three"] {
            assert_eq!((device.recv(&mut buffer), buffer.as_slice()), (Ok(true), packet));
            assert_eq!((queue.try_recv(&mut buffer), buffer.as_slice()), (Ok(true), packet));
        }
        assert_eq!(device.recv(&mut buffer), Ok(false));
        assert_eq!(queue.recv(&mut buffer, Some(Duration::from_millis(1))), Ok(false));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_counted() {
        let (device, queue) = packet_queue(2, 100);
        for expected in [Ok(()), Ok(()), Err(QueueError::Full)] {
            assert_eq!(queue.send(&[0; 100]), expected);
            assert_eq!(device.send(&[0; 200]), expected);
        }
        assert_eq!(queue.send(&[0; 101]), Err(QueueError::TooLarge { length: 101, mtu: 100 }));
        let stats = PacketQueueStats { sent: 2, received: 2, send_full: 1, receive_full: 1, too_large: 1 };
        assert_eq!(queue.stats(), stats);
    }

    #[test]
    fn long_packets_from_the_tunnel_pass_but_share_the_room_of_usual_ones() {
        let (device, queue) = packet_queue(4, 100);
        device.send(&[1; 5000]).unwrap();
        device.send(&[2; 1000]).unwrap();
        assert_eq!(device.send(&[3; 1]), Err(QueueError::Full));
        let mut buffer = Vec::new();
        assert_eq!((queue.try_recv(&mut buffer), buffer.len()), (Ok(true), 5000));
        device.send(&[3; 1]).unwrap();
        let (device, _queue) = packet_queue(1, 100);
        assert_eq!(device.send(&[1; 60_000]), Ok(()), "one always fits");
    }

    #[test]
    fn the_tunnel_is_woken_for_the_first_packet_only() {
        let (device, queue) = packet_queue(8, 100);
        let (wakes, woken) = mpsc::channel();
        device.set_waker(Box::new(move || wakes.send(()).unwrap()));
        for _ in 0..3 {
            queue.send(b"x").unwrap();
        }
        assert_eq!(woken.try_iter().count(), 1);
        let mut buffer = Vec::new();
        while device.recv(&mut buffer) == Ok(true) {}
        queue.send(b"x").unwrap();
        assert_eq!(woken.try_iter().count(), 1);
        queue.close();
        assert_eq!(woken.try_iter().count(), 1);
    }

    #[test]
    fn closing_wakes_a_waiting_reader_and_lets_it_take_what_is_left() {
        let (device, queue) = packet_queue(8, 100);
        device.send(b"last").unwrap();
        let reader = queue.clone();
        let (taken, took) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut buffer = Vec::new();
            assert_eq!(reader.recv(&mut buffer, None), Ok(true));
            taken.send(()).unwrap();
            reader.recv(&mut buffer, None)
        });
        took.recv().unwrap();
        drop(device);
        assert_eq!(thread.join().unwrap(), Err(QueueError::Closed));
        assert_eq!(queue.send(b"x"), Err(QueueError::Closed));
        queue.close();
    }

    #[test]
    fn buffers_are_recycled() {
        let (device, queue) = packet_queue(4, 1420);
        let mut buffer = Vec::with_capacity(1420);
        let mut memory = Vec::new();
        for round in 0..20 {
            queue.send(&[7; 1420]).unwrap();
            assert_eq!(device.recv(&mut buffer), Ok(true));
            if round >= 2 {
                memory.push(buffer.as_ptr());
            }
        }
        memory.sort_unstable();
        memory.dedup();
        assert!(memory.len() <= 2, "{} buffers for one packet at a time", memory.len());
    }
}
