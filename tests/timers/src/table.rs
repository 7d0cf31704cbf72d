//! The scenarios that say what timers cost a device.

use std::time::Duration;

use crate::{EngineNode, Polled, Report, Scenario, simulate};

/// One scenario with both sorts of nodes.
#[derive(Debug)]
pub struct Row {
    /// What happens.
    pub name: &'static str,
    /// boringtun alone, refreshed every 250 ms.
    pub polled: Report,
    /// tuntrail's engine.
    pub engine: Report,
}

/// All of them, in order: one request; 10 packets a second for 10 minutes; a one-way upload; a request per minute on a
/// slow path; keepalives. All but the slow path go on for an hour after the last packet.
pub fn table() -> Vec<Row> {
    let (hour, rtt) = (Duration::from_secs(3600), Duration::from_millis(20));
    let second = Duration::from_secs(1);
    let upload = Scenario::regular(Duration::from_millis(500), 1200, false, rtt / 2, hour);
    let slow = Scenario::regular(Duration::from_secs(60), 60, true, Duration::from_millis(300), second);
    let mut kept = Scenario::regular(rtt, 1, true, rtt / 2, hour);
    kept.keepalive = Some(25);
    let scenarios = [
        ("one request, then an hour of rest", Scenario::regular(rtt, 1, true, rtt / 2, hour)),
        (
            "10 packets/s for 10 min, answered, then an hour of rest",
            Scenario::regular(Duration::from_millis(100), 6000, true, rtt / 2, hour),
        ),
        ("one-way upload, 2 packets/s for 10 min, then an hour of rest", upload),
        ("one request a minute for an hour, 600 ms round trip", slow),
        ("keepalive every 25 s, an hour of rest", kept),
    ];
    let row = |(name, scenario): (_, Scenario)| Row {
        name,
        polled: simulate::<Polled>(&scenario),
        engine: simulate::<EngineNode>(&scenario),
    };
    scenarios.into_iter().map(row).collect()
}
