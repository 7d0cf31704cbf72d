//! From the body of an upload to the entries to store.
//!
//! A body is one object or an array of objects. Nothing that arrives is thrown away: what cannot be stored as
//! it came is stored as a `logtail.error`, and the client is told (400).

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::json::{self, Members};

/// The most bytes of bad data kept in an error: what the client-side protocol keeps of an entry that is too
/// long, a sixth of the longest entry, so that it fits even if each byte needs an escape of six.
const MAX_BAD_DATA: usize = 256 * 1024 / 6;

/// One entry, ready to store.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct NewEntry {
    /// Which process wrote it, if the client said so.
    pub(crate) proc_id: Option<u32>,
    /// Its number among the process's entries, from 0 to `i64::MAX`, if the client said so.
    pub(crate) proc_seq: Option<i64>,
    /// The client's time as the client spelled it, and what it means.
    pub(crate) client_time: Option<(String, Timestamp)>,
    /// The JSON text of `logtail.error`.
    pub(crate) error: Option<String>,
    /// The JSON text of the object without its `logtail` member, on one line.
    pub(crate) payload: String,
}

/// What a body holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<NewEntry>,
    /// What is wrong with the body, for the client; the entries are to be stored all the same.
    pub(crate) complaint: Option<String>,
}

/// The body has more entries than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyEntries(pub(crate) usize);

impl Batch {
    /// The entries of `body`, of which there may be `max_entries`.
    pub(crate) fn parse(body: &[u8], max_entries: usize) -> Result<Self, TooManyEntries> {
        let text = match str::from_utf8(body) {
            Ok(text) => text,
            Err(error) => {
                return Ok(Self::unusable(
                    &format!("body is not UTF-8: {error}"),
                    Some(&String::from_utf8_lossy(body)),
                ));
            }
        };
        let elements: Result<Vec<&RawValue>, _> = if text.trim_ascii_start().starts_with('[') {
            serde_json::from_str(text)
        } else {
            serde_json::from_str(text).map(|single| vec![single])
        };
        let elements = match elements {
            Ok(elements) => elements,
            Err(error) => return Ok(Self::unusable(&format!("body is not JSON: {error}"), Some(text))),
        };
        if elements.len() > max_entries {
            return Err(TooManyEntries(elements.len()));
        }

        let mut complaints = Complaints::default();
        let entries = elements
            .into_iter()
            .enumerate()
            .map(|(index, element)| {
                let (entry, complaint) = parse_element(element);
                complaints.add(index, complaint);
                entry
            })
            .collect();
        Ok(Self { entries, complaint: complaints.summary() })
    }

    /// A body of which nothing can be used: one entry that says so.
    pub(crate) fn unusable(detail: &str, bad_data: Option<&str>) -> Self {
        let bad_data = bad_data.map(|text| json::quote(&json::shorten(text, MAX_BAD_DATA)));
        Self { entries: vec![error_entry(detail, bad_data.as_deref())], complaint: Some(detail.to_owned()) }
    }
}

/// The first complaint and the number of those after it: a thousand of the same help nobody.
#[derive(Default)]
struct Complaints {
    first: Option<String>,
    more: usize,
}

impl Complaints {
    fn add(&mut self, index: usize, complaint: Option<String>) {
        match (complaint, &self.first) {
            (None, _) => {}
            (Some(complaint), None) => self.first = Some(format!("entry {index} {complaint}")),
            (Some(_), Some(_)) => self.more += 1,
        }
    }

    fn summary(self) -> Option<String> {
        match (self.first, self.more) {
            (Some(first), more @ 1..) => Some(format!("{first} (and {more} more bad entries)")),
            (first, _) => first,
        }
    }
}

/// The entry to store for one element, and what is wrong with it.
fn parse_element(element: &RawValue) -> (NewEntry, Option<String>) {
    let refuse = |complaint: String| {
        let bad_data = json::quote(&json::shorten(element.get(), MAX_BAD_DATA));
        (error_entry(&format!("entry {complaint}"), Some(&bad_data)), Some(complaint))
    };
    if !element.get().starts_with('{') {
        return refuse("is not an object".to_owned());
    }
    if let Err(unsound) = json::check(element) {
        return refuse(unsound.to_string());
    }
    let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(element.get()) else {
        return refuse("is not an object".to_owned());
    };

    let payload = json::object(
        members
            .iter()
            .filter(|(name, _)| name != "logtail")
            .map(|(name, value)| (name.as_str(), value.get())),
    );
    let mut entry = NewEntry { payload, ..NewEntry::default() };
    let complaint = members
        .iter()
        .find(|(name, _)| name == "logtail")
        .and_then(|(_, logtail)| read_logtail(logtail, &mut entry));
    (entry, complaint)
}

