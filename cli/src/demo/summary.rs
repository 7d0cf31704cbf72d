//! What the demo says at its end: what was carried, counted, written, sent and received, and whether it adds up.

use std::fmt;

use serde::Serialize;
use tuntrail::flow::{ConnectionCounts, session::AccessSession};

use super::{bug::BugReport, live::endpoint, outage::Attempt};
use crate::text;

/// One number per traffic class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct PerClass {
    pub(super) r#virtual: u64,
    pub(super) subnet: u64,
    pub(super) exit: u64,
    pub(super) physical: u64,
}

/// Records by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Records {
    /// One per window.
    pub(super) windows: u64,
    /// A flow's beginning or end.
    pub(super) flow_events: u64,
    /// Access sessions.
    pub(super) sessions: u64,
}

impl Records {
    pub(super) fn total(self) -> u64 {
        self.windows + self.flow_events + self.sessions
    }
}

/// The result of the demo. Bytes are bytes; counts cover both nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Whether nothing was lost, every class was seen, and the counters agree with the tunnels.
    pub(super) ok: bool,
    /// `userspace` or `kernel`: whose TCP/IP made the traffic.
    pub(super) traffic_by: &'static str,
    /// From start to end, uploads included.
    pub(super) seconds: f64,
    pub(super) tcp_connections: u64,
    pub(super) udp_exchanges: u64,
    /// What the programs sent and received, without any headers.
    pub(super) payload_bytes: u64,
    /// What the tunnels say they carried: bytes of inner IP packets, in both directions.
    pub(super) carried_bytes: u64,
    /// What the records at the server add up to: must equal `carried_bytes`.
    pub(super) counted_bytes: u64,
    /// Distinct flows in the records at the server. Anonymised exit flows are counted as the rows that are left of them.
    pub(super) flows: PerClass,
    /// Bytes per class in the records at the server.
    pub(super) bytes: PerClass,
    pub(super) records_written: u64,
    /// Just before the upload.
    pub(super) bytes_on_disk: u64,
    /// HTTP requests.
    pub(super) uploads: u64,
    /// Size of the request bodies as sent, compressed.
    pub(super) upload_bytes: u64,
    pub(super) records_received: u64,
    /// Which kinds these are of.
    pub(super) records: Records,
    /// Flows whose beginning or end did not arrive.
    pub(super) unbalanced_flows: u64,
    pub(super) duplicates: u64,
    /// Still on disk after the upload.
    pub(super) records_waiting: u64,
    /// Dropped and reported.
    pub(super) records_dropped: u64,
    /// Written, but neither received nor waiting nor reported as dropped.
    pub(super) records_lost: u64,
    /// The exit traffic of the phone as the server knows it.
    pub(super) exit_rows: Vec<ConnectionCounts>,
    /// The phone's use of resources, as the server knows it.
    pub(super) sessions: Vec<AccessSession>,
    /// Uploads while the server was in trouble, if it was asked to be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) outage: Vec<Attempt>,
    /// The debug upload, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bug: Option<BugReport>,
    /// Where the store was kept, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kept_in: Option<String>,
}

