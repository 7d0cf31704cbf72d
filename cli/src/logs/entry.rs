//! One entry of a stream, whatever it was read from: the line as an upload sends it, and what it says.
//!
//! What an entry is follows from its members, since collections are named by the server's operator. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tuntrail::{
    flow::{FlowEvent, Message, session::AccessSession},
    store::{DropReport, drop_reports},
};

/// Digits of a log's ID. What is longer is none, and not worth keeping.
const LOG_ID: usize = 64;

/// An entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The stream's name in a store, or the collection at a server.
    pub(crate) stream: String,
    /// The log at a server; empty in a store or an export, which are of one log.
    pub(crate) log: String,
    pub(crate) proc_id: Option<u32>,
    pub(crate) proc_seq: Option<u64>,
    pub(crate) client_time: Option<Timestamp>,
    /// JSON without line end.
    pub(crate) line: String,
    pub(crate) body: Body,
}

/// What an entry says.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Window(Box<Message>),
    Flow(Box<FlowEvent>),
    Session(AccessSession),
    Sockets(Sockets),
    Drops(Vec<DropReport>),
    LostSessions(LostSessions),
    /// A line of our own log, or the record of a debug upload.
    Log(LogLine),
    /// Something of another program or a later version; it is shown as it is.
    Other,
}

/// Socket statistics of one interval.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Sockets {
    /// Milliseconds since 1970.
    #[serde(rename = "t")]
    pub(crate) start_ms: i64,
    #[serde(rename = "d", default)]
    pub(crate) duration_ms: u64,
    #[serde(rename = "c", default)]
    cellular: u8,
    /// By label: sent, received.
    #[serde(rename = "s")]
    pub(crate) bytes: BTreeMap<u16, (u64, u64)>,
}

impl Sockets {
    pub(crate) fn is_cellular(&self) -> bool {
        self.cellular != 0
    }

    pub(crate) fn start(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.start_ms).ok()
    }
}

/// Sessions that were given up before they were recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LostSessions {
    pub(crate) dropped_sessions: u64,
    #[serde(default)]
    pub(crate) dropped_bytes: u64,
}

/// A line of our own log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct LogLine {
    time: Option<String>,
    pub(crate) severity: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) target: String,
    /// Further members as they came, without those that all entries have.
    #[serde(flatten)]
    pub(crate) rest: serde_json::Map<String, serde_json::Value>,
}

/// The members that tell what an entry is.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(default)]
    logtail: Envelope,
    #[serde(borrow, default)]
    tuntrail: Option<&'a RawValue>,
    #[serde(rename = "sessionId")]
    session: Option<IgnoredAny>,
    #[serde(rename = "droppedSessions")]
    lost_sessions: Option<IgnoredAny>,
    event: Option<IgnoredAny>,
    start: Option<IgnoredAny>,
    s: Option<IgnoredAny>,
    severity: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Envelope {
    client_time: Option<String>,
    proc_id: Option<u32>,
    proc_seq: Option<u64>,
    #[serde(default)]
    id: String,
}

impl Entry {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// If it is no JSON object.
    pub(crate) fn parse(stream: &str, line: &str) -> Result<Self, serde_json::Error> {
        let members: Members<'_> = serde_json::from_str(line)?;
        let Members { logtail, tuntrail, session, lost_sessions, event, start, s, severity } = members;
        let body = if let Some(report) = tuntrail {
            match drop_reports(report.get().as_bytes()) {
                // Nothing that this version knows; shown as it is.
                reports if reports.is_empty() => Body::Other,
                reports => Body::Drops(reports),
            }
        } else if session.is_some() {
            serde_json::from_str(line).map_or(Body::Other, Body::Session)
        } else if lost_sessions.is_some() {
            serde_json::from_str(line).map_or(Body::Other, Body::LostSessions)
        } else if event.is_some() {
            serde_json::from_str(line).map_or(Body::Other, |flow| Body::Flow(Box::new(flow)))
        } else if start.is_some() {
            serde_json::from_str(line).map_or(Body::Other, |window| Body::Window(Box::new(window)))
        } else if s.is_some() {
            serde_json::from_str(line).map_or(Body::Other, Body::Sockets)
        } else if severity.is_some() {
            serde_json::from_str(line).map_or(Body::Other, |line: LogLine| Body::Log(line.without_envelope()))
        } else {
            Body::Other
        };
        Ok(Self {
            stream: stream.to_owned(),
            log: logtail.id.chars().take(LOG_ID).collect(),
            proc_id: logtail.proc_id,
            proc_seq: logtail.proc_seq,
            client_time: logtail.client_time.and_then(|time| time.parse().ok()),
            line: line.to_owned(),
            body,
        })
    }
}