/// Takes what is known from the reserved member into `entry`; the rest goes to `logtail.error`.
///
/// The published description of the protocol lets clients set `client_time` only. Its own clients also send
/// `proc_id`, `proc_seq` and `error`, without which entries could be neither counted nor de-duplicated, so
/// these are accepted too.
fn read_logtail(logtail: &RawValue, entry: &mut NewEntry) -> Option<String> {
    let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(logtail.get()) else {
        let complaint = "has a logtail member that is not an object";
        entry.error = Some(error_object(complaint, Some(logtail.get())));
        return Some(complaint.to_owned());
    };

    let mut rejected: Vec<(&str, &str)> = Vec::new();
    let mut error = None;
    for (name, value) in &members {
        let value = value.get();
        let known = match name.as_str() {
            "client_time" => {
                entry.client_time = parse_time(value);
                entry.client_time.is_some()
            }
            "proc_id" => {
                entry.proc_id = serde_json::from_str(value).ok();
                entry.proc_id.is_some()
            }
            "proc_seq" => {
                entry.proc_seq = serde_json::from_str(value).ok().filter(|seq| *seq >= 0);
                entry.proc_seq.is_some()
            }
            "error" if value.starts_with('{') => {
                error = Some(value);
                true
            }
            _ => false,
        };
        if !known {
            rejected.push((name, value));
        }
    }

    if rejected.is_empty() {
        entry.error = error.map(|error| error.replace(['\n', '\r'], ""));
        return None;
    }
    let names: Vec<&str> = rejected.iter().map(|(name, _)| *name).collect();
    let names = json::shorten(&names.join(", "), MAX_NAMES);
    let complaint = format!("has unknown or invalid members in logtail: {names}");
    // Only one error member can be kept, so the client's own moves into ours.
    rejected.extend(error.map(|error| ("error", error)));
    entry.error = Some(error_object(&complaint, Some(&json::object(rejected))));
    Some(complaint)
}

/// The most bytes of rejected member names in a complaint, which is a line for people.
const MAX_NAMES: usize = 200;

fn parse_time(value: &str) -> Option<(String, Timestamp)> {
    let text: String = serde_json::from_str(value).ok()?;
    let time = text.parse().ok()?;
    Some((text, time))
}

fn error_entry(detail: &str, bad_data: Option<&str>) -> NewEntry {
    NewEntry { error: Some(error_object(detail, bad_data)), payload: "{}".to_owned(), ..NewEntry::default() }
}

