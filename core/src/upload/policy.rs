//! When an automatic pass begins: a state machine that is told events and names its next deadline.
//!
//! Owned by the uploader, under its control lock. It reads no clock and holds no timer. While something is missing that
//! only an event can bring (records, a network, power, new credentials) it has no deadline at all: the event arms it.
//! With [`UploadPolicy::OnDemand`](super::UploadPolicy) it never has one.
//!
//! Records that are noted while a pass runs, or shortly after, count but arm nothing: they may be about the pass itself,
//! whose traffic goes through the tunnel like any other. Otherwise each upload would be the reason for the next.

use std::time::Duration;

use super::{
    report::UploadOutcome,
    rules::{AutomaticPolicy, NetworkState, PowerState},
    verdict::backoff,
};
use crate::clock::Instant;

/// After so many failed passes in a row only an event brings the next: another network, or somebody who asks.
const MAX_FAILED_PASSES: u32 = 5;
/// How long a stream rests whose address is wrong (404, 410, a redirect, everything refused): a server is repaired
/// within hours, not minutes.
const WRONG_ENDPOINT_REST: Duration = Duration::from_secs(24 * 60 * 60);
/// What a pass causes in the logs is recorded within this time of its end: a window closes after 5 s, a flow of a name
/// lookup after 15 s of silence.
const ECHO: Duration = Duration::from_secs(30);
/// The budget for metered networks is one of a day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An automatic pass that is to begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// Positions of the streams.
    pub(super) streams: Vec<usize>,
    /// The most bytes of requests that it may cost.
    pub(super) wire_limit: Option<u64>,
}

/// Why a server would not have a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Credentials,
    Endpoint,
}

/// What the policy wants to know of a pass that has ended.
#[derive(Debug)]
pub(super) struct PassEnd<'a> {
    pub(super) outcome: &'a UploadOutcome,
    pub(super) automatic: bool,
    /// Streams that took part.
    pub(super) streams: &'a [usize],
    pub(super) refused: &'a [(usize, Refusal)],
    pub(super) wire_bytes: u64,
    /// Uniformly distributed.
    pub(super) random: u64,
}

/// Why a stream takes no part in automatic passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Block {
    #[default]
    None,
    /// The address is wrong; another try then.
    Until(Instant),
    /// The credentials are wrong; another try when somebody says that they changed, or an upload that somebody asked for
    /// has succeeded.
    Credentials,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pending {
    /// New records, in bytes.
    bytes: u64,
    /// Of the first of them that is not an echo.
    first: Option<First>,
}

#[derive(Debug, Clone, Copy)]
struct First {
    /// When it came.
    since: Instant,
    /// When it is old enough to be sent however few there are.
    old_at: Instant,
}

#[derive(Debug, Clone, Default)]
struct Stream {
    pending: Pending,
    /// What the pass that runs is sending.
    taken: Pending,
    block: Block,
    /// Automatic passes leave it out, whatever it has.
    only_asked: bool,
}

#[derive(Debug)]
pub(super) struct Policy {
    /// `None`: on demand.
    rules: Option<AutomaticPolicy>,
    streams: Vec<Stream>,
    network: NetworkState,
    power: PowerState,
    running: bool,
    /// The network has come up and is to settle until then.
    settled_at: Instant,
    /// The last pass forbids another one before.
    not_before: Instant,
    last_end: Option<Instant>,
    failures: u32,
    /// Records that come before are an echo.
    quiet_until: Instant,
    /// Begin of the day that `spent` belongs to.
    day: Option<Instant>,
    /// Bytes sent over metered networks.
    spent: u64,
}

impl Policy {
    /// `only_asked` says of each stream whether automatic passes leave it out.
    pub(super) fn new(rules: Option<AutomaticPolicy>, only_asked: impl Iterator<Item = bool>) -> Self {
        let origin = Instant::from_nanos(0);
        Self {
            rules,
            streams: only_asked.map(|only_asked| Stream { only_asked, ..Stream::default() }).collect(),
            network: NetworkState::default(),
            power: PowerState::default(),
            running: false,
            settled_at: origin,
            not_before: origin,
            last_end: None,
            failures: 0,
            quiet_until: origin,
            day: None,
            spent: 0,
        }
    }