impl Summary {
    /// What does not add up, in words.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |fine: bool, problem: String| {
            if !fine {
                problems.push(problem);
            }
        };
        check(self.records_lost == 0, format!("{} records were lost", self.records_lost));
        check(self.records_dropped == 0, format!("{} records were dropped", self.records_dropped));
        check(self.records_waiting == 0, format!("{} records were not sent", self.records_waiting));
        check(
            self.counted_bytes == self.carried_bytes,
            format!("{} bytes were carried, but {} counted", self.carried_bytes, self.counted_bytes),
        );
        let PerClass { r#virtual, subnet, exit, physical } = self.flows;
        check(
            self.unbalanced_flows == 0,
            format!("{} flows have no beginning or no end", self.unbalanced_flows),
        );
        let Records { windows, flow_events, sessions } = self.records;
        for (kind, records) in [("window", windows), ("flow", flow_events), ("session", sessions)] {
            check(records > 0, format!("no {kind} record arrived at the server"));
        }
        for (class, flows) in
            [("virtual", r#virtual), ("subnet", subnet), ("exit", exit), ("physical", physical)]
        {
            check(flows > 0, format!("no {class} flow arrived at the server"));
        }
        if let Some(BugReport { found: false, marker, collection, .. }) = &self.bug {
            problems.push(format!("{marker} is not in {collection}"));
        }
        problems.extend(self.outage.iter().filter_map(|attempt| attempt.problem.clone()));
        problems
    }
}

/// A glimpse is enough.
const SESSIONS_SHOWN: usize = 5;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<18}{value}");
        line(
            "traffic",
            format!(
                "{} TCP connections, {} UDP exchanges, {} of payload in {:.1} s",
                self.tcp_connections,
                self.udp_exchanges,
                text::bytes(self.payload_bytes),
                self.seconds
            ),
        )?;
        line(
            "counted",
            format!("{} of {} bytes that the tunnels carried", self.counted_bytes, self.carried_bytes),
        )?;
        for (index, (class, flows, bytes)) in [
            ("virtual", self.flows.r#virtual, self.bytes.r#virtual),
            ("subnet", self.flows.subnet, self.bytes.subnet),
            ("exit", self.flows.exit, self.bytes.exit),
            ("physical", self.flows.physical, self.bytes.physical),
        ]
        .into_iter()
        .enumerate()
        {
            let name = if index == 0 { "flows" } else { "" };
            line(name, format!("{class:<9}{flows:>6}   {:>10}", text::bytes(bytes)))?;
        }
        line("records written", self.records_written.to_string())?;
        line("bytes on disk", text::bytes(self.bytes_on_disk))?;
        line("uploads", format!("{} ({} compressed)", self.uploads, text::bytes(self.upload_bytes)))?;
        let Records { windows, flow_events, sessions } = self.records;
        line(
            "records received",
            format!(
                "{}: {windows} windows, {flow_events} flow events, {sessions} sessions ({} duplicates)",
                self.records_received, self.duplicates
            ),
        )?;
        line("records lost", self.records_lost.to_string())?;
        if let Some(BugReport { marker, collection, log, note, .. }) = &self.bug {
            line("debug upload", marker.clone())?;
            line("", format!("{note:?}, in {collection}, log {log}"))?;
        }
        if let Some(place) = &self.kept_in {
            line("records kept in", place.clone())?;
        }
        writeln!(f)?;
        writeln!(f, "Who used which resource (the first of {} sessions):", self.sessions.len())?;
        let rows = self.sessions.iter().take(SESSIONS_SHOWN).map(|session| {
            [
                session.resource_id.0.to_string(),
                session.protocol.to_string(),
                session.source_addr.to_string(),
                session.dest_addr.to_string(),
                session.connections().to_string(),
                session.bytes_tx.to_string(),
                session.bytes_rx.to_string(),
            ]
        });
        let header = ["resource", "proto", "source", "destination", "connections", "sent", "received"];
        writeln!(f, "{}", text::table(header, rows.collect(), 4))?;
        writeln!(f)?;
        writeln!(
            f,
            "All that is known of the phone's exit traffic (destination, port and protocol are never recorded):"
        )?;
        let rows = self.exit_rows.iter().map(|row| {
            [
                endpoint(row.src),
                endpoint(row.dst),
                row.counts.tx_packets.to_string(),
                row.counts.rx_packets.to_string(),
                row.counts.tx_bytes.to_string(),
                row.counts.rx_bytes.to_string(),
            ]
        });
        let header = ["src", "dst", "packets sent", "packets received", "bytes sent", "bytes received"];
        let table = text::table(header, rows.collect(), 2);
        writeln!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            ok: true,
            traffic_by: "userspace",
            seconds: 9.5,
            tcp_connections: 3,
            udp_exchanges: 2,
            payload_bytes: 1000,
            carried_bytes: 2000,
            counted_bytes: 2000,
            flows: PerClass { r#virtual: 1, subnet: 2, exit: 3, physical: 4 },
            bytes: PerClass::default(),
            records_written: 5,
            bytes_on_disk: 600,
            uploads: 1,
            upload_bytes: 300,
            records_received: 5,
            records: Records { windows: 2, flow_events: 2, sessions: 1 },
            unbalanced_flows: 0,
            duplicates: 0,
            records_waiting: 0,
            records_dropped: 0,
            records_lost: 0,
            exit_rows: Vec::new(),
            sessions: Vec::new(),
            outage: Vec::new(),
            bug: None,
            kept_in: None,
        }
    }

    #[test]
    fn a_summary_that_adds_up_has_no_problems() {
        assert_eq!(summary().problems(), Vec::<String>::new());
    }

    #[test]
    fn every_discrepancy_is_named() {
        let bad = Summary { counted_bytes: 1999, records_lost: 1, flows: PerClass::default(), ..summary() };
        let problems = bad.problems().join("; ");
        for part in ["1 records were lost", "2000 bytes were carried, but 1999", "no virtual", "no physical"]
        {
            assert!(problems.contains(part), "{part} is missing in: {problems}");
        }
    }
}
