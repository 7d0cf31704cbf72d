//! Understanding a command, or refusing it as a whole.
//!
//! Pure functions. Nothing is guessed: a member that is not known, missing, or of the wrong type or range refuses the command,
//! because half of what somebody wanted is something else than what they wanted.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::CommandError;
use crate::client::{AtEnd, DebugRequest, StreamKind};

/// Longest command, in bytes: what push messages may have.
const MAX_BYTES: usize = 4096;
/// Longest ID, in characters: room for a UUID or the name of a case.
const MAX_ID: usize = 64;
/// How much of an unknown kind an error repeats, in characters.
const MAX_KIND: usize = 32;
/// Longest recording of socket statistics: samples are taken at up to 10 Hz while there is traffic, which is no state to leave a
/// phone in.
const MAX_SOCKET_STATS: u64 = 3600;
/// Longest window: longer than any log is kept.
const MAX_WINDOW: u64 = 366 * 24 * 3600;

/// A command that is understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Given by the sender; the same one is obeyed once.
    pub(super) id: String,
    pub(super) order: Order,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    DebugUpload(DebugRequest),
    SocketStats { duration: Duration, at_end: AtEnd },
}

impl Order {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::DebugUpload(_) => "debug_upload",
            Self::SocketStats { .. } => "socket_stats",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DebugUpload {
    #[serde(default)]
    note: String,
    streams: Option<Vec<StreamKind>>,
    window_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SocketStats {
    seconds: u64,
    #[serde(default)]
    at_end: AtEnd,
}

impl Command {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, CommandError> {
        if bytes.len() > MAX_BYTES {
            return Err(malformed(format!("it has {} bytes, and {MAX_BYTES} are the limit", bytes.len())));
        }
        // What the parser says may repeat a part of the text: where, then, is all that is told.
        let at = |error: serde_json::Error| malformed(format!("no JSON object, column {}", error.column()));
        let mut members: Map<String, Value> = serde_json::from_slice(bytes).map_err(at)?;
        let version = members.remove("v").as_ref().and_then(Value::as_u64);
        match version {
            Some(1) => {}
            Some(version) => return Err(CommandError::Version { version }),
            None => return Err(malformed("\"v\", its version, is no number")),
        }
        let mut text = |name: &str| match members.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(malformed(format!("{name:?} is no text"))),
        };
        let (kind, id) = (text("kind")?, text("id")?);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(legal) {
            return Err(malformed(format!(
                "\"id\" has other than 1 to {MAX_ID} letters, digits, '-', '_', '.' and ':'"
            )));
        }
        let rest = Value::Object(members);
        let order = match kind.as_str() {
            "debug_upload" => debug_upload(members_of(rest)?)?,
            "socket_stats" => socket_stats(members_of(rest)?)?,
            _ => return Err(CommandError::Kind { kind: printable(&kind) }),
        };
        Ok(Self { id, order })
    }
}

fn debug_upload(members: DebugUpload) -> Result<Order, CommandError> {
    let DebugUpload { note, streams, window_s } = members;
    let window = window_s.map(|seconds| in_range("window_s", seconds, MAX_WINDOW)).transpose()?;
    let streams = streams.unwrap_or_else(|| StreamKind::ALL.to_vec());
    Ok(Order::DebugUpload(DebugRequest { note, streams, window, verbose: false }))
}

fn socket_stats(members: SocketStats) -> Result<Order, CommandError> {
    let SocketStats { seconds, at_end } = members;
    Ok(Order::SocketStats { duration: in_range("seconds", seconds, MAX_SOCKET_STATS)?, at_end })
}

fn in_range(name: &str, seconds: u64, max: u64) -> Result<Duration, CommandError> {
    if seconds > max {
        return Err(malformed(format!("{name:?} is {seconds}, and {max} is the limit")));
    }
    Ok(Duration::from_secs(seconds))
}

fn members_of<T: for<'de> Deserialize<'de>>(rest: Value) -> Result<T, CommandError> {
    serde_json::from_value(rest)
        .map_err(|_| malformed("a member is missing, unknown, or of the wrong type or range"))
}

fn malformed(reason: impl Into<String>) -> CommandError {
    CommandError::Malformed { reason: reason.into() }
}

fn printable(text: &str) -> String {
    text.chars().take(MAX_KIND).map(|char| if char.is_ascii_graphic() { char } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(text: &str) -> Order {
        Command::parse(text.as_bytes()).unwrap().order
    }

    fn reason(text: &str) -> String {
        match Command::parse(text.as_bytes()) {
            Err(CommandError::Malformed { reason }) => reason,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_known_kinds_are_understood_with_and_without_what_is_optional() {
        let full = r#"{"kind":"debug_upload","v":1,"id":"a","note":"n","streams":["flows","diagnostics"],"window_s":60}"#;
        let request = DebugRequest {
            note: "n".to_owned(),
            streams: vec![StreamKind::Flows, StreamKind::Diagnostics],
            window: Some(Duration::from_secs(60)),
            verbose: false,
        };
        assert_eq!(order(full), Order::DebugUpload(request));
        assert_eq!(
            order(r#"{"v":1,"id":"a","kind":"debug_upload"}"#),
            Order::DebugUpload(DebugRequest::default())
        );
        for (at_end, expected) in [("", AtEnd::Keep), (r#","at_end":"upload""#, AtEnd::Upload)] {
            let text = format!(r#"{{"v":1,"id":"a","kind":"socket_stats","seconds":3600{at_end}}}"#);
            assert_eq!(
                order(&text),
                Order::SocketStats { duration: Duration::from_secs(3600), at_end: expected }
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_as_a_whole() {
        for bad in [
            "",
            "7",
            "[]",
            "{",
            "{\"v\":1",
            r#"{"id":"a","kind":"debug_upload"}"#,
            r#"{"v":"1","id":"a","kind":"debug_upload"}"#,
            r#"{"v":1.5,"id":"a","kind":"debug_upload"}"#,
            r#"{"v":1,"kind":"debug_upload"}"#,
            r#"{"v":1,"id":"","kind":"debug_upload"}"#,
            r#"{"v":1,"id":"a b","kind":"debug_upload"}"#,
            r#"{"v":1,"id":7,"kind":"debug_upload"}"#,
            r#"{"v":1,"id":"a","kind":["debug_upload"]}"#,
            r#"{"v":1,"id":"a","kind":"debug_upload","verbose":true}"#,
            r#"{"v":1,"id":"a","kind":"debug_upload","note":null}"#,
            r#"{"v":1,"id":"a","kind":"debug_upload","streams":"all"}"#,
            r#"{"v":1,"id":"a","kind":"debug_upload","streams":["netlog"]}"#,
            r#"{"v":1,"id":"a","kind":"debug_upload","window_s":-1}"#,
            r#"{"v":1,"id":"a","kind":"debug_upload","window_s":99999999999}"#,
            r#"{"v":1,"id":"a","kind":"socket_stats"}"#,
            r#"{"v":1,"id":"a","kind":"socket_stats","seconds":3601}"#,
            r#"{"v":1,"id":"a","kind":"socket_stats","seconds":1,"at_end":"never"}"#,
            r#"{"v":1,"id":"a","kind":"debug_upload"} {}"#,
        ] {
            reason(bad);
        }
        assert!(Command::parse(&[0xff; 10]).is_err());
        let long = format!(r#"{{"v":1,"id":"a","kind":"debug_upload","note":"{}"}}"#, "x".repeat(MAX_BYTES));
        assert!(reason(&long).contains("4096"));
        let deep = format!(r#"{{"v":1,"x":{}"#, "[".repeat(4000));
        reason(&deep);
    }

    #[test]
    fn other_versions_and_kinds_are_told_apart_from_damage() {
        let version = Command::parse(br#"{"v":2,"what":"ever"}"#);
        assert!(matches!(version, Err(CommandError::Version { version: 2 })), "{version:?}");
        let kind =
            Command::parse("{\"v\":1,\"id\":\"a\",\"kind\":\"erase\\n\u{202e}all\",\"x\":1}".as_bytes());
        let Err(CommandError::Kind { kind }) = kind else { panic!("{kind:?}") };
        assert_eq!(kind, "erase??all");
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics_and_is_never_repeated(text in "\\PC{0,40}") {
            let quoted = serde_json::to_string(&text).unwrap();
            let command = format!(r#"{{"v":1,"id":{quoted},"kind":"debug_upload","note":{quoted},"{}":1}}"#, "canary-xyz");
            let error = Command::parse(command.as_bytes()).unwrap_err().to_string();
            prop_assert!(!error.contains("canary-xyz"), "{}", error);
            let _ = Command::parse(text.as_bytes());
        }
    }
}
