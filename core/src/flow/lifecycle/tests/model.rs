//! Random traffic against a model that keeps everything and looks at all of it each time.

use proptest::prelude::*;

use super::*;
use crate::flow::{Counts, Role};
use Direction::{Rx, Tx};

/// Few tuples, so that they meet often: two of TCP, one of UDP, DNS and ICMP each.
const TUPLES: [(Protocol, &str, &str); 5] = [
    (Protocol::TCP, LOCAL, REMOTE),
    (Protocol::TCP, "[fd7a::1]:50000", "[fd7a::2]:443"),
    (Protocol::UDP, LOCAL, REMOTE),
    (Protocol::UDP, LOCAL, "100.64.0.2:53"),
    (Protocol::ICMPV4, "100.64.0.1:0", "100.64.0.2:0"),
];

#[derive(Debug, Clone)]
enum Step {
    Packet {
        tuple: usize,
        direction: Direction,
        flags: u8,
        payload: u64,
    },
    Path(u16),
    /// So many changes of the path with a packet after each.
    Flap {
        tuple: usize,
        direction: Direction,
        changes: u16,
    },
    /// Seconds that pass, with a call at each deadline or without any call.
    Wait {
        seconds: u64,
        attended: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![
        2 => Just(SYN), 2 => Just(SYN | ACK), 6 => Just(ACK), 2 => Just(FIN | ACK), 1 => Just(RST), 1 => Just(0),
    ];
    let direction = prop_oneof![Just(Tx), Just(Rx)];
    let packet = (0..TUPLES.len(), direction.clone(), flags, prop_oneof![Just(0), 1..2000_u64]);
    prop_oneof![
        12 => packet.prop_map(|(tuple, direction, flags, payload)| Step::Packet { tuple, direction, flags, payload }),
        2 => (1..5_u16).prop_map(Step::Path),
        1 => (0..TUPLES.len(), direction, 10..30_u16)
            .prop_map(|(tuple, direction, changes)| Step::Flap { tuple, direction, changes }),
        3 => (prop_oneof![0..8_u64, Just(14), Just(15), 100..140_u64, 7400..7500_u64], any::<bool>())
            .prop_map(|(seconds, attended)| Step::Wait { seconds, attended }),
    ]
}

/// How a flow ended: tuple, start, end, reason, local side initiated, packets and bytes, payloads, ports of the paths.
type End = (usize, Duration, Duration, CloseReason, bool, Counts, [u64; 2], Vec<u16>);

#[derive(Debug, Clone)]
struct ModelFlow {
    tuple: usize,
    start: Duration,
    last: Duration,
    by_us: bool,
    counts: Counts,
    payload: [u64; 2],
    paths: Vec<u16>,
    went_on: bool,
    answered: bool,
    fins: [bool; 2],
    untold_since: Option<Duration>,
}

impl ModelFlow {
    fn timeout(&self) -> Duration {
        seconds(match (TUPLES[self.tuple].0, self.tuple) {
            (Protocol::TCP, _) => match self.fins {
                [true, true] => 5,
                [false, false] if self.went_on && self.answered => 7440,
                _ => 120,
            },
            (Protocol::UDP, 2) => 120,
            _ => 15,
        })
    }
}

#[derive(Debug, Default)]
struct Model {
    open: Vec<ModelFlow>,
    ends: Vec<End>,
    /// Tuple, start and packets.
    updates: Vec<(usize, Duration, u64)>,
    begun: u64,
    stray: Counts,
    path: Option<u16>,
}

impl Model {
    fn end(&mut self, flow: ModelFlow, reason: CloseReason, at: Duration) {
        let (reason, at) = match reason {
            _ if flow.fins == [true, true] => (CloseReason::Fin, flow.last),
            CloseReason::Rst => (reason, flow.last),
            _ => (reason, at),
        };
        let ModelFlow { tuple, start, by_us, counts, payload, paths, .. } = flow;
        self.ends.push((tuple, start, at, reason, by_us, counts, payload, paths));
    }

    fn expire(&mut self, now: Duration) {
        for flow in std::mem::take(&mut self.open) {
            let expiry = flow.last + flow.timeout();
            if expiry <= now {
                self.end(flow, CloseReason::Idle, expiry);
            } else {
                self.open.push(flow);
            }
        }
    }

