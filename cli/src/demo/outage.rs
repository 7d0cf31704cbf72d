//! `--outage`: a log server that is down, slow, rejecting, and back again, while the nodes go on recording.

use std::{fmt, time::Duration};

use serde::Serialize;
use tuntrail::upload::{UploadOutcome, UploadReport};
use tuntrail_logserver::{Fault, Times};

use super::server::LogServer;
use crate::CommandError;

/// How long a node waits for an answer in this demo: shorter than the product's 45 s, so that it ends today.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node waits between two attempts of one upload in this demo, at most.
pub(super) const MAX_WAIT: Duration = Duration::from_millis(300);

/// What is wrong with the server, in the order of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ServerState {
    /// Its port is closed.
    Down,
    /// It answers too late once, then loses an answer after it has stored the records, then works.
    Slow,
    /// It asks for an hour's patience once, then refuses everybody.
    Rejecting,
    /// Nothing.
    Back,
}

impl ServerState {
    pub(super) const ALL: [Self; 4] = [Self::Down, Self::Slow, Self::Rejecting, Self::Back];

    /// Puts `server` into this state.
    pub(super) fn impose(self, server: &mut LogServer) -> Result<(), CommandError> {
        let status = |code, retry_after: Option<&str>, body: &str| Fault::Status {
            code,
            retry_after: retry_after.map(str::to_owned),
            body: body.to_owned(),
        };
        let faults = match self {
            Self::Down => {
                server.stop();
                return Ok(());
            }
            Self::Slow => {
                vec![(Fault::Slow(4 * REQUEST_TIMEOUT), Times::ONCE), (Fault::LostResponse, Times::ONCE)]
            }
            Self::Rejecting => vec![
                (status(429, Some("3600"), "too many requests"), Times::ONCE),
                (status(403, None, "this device is not registered"), Times::Forever),
            ],
            Self::Back => Vec::new(),
        };
        server.restart()?;
        for (fault, times) in faults {
            server.get().inject(fault, times)?;
        }
        Ok(())
    }
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Down => "down",
            Self::Slow => "slow",
            Self::Rejecting => "rejecting",
            Self::Back => "back",
        })
    }
}

/// One node's upload while the server was in a state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Attempt {
    pub(super) server: ServerState,
    pub(super) node: &'static str,
    /// What ended the upload, in words.
    pub(super) outcome: String,
    pub(super) requests: u64,
    pub(super) records_sent: u64,
    /// Compressed.
    pub(super) bytes_sent: u64,
    /// Kept on disk.
    pub(super) records_waiting: u64,
    /// What should have come of it, if something else did.
    #[serde(skip)]
    pub(super) problem: Option<String>,
}

impl Attempt {
    pub(super) fn new(server: ServerState, node: &'static str, report: &UploadReport) -> Self {
        let fine = match server {
            ServerState::Down => {
                matches!(report.outcome, UploadOutcome::Unreachable { .. }) && report.sent_records == 0
            }
            ServerState::Slow | ServerState::Back => {
                report.outcome == UploadOutcome::Complete && report.remaining_records == 0
            }
            ServerState::Rejecting => {
                let expected = matches!(
                    report.outcome,
                    UploadOutcome::RetryLater { .. } | UploadOutcome::Unauthorized { .. }
                );
                expected && report.sent_records == 0
            }
        };
        Self {
            server,
            node,
            outcome: report.outcome.to_string(),
            requests: report.attempts,
            records_sent: report.sent_records,
            bytes_sent: report.sent_bytes,
            records_waiting: report.remaining_records,
            problem: (!fine)
                .then(|| format!("with the server {server}, {node}'s upload ended so: {}", report.outcome)),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  server {:<11}{:<8}{:>4} requests{:>6} sent{:>6} waiting   {}",
            self.server, self.node, self.requests, self.records_sent, self.records_waiting, self.outcome
        )
    }
}
