//! Runs a scenario with two nodes of one sort.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashSet},
    time::Duration,
};

use tuntrail::clock::Instant;

use crate::{
    Kind, Node, Random, Scenario, Side, clock,
    message::{first_index, second_index},
    packet, packet_id,
};

/// Set in the identifiers of answers.
const ANSWER: u32 = 1 << 31;
/// Set in the identifiers of packets that want no answer.
const UNANSWERED: u32 = 1 << 30;
/// A session index comes back after 256 handshakes; one that is seen again so much later is another session.
const INDEX_REUSED: Duration = Duration::from_secs(600);

/// What came of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Packets that applications sent, answers included.
    pub sent: u64,
    /// Packets that arrived.
    pub delivered: u64,
    /// Packets that arrived once more: always 0.
    pub repeated: u64,
    /// Handshake initiations sent by both.
    pub initiations: u64,
    /// Keepalives sent by both.
    pub keepalives: u64,
    /// How often each node woke for its timers.
    pub wakes: [u64; 2],
    /// How often after the last application packet was sent or arrived.
    pub idle_wakes: [u64; 2],
    /// Time between the last application packet and the last wake-up of either.
    pub tail: Duration,
    /// Whether at the end neither node waits for anything.
    pub at_rest: bool,
    /// Greatest age of a session, as its user knows it, when a message was encrypted with it.
    pub oldest_sent: Duration,
    /// The same when a packet was accepted on it.
    pub oldest_received: Duration,
}

enum Event {
    Send(Side, u32),
    Arrive(Side, Vec<u8>),
}

/// Runs a scenario with timers that are punctual.
pub fn simulate<N: Node>(scenario: &Scenario) -> Report {
    simulate_late::<N>(scenario, Duration::ZERO)
}

/// Runs a scenario with timers that are up to `late` late, as an operating system may make them.
pub fn simulate_late<N: Node>(scenario: &Scenario, late: Duration) -> Report {
    let start = clock::START;
    let mut simulation = Simulation {
        scenario,
        start,
        nodes: [N::new(1, scenario.keepalive, start), N::new(2, None, start)],
        events: BTreeMap::new(),
        queue: BinaryHeap::new(),
        next_event: 0,
        sent_now: (start, 0),
        seen: HashSet::new(),
        own_sessions: BTreeMap::new(),
        peer_sessions: BTreeMap::new(),
        last_packet: start,
        late,
        report: Report::default(),
    };
    simulation.run();
    simulation.report
}

struct Simulation<'a, N> {
    scenario: &'a Scenario,
    start: Instant,
    nodes: [N; 2],
    events: BTreeMap<u64, Event>,
    /// When each event takes place; in the order of their making if at the same time.
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    next_event: u64,
    /// How many datagrams were sent at this instant.
    sent_now: (Instant, u64),
    seen: HashSet<u32>,
    /// When a node made the session of which it has this index.
    own_sessions: BTreeMap<(usize, u32), Instant>,
    /// When a node made the session of which its peer has this index.
    peer_sessions: BTreeMap<(usize, u32), Instant>,
    last_packet: Instant,
    late: Duration,
    report: Report,
}

