//! The records that are appended: numbered, of any size, and with a checksum, so that one that was altered or put in
//! another's place is noticed wherever it turns up.
//!
//! `{"cycle":3,"number":17,"filler":"…","check":123}`

use serde::Deserialize;

use super::rng::Rng;

/// What a text is that was found where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// A record as it was appended.
    Whole {
        /// In which cycle.
        cycle: u64,
        /// As which one of that cycle, from 0.
        number: u64,
    },
    /// A record with something changed.
    Altered,
    /// Not one of these records at all, or beyond recognition.
    Other,
}

#[derive(Deserialize)]
struct Fields<'a> {
    cycle: u64,
    number: u64,
    filler: &'a str,
    check: u32,
}

/// Appends the record to `out`. Its filler of `filler` bytes comes from `rng` and compresses to three quarters, much
/// worse than real records do: the disk fills up quickly.
pub(super) fn encode(cycle: u64, number: u64, filler: usize, rng: &mut Rng, out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    out.extend_from_slice(format!(r#"{{"cycle":{cycle},"number":{number},"filler":""#).as_bytes());
    let start = out.len();
    while out.len() < start + filler {
        let mut random = rng.next();
        for _ in 0..10 {
            out.extend(ALPHABET.get((random & 63) as usize));
            random >>= 6;
        }
    }
    out.truncate(start + filler);
    let check = checksum(cycle, number, out.get(start..).unwrap_or_default());
    out.extend_from_slice(format!(r#"","check":{check}}}"#).as_bytes());
}

/// Reads a record as the store or the server gives it back: other members, such as `logtail`, don't matter.
pub(super) fn read(json: &[u8]) -> Reading {
    let Ok(Fields { cycle, number, filler, check }) = serde_json::from_slice(json) else {
        return Reading::Other;
    };
    if check == checksum(cycle, number, filler.as_bytes()) {
        Reading::Whole { cycle, number }
    } else {
        Reading::Altered
    }
}

fn checksum(cycle: u64, number: u64, filler: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(&cycle.to_le_bytes()), &number.to_le_bytes());
    crc32c::crc32c_append(head, filler)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_also_behind_an_envelope() {
        for filler in [0, 1, 10, 5_000] {
            let mut json = Vec::new();
            encode(3, 17, filler, &mut Rng::new(1), &mut json);
            assert_eq!(read(&json), Reading::Whole { cycle: 3, number: 17 });
            json.splice(1..1, *br#""logtail":{"client_time":"2026-01-02T03:04:05Z"},"#);
            assert_eq!(read(&json), Reading::Whole { cycle: 3, number: 17 });
        }
        assert_eq!(read(br#"{"nodeId":"n1"}"#), Reading::Other);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let mut json = Vec::new();
        encode(3, 17, 40, &mut Rng::new(1), &mut json);
        for index in 0..json.len() {
            for bit in 0..8 {
                json[index] ^= 1 << bit;
                assert!(!matches!(read(&json), Reading::Whole { .. }), "byte {index}, bit {bit}");
                json[index] ^= 1 << bit;
            }
        }
        assert!(matches!(read(&json), Reading::Whole { .. }));
    }
}
