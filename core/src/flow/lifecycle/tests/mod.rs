//! The rules of a flow's life, each by its name; a model; and the way of the events to a sink.

mod bounds;
mod logger;
mod model;
mod rules;

use std::{net::SocketAddr, time::Duration};

use jiff::Timestamp;

use super::{
    CloseReason, FlowEvent, FlowEventKind, FlowTracker, LifecycleConfig, Packet,
    flow::Opening,
    grant::{ExitGrants, Grant},
    path::PathEnds,
};
use crate::{
    clock::Instant,
    flow::{key::Key, stats::LifecycleStats, testing::connection},
    hook::{Direction, Protocol},
    packet::TcpFlags,
};

const SYN: u8 = TcpFlags::SYN.0;
const ACK: u8 = TcpFlags::ACK.0;
const FIN: u8 = TcpFlags::FIN.0;
const RST: u8 = TcpFlags::RST.0;

/// Headers of every packet.
const HEADERS: u64 = 40;

const LOCAL: &str = "100.64.0.1:50000";
const REMOTE: &str = "100.64.0.2:443";

/// A packet between two endpoints, the local one first.
fn packet(
    protocol: Protocol,
    local: &str,
    remote: &str,
    direction: Direction,
    flags: u8,
    payload: u64,
) -> Packet {
    Packet {
        key: Key::of_connection(&connection(protocol.0, local, remote)),
        protocol,
        direction,
        packets: 1,
        bytes: HEADERS + payload,
        payload,
        flags: TcpFlags(flags),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn start() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// A tracker, its time, and all that it told.
struct Rig {
    tracker: FlowTracker,
    now: Instant,
    grants: ExitGrants,
    /// Whether flows that begin are exit flows.
    exit: bool,
    events: Vec<FlowEvent>,
    stats: LifecycleStats,
}

impl Rig {
    fn new(config: LifecycleConfig) -> Self {
        let grants = ExitGrants::default();
        Self {
            tracker: FlowTracker::new(config, grants.clone()),
            now: Self::origin(),
            grants,
            exit: false,
            events: Vec::new(),
            stats: LifecycleStats::default(),
        }
    }

    fn origin() -> Instant {
        Instant::from_nanos(0) + seconds(1000)
    }

    /// The time since the rig was made.
    fn since_origin(&self) -> Duration {
        self.now.saturating_duration_since(Self::origin())
    }

    fn observe(&mut self, packet: &Packet) {
        let wall = start() + self.since_origin();
        let grant = if self.exit { self.grants.for_exit_flow() } else { Grant::NotNeeded };
        self.tracker.observe(self.now, packet, |_| Opening { wall, grant });
    }

    /// A packet of the usual TCP connection.
    fn tcp(&mut self, direction: Direction, flags: u8, payload: u64) {
        self.observe(&packet(Protocol::TCP, LOCAL, REMOTE, direction, flags, payload));
    }

    /// SYN, SYN-ACK, ACK.
    fn shake_hands(&mut self) {
        self.tcp(Direction::Tx, SYN, 0);
        self.tcp(Direction::Rx, SYN | ACK, 0);
        self.tcp(Direction::Tx, ACK, 0);
    }

    fn udp(&mut self, local: &str, remote: &str, direction: Direction) {
        self.observe(&packet(Protocol::UDP, local, remote, direction, 0, 100));
    }

    fn path(&mut self, port: u16) {
        self.tracker.set_path(PathEnds { local: None, remote: SocketAddr::from(([203, 0, 113, 9], port)) });
    }

    /// Lets time pass without any call.
    fn sleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// Lets time pass, with a call at each deadline.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.tracker.next_deadline().filter(|deadline| *deadline <= end) {
            assert!(deadline > self.now || self.tracker.next_deadline() == Some(deadline));
            self.now = deadline.max(self.now);
            self.tracker.handle_deadline(self.now);
            assert!(self.tracker.next_deadline() > Some(deadline) || self.tracker.next_deadline().is_none());
        }
        self.now = end;
    }

    /// Takes what was told, as a worker with much room does.
    fn drain(&mut self) {
        loop {
            let report = self.tracker.take_report();
            if report.is_empty() {
                return;
            }
            self.stats += report.stats;
            self.events.extend(report.events.into_iter().map(|queued| queued.event));
            self.tracker.refill(Vec::new());
        }
    }

    fn told(&mut self, kind: FlowEventKind) -> Vec<FlowEvent> {
        self.drain();
        self.events.iter().filter(|event| event.kind == kind).cloned().collect()
    }

    fn opens(&mut self) -> Vec<FlowEvent> {
        self.told(FlowEventKind::Open)
    }

    fn closes(&mut self) -> Vec<FlowEvent> {
        self.told(FlowEventKind::Close)
    }

    fn updates(&mut self) -> Vec<FlowEvent> {
        self.told(FlowEventKind::Update)
    }

    fn reasons(&mut self) -> Vec<CloseReason> {
        self.closes().iter().map(|event| event.reason.unwrap()).collect()
    }

    fn stats(&mut self) -> LifecycleStats {
        self.drain();
        self.stats
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new(LifecycleConfig::default())
    }
}
