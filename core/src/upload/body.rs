//! Request bodies: `[{…}\n,{…}\n]`, compressed when that pays.
//!
//! Pure functions. Memory is bounded by one body, at most twice [`super::Limits::body_bytes`], the limit that logtail's
//! service states, and what compressing it takes. Nothing is kept from one body to the next: between them a pass
//! waits for a network, and the compressor is the largest thing it would hold.

use std::ops::Range;

use zstd::{bulk::Compressor, zstd_safe};

use super::{
    entry::{EntryIds, encode_meta, splice_ids, spliced_len},
    source::Entry,
};
use crate::store::RecordKind;

/// Bodies up to this size are sent as they are, as logtail does.
const COMPRESS_ABOVE: usize = 256;
/// Compression must save more than this many bytes, as in logtail.
const MIN_SAVING: usize = 64;
/// The fastest level: higher ones need more memory and gain nothing on records of this shape.
const LEVEL: i32 = 1;
/// Records of ours pack 6 to 7 times. Room for a third is tried first; what needs more is rare and packed again.
const USUAL_SHARE: usize = 3;

/// Room for what is around a report of the store. There is one in a body, if any; without room for it the buffer would
/// double.
const META_SLACK: usize = 64;

/// A body as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// Length of the JSON before compression, in bytes.
    pub(super) raw_len: usize,
    pub(super) compressed: bool,
}

