//! A stored entry, as its readers get it.

use jiff::Timestamp;

use crate::json;

/// One stored entry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The stream that holds it: a public ID, 64 lower-case hexadecimal digits.
    pub public_id: String,
    /// The stream it was uploaded to; differs from `public_id` in copies made for a `copyId`.
    pub writer: String,
    /// The process that wrote it, if it said so.
    pub proc_id: Option<u32>,
    /// Its number among that process's entries, if it said so. A gap means a lost entry.
    pub proc_seq: Option<u64>,
    /// The client's time as the client spelled it.
    pub client_time: Option<String>,
    /// When the server received it.
    pub server_time: Timestamp,
    /// The JSON text of `logtail.error`: what the client reported, or what was wrong with the input.
    pub error: Option<String>,
    /// The JSON text of the object that the client sent, without its `logtail` member, otherwise unchanged
    /// but for white space between members and line breaks.
    pub payload: String,
}

impl Entry {
    /// The entry as queries answer it: one line of JSON, the payload's members after a `logtail` member with
    /// what the client and the server know about it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let client_time = self.client_time.as_deref().map(json::quote);
        let proc_id = self.proc_id.map(|id| id.to_string());
        let proc_seq = self.proc_seq.map(|seq| seq.to_string());
        let server_time = json::quote(&self.server_time.to_string());
        let id = json::quote(&self.writer);
        let members = [
            ("client_time", client_time.as_deref()),
            ("proc_id", proc_id.as_deref()),
            ("proc_seq", proc_seq.as_deref()),
            ("error", self.error.as_deref()),
            ("id", Some(id.as_str())),
            ("server_time", Some(server_time.as_str())),
        ];
        let logtail = json::object(members.into_iter().filter_map(|(name, value)| Some((name, value?))));
        match self.payload.strip_prefix('{') {
            Some(rest) if rest != "}" => format!("{{\"logtail\":{logtail},{rest}"),
            _ => format!("{{\"logtail\":{logtail}}}"),
        }
    }

    /// The bytes it takes in an answer, about.
    pub(crate) fn weight(&self) -> usize {
        // 200 bytes hold the logtail member without its error.
        self.payload.len() + self.error.as_ref().map_or(0, String::len) + 200
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_answered_with_what_client_and_server_know() {
        let entry = Entry {
            public_id: "aa".into(),
            writer: "bb".into(),
            proc_id: Some(7),
            proc_seq: Some(1),
            client_time: Some("2026-01-02T03:04:05.6789Z".into()),
            server_time: Timestamp::UNIX_EPOCH,
            error: Some("{\"detail\":\"d\"}".into()),
            payload: "{\"text\":\"x\"}".into(),
        };
        assert_eq!(
            entry.to_json(),
            concat!(
                r#"{"logtail":{"client_time":"2026-01-02T03:04:05.6789Z","proc_id":7,"proc_seq":1,"#,
                r#""error":{"detail":"d"},"id":"bb","server_time":"1970-01-01T00:00:00Z"},"text":"x"}"#
            )
        );
        let bare = Entry {
            client_time: None,
            proc_id: None,
            proc_seq: None,
            error: None,
            payload: "{}".into(),
            ..entry
        };
        assert_eq!(bare.to_json(), r#"{"logtail":{"id":"bb","server_time":"1970-01-01T00:00:00Z"}}"#);
    }
}
