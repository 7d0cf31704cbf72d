//! The tunnel's thread: waits for packets, commands and deadlines, and feeds the engine.
//!
//! Level-triggered readiness: whatever a bounded burst leaves behind wakes the thread again at once, so neither
//! direction starves the other, nor commands. All packets of one wake-up share one reading of the clock. What the
//! engine puts out is collected and goes out when a source has no more or had its turn: nothing is held back for more
//! to come.
//!
//! When a socket's send buffer is full, the device is not read until there is room: the kernel, or the packet queue,
//! holds the packets then and drops what is too much.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use polling::{Event, Events, PollMode, Poller};

use super::{
    LocalAddrs,
    device::{Device, Read},
    output::Output,
    resolve::{Answers, Lookup, Refresh, Resolver},
    runs::Runs,
    socket::{Received, Socket},
    sockets::{Family, Sockets},
    watch::Watch,
};
use crate::{
    clock::{Instant, SharedClock},
    hook::{ConnectionCounter, Device as _},
    tunnel::{
        engine::Engine,
        key::PublicKey,
        stats::{IoCounts, TunnelStats},
    },
};

/// Packets or datagrams taken from one source before the others get their turn; about 0.15 ms of work. The last read
/// may go beyond it by what one read can hold.
const BURST: usize = 128;
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
    Resolved(Answers),
    Stats(SyncSender<TunnelStats>),
    Stop,
}

/// What the thread is made of.
pub(super) struct Parts {
    pub(super) clock: SharedClock,
    pub(super) poller: Arc<Poller>,
    pub(super) engine: Engine,
    pub(super) sockets: Sockets,
    pub(super) device: Device,
    pub(super) local: Arc<Mutex<LocalAddrs>>,
    pub(super) commands: Receiver<Command>,
    /// For threads that this one starts.
    pub(super) sender: SyncSender<Command>,
    pub(super) refresh: Refresh,
    pub(super) resolver: Resolver,
    pub(super) watch: Watch,
}

/// Everything the thread owns.
pub(super) struct Runner {
    parts: Parts,
    device_ended: bool,
    received: Received,
    /// What was read from the device.
    packet: Vec<u8>,
    /// A segment of it.
    #[cfg(target_os = "linux")]
    segment: Vec<u8>,
    counts: IoCounts,
    /// When to try again to make sockets, and how long to wait after that.
    rebind: Option<(Instant, Duration)>,
    /// The sockets, by family, that the poller watches for room. While there are any, it doesn't watch the device.
    waiting_for_room: [bool; 2],
}

enum Next {
    Continue,
    Stop,
}

/// What a source had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// No more, or readiness tells of it.
    Nothing,
    /// More than its turn allowed.
    More,
}