/// How many of the entries that follow in `rest` form the next body. The same entries and `target` always give the
/// same answer: a repeated request must be the same request.
///
/// Entries are added while the body is shorter than `target` bytes, and it never exceeds twice that, unless a single
/// entry does. A rest of less than a quarter of the target is taken along: it isn't worth a request of its own. (A
/// segment of the store grows by the ids and would nearly always leave such a rest.)
pub(super) fn entries_in_next_body(rest: &[Entry<'_>], target: usize) -> usize {
    let mut len = 1;
    let mut count = 0;
    for entry in rest {
        let next = len + wire_len(entry) + 1;
        if count > 0 && (len >= target || next > 2 * target) {
            break;
        }
        len = next;
        count += 1;
    }
    let left = rest.get(count..).unwrap_or_default();
    let budget = (target / 4).min((2 * target).saturating_sub(len));
    let mut left_len = 0;
    let fits = left.iter().all(|entry| {
        left_len += wire_len(entry) + 1;
        left_len < budget
    });
    if fits { rest.len() } else { count }
}

/// The two halves of a range of entries, both non-empty, or `None` if it can't be split.
pub(super) fn halves(range: &Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
    let middle = range.start + range.len() / 2;
    (range.len() >= 2).then_some((range.start..middle, middle..range.end))
}

/// The length of an entry in a body; for a report of the store nearly so.
fn wire_len(entry: &Entry<'_>) -> usize {
    spliced_len(entry.payload, entry.ids)
}

/// The JSON of a body.
pub(super) fn json(entries: &[Entry<'_>]) -> Vec<u8> {
    let len: usize = entries.iter().map(|entry| wire_len(entry) + 1).sum();
    let mut json = Vec::with_capacity(len + META_SLACK);
    json.push(b'[');
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        append_entry(entry, &mut json);
    }
    json.push(b']');
    json
}

/// The body for `json`. The same JSON always gives the same bytes.
pub(super) fn pack(json: Vec<u8>) -> Body {
    let raw_len = json.len();
    match compress(&json) {
        Some(bytes) => Body { bytes, raw_len, compressed: true },
        None => Body { bytes: json, raw_len, compressed: false },
    }
}

fn compress(json: &[u8]) -> Option<Vec<u8>> {
    if json.len() <= COMPRESS_ABOVE {
        return None;
    }
    // Without a compressor the body is sent as it is.
    let mut compressor = compressor().ok()?;
    let most = json.len() - MIN_SAVING - 1;
    let mut compress = |room: usize| {
        let mut bytes = Vec::with_capacity(room);
        // One call with the whole source: one frame, with its size in front.
        compressor.compress_to_buffer(json, &mut bytes).ok().map(|_| bytes)
    };
    // Room for little things too; the first attempt decides for nearly all bodies.
    let mut bytes =
        compress((json.len() / USUAL_SHARE + COMPRESS_ABOVE).min(most)).or_else(|| compress(most))?;
    bytes.shrink_to_fit();
    Some(bytes)
}

fn append_entry(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let ids: EntryIds = entry.ids;
    match entry.kind {
        RecordKind::Data => splice_ids(entry.payload, ids, out),
        RecordKind::Meta => encode_meta(entry.payload, ids, out),
    }
}

fn compressor() -> std::io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(zstd_safe::CParameter::ChecksumFlag(true))?;
    compressor.set_parameter(zstd_safe::CParameter::ContentSizeFlag(true))?;
    Ok(compressor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, payload: &[u8]) -> Entry<'_> {
        Entry { kind: RecordKind::Data, ids: EntryIds { proc_id: 1, proc_seq: seq }, payload }
    }

    fn build(payloads: &[&[u8]]) -> Body {
        let entries: Vec<_> = (1..).zip(payloads).map(|(seq, payload)| entry(seq, payload)).collect();
        pack(json(&entries))
    }

    /// A payload whose entry, with ids and comma, takes `len` bytes of a body.
    fn payload(len: usize) -> Vec<u8> {
        let head = r#"{"logtail":{"client_time":"2026-01-02T03:04:05Z"},"a":""#;
        let ids = r#","proc_id":1,"proc_seq":1"#;
        let fill = len - head.len() - ids.len() - "\"}\n".len() - 1;
        format!("{head}{}\"}}\n", "x".repeat(fill)).into_bytes()
    }

    fn plan(lens: &[usize], target: usize) -> Vec<usize> {
        let payloads: Vec<_> = lens.iter().map(|&len| payload(len)).collect();
        let entries: Vec<_> = payloads.iter().map(|payload| entry(1, payload)).collect();
        let mut rest = &entries[..];
        let mut counts = Vec::new();
        while !rest.is_empty() {
            counts.push(entries_in_next_body(rest, target));
            rest = &rest[counts[counts.len() - 1]..];
        }
        counts
    }

    #[test]
    fn entries_are_framed_as_an_array_of_lines() {
        let body = build(&[b"{\"a\":1}\n", b"{\"b\":2}"]);
        assert_eq!(
            String::from_utf8(body.bytes).unwrap(),
            "[{\"logtail\":{\"proc_id\":1,\"proc_seq\":1},\"a\":1}\n,\
             {\"logtail\":{\"proc_id\":1,\"proc_seq\":2},\"b\":2}\n]"
        );
    }

    #[test]
    fn small_or_incompressible_bodies_are_sent_as_they_are() {
        let at = |len: usize| build(&[&payload(len - 1)]);
        assert_eq!(at(256).raw_len, 256);
        assert!(!at(256).compressed);
        assert!(at(257).compressed);
        assert!(at(257).bytes.len() + MIN_SAVING < 257);

        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'0' + (state >> 24) as u8 % 75)
        };
        let noise: String = (0..150).map(|_| noise()).filter(|c| *c != '\\').collect();
        assert!(!build(&[format!("{{\"noise\":\"{noise}{}\"}}\n", "A".repeat(70)).as_bytes()]).compressed);
    }

    #[test]
    fn compressed_bodies_are_one_frame_with_size_and_checksum() {
        let body = build(&[&payload(5_000), &payload(5_000)]);
        assert!(body.compressed);
        let json = zstd::bulk::decompress(&body.bytes, body.raw_len).unwrap();
        assert_eq!(json.len(), body.raw_len);
        assert!(json.starts_with(b"[{") && json.ends_with(b"}\n]"));
        assert_eq!(
            zstd_safe::get_frame_content_size(&body.bytes).unwrap(),
            Some(u64::try_from(body.raw_len).unwrap())
        );
        assert_eq!(zstd_safe::find_frame_compressed_size(&body.bytes), Ok(body.bytes.len()));
        let descriptor = body.bytes[4];
        assert_ne!(descriptor & 0x04, 0, "content checksum");
        assert_ne!(descriptor & 0x20, 0, "single segment");
    }

    #[test]
    fn what_packs_badly_is_packed_all_the_same() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 24) as u8 % 16)
        };
        let text = format!("{{\"noise\":\"{}\"}}\n", (0..100_000).map(|_| noise()).collect::<String>());
        let body = build(&[text.as_bytes()]);
        assert!(body.compressed && body.bytes.len() > body.raw_len / USUAL_SHARE + COMPRESS_ABOVE);
        assert!(zstd::bulk::decompress(&body.bytes, body.raw_len).unwrap().ends_with(b"\"}\n]"));
        assert_eq!(build(&[text.as_bytes()]), body);
    }

    #[test]
    fn a_body_is_full_when_it_has_reached_the_target() {
        assert_eq!(plan(&[400; 9], 1_000), [3, 3, 3]);
        assert_eq!(plan(&[333; 6], 1_000), [3, 3]);
        assert_eq!(plan(&[], 1_000), [0; 0]);
    }

    #[test]
    fn a_body_never_exceeds_twice_the_target_unless_one_entry_does() {
        assert_eq!(plan(&[999, 1_001], 1_000), [1, 1]);
        assert_eq!(plan(&[998, 1_001], 1_000), [2]);
        assert_eq!(plan(&[5_000, 300, 3_000], 1_000), [1, 1, 1]);
    }

    #[test]
    fn a_small_rest_is_taken_along() {
        assert_eq!(plan(&[500, 500, 100, 100], 1_000), [4]);
        assert_eq!(plan(&[500, 500, 130, 130], 1_000), [2, 2]);
    }

    #[test]
    fn halves_cover_the_range_and_end_at_one() {
        assert_eq!(halves(&(3..8)), Some((3..5, 5..8)));
        assert_eq!(halves(&(3..5)), Some((3..4, 4..5)));
        assert_eq!(halves(&(3..4)), None);
    }
}
