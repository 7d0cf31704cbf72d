//! Datagrams on their way to one address, collected so that one system call sends many (UDP segmentation offload).
//!
//! Owned by a socket and used on the tunnel's thread. A batch never waits: the loop flushes it before it sleeps and before it turns
//! to another source of packets. It holds one datagram where the system can't send more at once.

use std::{io, net::SocketAddr};

use crate::tunnel::stats::IoCounts;

/// What one send can carry: the longest UDP payload over IPv4. IPv6 could carry 20 bytes more.
const MAX_BYTES: usize = 65_507;
/// The kernel's limit when segmentation came (UDP_MAX_SEGMENTS); quinn-udp says the same, or less.
const MAX_SEGMENTS: usize = 64;

/// Sends datagrams that all have the given length but for the last, which may be shorter. `None` is a single one.
pub(super) trait Send: FnMut(SocketAddr, &[u8], Option<usize>) -> io::Result<()> {}
impl<F: FnMut(SocketAddr, &[u8], Option<usize>) -> io::Result<()>> Send for F {}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The datagrams, one after the other.
    bytes: Vec<u8>,
    to: Option<SocketAddr>,
    /// Bytes of each datagram but the last.
    segment: usize,
    count: usize,
    /// The system's buffer was full; the batch waits for room.
    blocked: bool,
}

impl Batch {
    /// Whether nothing can be sent until the socket is writable and [`Self::flush`] is called.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Takes a datagram. Sends what was there if the two don't go together, and at once if `max_segments` is 1.
    /// A blocked batch drops the datagram, which is counted.
    pub(super) fn push(
        &mut self,
        to: SocketAddr,
        datagram: &[u8],
        max_segments: usize,
        send: &mut impl Send,
        counts: &mut IoCounts,
    ) {
        if !self.blocked && !self.has_room(to, datagram.len(), max_segments) {
            self.flush(send, counts);
        }
        if self.blocked {
            counts.send_full += 1;
            return;
        }
        if self.bytes.is_empty() {
            self.to = Some(to);
            self.segment = datagram.len();
            self.count = 0;
        }
        self.bytes.extend_from_slice(datagram);
        self.count += 1;
        if max_segments <= 1 {
            self.flush(send, counts);
        }
    }

    fn has_room(&self, to: SocketAddr, len: usize, max_segments: usize) -> bool {
        self.bytes.is_empty()
            || (self.to == Some(to)
                && len <= self.segment
                // A shorter one has ended the batch.
                && self.bytes.len() == self.segment * self.count
                && self.count < max_segments.min(MAX_SEGMENTS)
                && self.bytes.len() + len <= MAX_BYTES)
    }

