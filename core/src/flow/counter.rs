//! The counter of one packet thread.

use std::{
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use super::{
    Layer,
    classify::{Snapshot, TrafficClass},
    key::{Key, V4Key, WideKey},
    lifecycle::{Lifecycle, LifecycleConfig, Packet},
    shared::{Delivery, Shared},
    table::{Counts, Table},
    window::WindowStart,
};
use crate::{
    clock::Instant,
    hook::{Connection, ConnectionCounter, Direction},
    netmap::NodeId,
    packet::Header,
};

/// The service addresses that every node serves to itself. Traffic to them never leaves the device and is not counted.
const SERVICE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 100, 100, 100));
const SERVICE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0x53));

/// Counts the connections that one packet thread sees, for a [`FlowLogger`](super::FlowLogger).
///
/// Belongs to that thread, which calls all methods. Counting for a connection that is already in the window takes no
/// lock and allocates nothing. Nothing here ever waits for the worker, the disk or a sink. A counter that is dropped
/// hands over what it counted.
#[derive(Debug)]
pub struct FlowCounter {
    shared: Arc<Shared>,
    layer: Layer,
    table: Table,
    /// The window that the table's counts belong to, while there are any.
    window: Option<Arc<WindowStart>>,
    /// When the table is handed over, if the worker was behind at the window's own deadline.
    retry: Option<Instant>,
    /// The latest packet's time, for [`Drop`].
    last: Instant,
    /// The state of the network for connections that find no room.
    network: Option<(u32, Arc<Snapshot>)>,
    /// Follows each flow, where that is wanted.
    lifecycle: Option<Lifecycle>,
}

/// Whether a connection is to a service address.
pub(super) fn is_service(connection: &Connection) -> bool {
    connection.dst.is_some_and(|end| [SERVICE_V4, SERVICE_V6].contains(&end.ip()))
}

impl ConnectionCounter for FlowCounter {
    fn count(
        &mut self,
        now: Instant,
        connection: &Connection,
        packets: u64,
        bytes: u64,
        direction: Direction,
    ) {
        self.count_key(now, Key::of_connection(connection), packets, bytes, direction);
        if self.lifecycle.is_some() {
            self.follow(now, &Packet::of_counts(connection, packets, bytes, direction));
        }
    }

    #[inline]
    fn count_packet(&mut self, now: Instant, packet: &[u8], direction: Direction) {
        if self.lifecycle.is_some() {
            return self.count_and_follow(now, packet, direction);
        }
        let bytes = packet.len() as u64;
        if let Some(key) = V4Key::of_plain(packet, direction) {
            match self.table.known_v4(&key) {
                Some(counts) => counts.add(1, bytes, direction),
                None => self.count_new(now, Key::V4(key), 1, bytes, direction),
            }
        } else if let Some(key) = WideKey::of_plain(packet, direction) {
            match self.table.known_wide(&key) {
                Some(counts) => counts.add(1, bytes, direction),
                None => self.count_new(now, Key::Wide(key), 1, bytes, direction),
            }
        } else {
            let key = Key::of_header(&Header::parse(packet), direction);
            self.count_key(now, key, 1, bytes, direction);
        }
    }

    fn path(&mut self, _now: Instant, local: Option<SocketAddr>, remote: SocketAddr) {
        if let Some(lifecycle) = &mut self.lifecycle {
            lifecycle.set_path(local, remote);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let lifecycle = self.lifecycle.as_ref().and_then(Lifecycle::next_deadline);
        [self.due(), lifecycle].into_iter().flatten().min()
    }

    fn handle_deadline(&mut self, now: Instant) {
        if self.due().is_some_and(|deadline| deadline <= now) {
            self.flush(now);
        }
        if let Some(lifecycle) = &mut self.lifecycle {
            lifecycle.handle_deadline(now);
        }
    }

    fn flush(&mut self, now: Instant) {
        self.hand_over(now, false);
        if let Some(lifecycle) = &mut self.lifecycle {
            lifecycle.hand_over(now);
        }
    }
}

impl FlowCounter {
    pub(super) fn new(shared: Arc<Shared>, layer: Layer, lifecycle: Option<LifecycleConfig>) -> Self {
        let lifecycle = lifecycle.map(|config| Lifecycle::new(Arc::clone(&shared), config));
        let (table, last) = (Table::default(), Instant::from_nanos(0));
        Self { shared, layer, table, window: None, retry: None, last, network: None, lifecycle }
    }