fn error_object(detail: &str, bad_data: Option<&str>) -> String {
    let detail = json::quote(detail);
    json::object([("detail", detail.as_str())].into_iter().chain(bad_data.map(|data| ("bad_data", data))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_batch_as_clients_frame_it_is_read_entry_by_entry() {
        let body = concat!(
            r#"[{"logtail":{"client_time":"2026-01-02T03:04:05.6789Z","proc_id":849520296,"proc_seq":1},"#,
            r#""text":"a\n"}"#,
            "\n,",
            r#"{"logtail":{"proc_id":849520296,"proc_seq":2}, "big":18446744073709551617 ,"z":1,"a":2}"#,
            "\n]"
        );
        let batch = parse(body);
        assert_eq!(batch.complaint, None);
        let [first, second] = &batch.entries[..] else { panic!("{batch:?}") };
        assert_eq!((first.proc_id, first.proc_seq), (Some(849_520_296), Some(1)));
        assert_eq!(first.client_time.as_ref().unwrap().0, "2026-01-02T03:04:05.6789Z");
        assert_eq!(first.payload, r#"{"text":"a\n"}"#);
        assert_eq!(second.proc_seq, Some(2));
        assert_eq!(
            second.payload, r#"{"big":18446744073709551617,"z":1,"a":2}"#,
            "numbers and order survive"
        );
    }

    #[test]
    fn a_single_object_and_an_empty_array_are_bodies_too() {
        assert_eq!(parse(r#" {"text":"x"}"#).entries.len(), 1);
        assert_eq!(parse("[]"), Batch { entries: vec![], complaint: None });
    }

    #[test]
    fn a_pretty_printed_entry_is_stored_on_one_line() {
        let entry = parse("{\n \"a\": [\n1,\r\n2]\n}").entries.remove(0);
        assert_eq!(entry.payload, r#"{"a":[1,2]}"#);
    }

    #[test]
    fn elements_that_are_no_objects_become_errors_beside_the_good_ones() {
        let batch = parse(r#"[1,{"a":1},"x",{"b":1,"b":2}]"#);
        assert_eq!(batch.complaint.as_deref(), Some("entry 0 is not an object (and 2 more bad entries)"));
        assert_eq!(batch.entries.len(), 4);
        assert_eq!(error(&batch.entries[0]), json!({"detail":"entry is not an object","bad_data":"1"}));
        assert_eq!(batch.entries[1].error, None);
        assert_eq!(error(&batch.entries[3])["bad_data"], r#"{"b":1,"b":2}"#);
    }

    #[test]
    fn bodies_that_are_no_json_become_one_error() {
        for body in ["", "x", "[{}", "{}{}", "[{},]"] {
            let batch = parse(body);
            assert_eq!(batch.entries.len(), 1, "{body}");
            assert!(batch.complaint.unwrap().starts_with("body is not JSON: "), "{body}");
            assert_eq!(error(&batch.entries[0])["bad_data"], body);
        }
        let batch = Batch::parse(b"{\"a\":\"\xff\"}", 9).unwrap();
        assert!(batch.complaint.unwrap().starts_with("body is not UTF-8: "));
    }

    #[test]
    fn bad_data_is_bounded() {
        let batch = parse(&"x".repeat(300_000));
        let error = error(&batch.entries[0]);
        assert!(error["bad_data"].as_str().unwrap().ends_with("…+256310"));
    }

    #[test]
    fn unknown_and_invalid_logtail_members_move_to_the_error() {
        let batch = parse(
            r#"{"logtail":{"proc_id":-1,"proc_seq":7,"client_time":"noon","id":"me","error":{"detail":"d"}},"a":1}"#,
        );
        let entry = &batch.entries[0];
        assert_eq!((entry.proc_id, entry.proc_seq, &entry.client_time), (None, Some(7), &None));
        assert_eq!(entry.payload, r#"{"a":1}"#);
        assert_eq!(
            error(entry)["bad_data"],
            json!({"proc_id":-1,"client_time":"noon","id":"me","error":{"detail":"d"}})
        );
        assert_eq!(
            batch.complaint.as_deref(),
            Some("entry 0 has unknown or invalid members in logtail: proc_id, client_time, id")
        );
    }

    #[test]
    fn an_error_that_the_client_reports_is_kept() {
        let batch = parse(r#"{"logtail":{"error":{"detail":"d","bad_data":1}}}"#);
        assert_eq!(batch.complaint, None);
        assert_eq!(batch.entries[0].error.as_deref(), Some(r#"{"detail":"d","bad_data":1}"#));
    }

    #[test]
    fn more_entries_than_allowed_are_refused() {
        assert_eq!(Batch::parse(b"[{},{},{}]", 2), Err(TooManyEntries(3)));
        assert!(Batch::parse(b"[{},{}]", 2).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_become_storable_entries(body in any_body()) {
            if let Ok(batch) = Batch::parse(&body, 64) {
                for entry in &batch.entries {
                    let payload: Value = serde_json::from_str(&entry.payload).unwrap();
                    prop_assert!(payload.is_object() && payload.get("logtail").is_none());
                    prop_assert!(!entry.payload.contains('\n'));
                    if let Some(error) = &entry.error {
                        prop_assert!(serde_json::from_str::<Value>(error).unwrap().is_object());
                        prop_assert!(!error.contains('\n'));
                    }
                }
                prop_assert_eq!(
                    batch.complaint.is_some(),
                    batch.entries.iter().any(has_detail)
                );
            }
        }
    }

    /// Bytes, and strings of the tokens that bodies are made of, which reach deeper than noise does.
    fn any_body() -> impl Strategy<Value = Vec<u8>> {
        let token = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\n",
            " ",
            "\"logtail\"",
            "\"proc_id\"",
            "\"client_time\"",
            "\"2026-01-02T03:04:05Z\"",
            "\"error\"",
            "{}",
            "1",
            "-1",
            "\"\\ud800\"",
            "null",
            "{\"a\":1}",
            "{\"logtail\":{\"proc_id\":1,\"x\":2}}",
            "\"logtail\":{\"proc_seq\":3}",
        ]);
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat().into_bytes()),
        ]
    }

    /// The tokens above cannot spell an error with a detail, so an error that has one is the server's own.
    fn has_detail(entry: &NewEntry) -> bool {
        entry.error.is_some() && error(entry).get("detail").is_some()
    }

    fn parse(body: &str) -> Batch {
        Batch::parse(body.as_bytes(), 100).unwrap()
    }

    fn error(entry: &NewEntry) -> Value {
        serde_json::from_str(entry.error.as_ref().unwrap()).unwrap()
    }
}
