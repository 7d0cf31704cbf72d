//! The life of each flow: when it began, over which paths it ran, what it carried, how it ended.
//!
//! Windows tell how much passed in each five seconds; this tells of one flow from its first packet to its last. Each
//! flow gets one `open` event, an `update` while it goes on for long, and exactly one `close`, see [`FlowEvent`].
//!
//! - A [`FlowTracker`] per packet thread follows the flows. It belongs to a [`FlowCounter`](super::FlowCounter),
//!   which parses a packet once for both its window and the tracker. A packet of a known flow allocates nothing and
//!   takes no lock. The tracker reads no clock and never waits.
//! - Its events go in batches to the logger's worker, which writes each as one JSON record and shows it to `tracing`.
//!
//! Flows that ended in silence are found through one list per timeout, the longest silent first: the cost is that of
//! the flows that expired, never that of all. No flow, no deadline; and a flow without packets makes no updates.
//!
//! Privacy: flows through exit nodes, and those of unknown kind, are told of only under
//! [`ExitFlows::Full`](super::ExitFlows::Full). With `Aggregated` they are in the sums of the windows and nowhere
//! else: their ends and sizes alone would give away the protocol (fin, rst, the length of a timeout) and often the
//! site. It is decided in the tracker, before an event exists, and again in the worker, in case the setting changed in
//! between. A flow that began before the opt-in is not told of after it.

mod event;
mod flow;
mod follow;
mod grant;
mod id;
mod list;
mod packet;
mod path;
#[cfg(test)]
mod tests;
mod trace;
mod tracker;

use std::time::Duration;

pub use self::{
    event::{CloseReason, FlowEvent, FlowEventKind, OuterPath, Role},
    id::{FlowId, FlowIdError},
};
pub(super) use self::{
    follow::Lifecycle,
    grant::ExitGrants,
    packet::Packet,
    trace::emit,
    tracker::{FlowReport, FlowTracker, QueuedEvent},
};
use super::FlowConfigError;

/// Which flows are followed, and for how long they may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifecycleConfig {
    /// Flows per counter, from 1 to 65,536. Beyond it the one that was silent for longest is closed as evicted.
    pub max_flows: usize,
    /// Silence after which a TCP connection ends that carried packets both ways. All timeouts: 1 s to 1 day.
    pub tcp_established: Duration,
    /// The same for a TCP connection that is being opened or was closed by one side.
    pub tcp_other: Duration,
    /// The same for UDP and all protocols not named here.
    pub udp: Duration,
    /// The same for UDP from or to port 53.
    pub dns: Duration,
    /// The same for ICMP.
    pub icmp: Duration,
    /// The longest time for which packets of an open flow stay untold: then it gets an update. 1 s to 1 day, or zero
    /// for no updates.
    pub active: Duration,
}

impl Default for LifecycleConfig {
    fn default() -> Self {
        Self {
            // Less than 4.5 MiB when all are in use, for an iOS network extension, which may use 50 MB in all.
            max_flows: 16_384,
            // RFC 5382, REQ-5: what address translators must allow. Keepalives come every 2 hours.
            tcp_established: Duration::from_secs(2 * 3600 + 4 * 60),
            // RFC 5382 wants 4 minutes in address translators, where ending early breaks a connection. Here it would
            // only begin another record, so what upstream uses is enough.
            tcp_other: Duration::from_secs(120),
            // RFC 4787, REQ-5.
            udp: Duration::from_secs(120),
            // Resolvers give up after 5 s and retry twice.
            dns: Duration::from_secs(15),
            // A ping each second goes on through several losses; one that was answered is soon done.
            icmp: Duration::from_secs(15),
            // A compromise between records of long downloads and how much a crash may lose; IPFIX exporters use 1 to
            // 30 minutes.
            active: Duration::from_secs(300),
        }
    }
}

/// Shorter would split what belongs together; longer than a day nothing stays connected on a phone.
const TIMEOUT_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

impl LifecycleConfig {
    /// Whether all values are in range.
    ///
    /// # Errors
    /// [`FlowConfigError`] names the first one that is not.
    pub fn check(&self) -> Result<(), FlowConfigError> {
        if !super::logger::MAX_FLOWS_RANGE.contains(&self.max_flows) {
            return Err(FlowConfigError::MaxFlows(self.max_flows));
        }
        let timeouts = [
            ("tcp_established", self.tcp_established),
            ("tcp_other", self.tcp_other),
            ("udp", self.udp),
            ("dns", self.dns),
            ("icmp", self.icmp),
            ("active", self.active),
        ];
        for (name, value) in timeouts {
            let off = name == "active" && value.is_zero();
            if !off && !TIMEOUT_RANGE.contains(&value) {
                return Err(FlowConfigError::Timeout { name, value });
            }
        }
        Ok(())
    }
}
