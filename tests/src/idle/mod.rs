//! How often the product wakes a phone: two whole clients with a tunnel between them, every feature on, and the kernel's own
//! account of what their threads do.
//!
//! [`Scenario::Idle`] is the claim: after some traffic and the last deadline that it caused, no thread of the product runs
//! again. The others give figures for what a tunnel in use costs.
//!
//! Linux only: everything is read from `/proc`.

mod lab;
mod threads;

use std::{
    io,
    thread::sleep,
    time::{Duration, Instant},
};

use serde::Serialize;
use thiserror::Error;

pub use self::{
    lab::{Lab, Node, everything_on},
    threads::{ARMED_TIMERS, Thread, Waits, armed_timers, is_at_rest, threads},
};

/// What the tunnel does while it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Nothing.
    Idle,
    /// Nothing, and one side keeps a mapping open with a keepalive every 25 s.
    Keepalive,
    /// A packet and its answer every 10 s.
    Light,
}

/// When measuring begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum After {
    /// Once no thread of the product waits for a time any more, and no timer is armed: after WireGuard has wiped its keys.
    Wipe,
    /// 20 s after the traffic: WireGuard's passive keepalive after 10 s, its window of 5 s and the write of its record are
    /// over. What comes later, such as the end of flows after 2 minutes and the wipe after 9, is still to come.
    Keepalive,
}

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What goes on.
    pub scenario: Scenario,
    /// When measuring begins; only for [`Scenario::Idle`].
    pub after: After,
    /// Whether everything there is to record is recorded. If not there is no consent: the tunnel alone.
    pub records: bool,
    /// For how long.
    pub measured: Duration,
}

/// WireGuard answers data with a keepalive after 10 s, if with nothing else. That is in a window of 5 s, whose record is
/// written within 1 s.
const PASSIVE_KEEPALIVE: Duration = Duration::from_secs(20);
/// Keys are wiped 540 s after a handshake; nothing of ours waits longer after such traffic.
const REST_AT_LATEST: Duration = Duration::from_secs(700);
/// As most networks' address translators need it.
const KEEPALIVE_SECONDS: u16 = 25;
const LIGHT_INTERVAL: Duration = Duration::from_secs(10);
/// Enough to open a flow, a session and a socket event on each side.
const FIRST_EXCHANGES: usize = 20;
/// How often the kernel is asked whether all is at rest. Reading `/proc` wakes nobody.
const LOOK: Duration = Duration::from_millis(250);

/// Why nothing was measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdleError {
    /// A client or its tunnel can't be made.
    #[error("can't set up the clients: {0}")]
    Setup(Box<dyn std::error::Error + Send + Sync>),
    /// A packet did not come through the tunnel.
    #[error("no packet came through the tunnel within {0:?}")]
    NoTraffic(Duration),
    /// `/proc` can't be read.
    #[error("can't read the kernel's account of our threads: {0}")]
    Proc(#[from] io::Error),
    /// Something still waits for a time.
    #[error("not at rest after {waited:?}: {busy}")]
    Restless {
        /// How long it was waited for.
        waited: Duration,
        /// What waits, and for what.
        busy: String,
    },
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What went on.
    pub scenario: Scenario,
    /// Whether everything was recorded, or nothing.
    pub records: bool,
    /// When measuring began; not in the other scenarios than idle.
    pub after: Option<After>,
    /// From the end of the traffic to the beginning of measuring.
    pub waited_seconds: f64,
    /// How long was measured.
    pub measured_seconds: f64,
    /// The threads of both clients.
    pub threads: Vec<Activity>,
    /// Descriptors with an armed kernel timer at the end.
    pub armed_timers: usize,
    /// Times that a thread of either client was put on a processor, by the kernel's counts of context switches.
    pub wakeups: u64,
    /// Of the client that would be the phone: in an hour, at this rate.
    pub phone_wakeups_per_hour: f64,
    /// Where the figures are from.
    pub source: &'static str,
}

/// What a thread did while it was measured.
#[derive(Debug, Serialize)]
pub struct Activity {
    /// Whose it is.
    pub node: &'static str,
    /// Its name.
    pub thread: String,
    /// Times it went to sleep: as often it was woken.
    pub voluntary: u64,
    /// Times it was interrupted while it ran.
    pub involuntary: u64,
    /// What it waits for at the end.
    pub waits: Waits,
}

