//! One log entry: a JSON object on one line, with logtail's envelope in front.
//!
//! ```text
//! {"logtail":{"client_time":"…","proc_id":N,"proc_seq":M,"error":{…}},"v":L, "text":"…" | members of an object}\n
//! ```
//!
//! The bytes are those of Tailscale's logtail for the same input. Encoding happens twice as it were: when a record is
//! appended to the store, [`encode`] writes it with its time but without ids; when it is uploaded, [`splice_ids`]
//! adds the ids that the store keeps beside it. The result is the same as encoding with ids at once.
//!
//! Pure functions that append to a buffer of the caller, on the caller's thread. They never fail: what is not an
//! object becomes a text entry, what is too large becomes an entry that says so.

use std::io::Write;

use jiff::Timestamp;

use super::json::{Object, scan_object};

/// The largest JSON object that is sent as it is, in bytes; logtail's limit, also in low-memory mode.
pub const MAX_OBJECT_BYTES: usize = 256 * 1024;

/// The top-level member that belongs to the envelope.
const RESERVED: &str = "logtail";

/// How much of an object that is too large is kept: escaped as `\uffff`, each byte could become six.
const MAX_BAD_DATA_BYTES: usize = MAX_OBJECT_BYTES / 6;

const SPACE: &[u8] = b" \n\r\t";

/// Sizes that depend on how much memory the process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest text of an entry, in bytes of the source. The rest is cut off and its length noted.
    pub text_bytes: usize,
    /// When a request body has reached this many bytes, no further entry is added to it.
    pub body_bytes: usize,
}

impl Limits {
    /// logtail's usual limits.
    pub const NORMAL: Self = Self { text_bytes: 16 * 1024, body_bytes: 256 * 1024 };
    /// logtail's limits where memory is scarce, as in an iOS network extension.
    pub const LOW_MEMORY: Self = Self { text_bytes: 4 * 1024, body_bytes: 64 * 1024 };
}

/// What identifies an entry within its stream. A server finds losses and duplicates by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryIds {
    /// The process that wrote the entry; random, not 0.
    pub proc_id: u32,
    /// The number of the entry within that process, from 1.
    pub proc_seq: u64,
}

/// What stands before the payload of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Envelope {
    /// When the entry was made, by the client's wall clock.
    pub client_time: Option<Timestamp>,
    /// Left out for entries that go to the store, which has its own ids; see [`splice_ids`].
    pub ids: Option<EntryIds>,
}

/// Appends the entry for one log message to `out`: a JSON object, or any text, also one that carries a level
/// (`[v1] `, `[v2] ` or `[v\0JSON]N`). Returns false, and appends nothing, if `input` is empty.
pub fn encode(input: &[u8], envelope: &Envelope, limits: &Limits, out: &mut Vec<u8>) -> bool {
    if input.is_empty() {
        return false;
    }
    let (level, without_level) = split_level(input);
    let input = without_level.as_deref().unwrap_or(input);
    match input.first().filter(|&&first| first == b'{').and_then(|_| scan_object(input, RESERVED)) {
        Some(object) => append_object(input, &object, envelope, level, out),
        None => append_text(input, envelope, level, limits.text_bytes, out),
    }
    true
}

/// Appends the entry for an object that this crate has produced: valid, compact, without a `logtail` member. It is
/// not scanned again. An object that is too large gets the entry that [`encode`] gives it.
pub fn encode_trusted_object(object: &[u8], envelope: &Envelope, out: &mut Vec<u8>) {
    let members = object.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    let Some(members) = members.filter(|_| object.len() <= MAX_OBJECT_BYTES) else {
        encode(object, envelope, &Limits::NORMAL, out);
        return;
    };
    append_prefix(envelope, None, 0, out);
    out.extend_from_slice(members);
    finish(out);
}

/// Appends the entry for a report of the store itself, such as of dropped records. It carries no time: the report
/// tells about the past, and the time of the upload would only mislead.
pub(crate) fn encode_meta(report: &[u8], ids: EntryIds, out: &mut Vec<u8>) {
    append_prefix(&Envelope { client_time: None, ids: Some(ids) }, None, 0, out);
    out.extend_from_slice(b"\"tuntrail\":");
    if report.first() == Some(&b'{') && scan_object(report, "").is_some() {
        append_without_newlines(report, out);
    } else {
        append_quoted(report, MAX_BAD_DATA_BYTES, out);
    }
    finish(out);
}

