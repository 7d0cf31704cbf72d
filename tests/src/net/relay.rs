//! A UDP relay that delays and reorders, in place of the kernel's netem.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::net::{RecvFlags, Shutdown, recvfrom, shutdown};
use tuntrail_netlab::linux::Namespace;

use super::NetError;

/// Datagrams on their way per direction; what is beyond is lost and counted, as in any queue.
const QUEUE: usize = 4096;
/// Longer than any datagram here.
const DATAGRAM: usize = 1 << 16;

/// What happens to each datagram.
#[derive(Debug, Clone, Copy)]
pub struct RelayOptions {
    /// How long each datagram takes.
    pub delay: Duration,
    /// Every so many datagrams one takes longer and so comes after others; 0 for never.
    pub late_every: u64,
    /// How much longer.
    pub late_by: Duration,
}

/// A relay on the loopback interface of one host that talks to one target. Dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    /// Faces who sends to the relay.
    near: UdpSocket,
    /// Connected to the target.
    far: UdpSocket,
    /// Who sent to the relay last.
    caller: Mutex<Option<SocketAddr>>,
    options: RelayOptions,
    ended: AtomicBool,
    forwarded: AtomicU64,
    overtaken: AtomicU64,
    lost: AtomicU64,
}

/// A datagram on its way: due when, its number, its content.
type Late = Reverse<(Instant, u64, Vec<u8>)>;

impl Relay {
    /// Starts a relay inside `host`.
    ///
    /// # Errors
    /// When a socket or a thread can't be made.
    pub fn start(host: &Namespace, target: SocketAddr, options: RelayOptions) -> Result<Self, NetError> {
        host.run(move || Self::start_here(target, options).map_err(NetError::system("starting a relay")))?
    }

    fn start_here(target: SocketAddr, options: RelayOptions) -> io::Result<Self> {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let any: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let far = UdpSocket::bind((any, 0))?;
        far.connect(target)?;
        let address = near.local_addr()?;
        let state = Arc::new(State {
            near,
            far,
            caller: Mutex::new(None),
            options,
            ended: AtomicBool::new(false),
            forwarded: AtomicU64::new(0),
            overtaken: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let mut relay = Self { address, state, threads: Vec::new() };
        for out in [true, false] {
            let (queue, due) = sync_channel(QUEUE);
            relay.spawn(move |state| state.take(out, &queue))?;
            relay.spawn(move |state| state.deliver(out, &due))?;
        }
        Ok(relay)
    }

    fn spawn(&mut self, work: impl FnOnce(&State) + Send + 'static) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        self.threads.push(thread::Builder::new().name("relay".to_owned()).spawn(move || work(&state))?);
        Ok(())
    }

    /// Where to send to, on the host where the relay runs.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Datagrams that were passed on.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.state.forwarded.load(Ordering::Relaxed)
    }

    /// Datagrams that were passed on after a later one.
    #[must_use]
    pub fn overtaken(&self) -> u64 {
        self.state.overtaken.load(Ordering::Relaxed)
    }

    /// Datagrams that found the queue full or could not be sent.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        // Shutting down wakes the threads that receive; the others end with their queues.
        for socket in [&self.state.near, &self.state.far] {
            // An error only says that a socket without a connection was shut down.
            let _ = shutdown(socket, Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl State {
    /// Receives on one side until the relay ends.
    fn take(&self, out: bool, queue: &SyncSender<(Instant, Vec<u8>)>) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            // Not by std, which panics when a socket that was shut down gives a datagram without a sender.
            let socket = if out { &self.near } else { &self.far };
            let received = recvfrom(socket, buffer.as_mut_slice(), RecvFlags::empty());
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            // Errors are old news of the peer's port; the next call tells more.
            let Ok((length, _, from)) = received else { continue };
            if out {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = from;
            }
            let datagram = buffer.get(..length).unwrap_or_default().to_vec();
            match queue.try_send((Instant::now(), datagram)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }

    /// Sends what is due, and sleeps until the next is.
    fn deliver(&self, out: bool, arrivals: &Receiver<(Instant, Vec<u8>)>) {
        let mut waiting: BinaryHeap<Late> = BinaryHeap::new();
        let (mut number, mut highest) = (0, 0);
        loop {
            let now = Instant::now();
            while waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
                let Some(Reverse((_, number, datagram))) = waiting.pop() else { break };
                if number < highest {
                    self.overtaken.fetch_add(1, Ordering::Relaxed);
                }
                highest = highest.max(number);
                self.send(out, &datagram);
            }
            let arrival = match waiting.peek() {
                Some(Reverse((due, ..))) => match arrivals.recv_timeout(due.saturating_duration_since(now)) {
                    Err(RecvTimeoutError::Timeout) => continue,
                    other => other.ok(),
                },
                None => arrivals.recv().ok(),
            };
            let Some((at, datagram)) = arrival else { return };
            number += 1;
            let late = self.options.late_every != 0 && number % self.options.late_every == 0;
            let extra = if late { self.options.late_by } else { Duration::ZERO };
            waiting.push(Reverse((at + self.options.delay + extra, number, datagram)));
        }
    }

    fn send(&self, out: bool, datagram: &[u8]) {
        let sent = if out {
            self.far.send(datagram)
        } else {
            let caller = *self.caller.lock().unwrap_or_else(PoisonError::into_inner);
            caller
                .ok_or_else(|| io::ErrorKind::NotConnected.into())
                .and_then(|to| self.near.send_to(datagram, to))
        };
        let counter = if sent.is_ok() { &self.forwarded } else { &self.lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_pass_both_ways_late_and_out_of_order() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        let options = RelayOptions {
            delay: Duration::from_millis(20),
            late_every: 2,
            late_by: Duration::from_millis(40),
        };
        let relay = Relay::start_here(server.local_addr().unwrap(), options).unwrap();
        let began = Instant::now();
        for number in 1..=3 {
            client.send_to(&[number], relay.address()).unwrap();
        }
        let mut buffer = [0; 8];
        let mut receive = |socket: &UdpSocket| {
            let (_, from) = socket.recv_from(&mut buffer).unwrap();
            (buffer[0], from)
        };
        let order: Vec<_> = (0..3).map(|_| receive(&server)).collect();
        assert_eq!(order.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 3, 2]);
        assert!(began.elapsed() >= Duration::from_millis(60));
        server.send_to(&[7], order[0].1).unwrap();
        assert_eq!(receive(&client), (7, relay.address()));
        assert_eq!((relay.forwarded(), relay.overtaken(), relay.lost()), (4, 1, 0));
    }
}
