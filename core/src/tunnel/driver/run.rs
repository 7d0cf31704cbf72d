//! The tunnel's thread: waits for packets, commands and deadlines, and feeds the engine.
//!
//! Level-triggered readiness: whatever a bounded burst leaves behind wakes the thread again at once, so neither
//! direction starves the other, nor commands. All packets of one wake-up share one reading of the clock.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender},
    },
    time::Duration,
};

use polling::{Event, Events, PollMode, Poller};

use super::{
    LocalAddrs,
    device::{Device, Read},
    sockets::Sockets,
};
use crate::{
    clock::{Instant, SharedClock},
    hook::{ConnectionCounter, Device as _},
    tunnel::{
        engine::{Engine, Sink},
        key::PublicKey,
        stats::{IoCounts, TunnelStats},
    },
};

/// Packets taken from one source before the others get their turn; about 0.1 ms of work.
const BURST: usize = 64;
/// Longer than any UDP payload.
const DATAGRAM_LEN: usize = 1 << 16;
/// A failed rebind is repeated after this time, doubled each time up to the maximum: sockets fail for good reasons
/// (no network, a port in use) that take a while.
const MIN_REBIND: Duration = Duration::from_secs(1);
const MAX_REBIND: Duration = Duration::from_secs(64);

const KEY_V4: usize = 0;
const KEY_V6: usize = 1;
#[cfg(unix)]
const KEY_DEVICE: usize = 2;

/// What the handle asks of the thread.
pub(super) enum Command {
    Counters(Option<Box<dyn ConnectionCounter>>, Option<Box<dyn ConnectionCounter>>),
    Endpoint(PublicKey, SocketAddr, SyncSender<bool>),
    Flush(SyncSender<()>),
    NetworkChanged,
    Stats(SyncSender<TunnelStats>),
    Stop,
}

/// Everything the thread owns.
pub(super) struct Runner {
    clock: SharedClock,
    poller: Arc<Poller>,
    engine: Engine,
    sockets: Sockets,
    device: Device,
    device_ended: bool,
    local: Arc<Mutex<LocalAddrs>>,
    commands: Receiver<Command>,
    datagram: Box<[u8]>,
    packet: Vec<u8>,
    counts: IoCounts,
    /// When to try again to make sockets, and how long to wait after that.
    rebind: Option<(Instant, Duration)>,
}

enum Next {
    Continue,
    Stop,
}

impl Runner {
    pub(super) fn new(
        clock: SharedClock,
        poller: Arc<Poller>,
        engine: Engine,
        sockets: Sockets,
        device: Device,
        local: Arc<Mutex<LocalAddrs>>,
        commands: Receiver<Command>,
    ) -> Self {
        Self {
            clock,
            poller,
            engine,
            sockets,
            device,
            device_ended: false,
            local,
            commands,
            datagram: vec![0; DATAGRAM_LEN].into_boxed_slice(),
            packet: Vec::new(),
            counts: IoCounts::default(),
            rebind: None,
        }
    }

    /// Has the poller watch the sockets and the device.
    pub(super) fn register(&mut self) -> io::Result<()> {
        self.register_sockets()?;
        #[cfg(unix)]
        if let Some(fd) = self.device.fd() {
            // SAFETY: the descriptor is deleted from the poller before it is closed: in `end_device` or in `drop`.
            unsafe { self.poller.add_with_mode(&fd, Event::readable(KEY_DEVICE), PollMode::Level)? };
        }
        Ok(())
    }

    fn register_sockets(&self) -> io::Result<()> {
        for (socket, key) in [(self.sockets.v4(), KEY_V4), (self.sockets.v6(), KEY_V6)] {
            if let Some(socket) = socket {
                // SAFETY: the socket is deleted from the poller before it is closed: in `reopen_sockets` or in
                // `drop`.
                unsafe { self.poller.add_with_mode(socket, Event::readable(key), PollMode::Level)? };
            }
        }
        Ok(())
    }

    fn unregister_sockets(&self) {
        for socket in [self.sockets.v4(), self.sockets.v6()].into_iter().flatten() {
            // It is gone either way.
            drop(self.poller.delete(socket));
        }
    }

    /// The thread's life. Returns the final state.
    pub(super) fn run(mut self) -> TunnelStats {
        let mut events = Events::new();
        loop {
            let now = self.clock.now();
            if matches!(self.handle_commands(now), Next::Stop) {
                break;
            }
            let more = self.move_packets(now, &events);
            self.handle_deadlines(now);
            let timeout = if more { Some(Duration::ZERO) } else { self.timeout() };
            events.clear();
            if let Err(error) = self.poller.wait(&mut events, timeout) {
                tracing::error!(%error, "the tunnel ends: waiting for packets failed");
                break;
            }
        }
        self.engine.flush_counters(self.clock.now());
        self.stats()
    }

    /// Time until the next deadline; `None` is for ever.
    fn timeout(&self) -> Option<Duration> {
        let rebind = self.rebind.map(|(at, _)| at);
        let deadline = [self.engine.next_deadline(), rebind].into_iter().flatten().min()?;
        Some(deadline.saturating_duration_since(self.clock.now()))
    }