    /// Time passes, and each deadline is kept.
    fn pass(&mut self, from: Duration, to: Duration) {
        for flow in &mut self.open {
            let Some(since) = flow.untold_since else { continue };
            let due = from.max(since + seconds(300));
            if due <= to && due < flow.last + flow.timeout() {
                flow.untold_since = None;
                self.updates.push((flow.tuple, flow.start, flow.counts.packets()));
            }
        }
        self.expire(to);
    }

    fn packet(&mut self, now: Duration, tuple: usize, direction: Direction, flags: u8, payload: u64) {
        self.expire(now);
        let tcp = TUPLES[tuple].0 == Protocol::TCP;
        let has = |flag| tcp && flags & flag != 0;
        let mut heir = None;
        if let Some(at) = self.open.iter().position(|flow| flow.tuple == tuple) {
            let flow = &self.open[at];
            let roams = self.path.is_some() && flow.paths.last() != self.path.as_ref();
            if has(SYN) && !has(ACK) && flow.went_on {
                let flow = self.open.remove(at);
                self.end(flow, CloseReason::Split, now);
            } else if roams && flow.paths.len() == 16 {
                let flow = self.open.remove(at);
                heir = Some(ModelFlow {
                    start: now,
                    counts: Counts::default(),
                    payload: [0; 2],
                    paths: Vec::new(),
                    untold_since: None,
                    ..flow
                });
                self.end(flow, CloseReason::Split, now);
            } else {
                heir = Some(self.open.remove(at));
                self.begun -= 1;
            }
        }
        let tail = has(FIN) || has(RST) || (has(ACK) && !has(SYN) && payload == 0);
        if heir.is_none() && tail {
            return self.stray.add(1, HEADERS + payload, direction);
        }
        self.begun += 1;
        let mut flow = heir.unwrap_or(ModelFlow {
            tuple,
            start: now,
            last: now,
            by_us: (direction == Tx) != (has(SYN) && has(ACK)),
            counts: Counts::default(),
            payload: [0; 2],
            paths: Vec::new(),
            went_on: false,
            answered: false,
            fins: [false; 2],
            untold_since: None,
        });
        if self.path.is_some() && flow.paths.last() != self.path.as_ref() {
            flow.paths.extend(self.path);
        }
        flow.last = now;
        flow.untold_since = flow.untold_since.or(Some(now));
        let from_initiator = (direction == Tx) == flow.by_us;
        flow.counts.add(1, HEADERS + payload, if from_initiator { Tx } else { Rx });
        flow.payload[usize::from(!from_initiator)] += payload;
        flow.fins[usize::from(!from_initiator)] |= has(FIN);
        flow.went_on |= tcp && from_initiator && !has(SYN);
        flow.answered |= tcp && !from_initiator;
        if has(RST) {
            self.end(flow, CloseReason::Rst, now);
        } else {
            self.open.push(flow);
        }
    }
}

fn tuple_of(event: &FlowEvent) -> usize {
    let (local, remote) = match event.role {
        Role::Initiator => (event.src, event.dst),
        Role::Responder => (event.dst, event.src),
    };
    let is = |(protocol, src, dst): &(Protocol, &str, &str)| {
        (*protocol, src.parse(), dst.parse()) == (event.protocol, Ok(local), Ok(remote))
    };
    TUPLES.iter().position(is).unwrap()
}

fn end_of(event: &FlowEvent) -> End {
    let since = |time: Timestamp| Duration::try_from(time.duration_since(start())).unwrap();
    (
        tuple_of(event),
        since(event.start),
        since(event.end.unwrap()),
        event.reason.unwrap(),
        event.role == Role::Initiator,
        event.counts,
        [event.tx_payload, event.rx_payload],
        event.outer.iter().map(|path| path.remote.port()).collect(),
    )
}

fn sorted(mut ends: Vec<End>) -> Vec<End> {
    ends.sort_by_key(|end| (end.1, end.0, end.2, end.5.packets()));
    ends
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn flows_are_those_of_the_model(steps in prop::collection::vec(step(), 0..300)) {
        let (mut rig, mut model) = (Rig::default(), Model::default());
        let mut carried = Counts::default();
        for step in steps {
            match step {
                Step::Packet { tuple, direction, flags, payload } => {
                    let (protocol, local, remote) = TUPLES[tuple];
                    rig.observe(&packet(protocol, local, remote, direction, flags, payload));
                    model.packet(rig.since_origin(), tuple, direction, flags, payload);
                    carried.add(1, HEADERS + payload, direction);
                }
                Step::Path(port) => {
                    rig.path(port);
                    model.path = Some(port);
                }
                Step::Flap { tuple, direction, changes } => {
                    let (protocol, local, remote) = TUPLES[tuple];
                    for port in 100..100 + changes {
                        rig.path(port);
                        model.path = Some(port);
                        rig.observe(&packet(protocol, local, remote, direction, ACK, 1));
                        model.packet(rig.since_origin(), tuple, direction, ACK, 1);
                        carried.add(1, HEADERS + 1, direction);
                    }
                }
                Step::Wait { seconds: time, attended: true } => {
                    let from = rig.since_origin();
                    rig.pass(seconds(time));
                    model.pass(from, rig.since_origin());
                    prop_assert_eq!(rig.tracker.len(), model.open.len(), "each deadline was kept");
                }
                Step::Wait { seconds: time, attended: false } => rig.sleep(seconds(time)),
            }
            rig.drain();
            prop_assert_eq!(rig.tracker.next_deadline().is_none(), rig.tracker.len() == 0);
        }
        let now = rig.since_origin();
        rig.tracker.close_all(rig.now, CloseReason::Shutdown);
        model.expire(now);
        for flow in std::mem::take(&mut model.open) {
            model.end(flow, CloseReason::Shutdown, now);
        }

        let closes = rig.closes();
        let stats = rig.stats();
        prop_assert_eq!(sorted(closes.iter().map(end_of).collect()), sorted(model.ends));
        let since = |time: Timestamp| Duration::try_from(time.duration_since(start())).unwrap();
        let mut updates: Vec<_> = rig
            .updates()
            .iter()
            .map(|update| (tuple_of(update), since(update.start), update.counts.packets()))
            .collect();
        updates.sort_unstable();
        model.updates.sort_unstable();
        prop_assert_eq!(updates, model.updates);
        prop_assert_eq!(stats.stray, model.stray);
        prop_assert_eq!((stats.flows, stats.lost, stats.skipped), (model.begun, 0, 0));
        let mut told = stats.stray;
        for close in &closes {
            told += close.role.local_counts(close.counts);
            let of_flow: Vec<_> = rig.events.iter().filter(|event| event.id == close.id).collect();
            prop_assert_eq!(of_flow.first().unwrap().kind, FlowEventKind::Open);
            prop_assert_eq!(of_flow.last().unwrap(), &close);
            let middle = &of_flow[1..of_flow.len() - 1];
            prop_assert!(middle.iter().all(|event| event.kind == FlowEventKind::Update));
            let packets = of_flow.iter().map(|event| event.counts.packets());
            prop_assert!(packets.is_sorted(), "counts never go back");
        }
        prop_assert_eq!(told, carried, "each packet is in one flow or stray");
        prop_assert_eq!(rig.opens().len(), closes.len());
        prop_assert_eq!((rig.tracker.len(), rig.tracker.next_deadline()), (0, None));
    }

    #[test]
    fn nothing_vanishes_with_little_room(
        max_flows in 1..4_usize,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut rig = Rig::new(LifecycleConfig { max_flows, ..LifecycleConfig::default() });
        let mut carried = Counts::default();
        for step in steps {
            match step {
                Step::Packet { tuple, direction, flags, payload } => {
                    let (protocol, local, remote) = TUPLES[tuple];
                    rig.observe(&packet(protocol, local, remote, direction, flags, payload));
                    carried.add(1, HEADERS + payload, direction);
                }
                Step::Path(port) => rig.path(port),
                Step::Flap { changes, .. } => (0..changes).for_each(|port| rig.path(port)),
                Step::Wait { seconds: time, .. } => rig.pass(seconds(time)),
            }
            prop_assert!(rig.tracker.len() <= max_flows);
        }
        rig.tracker.close_all(rig.now, CloseReason::Shutdown);
        let closes = rig.closes();
        let stats = rig.stats();
        let mut told = stats.stray;
        told += stats.lost_counts;
        closes.iter().for_each(|close| told += close.role.local_counts(close.counts));
        prop_assert_eq!(told, carried);
        prop_assert_eq!(closes.len() as u64 + stats.lost, stats.flows);
    }
}
