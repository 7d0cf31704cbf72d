//! Flow events as they are stored and sent: one JSON object each.
//!
//! Plain data. Names are in camel case; what is zero, empty or not known is left out, as in the messages of the windows.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::FlowId;
use crate::{
    flow::{
        message::{protocol, rfc3339},
        table::{Counts, is_zero},
    },
    hook::Protocol,
};

/// Something that happened to a flow.
///
/// The initiator is the source and the responder the destination, whichever of them this device is, so that both ends
/// of a tunnel tell the same. Times are `start`, which is wall-clock time, plus what passed on the monotonic clock: a
/// step of the wall clock makes no flow negative or years long.
///
/// Each event of a flow repeats all that is known by then, so the last one suffices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowEvent {
    /// The flow.
    pub id: FlowId,
    /// What happened.
    #[serde(rename = "event")]
    pub kind: FlowEventKind,
    /// Which side this device is on.
    pub role: Role,
    /// IP protocol; not written when it could not be decoded. 255 for later fragments, which have no ports and so are a
    /// flow of their own.
    #[serde(rename = "proto", with = "protocol", default, skip_serializing_if = "protocol::is_unknown")]
    pub protocol: Protocol,
    /// The initiator, inside the tunnel. Port 0 where the protocol has none.
    pub src: SocketAddr,
    /// The responder, under the same rules.
    pub dst: SocketAddr,
    /// The identifier of an ICMP echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_id: Option<u16>,
    /// The paths outside the tunnel that the flow took, at most 16, in the order of their first packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outer: Vec<OuterPath>,
    /// When the first packet was seen.
    #[serde(with = "rfc3339")]
    pub start: Timestamp,
    /// When the latest packet was seen. Not in `open`.
    #[serde(default, with = "optional_time", skip_serializing_if = "Option::is_none")]
    pub last_packet: Option<Timestamp>,
    /// When the flow ended; only in `close`. After `fin` and `rst` that is the last packet, after `idle` the end of the
    /// timeout, else the moment of closing.
    #[serde(default, with = "optional_time", skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    /// Packets and bytes with IP headers, as the initiator sees them: `tx` is from the initiator to the responder.
    /// Zero in `open`.
    #[serde(flatten)]
    pub counts: Counts,
    /// Bytes after the transport headers from the initiator to the responder. Only for protocols with ports.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tx_payload: u64,
    /// The same from the responder to the initiator.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rx_payload: u64,
    /// Why the flow ended; only in `close`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CloseReason>,
}

/// What a [`FlowEvent`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowEventKind {
    /// The first packet of a flow was seen. Left out when the worker is behind; `close` tells all of it.
    Open,
    /// The flow goes on and carried something since the event before. Left out when the worker is behind.
    Update,
    /// The flow is over.
    Close,
}

/// A side of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The side that began.
    Initiator,
    /// The side that was called.
    Responder,
}

/// Why a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloseReason {
    /// Both sides of a TCP connection closed it.
    Fin,
    /// One side of a TCP connection reset it.
    Rst,
    /// No packet came for the timeout of its kind.
    Idle,
    /// There was no room for all flows, and this one was silent for longest.
    Evicted,
    /// The flow goes on as another: its addresses and ports were used for a new connection, or it took more than 16
    /// paths.
    Split,
    /// The tunnel stopped, or its counter was replaced.
    Shutdown,
}

/// One path that a flow took outside the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterPath {
    /// This device's end, where the tunnel knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The peer's end.
    pub remote: SocketAddr,
    /// When the flow's first packet took it.
    #[serde(with = "rfc3339")]
    pub since: Timestamp,
}

impl FlowEventKind {
    /// As it stands in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Update => "update",
            Self::Close => "close",
        }
    }
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Responder => "responder",
        }
    }

    /// What the initiator counted, as this side counts it.
    pub(super) fn local_counts(self, counts: Counts) -> Counts {
        let Counts { tx_packets, tx_bytes, rx_packets, rx_bytes } = counts;
        match self {
            Self::Initiator => counts,
            Self::Responder => Counts {
                tx_packets: rx_packets,
                tx_bytes: rx_bytes,
                rx_packets: tx_packets,
                rx_bytes: tx_bytes,
            },
        }
    }
}

impl CloseReason {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Split => "split",
            Self::Shutdown => "shutdown",
        }
    }
}

impl FlowEvent {
    /// The counts as this device sees them.
    pub(in crate::flow) fn local_counts(&self) -> Counts {
        self.role.local_counts(self.counts)
    }

    /// Appends the event as JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        // Neither a Vec as the writer nor these types, which are made of texts and numbers, can fail.
        let _ = serde_json::to_writer(out, self);
    }
}

/// Times that may be missing.
mod optional_time {
    use jiff::Timestamp;
    use serde::{Deserializer, Serializer};

    use super::rfc3339;

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => rfc3339::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        rfc3339::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_camel_case_names_and_nothing_that_is_empty() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let open = FlowEvent {
            id: "000102030405060708090a0b0c0d0e0f".parse().unwrap(),
            kind: FlowEventKind::Open,
            role: Role::Initiator,
            protocol: Protocol::TCP,
            src: "100.64.0.1:50000".parse().unwrap(),
            dst: "[fd7a::2]:443".parse().unwrap(),
            icmp_id: None,
            outer: Vec::new(),
            start: time("2026-01-02T03:04:05.12Z"),
            last_packet: None,
            end: None,
            counts: Counts::default(),
            tx_payload: 0,
            rx_payload: 0,
            reason: None,
        };
        let close = FlowEvent {
            kind: FlowEventKind::Close,
            role: Role::Responder,
            protocol: Protocol::ICMPV4,
            icmp_id: Some(7),
            outer: vec![OuterPath {
                local: None,
                remote: "203.0.113.9:41641".parse().unwrap(),
                since: open.start,
            }],
            last_packet: Some(time("2026-01-02T03:04:06Z")),
            end: Some(time("2026-01-02T03:04:21Z")),
            counts: Counts { tx_packets: 1, tx_bytes: 84, rx_packets: 2, rx_bytes: 168 },
            tx_payload: 3,
            rx_payload: 4,
            reason: Some(CloseReason::Idle),
            ..open
        };
        let json = |event: &FlowEvent| {
            let mut json = Vec::new();
            event.write_json(&mut json);
            String::from_utf8(json).unwrap()
        };
        assert_eq!(
            json(&open),
            r#"{"id":"000102030405060708090a0b0c0d0e0f","event":"open","role":"initiator","proto":6,"src":"100.64.0.1:50000","dst":"[fd7a::2]:443","start":"2026-01-02T03:04:05.12Z"}"#
        );
        assert_eq!(
            json(&close),
            r#"{"id":"000102030405060708090a0b0c0d0e0f","event":"close","role":"responder","proto":1,"src":"100.64.0.1:50000","dst":"[fd7a::2]:443","icmpId":7,"outer":[{"remote":"203.0.113.9:41641","since":"2026-01-02T03:04:05.12Z"}],"start":"2026-01-02T03:04:05.12Z","lastPacket":"2026-01-02T03:04:06Z","end":"2026-01-02T03:04:21Z","txPkts":1,"txBytes":84,"rxPkts":2,"rxBytes":168,"txPayload":3,"rxPayload":4,"reason":"idle"}"#
        );
        for event in [open, close] {
            assert_eq!(serde_json::from_str::<FlowEvent>(&json(&event)).unwrap(), event);
        }
    }
}