    /// Sends what is there. Where the system's buffer is full, the batch is kept and blocked.
    ///
    /// Not every route takes batches (a network card's driver, a path whose MTU is less than the segment): if one is refused,
    /// its datagrams go one by one, and what is refused then is dropped and counted by reason.
    pub(super) fn flush(&mut self, send: &mut impl Send, counts: &mut IoCounts) {
        self.blocked = false;
        let Some(to) = self.to.filter(|_| !self.bytes.is_empty()) else {
            return;
        };
        if self.count > 1 {
            match send(to, &self.bytes, Some(self.segment)) {
                Ok(()) => return self.clear(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return;
                }
                Err(error) => tracing::debug!(%error, "sending one by one instead of a batch"),
            }
        }
        let mut done = 0;
        for datagram in self.bytes.chunks(self.segment.max(1)) {
            match send(to, datagram, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    break;
                }
                Err(error) if is_full(&error) => counts.send_full += 1,
                Err(error) if quinn_udp::is_msg_size_err(&error) => counts.send_too_large += 1,
                Err(_) => counts.send_failed += 1,
            }
            done += 1;
        }
        if self.blocked {
            // Keeps the rest; this happens at most once per batch and full buffer.
            self.bytes.drain(..(done * self.segment).min(self.bytes.len()));
            self.count -= done;
        } else {
            self.clear();
        }
    }

    /// Drops what is there, which is counted: the socket it was for is gone.
    pub(super) fn discard(&mut self, counts: &mut IoCounts) {
        if !self.bytes.is_empty() {
            counts.send_failed += self.count as u64;
        }
        self.blocked = false;
        self.clear();
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// The system has no buffer for it and won't say when it has: Apple's and BSD's way of a full interface queue.
fn is_full(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error());
    // WSAENOBUFS
    #[cfg(windows)]
    return error.raw_os_error() == Some(10_055);
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A system that answers as told, then with success.
    #[derive(Default)]
    struct System {
        answers: VecDeque<io::ErrorKind>,
        sent: Vec<(u16, usize, Option<usize>)>,
    }

    struct Fixture {
        batch: Batch,
        system: System,
        counts: IoCounts,
        max_segments: usize,
    }

    fn fixture() -> Fixture {
        Fixture {
            batch: Batch::default(),
            system: System::default(),
            counts: IoCounts::default(),
            max_segments: 64,
        }
    }

    impl Fixture {
        fn push(&mut self, port: u16, len: usize) {
            let Self { batch, system, counts, max_segments } = self;
            batch.push(address(port), &vec![7; len], *max_segments, &mut system.send(), counts);
        }

        fn flush(&mut self) {
            self.batch.flush(&mut self.system.send(), &mut self.counts);
        }
    }

    impl System {
        fn send(&mut self) -> impl Send {
            |to: SocketAddr, bytes: &[u8], segment: Option<usize>| match self.answers.pop_front() {
                Some(FINE) => {
                    self.sent.push((to.port(), bytes.len(), segment));
                    Ok(())
                }
                Some(kind) => Err(kind.into()),
                None => {
                    self.sent.push((to.port(), bytes.len(), segment));
                    Ok(())
                }
            }
        }
    }

    /// Stands for success in a list of answers.
    const FINE: io::ErrorKind = io::ErrorKind::Other;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn equal_datagrams_to_one_address_are_one_send_and_a_shorter_one_ends_it() {
        let mut f = fixture();
        for len in [1452, 1452, 1452, 100, 1452] {
            f.push(1, len);
        }
        f.push(2, 1452);
        f.push(2, 1460);
        f.flush();
        f.flush();
        assert_eq!(
            f.system.sent,
            [(1, 3 * 1452 + 100, Some(1452)), (1, 1452, None), (2, 1452, None), (2, 1460, None)]
        );
        assert_eq!(f.counts, IoCounts::default());
    }

    #[test]
    fn a_send_stays_within_64_segments_and_the_longest_datagram() {
        let mut f = fixture();
        for _ in 0..65 {
            f.push(1, 100);
        }
        for _ in 0..46 {
            f.push(2, 1452);
        }
        f.flush();
        assert_eq!(
            f.system.sent,
            [(1, 6400, Some(100)), (1, 100, None), (2, 45 * 1452, Some(1452)), (2, 1452, None)]
        );
    }

    #[test]
    fn without_segmentation_every_datagram_goes_at_once() {
        let mut f = fixture();
        f.max_segments = 1;
        f.push(1, 100);
        f.push(1, 100);
        assert_eq!(f.system.sent, [(1, 100, None), (1, 100, None)]);
    }

    #[test]
    fn a_full_buffer_keeps_the_batch_drops_what_comes_and_goes_on_when_there_is_room() {
        let mut f = fixture();
        f.system.answers = [io::ErrorKind::WouldBlock, io::ErrorKind::WouldBlock].into();
        f.push(1, 100);
        f.push(1, 100);
        f.flush();
        assert!(f.batch.is_blocked());
        f.push(1, 100);
        f.push(2, 100);
        assert_eq!(f.counts.send_full, 2);
        f.flush();
        assert!(f.batch.is_blocked(), "still no room");
        f.flush();
        assert!(!f.batch.is_blocked());
        assert_eq!(f.system.sent, [(1, 200, Some(100))]);
    }

    #[test]
    fn a_refused_batch_goes_one_by_one_and_what_is_refused_is_counted() {
        let mut f = fixture();
        f.system.answers =
            [io::ErrorKind::InvalidInput, FINE, io::ErrorKind::HostUnreachable, io::ErrorKind::WouldBlock]
                .into();
        for len in [100, 100, 100, 40] {
            f.push(1, len);
        }
        f.flush();
        assert_eq!(f.system.sent, [(1, 100, None)]);
        assert_eq!(f.counts.send_failed, 1);
        assert!(f.batch.is_blocked());
        f.flush();
        assert_eq!(f.system.sent, [(1, 100, None), (1, 140, Some(100))], "the rest, in order");
        assert_eq!(f.counts.send_full, 0);
    }

    #[cfg(unix)]
    #[test]
    fn datagrams_too_large_for_the_path_and_full_queues_are_told_apart() {
        for errno in [rustix::io::Errno::MSGSIZE, rustix::io::Errno::NOBUFS] {
            let mut batch = Batch::default();
            let mut counts = IoCounts::default();
            let mut send = |_: SocketAddr, _: &[u8], _: Option<usize>| -> io::Result<()> {
                Err(io::Error::from_raw_os_error(errno.raw_os_error()))
            };
            for _ in 0..3 {
                batch.push(address(1), &[7; 100], 64, &mut send, &mut counts);
            }
            batch.flush(&mut send, &mut counts);
            let too_large = errno == rustix::io::Errno::MSGSIZE;
            let expected = IoCounts {
                send_too_large: if too_large { 3 } else { 0 },
                send_full: if too_large { 0 } else { 3 },
                ..IoCounts::default()
            };
            assert_eq!(counts, expected);
        }
    }

    #[test]
    fn a_batch_whose_socket_is_gone_is_counted() {
        let mut f = fixture();
        f.push(1, 100);
        f.push(1, 50);
        f.batch.discard(&mut f.counts);
        f.flush();
        assert_eq!(f.counts.send_failed, 2);
        assert_eq!(f.system.sent, []);
    }
}
