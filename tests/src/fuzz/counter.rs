//! Any bytes as a sequence of operations on counters and their logger, against a map.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use tuntrail::{
    clock::{Clock, Instant},
    flow::{Counts, ExitFlows, FlowConfig, FlowCounter, Layer, Message},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    netmap::{NetworkMap, Node, NodeId, Routes},
};

use super::{
    input::Input,
    packet::is_service,
    recorder::{Recorder, rows, sum},
};

/// Operations per input: enough for every interplay, few enough for thousands of inputs a minute.
const MAX_OPS: usize = 500;
/// More connections than this universe of endpoints, ports and protocols has.
const ROOM: usize = 4096;

const LAYERS: [Layer; 3] = [Layer::Virtual, Layer::Virtual, Layer::Physical];

type Row = (Layer, Protocol, Option<SocketAddr>, Option<SocketAddr>);

/// `data` says how large the table is and what happens. Whatever was counted is in the records, withheld by the rule
/// for exit traffic, or discarded after the shutdown, to the packet; and as long as there is room and the records
/// may tell all, each connection has exactly the counts of the map.
pub fn counter_ops(data: &[u8]) {
    let mut input = Input(data);
    let first = input.byte().unwrap_or(0);
    let tells_all = first & 1 == 0;
    let max_flows = if tells_all { ROOM } else { usize::from(first >> 1) % 16 + 1 };
    let config = FlowConfig { max_flows, exit_flows: ExitFlows::Full, ..FlowConfig::default() };
    let mut run = Run::new(config, tells_all);
    for _ in 0..MAX_OPS {
        if run.step(&mut input).is_none() {
            break;
        }
    }
    run.finish();
}

struct Run {
    recorder: Recorder,
    counters: [FlowCounter; 3],
    tells_all: bool,
    is_shut: bool,
    model: BTreeMap<Row, Counts>,
    messages: Vec<Message>,
}

impl Run {
    fn new(config: FlowConfig, tells_all: bool) -> Self {
        let recorder = Recorder::new(config);
        let counters = LAYERS.map(|layer| recorder.logger.counter(layer));
        let (model, messages) = (BTreeMap::new(), Vec::new());
        Self { recorder, counters, tells_all, is_shut: false, model, messages }
    }