impl Runner {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            device_ended: false,
            received: Received::new(),
            packet: Vec::new(),
            #[cfg(target_os = "linux")]
            segment: Vec::new(),
            counts: IoCounts::default(),
            rebind: None,
            waiting_for_room: [false; 2],
        }
    }

    /// Has the poller watch the sockets and the device.
    pub(super) fn register(&mut self) -> io::Result<()> {
        self.register_sockets()?;
        #[cfg(unix)]
        if let Some(fd) = self.parts.device.fd() {
            // SAFETY: the descriptor is deleted from the poller before it is closed: in `end_device` or in `drop`.
            unsafe { self.parts.poller.add_with_mode(&fd, Event::readable(KEY_DEVICE), PollMode::Level)? };
        }
        Ok(())
    }

    fn register_sockets(&self) -> io::Result<()> {
        for family in Family::ALL {
            if let Some(socket) = self.parts.sockets.get(family) {
                let interest = Event::readable(key(family));
                // SAFETY: the socket is deleted from the poller before it is closed: in `reopen_sockets` or in
                // `drop`.
                unsafe { self.parts.poller.add_with_mode(socket.as_udp(), interest, PollMode::Level)? };
            }
        }
        Ok(())
    }

    fn unregister_sockets(&self) {
        for socket in Family::ALL.into_iter().filter_map(|family| self.parts.sockets.get(family)) {
            // It is gone either way.
            drop(self.parts.poller.delete(socket.as_udp()));
        }
    }

    /// The thread's life. Returns the final state.
    pub(super) fn run(mut self) -> TunnelStats {
        let mut events = Events::new();
        let mut left = Left::Nothing;
        self.parts.watch.begin();
        loop {
            let now = self.parts.clock.now();
            if matches!(self.handle_commands(now), Next::Stop) {
                self.parts.watch.stop();
                break;
            }
            left = match left {
                Left::Nothing => self.move_what_is_ready(now, &events),
                // Asking every source costs less than asking the system which of them to ask.
                Left::More => self.move_all(now),
            };
            self.handle_deadlines(now);
            events.clear();
            if left == Left::More {
                continue;
            }
            self.watch();
            if let Err(error) = self.parts.poller.wait(&mut events, self.timeout()) {
                tracing::error!(%error, "the tunnel ends: waiting for packets failed");
                break;
            }
        }
        self.parts.engine.flush_counters(self.parts.clock.now());
        self.stats()
    }

    /// Time until the next deadline; `None` is for ever.
    fn timeout(&self) -> Option<Duration> {
        let rebind = self.rebind.map(|(at, _)| at);
        let deadlines = [self.parts.engine.next_deadline(), rebind, self.parts.refresh.next_deadline()];
        let deadline = deadlines.into_iter().flatten().min()?;
        Some(deadline.saturating_duration_since(self.parts.clock.now()))
    }

    fn handle_deadlines(&mut self, now: Instant) {
        if self.parts.engine.next_deadline().is_some_and(|deadline| deadline <= now) {
            let (engine, mut output) = self.engine_and_output();
            engine.handle_deadline(now, &mut output);
            output.flush();
        }
        if let Some((at, wait)) = self.rebind
            && at <= now
        {
            self.reopen_sockets(now, wait);
        }
        let Parts { engine, refresh, watch, .. } = &mut self.parts;
        engine.take_new_sessions(|peer| watch.connected(peer));
        engine.take_gave_up(|peer| {
            watch.silent(peer);
            refresh.gave_up(now, peer);
        });
        if let Some(lookup) = refresh.take_due(now) {
            self.look_up(now, lookup);
        }
    }

    fn handle_commands(&mut self, now: Instant) -> Next {
        while let Ok(command) = self.parts.commands.try_recv() {
            let engine = &mut self.parts.engine;
            match command {
                Command::Counters(virtual_counter, physical_counter) => {
                    engine.virtual_device().set_connection_counter(now, virtual_counter);
                    let physical_counter = physical_counter.map(Runs::of);
                    engine.physical_device().set_connection_counter(now, physical_counter);
                }
                Command::Endpoint(peer, endpoint, reply) => {
                    // Replies go nowhere if the caller's thread is gone.
                    let _ = reply.send(engine.set_endpoint(now, &peer, endpoint));
                }
                Command::Flush(reply) => {
                    engine.flush_counters(now);
                    let _ = reply.send(());
                }
                Command::NetworkChanged => {
                    self.reopen_sockets(now, MIN_REBIND);
                    self.parts.refresh.network_changed(now);
                }
                Command::Resolved(answers) => self.resolved(now, answers),
                Command::Stats(reply) => {
                    let _ = reply.send(self.stats());
                }
                Command::Stop => return Next::Stop,
            }
        }
        Next::Continue
    }

    /// Moves what the poller reported.
    fn move_what_is_ready(&mut self, now: Instant, events: &Events) -> Left {
        self.parts.sockets.retry(&mut self.counts);
        let mut left = Left::Nothing;
        if self.parts.device.must_be_asked() {
            left = left.or(self.read_device(now));
        }
        for event in events.iter() {
            left = left.or(match event.key {
                KEY_V4 => self.receive(now, Family::V4),
                KEY_V6 => self.receive(now, Family::V6),
                _ => self.read_device(now),
            });
        }
        left
    }

    fn move_all(&mut self, now: Instant) -> Left {
        self.parts.sockets.retry(&mut self.counts);
        let device = self.read_device(now);
        device.or(self.receive(now, Family::V4)).or(self.receive(now, Family::V6))
    }

    fn receive(&mut self, now: Instant, family: Family) -> Left {
        let (mut taken, mut failures) = (0, 0);
        let port = self.parts.sockets.get(family).map(Socket::port);
        let left = loop {
            if taken >= BURST {
                break Left::More;
            }
            match self.parts.sockets.receive(family, &mut self.received) {
                Ok(()) => {
                    let Parts { engine, sockets, device, .. } = &mut self.parts;
                    let mut output = Output { sockets, device, counts: &mut self.counts };
                    for (meta, datagram) in self.received.datagrams() {
                        let local = meta.dst_ip.zip(port).map(SocketAddr::from);
                        engine.handle_datagram_at(now, local, meta.addr, datagram, &mut output);
                        taken += 1;
                    }
                    if !self.received.is_full() {
                        break Left::Nothing;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Left::Nothing,
                Err(_) => {
                    // Usually an ICMP message about something sent earlier; it is used up by reporting it.
                    self.counts.receive_failed += 1;
                    failures += 1;
                    taken += 1;
                }
            }
        };
        self.engine_and_output().1.flush();
        // A socket that only fails is broken, as iOS breaks them in suspend: readiness would spin on it.
        if failures == BURST && self.rebind.is_none() {
            self.unregister_sockets();
            self.rebind = Some((now + MIN_REBIND, MIN_REBIND));
            return Left::Nothing;
        }
        left
    }

    fn read_device(&mut self, now: Instant) -> Left {
        let mut taken = 0;
        let left = loop {
            // With full sockets the device must wait; there is room when the poller says so.
            if self.device_ended || self.parts.sockets.is_blocked() {
                break Left::Nothing;
            }
            if taken >= BURST {
                break Left::More;
            }
            let Parts { engine, sockets, device, .. } = &mut self.parts;
            let read = device.read(&mut self.packet);
            let mut output = Output { sockets, device, counts: &mut self.counts };
            match read {
                Read::Packet(range) => {
                    engine.handle_inner(now, self.packet.get(range).unwrap_or_default(), &mut output);
                    taken += 1;
                }
                #[cfg(target_os = "linux")]
                Read::Joined(header, range) => {
                    self.segment.resize(SEGMENT_LEN, 0);
                    let packet = self.packet.get_mut(range).unwrap_or_default();
                    let cut = super::offload::split(&header, packet, &mut self.segment, |segment| {
                        engine.handle_inner(now, segment, &mut output);
                        taken += 1;
                    });
                    if cut.is_err() {
                        self.counts.device_malformed += 1;
                        taken += 1;
                    }
                }
                #[cfg(target_os = "linux")]
                Read::Malformed => {
                    self.counts.device_malformed += 1;
                    taken += 1;
                }
                Read::Empty => break Left::Nothing,
                Read::Ended => {
                    self.end_device();
                    break Left::Nothing;
                }
            }
        };
        self.engine_and_output().1.flush();
        left
    }

    fn engine_and_output(&mut self) -> (&mut Engine, Output<'_>) {
        let Parts { engine, sockets, device, .. } = &mut self.parts;
        (engine, Output { sockets, device, counts: &mut self.counts })
    }

    /// Has the poller watch for what can be done next: with a full socket, for room instead of packets from the device.
    fn watch(&mut self) {
        let blocked =
            Family::ALL.map(|family| self.parts.sockets.get(family).is_some_and(Socket::is_blocked));
        if blocked == self.waiting_for_room {
            return;
        }
        self.waiting_for_room = blocked;
        // Errors would mean that something is not watched at all now, such as a broken socket that is about to be
        // replaced.
        let poller = &self.parts.poller;
        for (family, blocked) in Family::ALL.into_iter().zip(blocked) {
            if let Some(socket) = self.parts.sockets.get(family) {
                let interest = Event::new(key(family), true, blocked);
                drop(poller.modify_with_mode(socket.as_udp(), interest, PollMode::Level));
            }
        }
        #[cfg(unix)]
        if let Some(fd) = self.parts.device.fd().filter(|_| !self.device_ended) {
            let interest = Event::new(KEY_DEVICE, blocked == [false; 2], false);
            drop(poller.modify_with_mode(fd, interest, PollMode::Level));
        }
    }

    fn end_device(&mut self) {
        self.device_ended = true;
        self.unregister_device();
        self.parts.watch.device_ended();
    }

    fn unregister_device(&self) {
        #[cfg(unix)]
        if let Some(fd) = self.parts.device.fd() {
            drop(self.parts.poller.delete(fd));
        }
    }

    /// Makes new sockets and tells peers in use where they are. After a failure tries again in `wait`.
    fn reopen_sockets(&mut self, now: Instant, wait: Duration) {
        self.unregister_sockets();
        self.parts.sockets.discard(&mut self.counts);
        let reopened = self.parts.sockets.reopen().map_err(|error| error.to_string());
        let reopened = reopened.and_then(|()| self.register_sockets().map_err(|error| error.to_string()));
        let local = self.parts.sockets.local();
        *self.parts.local.lock().unwrap_or_else(PoisonError::into_inner) = local;
        match reopened {
            Ok(()) => {
                self.rebind = None;
                let (engine, mut output) = self.engine_and_output();
                engine.network_changed(now, &mut output);
                output.flush();
            }
            Err(error) => {
                tracing::warn!(?wait, "no UDP sockets after a network change; trying again");
                // It names the address that they were to be bound to.
                tracing::debug!(%error, "opening UDP sockets failed");
                self.rebind = Some((now + wait, (wait * 2).min(MAX_REBIND)));
            }
        }
    }

    /// Resolves names on a thread of its own, which reports back by a command.
    fn look_up(&mut self, now: Instant, lookup: Lookup) {
        let Parts { poller, resolver, sender, .. } = &self.parts;
        let (resolver, sender, unasked) = (Arc::clone(resolver), sender.clone(), lookup.clone());
        // The thread may outlive the tunnel; the poller shouldn't.
        let poller = Arc::downgrade(poller);
        let spawned = thread::Builder::new().name("tuntrail-resolve".to_owned()).spawn(move || {
            let answers = lookup.run(&resolver);
            // Otherwise the tunnel has ended.
            if sender.send(Command::Resolved(answers)).is_ok()
                && let Some(poller) = poller.upgrade()
            {
                drop(poller.notify());
            }
        });
        if let Err(error) = spawned {
            self.resolved(now, unasked.fail(error.kind()));
        }
    }

    fn resolved(&mut self, now: Instant, answers: Answers) {
        let Parts { engine, sockets, refresh, .. } = &mut self.parts;
        for found in refresh.finished(now, answers) {
            let current = engine.endpoint(&found.peer);
            if let Some(endpoint) = found.choose(current, |address| sockets.can_reach(address)) {
                engine.set_endpoint(now, &found.peer, endpoint);
            }
        }
    }

    fn stats(&self) -> TunnelStats {
        TunnelStats { io: self.counts, device_ended: self.device_ended, ..self.parts.engine.stats() }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.unregister_sockets();
        self.unregister_device();
    }
}

impl Left {
    fn or(self, other: Self) -> Self {
        if self == Self::More { self } else { other }
    }
}

const fn key(family: Family) -> usize {
    match family {
        Family::V4 => KEY_V4,
        Family::V6 => KEY_V6,
    }
}

/// No packet is longer.
#[cfg(target_os = "linux")]
const SEGMENT_LEN: usize = 1 << 16;