impl LogLine {
    pub(crate) fn time(&self) -> Option<Timestamp> {
        self.time.as_ref()?.parse().ok()
    }

    fn without_envelope(mut self) -> Self {
        self.rest.remove("logtail");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_entry_is_told_by_its_members() {
        let kind = |line: &str| match Entry::parse("any", line).unwrap().body {
            Body::Window(_) => "window",
            Body::Flow(_) => "flow",
            Body::Session(_) => "session",
            Body::Sockets(_) => "sockets",
            Body::Drops(drops) if drops.len() == 1 => "drops",
            Body::Drops(_) => "more drops",
            Body::LostSessions(_) => "lost",
            Body::Log(_) => "log",
            Body::Other => "other",
        };
        for (line, expected) in [
            (r#"{"nodeId":"n1","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z"}"#, "window"),
            (
                r#"{"id":"000102030405060708090a0b0c0d0e0f","event":"open","role":"initiator","src":"100.64.0.1:5","dst":"100.64.0.2:443","start":"2026-01-02T03:04:05Z"}"#,
                "flow",
            ),
            (
                r#"{"sessionId":"9f86d081884c7d65","resourceId":2,"sourceAddr":"100.64.0.1","destAddr":"10.20.0.5:22","protocol":"tcp","startedAt":"2026-01-02T03:04:05Z","endedAt":"2026-01-02T03:04:11Z"}"#,
                "session",
            ),
            (r#"{"t":1700000000123,"d":100,"c":1,"s":{"8":[148,92]}}"#, "sockets"),
            (
                r#"{"logtail":{"proc_id":7,"proc_seq":3},"tuntrail":{"drops":[{"reason":"rotation","records":2,"bytes":3}]}}"#,
                "drops",
            ),
            (r#"{"tuntrail":{"drops":[{"reason":"of a later version","records":2,"bytes":3}]}}"#, "other"),
            (r#"{"droppedSessions":3}"#, "lost"),
            (
                r#"{"time":"2026-01-02T03:04:05Z","severity":"INFO","message":"upload ended","target":"t","sent":12}"#,
                "log",
            ),
            (r#"{"severity":"INFO"}"#, "other"),
            (r#"{"text":"hello"}"#, "other"),
            (r#"{"start":"not a time"}"#, "other"),
        ] {
            assert_eq!(kind(line), expected, "{line}");
        }
        assert!(Entry::parse("any", "[1]").is_err());
        assert!(Entry::parse("any", "{\"a\":").is_err());
    }

    #[test]
    fn the_envelope_is_read_also_where_a_server_adds_to_it() {
        let line = r#"{"logtail":{"client_time":"2026-01-02T03:04:10.12Z","proc_id":2546809706,"proc_seq":8,"id":"ab","server_time":"2026-01-02T03:05:00Z"},"text":"x"}"#;
        let entry = Entry::parse("c", line).unwrap();
        assert_eq!((entry.proc_id, entry.proc_seq, entry.log.as_str()), (Some(2_546_809_706), Some(8), "ab"));
        assert_eq!(entry.client_time.unwrap().to_string(), "2026-01-02T03:04:10.12Z");
    }
}
