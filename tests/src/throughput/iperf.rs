//! One TCP stream by iperf3.

use std::{net::IpAddr, process::Command, time::Duration};

use serde::Deserialize;

use crate::net::{NetError, Pair, Process, Side};

/// How iperf3 is got.
const INSTALL: &str = "apt-get install iperf3";
/// Connecting and the exchange of results take well under this.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server's end, waiting for one client.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    address: IpAddr,
}

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Received {
    pub(super) bytes: f64,
    pub(super) bits_per_second: f64,
}

#[derive(Deserialize)]
struct Output {
    end: End,
}

#[derive(Deserialize)]
struct End {
    sum_received: Received,
}

impl Server {
    /// Starts on the right side, at its address in the tunnel.
    pub(super) fn start(pair: &Pair) -> Result<Self, NetError> {
        let address = Side::Right.inner_v4();
        let mut command = Command::new("iperf3");
        command.args(["--server", "--one-off", "--forceflush", "--bind", &address.to_string()]);
        let process = Process::start(pair.host(Side::Right), command, INSTALL)?;
        process.wait_for("Server listening", 1, PATIENCE)?;
        Ok(Self { process, address })
    }

    /// Sends from the left side for `duration`.
    pub(super) fn measure(self, pair: &Pair, duration: Duration) -> Result<Received, NetError> {
        let seconds = duration.as_secs().to_string();
        let mut command = Command::new("iperf3");
        command.args(["--client", &self.address.to_string(), "--time", &seconds, "--json"]);
        let client = Process::start(pair.host(Side::Left), command, INSTALL)?;
        let text = client.finish(duration + PATIENCE)?;
        drop(self.process);
        parse(&text).ok_or(NetError::Unreadable { source_name: "iperf3", text })
    }
}

fn parse(text: &str) -> Option<Received> {
    let output: Output = serde_json::from_str(text).ok()?;
    Some(output.end.sum_received).filter(|received| received.bytes > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_is_read_and_nothing_is_no_result() {
        let text = |bytes: u64| {
            format!(
                r#"{{"end":{{"sum_sent":{{}},"sum_received":{{"bytes":{bytes},"bits_per_second":8e6}}}}}}"#
            )
        };
        assert_eq!(parse(&text(1_000_000)), Some(Received { bytes: 1e6, bits_per_second: 8e6 }));
        assert_eq!(parse(&text(0)), None);
        assert_eq!(parse(r#"{"error":"unable to connect"}"#), None);
    }
}