impl<N: Node> Simulation<'_, N> {
    fn run(&mut self) {
        for (send, id) in self.scenario.traffic.iter().zip(0..) {
            let id = if send.answered { id } else { id | UNANSWERED };
            self.schedule(self.start + send.at, Event::Send(send.by, id));
        }
        let last = self.scenario.traffic.last().map_or(Duration::ZERO, |send| send.at);
        let end = self.start + last + self.scenario.rest;
        while let Some(now) = self.next(end) {
            clock::set(now);
            while let Some(Reverse((at, event))) = self.queue.peek().copied()
                && at <= now
            {
                self.queue.pop();
                match self.events.remove(&event).expect("an event") {
                    Event::Send(by, id) => self.send(now, by, id),
                    Event::Arrive(to, datagram) => self.arrive(now, to, &datagram),
                }
            }
            for side in [Side::A, Side::B] {
                self.wake(now, side);
            }
        }
        self.report.at_rest = self.nodes.iter().all(|node| node.next_wake().is_none());
    }

    /// When something happens next, if that is before the end.
    fn next(&self, end: Instant) -> Option<Instant> {
        let event = self.queue.peek().map(|Reverse((at, _))| *at);
        let wakes = [Side::A, Side::B].map(|side| self.wake_time(side));
        wakes.into_iter().chain([event]).flatten().min().filter(|next| *next <= end)
    }

    /// When a node is woken for its next deadline.
    fn wake_time(&self, side: Side) -> Option<Instant> {
        let due = self.nodes[side as usize].next_wake()?;
        let late = u64::try_from(self.late.as_millis()).unwrap_or(0) + 1;
        Some(due + Random::new(due.as_nanos() ^ side as u64).millis(0, late))
    }

    fn wake(&mut self, now: Instant, side: Side) {
        let index = side as usize;
        if self.wake_time(side).is_none_or(|at| at > now) {
            return;
        }
        self.nodes[index].wake(now);
        let next = self.nodes[index].next_wake();
        assert!(next.is_none_or(|next| next > now), "a deadline that stays makes a thread spin");
        self.report.wakes[index] += 1;
        self.report.idle_wakes[index] += 1;
        self.report.tail = now.saturating_duration_since(self.last_packet);
        self.transmit(now, side);
    }

    fn send(&mut self, now: Instant, by: Side, id: u32) {
        self.touch(now);
        self.report.sent += 1;
        self.nodes[by as usize].send(now, &packet(by as u8 + 1, id));
        self.transmit(now, by);
    }

    fn arrive(&mut self, now: Instant, to: Side, datagram: &[u8]) {
        let index = to as usize;
        if Kind::of(datagram) == Kind::Response {
            note(&mut self.own_sessions, index, second_index(datagram), now);
            note(&mut self.peer_sessions, index, first_index(datagram), now);
        }
        self.nodes[index].receive(now, datagram);
        for received in self.nodes[index].packets() {
            let age = age(&self.own_sessions, index, first_index(datagram), now);
            self.report.oldest_received = self.report.oldest_received.max(age);
            let id = packet_id(&received);
            if self.seen.insert(id) {
                self.report.delivered += 1;
            } else {
                self.report.repeated += 1;
            }
            self.touch(now);
            if id & (ANSWER | UNANSWERED) == 0 {
                self.schedule(now, Event::Send(to, id | ANSWER));
            }
        }
        self.transmit(now, to);
    }

    /// An application packet was sent or arrived.
    fn touch(&mut self, now: Instant) {
        self.last_packet = now;
        self.report.idle_wakes = [0, 0];
        self.report.tail = Duration::ZERO;
    }

    /// Gives the network what a node has to send.
    fn transmit(&mut self, now: Instant, by: Side) {
        let (index, to) = (by as usize, if by == Side::A { Side::B } else { Side::A });
        for datagram in self.nodes[index].datagrams() {
            match Kind::of(&datagram) {
                Kind::Initiation => self.report.initiations += 1,
                Kind::Response => {
                    note(&mut self.own_sessions, index, first_index(&datagram), now);
                    note(&mut self.peer_sessions, index, second_index(&datagram), now);
                }
                Kind::Cookie => {}
                kind @ (Kind::Keepalive | Kind::Data) => {
                    self.report.keepalives += u64::from(kind == Kind::Keepalive);
                    let age = age(&self.peer_sessions, index, first_index(&datagram), now);
                    self.report.oldest_sent = self.report.oldest_sent.max(age);
                }
            }
            if self.sent_now.0 != now {
                self.sent_now = (now, 0);
            }
            self.sent_now.1 += 1;
            for at in self.scenario.link.arrivals(self.start, by, now, self.sent_now.1) {
                self.schedule(at, Event::Arrive(to, datagram.clone()));
            }
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.events.insert(self.next_event, event);
        self.queue.push(Reverse((at, self.next_event)));
        self.next_event += 1;
    }
}

/// Notes when a session was made, once: its handshake's last message may arrive twice.
fn note(sessions: &mut BTreeMap<(usize, u32), Instant>, node: usize, index: u32, now: Instant) {
    let made = sessions.entry((node, index)).or_insert(now);
    if now > *made + INDEX_REUSED {
        *made = now;
    }
}

fn age(sessions: &BTreeMap<(usize, u32), Instant>, node: usize, index: u32, now: Instant) -> Duration {
    let made = sessions.get(&(node, index)).expect("a message of a session that nobody has made");
    now.saturating_duration_since(*made)
}