    fn handle_deadlines(&mut self, now: Instant) {
        if self.engine.next_deadline().is_some_and(|deadline| deadline <= now) {
            let mut output =
                Output { sockets: &self.sockets, device: &mut self.device, counts: &mut self.counts };
            self.engine.handle_deadline(now, &mut output);
        }
        if let Some((at, wait)) = self.rebind
            && at <= now
        {
            self.reopen_sockets(now, wait);
        }
    }

    fn handle_commands(&mut self, now: Instant) -> Next {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Counters(virtual_counter, physical_counter) => {
                    self.engine.virtual_device().set_connection_counter(now, virtual_counter);
                    self.engine.physical_device().set_connection_counter(now, physical_counter);
                }
                Command::Endpoint(peer, endpoint, reply) => {
                    // Replies go nowhere if the caller's thread is gone.
                    let _ = reply.send(self.engine.set_endpoint(now, &peer, endpoint));
                }
                Command::Flush(reply) => {
                    self.engine.flush_counters(now);
                    let _ = reply.send(());
                }
                Command::NetworkChanged => self.reopen_sockets(now, MIN_REBIND),
                Command::Stats(reply) => {
                    let _ = reply.send(self.stats());
                }
                Command::Stop => return Next::Stop,
            }
        }
        Next::Continue
    }

    /// Moves what is there. Returns whether the device may have more and won't say so by readiness.
    fn move_packets(&mut self, now: Instant, events: &Events) -> bool {
        let mut more = self.device.is_queue() && self.read_device(now);
        for event in events.iter() {
            match event.key {
                KEY_V4 => self.receive(now, Sockets::v4),
                KEY_V6 => self.receive(now, Sockets::v6),
                _ => more |= self.read_device(now),
            }
        }
        more
    }

    fn receive(&mut self, now: Instant, socket: fn(&Sockets) -> Option<&UdpSocket>) {
        let mut failures = 0;
        for _ in 0..BURST {
            let Some(socket) = socket(&self.sockets) else {
                return;
            };
            match socket.recv_from(&mut self.datagram) {
                Ok((length, from)) => {
                    let datagram = self.datagram.get(..length).unwrap_or_default();
                    let mut output =
                        Output { sockets: &self.sockets, device: &mut self.device, counts: &mut self.counts };
                    self.engine.handle_datagram(now, from, datagram, &mut output);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // Usually an ICMP message about something sent earlier; it is used up by reporting it.
                    self.counts.receive_failed += 1;
                    failures += 1;
                }
            }
        }
        // A socket that only fails is broken, as iOS breaks them in suspend: readiness would spin on it.
        if failures == BURST && self.rebind.is_none() {
            self.unregister_sockets();
            self.rebind = Some((now + MIN_REBIND, MIN_REBIND));
        }
    }

    /// Returns whether the device may have more.
    fn read_device(&mut self, now: Instant) -> bool {
        if self.device_ended {
            return false;
        }
        for _ in 0..BURST {
            match self.device.read(&mut self.packet) {
                Read::Packet(range) => {
                    let packet = self.packet.get(range).unwrap_or_default();
                    let mut output =
                        Output { sockets: &self.sockets, device: &mut self.device, counts: &mut self.counts };
                    self.engine.handle_inner(now, packet, &mut output);
                }
                Read::Empty => return false,
                Read::Ended => {
                    self.end_device();
                    return false;
                }
            }
        }
        true
    }

    fn end_device(&mut self) {
        self.device_ended = true;
        self.unregister_device();
    }

    fn unregister_device(&self) {
        #[cfg(unix)]
        if let Some(fd) = self.device.fd() {
            drop(self.poller.delete(fd));
        }
    }

    /// Makes new sockets and tells peers in use where they are. After a failure tries again in `wait`.
    fn reopen_sockets(&mut self, now: Instant, wait: Duration) {
        self.unregister_sockets();
        let reopened = self.sockets.reopen().map_err(|error| error.to_string());
        let reopened = reopened.and_then(|()| self.register_sockets().map_err(|error| error.to_string()));
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = self.sockets.local();
        match reopened {
            Ok(()) => {
                self.rebind = None;
                let mut output =
                    Output { sockets: &self.sockets, device: &mut self.device, counts: &mut self.counts };
                self.engine.network_changed(now, &mut output);
            }
            Err(error) => {
                tracing::warn!(%error, ?wait, "no UDP sockets after a network change; trying again");
                self.rebind = Some((now + wait, (wait * 2).min(MAX_REBIND)));
            }
        }
    }

    fn stats(&self) -> TunnelStats {
        TunnelStats { io: self.counts, device_ended: self.device_ended, ..self.engine.stats() }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.unregister_sockets();
        self.unregister_device();
    }
}

/// Where the engine's output goes.
struct Output<'a> {
    sockets: &'a Sockets,
    device: &'a mut Device,
    counts: &'a mut IoCounts,
}

impl Sink for Output<'_> {
    /// A full socket drops: queueing here would only add delay in front of what TCP inside already handles.
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.sockets.send(to, datagram) {
            if is_full(&error) {
                self.counts.send_full += 1;
            } else {
                self.counts.send_failed += 1;
            }
        }
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.device.write(packet, self.counts);
    }
}

fn is_full(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}
