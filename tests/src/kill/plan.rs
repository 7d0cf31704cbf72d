//! What happens in which cycle, and when it is cut short. All of it comes from the seed.

use std::time::Duration;

use tuntrail_logserver::Fault;

use super::{
    cycle::{Moment, Trigger},
    order::{Answer, Task},
    rng::Rng,
};

/// Children that are to be killed have no end of their own.
const ENDLESS: u32 = u32::MAX;

/// A child at work is dead after this long.
const LATEST: Duration = Duration::from_millis(60);

/// A child's work and its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) task: Task,
    pub(super) moment: Moment,
    /// After so many uploads the response to one is lost, and the server takes for ever over its repetition: when the
    /// child is killed, the server has what the child has not removed.
    pub(super) stall: Option<u64>,
}

impl Plan {
    const fn new(task: Task, moment: Moment) -> Self {
        Self { task, moment, stall: None }
    }
}

/// How many cycles in a row only record. In a drought the server is down all the time, so that the store has to fold
/// its reports: it names 32 ranges at most, and each process that lost records needs one.
pub(super) fn length(rng: &mut Rng) -> (u64, bool) {
    let drought = rng.chance(10);
    let length = if drought { 40 } else { 5 + rng.below(14) };
    (length, drought)
}

/// A cycle of recording.
pub(super) fn record(rng: &mut Rng) -> Plan {
    let micros = |rng: &mut Rng, end| Duration::from_micros(rng.below(end));
    let kill = |after, delay| Moment { after, delay, latest: Some(LATEST) };
    let endless = |uploads, stop_at| Task::Record { steps: ENDLESS, uploads, stop_at };
    match rng.below(100) {
        0..15 => {
            let steps = 20 + rng.below(100) as u32;
            Plan::new(Task::Record { steps, uploads: 5, stop_at: None }, Moment::NEVER)
        }
        // Also while it starts.
        15..20 => Plan::new(endless(0, None), kill(Trigger::Spawned, micros(rng, 6_000))),
        // In the middle of an upload.
        20..35 => Plan::new(endless(5, None), kill(Trigger::Uploading, micros(rng, 4_000))),
        // Right after a confirmation, perhaps in the middle of a segment.
        35..45 => {
            let stop_at = Some(1 + rng.below(4) as u32);
            Plan::new(endless(5, stop_at), kill(Trigger::Confirmed, Duration::ZERO))
        }
        // Between the moment when the server has it and the removal. Nothing is confirmed to the child after that, so it
        // lives as long as it may.
        45..55 => {
            let stall = Some(rng.below(4));
            Plan { stall, ..Plan::new(endless(5, None), kill(Trigger::Confirmed, Duration::ZERO)) }
        }
        _ => {
            let uploads = rng.pick(0, &[2, 10]);
            // Early moments are likelier: most of what can go wrong goes wrong soon after a start.
            let end = LATEST.as_micros() as u64;
            let delay = Duration::from_micros(rng.below(end) * rng.below(end) / end);
            Plan::new(endless(uploads, None), kill(Trigger::Began, delay))
        }
    }
}

/// A cycle in which consent is withdrawn.
pub(super) fn revoke(rng: &mut Rng) -> Plan {
    let moment = match rng.below(10) {
        0 => {
            Moment { after: Trigger::Uploading, delay: Duration::from_micros(rng.below(3_000)), latest: None }
        }
        1 => Moment::NEVER,
        // Deleting takes a few milliseconds at most.
        _ => {
            Moment { after: Trigger::Revoking, delay: Duration::from_micros(rng.below(4_000)), latest: None }
        }
    };
    Plan::new(Task::Revoke, moment)
}

/// A start that has to finish an unfinished deletion. It may be killed, too. A denial that was written down holds
/// whatever the host says.
pub(super) fn finish(rng: &mut Rng, denied: bool) -> Plan {
    let delay = Duration::from_micros(rng.below(4_000));
    let moment = match rng.below(3) {
        0 => Moment { after: Trigger::Began, delay, latest: None },
        1 => Moment { after: Trigger::Spawned, delay, latest: None },
        _ => Moment::NEVER,
    };
    let others: &[Answer] = if denied { &[Answer::Unknown, Answer::Granted] } else { &[] };
    Plan::new(Task::Finish(rng.pick(Answer::Denied, others)), moment)
}

/// The server takes longer than any child lives.
pub(super) const fn hang() -> Fault {
    Fault::Slow(Duration::from_secs(3_600))
}

/// What the server does to the next upload.
pub(super) fn fault(rng: &mut Rng) -> Fault {
    let status = |code| Fault::Status { code, retry_after: None, body: "not now".to_owned() };
    match rng.below(100) {
        0..25 => Fault::LostResponse,
        25..30 => status(503),
        30..32 => status(500),
        32..34 => Fault::CloseBeforeResponse,
        34..36 => Fault::CutBody,
        // Nothing at all.
        _ => Fault::Slow(Duration::ZERO),
    }
}

/// The server is down.
pub(super) fn outage() -> Fault {
    Fault::Status { code: 503, retry_after: None, body: "down for maintenance".to_owned() }
}
