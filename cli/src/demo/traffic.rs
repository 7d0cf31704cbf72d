//! Makes the demo's traffic: one thread per kind of destination, over whatever network it is given.

use std::{
    net::SocketAddr,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::topology::{Activity, Exchange, Kind, activities};
use crate::CommandError;

/// How the phone reaches the other side of the tunnel: a userspace TCP/IP stack, or the kernel's in a namespace.
pub(super) trait Network: Sync {
    /// Opens a connection, sends `request` bytes, and reads until `response` bytes have come.
    fn tcp(&self, to: SocketAddr, request: u64, response: u64) -> Result<(), CommandError>;

    /// Sends a datagram of `size` bytes and waits for its answer.
    fn udp(&self, to: SocketAddr, size: usize) -> Result<(), CommandError>;
}

/// What the phone's programs did, in their own view.
#[derive(Debug, Default)]
pub(super) struct Tally {
    tcp_connections: AtomicU64,
    udp_exchanges: AtomicU64,
    payload_bytes: AtomicU64,
}

impl Tally {
    pub(super) fn tcp_connections(&self) -> u64 {
        self.tcp_connections.load(Ordering::Relaxed)
    }

    pub(super) fn udp_exchanges(&self) -> u64 {
        self.udp_exchanges.load(Ordering::Relaxed)
    }

    /// Payload in both directions.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload_bytes.load(Ordering::Relaxed)
    }
}

/// Lets the traffic pause between exchanges, and end early when one kind has failed.
#[derive(Debug, Default)]
struct Pace {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Pace {
    /// Waits for `pause`; false when the traffic is to end.
    fn pause(&self, pause: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, _) = self
            .changed
            .wait_timeout_while(ended, pause, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        !*ended
    }

    fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// Between two exchanges of one kind: about the rhythm of somebody who reads what they load.
const PAUSE: Duration = Duration::from_millis(120);

/// Makes traffic of every kind for `duration`, on this thread and its children. Every activity happens at least once.
pub(super) fn run(network: &dyn Network, duration: Duration, tally: &Tally) -> Result<(), CommandError> {
    let end = Instant::now() + duration;
    let pace = Pace::default();
    let results: Vec<Result<(), String>> = thread::scope(|scope| {
        let workers: Vec<_> = [Kind::Virtual, Kind::Subnet, Kind::Exit]
            .into_iter()
            .map(|kind| {
                let pace = &pace;
                scope.spawn(move || {
                    let activities = activities().into_iter().filter(|activity| activity.kind == kind);
                    let result = repeat(network, &activities.collect::<Vec<_>>(), end, pace, tally);
                    if result.is_err() {
                        pace.end();
                    }
                    result
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker.join().unwrap_or_else(|_| Err("the traffic's thread ended early".to_owned()))
            })
            .collect()
    });
    for result in results {
        result?;
    }
    Ok(())
}

fn repeat(
    network: &dyn Network,
    activities: &[Activity],
    end: Instant,
    pace: &Pace,
    tally: &Tally,
) -> Result<(), String> {
    for (round, activity) in activities.iter().cycle().enumerate() {
        if round >= activities.len() && Instant::now() >= end {
            return Ok(());
        }
        perform(network, activity, tally)
            .map_err(|error| format!("{:?} traffic to {} failed: {error}", activity.kind, activity.to))?;
        if !pace.pause(PAUSE) {
            return Ok(());
        }
    }
    Ok(())
}

fn perform(network: &dyn Network, activity: &Activity, tally: &Tally) -> Result<(), CommandError> {
    match activity.exchange {
        Exchange::Tcp { request, response } => {
            network.tcp(activity.to, request, response)?;
            tally.tcp_connections.fetch_add(1, Ordering::Relaxed);
            tally.payload_bytes.fetch_add(request + response, Ordering::Relaxed);
        }
        Exchange::Udp { size } => {
            network.udp(activity.to, size)?;
            tally.udp_exchanges.fetch_add(1, Ordering::Relaxed);
            tally.payload_bytes.fetch_add(2 * size as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}