/// Appends `entry`, which was encoded without ids, with `ids` in the place where [`encode`] would have put them.
pub fn splice_ids(entry: &[u8], ids: EntryIds, out: &mut Vec<u8>) {
    const TIME: &[u8] = br#""client_time":""#;
    let entry = entry.strip_suffix(b"\n").unwrap_or(entry);
    let Some(rest) = entry.strip_prefix(b"{").filter(|_| entry.len() >= 2 && entry.ends_with(b"}")) else {
        // Not an entry. Sent as it is, it would spoil the array around it.
        let envelope = Envelope { client_time: None, ids: Some(ids) };
        append_text(entry, &envelope, 0, Limits::NORMAL.text_bytes, out);
        return;
    };
    out.push(b'{');
    let Some(members) = rest.strip_prefix(br#""logtail":{"#) else {
        out.extend_from_slice(br#""logtail":{"#);
        append_ids(ids, out);
        out.extend_from_slice(if rest == b"}" { b"}" } else { b"}," });
        out.extend_from_slice(rest);
        out.push(b'\n');
        return;
    };
    out.extend_from_slice(br#""logtail":{"#);
    let time_end = members
        .strip_prefix(TIME)
        .and_then(|time| time.iter().position(|&byte| byte == b'"').map(|quote| TIME.len() + quote + 1));
    let (time, tail) = members.split_at_checked(time_end.unwrap_or(0)).unwrap_or((members, b""));
    out.extend_from_slice(time);
    if !time.is_empty() {
        out.push(b',');
    }
    append_ids(ids, out);
    if !tail.starts_with(b",") && !tail.starts_with(b"}") {
        out.push(b',');
    }
    out.extend_from_slice(tail);
    out.push(b'\n');
}

/// How many bytes [`splice_ids`] makes of an entry that has a time; of another object at least as many.
pub(super) fn spliced_len(entry: &[u8], ids: EntryIds) -> usize {
    let digits = |number: u64| number.checked_ilog10().map_or(1, |log| log as usize + 1);
    let around = if entry.starts_with(br#"{"logtail":{"#) {
        r#","proc_id":,"proc_seq":"#.len()
    } else {
        r#""logtail":{"proc_id":,"proc_seq":},"#.len()
    };
    entry.len() + around + digits(ids.proc_id.into()) + digits(ids.proc_seq)
}

fn append_object(source: &[u8], object: &Object, envelope: &Envelope, level: u8, out: &mut Vec<u8>) {
    if source.len() > MAX_OBJECT_BYTES {
        let detail = format!("entry too large: {} bytes", source.len());
        append_prefix(envelope, Some((&detail, BadData::Text(source))), level, out);
        return finish(out);
    }
    let part = |from: usize, to: usize| source.get(from..to).unwrap_or_default();
    if let Some((name, value)) = &object.reserved {
        let bad = part(value.start, value.end);
        append_prefix(envelope, Some(("duplicate logtail member", BadData::Json(bad))), level, out);
        append_without_newlines(part(1, *name), out);
        trim_end(out);
        append_without_newlines(part(value.end, object.end), out);
    } else {
        append_prefix(envelope, None, level, out);
        append_without_newlines(part(1, object.end), out);
    }
    finish(out);
}

fn append_text(text: &[u8], envelope: &Envelope, level: u8, max: usize, out: &mut Vec<u8>) {
    append_prefix(envelope, None, level, out);
    out.extend_from_slice(b"\"text\":");
    append_quoted(text, max, out);
    finish(out);
}

enum BadData<'a> {
    Json(&'a [u8]),
    Text(&'a [u8]),
}

/// Appends the opening brace and the members before the payload, each with a comma after it.
fn append_prefix(envelope: &Envelope, error: Option<(&str, BadData<'_>)>, level: u8, out: &mut Vec<u8>) {
    out.push(b'{');
    if envelope.client_time.is_some() || envelope.ids.is_some() || error.is_some() {
        out.extend_from_slice(br#""logtail":{"#);
        if let Some(time) = envelope.client_time {
            append(format_args!(r#""client_time":"{time}","#), out);
        }
        if let Some(ids) = envelope.ids {
            append_ids(ids, out);
            out.push(b',');
        }
        if let Some((detail, bad_data)) = error {
            append(format_args!(r#""error":{{"detail":"{detail}","bad_data":"#), out);
            match bad_data {
                BadData::Json(json) => append_without_newlines(json, out),
                BadData::Text(text) => append_quoted(text, MAX_BAD_DATA_BYTES, out),
            }
            out.push(b'}');
        }
        trim_end(out);
        out.extend_from_slice(b"},");
    }
    if level > 0 {
        append(format_args!(r#""v":{level},"#), out);
    }
}

fn append_ids(ids: EntryIds, out: &mut Vec<u8>) {
    append(format_args!(r#""proc_id":{},"proc_seq":{}"#, ids.proc_id, ids.proc_seq), out);
}

/// Ends the entry; the payload, if any, may end in separators.
fn finish(out: &mut Vec<u8>) {
    trim_end(out);
    out.extend_from_slice(b"}\n");
}

fn trim_end(out: &mut Vec<u8>) {
    while out.last().is_some_and(|last| SPACE.contains(last) || b",:".contains(last)) {
        out.pop();
    }
}

/// Newlines frame entries. Inside valid JSON they can only be white space.
fn append_without_newlines(json: &[u8], out: &mut Vec<u8>) {
    for line in json.split(|&byte| byte == b'\n') {
        out.extend_from_slice(line);
    }
}

/// Appends a JSON string with at most `max` bytes of `text`, and the number of bytes left out. Each byte that is not
/// part of valid UTF-8 becomes a replacement character.
fn append_quoted(text: &[u8], max: usize, out: &mut Vec<u8>) {
    let kept = truncate(text, max);
    out.push(b'"');
    for chunk in kept.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' => out.extend_from_slice(br#"\""#),
                b'\\' => out.extend_from_slice(br"\\"),
                b'\n' => out.extend_from_slice(br"\n"),
                b'\r' => out.extend_from_slice(br"\r"),
                b'\t' => out.extend_from_slice(br"\t"),
                0x08 => out.extend_from_slice(br"\b"),
                0x0c => out.extend_from_slice(br"\f"),
                0..0x20 => append(format_args!(r"\u{byte:04x}"), out),
                _ => out.push(byte),
            }
        }
        for _ in chunk.invalid() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    if kept.len() < text.len() {
        append(format_args!("…+{}", text.len() - kept.len()), out);
    }
    out.push(b'"');
}

/// At most `max` bytes, without a character that might be cut in two. Like upstream, that includes one which just
/// fits.
fn truncate(text: &[u8], max: usize) -> &[u8] {
    if text.len() <= max {
        return text;
    }
    let mut kept = text.get(..max).unwrap_or_default();
    while let [rest @ .., 0x80..=0xbf] = kept {
        kept = rest;
    }
    if let [rest @ .., 0xc0..=0xff] = kept {
        kept = rest;
    }
    kept
}

/// The level that a text carries, and the text without its marks if it carries one.
fn split_level(input: &[u8]) -> (u8, Option<Vec<u8>>) {
    const STRUCTURED: &[u8] = b"[v\0JSON]";
    if input.first() == Some(&b'{') || find(input, b"[v").is_none() {
        return (0, None);
    }
    for (level, mark) in [(1, b"[v1] "), (2, b"[v2] ")] {
        if find(input, mark).is_some() {
            return (level, Some(remove(input, mark)));
        }
    }
    let Some(at) = find(input, STRUCTURED) else { return (0, None) };
    match input.get(at + STRUCTURED.len()..) {
        Some([digit @ b'0'..=b'9', rest @ ..]) => (digit - b'0', Some(rest.to_vec())),
        _ => (0, None),
    }
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|window| window == mark)
}

fn remove(mut text: &[u8], mark: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    while let Some(at) = find(text, mark) {
        kept.extend_from_slice(text.get(..at).unwrap_or_default());
        text = text.get(at + mark.len()..).unwrap_or_default();
    }
    kept.extend_from_slice(text);
    kept
}

fn append(text: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    // A vector takes everything: there is no error to handle.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    const IDS: EntryIds = EntryIds { proc_id: 849_520_296, proc_seq: 3 };

    fn envelope() -> Envelope {
        Envelope { client_time: Some("2026-01-02T03:04:05.6789Z".parse().unwrap()), ids: Some(IDS) }
    }

    fn entry(input: &[u8]) -> String {
        let mut out = Vec::new();
        encode(input, &envelope(), &Limits::NORMAL, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What [`entry`] gives, without the beginning that all entries share.
    fn tail(input: &[u8]) -> String {
        const HEAD: &str =
            r#"{"logtail":{"client_time":"2026-01-02T03:04:05.6789Z","proc_id":849520296,"proc_seq":3"#;
        entry(input).strip_prefix(HEAD).unwrap().to_owned()
    }

    #[derive(Deserialize)]
    struct Vector {
        client_time: String,
        entries: usize,
        entry: String,
        input_base64: String,
        low_memory: bool,
        proc_id: u32,
        proc_seq: u64,
    }

    fn vectors() -> Vec<(Vec<u8>, Vector)> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let lines = include_str!("../../../tests/vectors/logtail_entries.jsonl");
        let parse = |line| serde_json::from_str(line).unwrap();
        let vectors: Vec<Vector> = lines.lines().map(parse).collect();
        vectors.into_iter().map(|v| (STANDARD.decode(&v.input_base64).unwrap(), v)).collect()
    }

    #[test]
    fn encoding_without_ids_and_adding_them_later_equals_upstream() {
        for (input, vector) in vectors() {
            let ids = EntryIds { proc_id: vector.proc_id, proc_seq: vector.proc_seq };
            let limits = if vector.low_memory { Limits::LOW_MEMORY } else { Limits::NORMAL };
            let time = Some(vector.client_time.parse().unwrap());
            let (mut direct, mut stored, mut spliced) = (Vec::new(), Vec::new(), Vec::new());
            let any = encode(&input, &Envelope { client_time: time, ids: Some(ids) }, &limits, &mut direct);
            assert_eq!(any, vector.entries == 1);
            assert_eq!(String::from_utf8(direct).unwrap(), vector.entry);
            if encode(&input, &Envelope { client_time: time, ids: None }, &limits, &mut stored) {
                splice_ids(&stored, ids, &mut spliced);
                assert_eq!(spliced.len(), spliced_len(&stored, ids));
            }
            assert_eq!(String::from_utf8(spliced).unwrap(), vector.entry);
        }
    }

    #[test]
    fn ids_are_added_to_entries_without_a_time_too() {
        for input in [&b"text"[..], b"{}", br#"{"a":1}"#, br#"{"logtail":1}"#, br#"{"logtail":1,"a":[]}"#] {
            let (mut direct, mut stored, mut spliced) = (Vec::new(), Vec::new(), Vec::new());
            encode(input, &Envelope { client_time: None, ids: Some(IDS) }, &Limits::NORMAL, &mut direct);
            encode(input, &Envelope::default(), &Limits::NORMAL, &mut stored);
            splice_ids(&stored, IDS, &mut spliced);
            assert!(spliced.len() <= spliced_len(&stored, IDS), "{} of {input:?}", spliced.len());
            assert_eq!(String::from_utf8(spliced).unwrap(), String::from_utf8(direct).unwrap());
        }
    }

    #[test]
    fn what_is_not_an_entry_can_not_spoil_the_array() {
        for foreign in [&b""[..], b"\n", b"{", b"}", b"no", b"[1]\n"] {
            let mut out = Vec::new();
            splice_ids(foreign, IDS, &mut out);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert!(value["text"].is_string());
            assert_eq!(value["logtail"]["proc_seq"], 3);
        }
    }

    #[test]
    fn the_reserved_member_is_moved_to_the_error() {
        assert_eq!(
            tail(br#"{"lo\u0067tail":1,"a":3}"#),
            concat!(r#","error":{"detail":"duplicate logtail member","bad_data":1}},"a":3}"#, "\n")
        );
        assert_eq!(
            tail(br#"{ "fizz" : "buzz" , "logtail" : "duplicate" }"#),
            concat!(
                r#","error":{"detail":"duplicate logtail member","bad_data":"duplicate"}}, "fizz" : "buzz"}"#,
                "\n"
            )
        );
        assert_eq!(
            tail(b"{\"a\":1,\n\"logtail\":{\n\"x\":1},\"b\":2}"),
            concat!(
                r#","error":{"detail":"duplicate logtail member","bad_data":{"x":1}}},"a":1,"b":2}"#,
                "\n"
            )
        );
    }

    #[test]
    fn an_object_that_is_too_large_is_replaced_by_a_note() {
        let object = format!(r#"{{"a":"{}"}}"#, "z".repeat(262_152 - 8));
        assert_eq!(object.len(), 262_152);
        let note = tail(object.as_bytes());
        assert!(
            note.starts_with(r#","error":{"detail":"entry too large: 262152 bytes","bad_data":"{\"a\":\"zz"#)
        );
        assert!(note.ends_with("zz…+218462\"}}}\n"), "{}", &note[note.len() - 40..]);

        let mut trusted = Vec::new();
        encode_trusted_object(object.as_bytes(), &envelope(), &mut trusted);
        assert_eq!(String::from_utf8(trusted).unwrap(), entry(object.as_bytes()));

        let fits = format!(r#"{{"a":"{}"}}"#, "z".repeat(MAX_OBJECT_BYTES - 8));
        assert!(tail(fits.as_bytes()).starts_with(r#"},"a":"zzz"#));
    }

    #[test]
    fn long_text_is_cut_and_the_length_noted() {
        assert!(tail("z".repeat(20_000).as_bytes()).ends_with("z…+3616\"}\n"));
        let broken = [b"x".repeat(16_383), vec![0xe6, 0x97, 0xa5]].concat();
        assert!(tail(&broken).ends_with("x…+3\"}\n"));
    }

    #[test]
    fn each_invalid_byte_is_replaced_on_its_own() {
        assert_eq!(tail(b"\xe6\x97|\xf0\x9f\x98|\xc0\x80"), "},\"text\":\"��|���|��\"}\n");
    }

    #[test]
    fn a_text_of_marks_only_is_an_empty_text() {
        assert_eq!(tail(b"[v1] "), "},\"v\":1,\"text\":\"\"}\n");
        assert_eq!(tail(b"[v\0JSON]7"), "},\"v\":7,\"text\":\"\"}\n");
        assert_eq!(tail(b"x[v\0JSON]0{\"a\":1}"), "},\"a\":1}\n");
        assert_eq!(tail(b"[v\0JSON]x"), "},\"text\":\"[v\\u0000JSON]x\"}\n");
    }

    #[test]
    fn a_trusted_object_gets_the_same_entry_without_a_scan() {
        for object in [&b"{}"[..], br#"{"nodeId":"n1","start":"2026-01-02T03:04:05Z"}"#] {
            let mut out = Vec::new();
            encode_trusted_object(object, &envelope(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), entry(object));
        }
    }

    #[test]
    fn times_have_no_trailing_zeros() {
        let time = |text: &str| Envelope { client_time: Some(text.parse().unwrap()), ids: None };
        for text in ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.12Z", "2026-01-02T03:04:05.000000001Z"] {
            let mut out = Vec::new();
            encode(b"{}", &time(text), &Limits::NORMAL, &mut out);
            assert_eq!(out, format!("{{\"logtail\":{{\"client_time\":\"{text}\"}}}}\n").into_bytes());
        }
    }

    #[test]
    fn reports_of_the_store_carry_ids_but_no_time() {
        let mut out = Vec::new();
        encode_meta(br#"{"drops":[{"records":3}]}"#, IDS, &mut out);
        encode_meta(b"broken", IDS, &mut out);
        let expected = concat!(
            r#"{"logtail":{"proc_id":849520296,"proc_seq":3},"tuntrail":{"drops":[{"records":3}]}}"#,
            "\n",
            r#"{"logtail":{"proc_id":849520296,"proc_seq":3},"tuntrail":"broken"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    /// Inputs made of the pieces that the encoder treats specially.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::sample::select(vec![
                &b"{"[..],
                b"}",
                b"[v1] ",
                b"[v2] ",
                b"[v\0JSON]3",
                b"\n",
                b" ",
                b",",
                b":",
                b"\"",
                b"\\",
                b"\xff",
                b"\xe6\x97",
                "é".as_bytes(),
                br#"{"logtail":{"a":[1]}}"#,
                br#"{"a":1,"logtail":2,"b":3}"#,
                br#""logtail""#,
                br#"{"logtail":{"client_time":"x"#,
            ])
            .prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..9),
        ];
        prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_input_becomes_one_line_of_strict_json_and_both_ways_agree(input in input(), timed: bool) {
            let client_time = timed.then(|| "2026-01-02T03:04:05Z".parse().unwrap());
            let (mut direct, mut stored, mut spliced) = (Vec::new(), Vec::new(), Vec::new());
            let any = encode(&input, &Envelope { client_time, ids: Some(IDS) }, &Limits::NORMAL, &mut direct);
            prop_assert_eq!(any, !input.is_empty());
            encode(&input, &Envelope { client_time, ids: None }, &Limits::NORMAL, &mut stored);
            if any {
                prop_assert!(scan_object(&direct, "").is_some(), "{}", String::from_utf8_lossy(&direct));
                prop_assert_eq!(direct.iter().position(|&byte| byte == b'\n'), Some(direct.len() - 1));
                splice_ids(&stored, IDS, &mut spliced);
            }
            prop_assert_eq!(String::from_utf8(spliced).unwrap(), String::from_utf8(direct).unwrap());
        }
    }
}