    /// One operation; `None` at the end of the input.
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        let now = self.recorder.clock.now();
        match input.below(12)? {
            0..=4 => self.count(now, input)?,
            5 | 6 => self.count_packet(now, input)?,
            7 => {
                let pause = Duration::from_millis(u64::from(input.byte()?) * 50);
                self.recorder.clock.advance(pause);
                let now = self.recorder.clock.now();
                for counter in &mut self.counters {
                    counter.handle_deadline(now);
                    assert!(counter.next_deadline().is_none_or(|deadline| deadline > now));
                }
            }
            8 => self.counters.get_mut(input.below(3)?)?.flush(now),
            9 => {
                let which = input.below(3)?;
                let new = self.recorder.logger.counter(*LAYERS.get(which)?);
                *self.counters.get_mut(which)? = new;
            }
            10 => {
                let (map, routes) = network(input.below(3)?);
                self.recorder.logger.set_network(map, routes);
            }
            _ => match input.below(8)? {
                0..=2 => {
                    let taken = self.recorder.take();
                    self.messages.extend(taken);
                }
                3 if input.byte()? == 0 => {
                    self.recorder.logger.shutdown();
                    self.is_shut = true;
                }
                _ if !self.tells_all => {
                    let settings = [ExitFlows::Off, ExitFlows::Aggregated, ExitFlows::Full];
                    self.recorder.logger.set_exit_flows(*settings.get(input.below(3)?)?);
                }
                _ => {}
            },
        }
        Some(())
    }

    fn count(&mut self, now: Instant, input: &mut Input<'_>) -> Option<()> {
        let which = input.below(3)?;
        let (src, dst) = (end(input.byte()?), end(input.byte()?));
        let protocol = Protocol(*[0, 1, 6, 17, 255].get(input.below(5)?)?);
        let (packets, bytes) = (u64::from(input.byte()?), u64::from(input.byte()?));
        let direction = if packets % 2 == 0 { Direction::Tx } else { Direction::Rx };
        let connection = Connection { protocol, src, dst };
        self.counters.get_mut(which)?.count(now, &connection, packets, bytes, direction);
        self.expect(which, &connection, counts(packets, bytes, direction));
        Some(())
    }

    /// A UDP packet between two IPv4 addresses, which takes the counter's short way.
    fn count_packet(&mut self, now: Instant, input: &mut Input<'_>) -> Option<()> {
        let which = input.below(3)?;
        let (from, to) = (v4(input.byte()?), v4(input.byte()?));
        let rx = input.byte()? % 2 == 1;
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend(from.octets().into_iter().chain(to.octets()));
        packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        let direction = if rx { Direction::Rx } else { Direction::Tx };
        self.counters.get_mut(which)?.count_packet(now, &packet, direction);
        let ends = [SocketAddr::from((from, 7)), SocketAddr::from((to, 9))];
        let [src, dst] = if rx { [ends[1], ends[0]] } else { ends };
        let connection = Connection { protocol: Protocol::UDP, src: Some(src), dst: Some(dst) };
        self.expect(which, &connection, counts(1, 28, direction));
        Some(())
    }

    fn expect(&mut self, which: usize, connection: &Connection, counts: Counts) {
        let Some(&layer) = LAYERS.get(which) else { return };
        if layer == Layer::Virtual && is_service(connection.dst) {
            return;
        }
        // Without a single packet there is a row, but nothing in it.
        let row = (layer, connection.protocol, connection.src, connection.dst);
        *self.model.entry(row).or_default() += counts;
    }

    fn finish(mut self) {
        let Self { recorder, counters, .. } = self;
        drop(counters);
        self.messages.extend(recorder.take());
        let stats = recorder.logger.stats();
        let mut wanted = Counts::default();
        self.model.values().for_each(|counts| wanted += *counts);
        let mut found = sum(&self.messages);
        found += stats.withheld.counts;
        found += stats.discarded;
        assert_eq!(found, wanted);
        assert!(self.is_shut || stats.discarded == Counts::default());
        if self.tells_all && !self.is_shut {
            let mut found: BTreeMap<Row, Counts> = BTreeMap::new();
            for (layer, row) in self.messages.iter().flat_map(rows) {
                *found.entry((layer, row.protocol, row.src, row.dst)).or_default() += row.counts;
            }
            self.model.retain(|_, counts| *counts != Counts::default());
            found.retain(|_, counts| *counts != Counts::default());
            assert_eq!(found, self.model);
        }
    }
}

fn counts(packets: u64, bytes: u64, direction: Direction) -> Counts {
    match direction {
        Direction::Tx => Counts { tx_packets: packets, tx_bytes: bytes, ..Counts::default() },
        Direction::Rx => Counts { rx_packets: packets, rx_bytes: bytes, ..Counts::default() },
    }
}

/// Addresses of this device, a peer, a subnet, the service, the Internet.
fn v4(number: u8) -> Ipv4Addr {
    match number % 6 {
        0 => Ipv4Addr::new(100, 64, 0, 1),
        1 => Ipv4Addr::new(100, 64, 0, 2),
        2 => Ipv4Addr::new(10, 0, 0, number),
        3 => Ipv4Addr::new(100, 100, 100, 100),
        _ => Ipv4Addr::new(8, 8, 8, number),
    }
}

fn end(number: u8) -> Option<SocketAddr> {
    match number {
        0..=15 => None,
        16..=63 => Some(SocketAddr::from(([0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, u16::from(number)], 5))),
        _ => Some(SocketAddr::from((v4(number), u16::from(number / 64)))),
    }
}

/// No network, a small one, and one in which this device is not known.
fn network(number: usize) -> (NetworkMap, Routes) {
    let nets = |prefixes: &[&str]| {
        prefixes.iter().map(|prefix| prefix.parse().expect("a prefix")).collect::<Vec<IpNet>>()
    };
    let node = |id, addresses: &[&str]| Node {
        id: NodeId(id),
        stable_id: format!("n{id}"),
        name: String::new(),
        addresses: nets(addresses),
        os: String::new(),
        user: None,
        tags: Vec::new(),
    };
    let this = node(1, &["100.64.0.1/32", "fd7a:115c:a1e0::11/128"]);
    let peer = node(2, &["100.64.0.2/32"]);
    let routes = Routes::new([], nets(&["10.0.0.0/8", "100.64.0.2/32"]), []);
    match number {
        0 => (NetworkMap::default(), Routes::default()),
        1 => (NetworkMap::new(Some(this), [peer], []).expect("a network"), routes),
        _ => (NetworkMap::new(None, [this, peer], []).expect("a network"), routes),
    }
}