    fn due(&self) -> Option<Instant> {
        self.retry.or_else(|| self.window.as_ref()?.due())
    }

    /// Counts a packet and follows its flow, out of one decoded header.
    #[inline(never)]
    fn count_and_follow(&mut self, now: Instant, packet: &[u8], direction: Direction) {
        let header = Header::parse(packet);
        let key = Key::of_header(&header, direction);
        self.count_key(now, key, 1, packet.len() as u64, direction);
        self.follow(now, &Packet::of_header(key, &header, packet, direction));
    }

    fn follow(&mut self, now: Instant, packet: &Packet) {
        // Whatever was counted opened a window. The rest is service traffic.
        if let (Some(lifecycle), Some(window)) = (&mut self.lifecycle, &self.window) {
            self.last = now;
            lifecycle.observe(now, window, packet);
        }
    }

    #[inline]
    fn count_key(&mut self, now: Instant, key: Key, packets: u64, bytes: u64, direction: Direction) {
        match self.table.known(&key) {
            Some(counts) => counts.add(packets, bytes, direction),
            None => self.count_new(now, key, packets, bytes, direction),
        }
    }

    #[cold]
    #[inline(never)]
    fn count_new(&mut self, now: Instant, key: Key, packets: u64, bytes: u64, direction: Direction) {
        let connection = key.connection();
        if self.layer == Layer::Virtual && is_service(&connection) {
            return;
        }
        // A thread that is always busy may be late with its deadline.
        self.handle_deadline(now);
        self.last = now;
        let window = match &self.window {
            Some(window) => window,
            None => {
                let quiet = self.layer == Layer::Physical && self.shared.lets_keepalives_rest();
                self.window.insert(self.shared.join(now, quiet))
            }
        };
        if self.table.len() >= self.shared.max_flows() {
            let self_id = window.snapshot.map.self_id();
            let class = self.class(&connection, self_id);
            return self.table.overflow_mut(class).add(packets, bytes, direction);
        }
        let mut counts = Counts::default();
        counts.add(packets, bytes, direction);
        self.table.insert(key, self.shared.epoch(), counts);
    }

    /// The class of a connection that finds no room. There is no row to remember it, so it is judged anew for each of
    /// its packets.
    fn class(&mut self, connection: &Connection, self_id: Option<NodeId>) -> TrafficClass {
        if self.layer == Layer::Physical {
            return TrafficClass::Physical;
        }
        let epoch = self.shared.epoch();
        let network = match self.network.take() {
            Some(network) if network.0 == epoch => network,
            _ => self.shared.current(),
        };
        let [src, dst] =
            [connection.src, connection.dst].map(|end| network.1.endpoint(end.map(|end| end.ip())));
        let class = network.1.classify(self_id, src, dst);
        self.network = Some(network);
        class
    }

    fn hand_over(&mut self, now: Instant, must: bool) {
        let Some(window) = self.window.take() else { return };
        self.network = None;
        let table = mem::take(&mut self.table);
        match self.shared.hand_over(&window, self.layer, table, now, must) {
            Delivery::Taken(empty) => {
                self.table = empty;
                self.retry = None;
            }
            Delivery::Full(table) => {
                self.table = table;
                self.window = Some(window);
                self.retry = Some(now + self.shared.window());
            }
        }
    }
}

impl Drop for FlowCounter {
    fn drop(&mut self) {
        if self.window.is_none() && self.lifecycle.is_none() {
            return;
        }
        let now = self.shared.clock.now().max(self.last);
        self.hand_over(now, true);
        if let Some(lifecycle) = self.lifecycle.take() {
            lifecycle.finish(now);
        }
    }
}
