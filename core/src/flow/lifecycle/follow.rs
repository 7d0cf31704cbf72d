//! What a counter does for its tracker: gives it time, classes and packets, and brings its events to the worker.

use std::{net::SocketAddr, sync::Arc};

use super::{FlowTracker, LifecycleConfig, Packet, flow::Opening, grant::Grant, path::PathEnds};
use crate::{
    clock::Instant,
    flow::{
        classify::Snapshot,
        shared::{FlowDelivery, Shared},
        window::WindowStart,
    },
    hook::Connection,
};

/// The tracker of one counter. Called on the counter's thread.
#[derive(Debug)]
pub(in crate::flow) struct Lifecycle {
    shared: Arc<Shared>,
    tracker: Box<FlowTracker>,
    /// When the batch goes to the worker if it is not full before. At a window's length after its first event, so
    /// that while packets come it goes with the window and costs no wake-up of its own.
    hand_over_at: Option<Instant>,
    /// The worker had no room; not asked again before the deadline.
    refused: bool,
    /// The state of the network at the latest flow's first packet, until the next hand-over.
    network: Option<(u32, Arc<Snapshot>)>,
}

impl Lifecycle {
    pub(in crate::flow) fn new(shared: Arc<Shared>, config: LifecycleConfig) -> Self {
        let tracker = Box::new(FlowTracker::new(config, shared.exit_grants.clone()));
        Self { shared, tracker, hand_over_at: None, refused: false, network: None }
    }

    /// Takes a packet, which was counted for `window` just before.
    #[inline]
    pub(in crate::flow) fn observe(&mut self, now: Instant, window: &WindowStart, packet: &Packet) {
        let Self { shared, tracker, network, .. } = self;
        tracker.observe(now, packet, |connection| {
            let since = now.saturating_duration_since(window.opened);
            let wall = window.start.saturating_add(since).unwrap_or(window.start);
            Opening { wall, grant: grant(shared, network, connection) }
        });
        if self.hand_over_at.is_none() && self.tracker.has_events() {
            self.hand_over_at = Some(now + self.shared.window());
        }
        if self.tracker.is_full() && !self.refused {
            self.hand_over(now);
        }
    }

    pub(in crate::flow) fn set_path(&mut self, local: Option<SocketAddr>, remote: SocketAddr) {
        self.tracker.set_path(PathEnds { local, remote });
    }

    pub(in crate::flow) fn next_deadline(&self) -> Option<Instant> {
        [self.hand_over_at, self.tracker.next_deadline()].into_iter().flatten().min()
    }

    pub(in crate::flow) fn handle_deadline(&mut self, now: Instant) {
        if self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.tracker.handle_deadline(now);
            self.hand_over(now);
        }
    }

    /// Gives all that there is to tell to the worker, as far as it has room.
    pub(in crate::flow) fn hand_over(&mut self, now: Instant) {
        self.network = None;
        loop {
            let report = self.tracker.take_report();
            if report.is_empty() {
                self.hand_over_at = None;
                self.refused = false;
                return self.tracker.put_back(report);
            }
            match self.shared.hand_over_flows(report) {
                FlowDelivery::Taken(spare) => self.tracker.refill(spare),
                FlowDelivery::Full(report) => {
                    self.tracker.put_back(report);
                    self.refused = true;
                    self.hand_over_at = Some(now + self.shared.window());
                    return;
                }
            }
        }
    }

    /// The counter is dropped. The worker closes the flows that are open: there may be thousands, and nobody shall
    /// wait for them.
    pub(in crate::flow) fn finish(self, now: Instant) {
        self.shared.hand_over_tracker(self.tracker, now);
    }
}

/// What a flow needs so that it may be told of: the class that the window gives a connection with this first packet
/// decides.
fn grant(shared: &Shared, network: &mut Option<(u32, Arc<Snapshot>)>, connection: &Connection) -> Grant {
    let epoch = shared.epoch();
    let (_, snapshot) = match network.take() {
        Some(known) if known.0 == epoch => network.insert(known),
        _ => network.insert(shared.current()),
    };
    let [src, dst] = [connection.src, connection.dst].map(|end| snapshot.endpoint(end.map(|end| end.ip())));
    if snapshot.classify(snapshot.map.self_id(), src, dst).is_exit() {
        shared.exit_grants.for_exit_flow()
    } else {
        Grant::NotNeeded
    }
}