impl Report {
    /// Whether the claim holds: nothing ran, and if the wipe was waited for, nothing ever will.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let for_ever =
            self.armed_timers == 0 && self.threads.iter().all(|thread| thread.waits == Waits::Forever);
        self.wakeups == 0 && (for_ever || self.after != Some(After::Wipe))
    }
}

/// Does it. Tells `say` what is being waited for.
///
/// # Errors
/// See [`IdleError`].
pub fn run(plan: Plan, mut say: impl FnMut(&str)) -> Result<Report, IdleError> {
    let keepalive = (plan.scenario == Scenario::Keepalive).then_some(KEEPALIVE_SECONDS);
    let mut lab = Lab::start(keepalive, plan.records)?;
    for _ in 0..FIRST_EXCHANGES {
        lab.exchange()?;
    }
    let quiet_since = Instant::now();
    let after = (plan.scenario == Scenario::Idle).then_some(plan.after);
    match after {
        Some(After::Wipe) => {
            say(
                "waiting until nothing is armed any more: WireGuard wipes its keys 540 s after the handshake",
            );
            wait_for_rest(REST_AT_LATEST)?;
        }
        Some(After::Keepalive) | None => {
            say(&format!("waiting {PASSIVE_KEEPALIVE:?} for WireGuard's passive keepalive"));
            sleep(PASSIVE_KEEPALIVE);
        }
    }
    let waited = quiet_since.elapsed();
    say(&format!("measuring for {:?}, {:.1} s after the traffic", plan.measured, waited.as_secs_f64()));

    let (before, begin) = (threads()?, Instant::now());
    match plan.scenario {
        Scenario::Idle | Scenario::Keepalive => sleep(plan.measured),
        Scenario::Light => {
            while begin.elapsed() < plan.measured {
                sleep(LIGHT_INTERVAL.min(plan.measured.saturating_sub(begin.elapsed())));
                lab.exchange()?;
            }
        }
    }
    let (measured, after_all) = (begin.elapsed(), threads()?);
    let activities: Vec<_> = after_all.iter().map(|now| Activity::between(&lab, &before, now)).collect();
    let sum = |node: Option<&str>| -> u64 {
        let of_node = activities.iter().filter(|thread| node.is_none_or(|node| thread.node == node));
        of_node.map(|thread| thread.voluntary + thread.involuntary).sum()
    };
    let phone_wakeups_per_hour = sum(Some("phone")) as f64 * 3600.0 / measured.as_secs_f64();
    Ok(Report {
        scenario: plan.scenario,
        records: plan.records,
        after,
        waited_seconds: waited.as_secs_f64(),
        measured_seconds: measured.as_secs_f64(),
        armed_timers: armed_timers()?,
        wakeups: sum(None),
        phone_wakeups_per_hour,
        threads: activities,
        source: threads::SOURCE,
    })
}

/// Waits until no thread of ours waits for a time, and none has run between two looks: one that is being woken may still
/// look asleep to the kernel.
///
/// # Errors
/// [`IdleError::Restless`] when that takes longer than `limit`.
pub fn wait_for_rest(limit: Duration) -> Result<(), IdleError> {
    let (begin, mut seen) = (Instant::now(), None);
    loop {
        let threads = threads()?;
        let timers = armed_timers()?;
        let at_rest = timers == 0 && is_at_rest(&threads);
        if at_rest && seen.as_ref() == Some(&threads) {
            return Ok(());
        }
        let waited = begin.elapsed();
        if waited >= limit {
            let busy = threads.iter().filter(|thread| thread.waits != Waits::Forever);
            let busy: Vec<_> = busy.map(|thread| format!("{} {:?}", thread.name, thread.waits)).collect();
            let busy = format!("{timers} {ARMED_TIMERS}; {}", busy.join(", "));
            return Err(IdleError::Restless { waited, busy });
        }
        seen = Some(threads);
        sleep(LOOK);
    }
}

impl Activity {
    fn between(lab: &Lab, before: &[Thread], now: &Thread) -> Self {
        let then = before.iter().find(|then| then.id == now.id);
        // A thread that was not there before has been woken to begin.
        let (voluntary, involuntary) = then.map_or((0, 0), |then| (then.voluntary, then.involuntary));
        Self {
            node: lab.node_of(now.id),
            thread: now.name.clone(),
            voluntary: now.voluntary.saturating_sub(voluntary),
            involuntary: now.involuntary.saturating_sub(involuntary),
            waits: now.waits,
        }
    }
}