    /// When an automatic pass may begin; `None` while only an event can bring that about.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let rules = self.rules.as_ref()?;
        if self.running || self.failures >= MAX_FAILED_PASSES || !self.is_allowed() {
            return None;
        }
        let due = self.due(rules)?;
        let budget = if self.budget_is_spent(rules) { self.day.map(|day| day + DAY) } else { None };
        Some(due.max(self.not_before).max(self.settled_at).max(budget.unwrap_or(due)))
    }

    /// The pass that is due, if one is. The caller lets it [begin](Self::begin).
    pub(super) fn handle_deadline(&mut self, now: Instant) -> Option<Choice> {
        let rules = self.rules.clone()?;
        if self.day.is_some_and(|day| day + DAY <= now) {
            self.day = None;
            self.spent = 0;
        }
        for stream in &mut self.streams {
            if matches!(stream.block, Block::Until(until) if until <= now) {
                stream.block = Block::None;
            }
        }
        if self.next_deadline()? > now {
            return None;
        }
        let open = self
            .streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| stream.block == Block::None && !stream.only_asked);
        let limit = rules.daily_metered_bytes.saturating_sub(self.spent);
        Some(Choice {
            streams: open.map(|(index, _)| index).collect(),
            wire_limit: self.network.metered.then_some(limit),
        })
    }

    /// Records of a stream, to be sent some time. True if the next deadline has changed.
    pub(super) fn note(&mut self, stream: usize, bytes: u64, now: Instant) -> bool {
        let Some(rules) = &self.rules else { return false };
        let first = First { since: now, old_at: now + rules.max_age };
        let before = self.next_deadline();
        let echo = self.running || now < self.quiet_until;
        if let Some(Stream { pending, only_asked: false, .. }) = self.streams.get_mut(stream) {
            pending.bytes = pending.bytes.saturating_add(bytes);
            if !echo {
                pending.first.get_or_insert(first);
            }
        }
        before != self.next_deadline()
    }

    /// Records that an earlier process left. How old they are is not known, so they count as old enough.
    pub(super) fn note_leftovers(&mut self, stream: usize, bytes: u64, now: Instant) {
        if let Some(Stream { pending, only_asked: false, .. }) = self.streams.get_mut(stream) {
            pending.bytes = pending.bytes.saturating_add(bytes);
            pending.first = Some(First { since: now, old_at: now });
        }
    }

    pub(super) fn set_network(&mut self, network: NetworkState, now: Instant, random: u64) {
        let before = std::mem::replace(&mut self.network, network);
        let Some(rules) = &self.rules else { return };
        if network.connected && (!before.connected || before.id != network.id) {
            self.settled_at = now + rules.draw_settle(random);
            self.failures = 0;
            // Failures of the old network say nothing about this one. But a network that comes and goes must not be a
            // reason to send more often than a good one.
            self.not_before = self.last_end.map_or(now, |end| end + rules.min_interval);
        }
    }

    pub(super) fn set_power(&mut self, power: PowerState) {
        self.power = power;
    }

    /// Whether a pass that was decided on with this limit may go on with the present network and power.
    pub(super) fn is_allowed_with(&self, wire_limit: Option<u64>) -> bool {
        self.is_allowed() && (wire_limit.is_some() || !self.network.metered)
    }

    fn is_allowed(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.allows(&self.network, &self.power))
    }

    /// Somebody says that things have changed: credentials, or an address.
    pub(super) fn forgive(&mut self) {
        self.failures = 0;
        for stream in &mut self.streams {
            stream.block = Block::None;
        }
    }

    /// A pass begins, automatic or not.
    pub(super) fn begin(&mut self, streams: &[usize], automatic: bool) {
        self.running = true;
        if !automatic {
            self.failures = 0;
        }
        for &index in streams {
            if let Some(stream) = self.streams.get_mut(index) {
                stream.taken = std::mem::take(&mut stream.pending);
            }
        }
    }

    /// The pass has ended.
    pub(super) fn end(&mut self, pass: &PassEnd<'_>, now: Instant) {
        self.running = false;
        self.last_end = Some(now);
        let Some(rules) = &self.rules else { return };
        self.quiet_until = now + ECHO;
        if pass.automatic && self.network.metered {
            self.day.get_or_insert(now);
            self.spent = self.spent.saturating_add(pass.wire_bytes);
        }
        let reached = pass.outcome.reached_server();
        if pass.outcome.is_failure_in_passing() {
            self.failures = self.failures.saturating_add(1);
            let asked = if let UploadOutcome::RetryLater { after, .. } = pass.outcome {
                *after
            } else {
                Duration::ZERO
            };
            self.not_before = now + backoff(self.failures, pass.random).max(asked);
        } else {
            self.failures = 0;
            self.not_before = now + rules.min_interval;
        }
        for &index in pass.streams {
            let Some(stream) = self.streams.get_mut(index).filter(|stream| !stream.only_asked) else {
                continue;
            };
            let taken = std::mem::take(&mut stream.taken);
            let refusal = pass.refused.iter().find(|(of, _)| *of == index).map(|(_, refusal)| refusal);
            match refusal {
                None if reached => stream.block = Block::None,
                refusal => {
                    stream.pending.bytes = stream.pending.bytes.saturating_add(taken.bytes);
                    stream.pending.first = taken.first.or(stream.pending.first);
                    match refusal {
                        Some(Refusal::Credentials) => stream.block = Block::Credentials,
                        Some(Refusal::Endpoint) => stream.block = Block::Until(now + WRONG_ENDPOINT_REST),
                        None => {}
                    }
                }
            }
        }
    }

    /// Why streams take no part in automatic passes, by position.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Block> {
        self.streams.iter().map(|stream| stream.block)
    }

    /// When the records alone are reason enough.
    fn due(&self, rules: &AutomaticPolicy) -> Option<Instant> {
        let (mut total, mut oldest, mut due) = (0_u64, None::<Instant>, None::<Instant>);
        for stream in &self.streams {
            let Pending { bytes, first: Some(First { since, old_at }) } = stream.pending else {
                if stream.block == Block::None {
                    total = total.saturating_add(stream.pending.bytes);
                }
                continue;
            };
            let alone = if bytes >= rules.min_pending_bytes { since } else { old_at };
            let alone = match stream.block {
                Block::None => {
                    total = total.saturating_add(bytes);
                    oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
                    alone
                }
                Block::Until(until) => alone.max(until),
                Block::Credentials => continue,
            };
            due = Some(due.map_or(alone, |due| due.min(alone)));
        }
        if total >= rules.min_pending_bytes { oldest.or(due) } else { due }
    }

    fn budget_is_spent(&self, rules: &AutomaticPolicy) -> bool {
        self.network.metered && self.spent >= rules.daily_metered_bytes
    }
}

#[cfg(test)]
mod tests;
