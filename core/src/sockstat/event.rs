//! One event: what moved in one interval.

use std::{collections::BTreeMap, io::Write};

use super::Label;

/// Payload bytes in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// Sent.
    pub tx: u64,
    /// Received.
    pub rx: u64,
}

impl Bytes {
    pub(super) const fn is_zero(self) -> bool {
        self.tx == 0 && self.rx == 0
    }
}

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        self.tx = self.tx.saturating_add(other.tx);
        self.rx = self.rx.saturating_add(other.rx);
    }
}

/// What moved in one interval, per label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketEvent {
    /// Wall-clock time of the first change, in milliseconds since the epoch. For an event of a flush or of the end in
    /// which only changes are that arm nothing: the time of the event before it.
    pub start_ms: i64,
    /// From `start_ms` to the sample, in milliseconds of the monotonic clock: 100, or more after a suspend or on a busy
    /// device, or less for a flush.
    pub duration_ms: u64,
    /// Whether the device's traffic goes over a cellular network.
    pub cellular: bool,
    /// Labels with changes, never empty: bytes since the event before this one.
    pub bytes: BTreeMap<Label, Bytes>,
}

impl SocketEvent {
    /// Appends the event as one JSON object: Tailscale's schema and order of members, with labels sorted as strings.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut rows: Vec<_> =
            self.bytes.iter().map(|(label, bytes)| (label.number().to_string(), bytes)).collect();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        // Writing into a vector can't fail.
        let _ = write!(out, "{{\"t\":{},\"d\":{},", self.start_ms, self.duration_ms);
        if self.cellular {
            out.extend_from_slice(b"\"c\":1,");
        }
        out.extend_from_slice(b"\"s\":{");
        for (index, (label, Bytes { tx, rx })) in rows.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(out, "{comma}\"{label}\":[{tx},{rx}]");
        }
        out.extend_from_slice(b"}}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(start_ms: i64, duration_ms: u64, cellular: bool, rows: &[(u16, u64, u64)]) -> String {
        let bytes = rows.iter().map(|&(label, tx, rx)| (label_of(label), Bytes { tx, rx })).collect();
        let mut out = Vec::new();
        SocketEvent { start_ms, duration_ms, cellular, bytes }.write_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn label_of(number: u16) -> Label {
        match number {
            3 => Label::LOGTAIL_LOGGER,
            8 => Label::MAGICSOCK_CONN_UDP4,
            10 => Label::NETLOG_LOGGER,
            12 => Label::DNS_FORWARDER_TCP,
            _ => Label::app(number).unwrap(),
        }
    }

    #[test]
    fn an_event_is_upstreams_text() {
        for (made, expected) in [
            (
                json(1_700_000_000_123, 100, false, &[(8, 148, 92)]),
                r#"{"t":1700000000123,"d":100,"s":{"8":[148,92]}}"#,
            ),
            (
                json(1_700_000_000_123, 100, true, &[(8, 0, 32)]),
                r#"{"t":1700000000123,"d":100,"c":1,"s":{"8":[0,32]}}"#,
            ),
            // Labels are sorted as strings, as a Go map's keys are.
            (
                json(
                    5,
                    101,
                    false,
                    &[(3, 1, 2), (8, 3, 4), (10, 5, 6), (12, 7, 8), (64, 9, 10), (300, 11, 12)],
                ),
                r#"{"t":5,"d":101,"s":{"10":[5,6],"12":[7,8],"3":[1,2],"300":[11,12],"64":[9,10],"8":[3,4]}}"#,
            ),
            (
                json(-1, 0, false, &[(64, u64::MAX, 0)]),
                r#"{"t":-1,"d":0,"s":{"64":[18446744073709551615,0]}}"#,
            ),
        ] {
            assert_eq!(made, expected);
            serde_json::from_str::<serde_json::Value>(&made).unwrap();
        }
    }
}
