//! The bytes of a segment: header, record frames, checksums. Pure functions over slices; no files, no clock.
//!
//! All integers are little endian. A segment is a header and, behind it, record frames without padding; in a
//! compressed segment the frames are one zstd frame.
//!
//! Segment header, 64 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `TTSG` |
//! | 4 | 1 | format version, 1 |
//! | 5 | 1 | header length, 64 |
//! | 6 | 2 | flags: bit 0 sealed, bit 1 zstd-compressed, bit 2 holds meta records, bit 8 encrypted (reserved) |
//! | 8 | 8 | generation |
//! | 16 | 4 | process id, not 0 |
//! | 20 | 4 | length of the frames before compression (sealed; else 0) |
//! | 24 | 8 | lowest sequence number (while open: of the first data record, or 0) |
//! | 32 | 4 | number of records, meta records included (sealed; else 0) |
//! | 36 | 4 | highest minus lowest sequence number (sealed; else 0) |
//! | 40 | 8 | creation, milliseconds since 1970 by the wall clock: information only |
//! | 48 | 6 | records ever given up in this directory |
//! | 54 | 6 | their payload bytes |
//! | 60 | 4 | CRC-32C of bytes 0 to 59 |
//!
//! Magic, version and the checksum at byte 60 stay where they are in every later version, so that a damaged
//! version byte can be told from a later version.
//!
//! Record frame, 16 bytes and the payload:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of generation and process id as in the header, then of everything behind this field |
//! | 4 | 3 | payload length, at most [`MAX_PAYLOAD`] |
//! | 7 | 1 | kind: 0 data, 1 meta |
//! | 8 | 8 | sequence number, not 0 |
//! | 16 | n | payload |
//!
//! The checksum starts with generation and process id, so that a block of another file never passes for one of
//! this; together with the ban on sequence number 0, neither do zeros.

use super::{ProcId, ProcSeq, SegmentId};

/// The longest payload of a record, in bytes: a network log message of 256 KiB and its envelope.
pub const MAX_PAYLOAD: usize = 262_144 + 1_024;

/// The format version that is written and read.
pub(super) const VERSION: u8 = 1;

pub(super) const HEADER_LEN: usize = 64;

pub(super) const FRAME_LEN: usize = 16;

const MAGIC: [u8; 4] = *b"TTSG";

/// Largest value of the two 6-byte counters.
const MAX_48: u64 = (1 << 48) - 1;

pub(super) mod flag {
    pub(in super::super) const SEALED: u16 = 1;
    pub(in super::super) const COMPRESSED: u16 = 1 << 1;
    pub(in super::super) const META: u16 = 1 << 2;
    pub(in super::super) const ENCRYPTED: u16 = 1 << 8;
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A payload from `append`.
    Data,
    /// A JSON object of the store about the stream itself: drop reports.
    Meta,
}

/// One record of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it holds.
    pub kind: RecordKind,
    /// Its number. Data records stand in the order of their numbers; a meta record may stand before data with
    /// smaller numbers, because data are numbered before they are queued.
    pub seq: ProcSeq,
    /// The bytes as appended.
    pub payload: &'a [u8],
}

/// A decoded segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flags: u16,
    pub(super) id: SegmentId,
    pub(super) raw_len: u32,
    pub(super) first_seq: ProcSeq,
    pub(super) records: u32,
    pub(super) seq_span: u32,
    pub(super) created_ms: i64,
    pub(super) dropped_records: u64,
    pub(super) dropped_bytes: u64,
}

/// Why 64 bytes are not a header of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    Corrupt(&'static str),
    Version(u8),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.push(HEADER_LEN as u8);
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&self.id.generation.to_le_bytes());
        bytes.extend_from_slice(&self.id.proc_id.get().to_le_bytes());
        bytes.extend_from_slice(&self.raw_len.to_le_bytes());
        bytes.extend_from_slice(&self.first_seq.get().to_le_bytes());
        bytes.extend_from_slice(&self.records.to_le_bytes());
        bytes.extend_from_slice(&self.seq_span.to_le_bytes());
        bytes.extend_from_slice(&self.created_ms.to_le_bytes());
        for counter in [self.dropped_records, self.dropped_bytes] {
            bytes.extend(counter.min(MAX_48).to_le_bytes().iter().take(6));
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let mut header = [0; HEADER_LEN];
        for (to, from) in header.iter_mut().zip(bytes) {
            *to = from;
        }
        header
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(HeaderError::Corrupt("it is shorter than a header"));
        };
        let Some((body, crc)) = header.split_last_chunk::<4>() else {
            return Err(HeaderError::Corrupt("it is shorter than a header"));
        };
        let mut fields = Fields(body);
        if fields.take::<4>() != MAGIC {
            return Err(HeaderError::Corrupt("it does not start as a segment"));
        }
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(HeaderError::Corrupt("the checksum of its header is wrong"));
        }
        let [version] = fields.take();
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let [_header_len] = fields.take();
        let flags = u16::from_le_bytes(fields.take());
        let generation = u64::from_le_bytes(fields.take());
        let Some(proc_id) = ProcId::new(u32::from_le_bytes(fields.take())) else {
            return Err(HeaderError::Corrupt("its process id is zero"));
        };
        let header = Self {
            flags,
            id: SegmentId { generation, proc_id },
            raw_len: u32::from_le_bytes(fields.take()),
            first_seq: ProcSeq::new(u64::from_le_bytes(fields.take())),
            records: u32::from_le_bytes(fields.take()),
            seq_span: u32::from_le_bytes(fields.take()),
            created_ms: i64::from_le_bytes(fields.take()),
            dropped_records: fields.take_48(),
            dropped_bytes: fields.take_48(),
        };
        Ok(header)
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn last_seq(&self) -> ProcSeq {
        ProcSeq::new(self.first_seq.get().saturating_add(u64::from(self.seq_span)))
    }
}

/// Reads a header's fields in order. Past the end it yields zeros, which no caller reaches.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *field
    }

    fn take_48(&mut self) -> u64 {
        let [a, b, c, d, e, f] = self.take();
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// The start value of the checksums of a segment's records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(id: SegmentId) -> Self {
        let crc = crc32c::crc32c(&id.generation.to_le_bytes());
        Self(crc32c::crc32c_append(crc, &id.proc_id.get().to_le_bytes()))
    }
}

/// Appends a record's frame to `out`. The payload must not be longer than [`MAX_PAYLOAD`].
pub(super) fn encode_record(out: &mut Vec<u8>, seed: Seed, record: Record<'_>) {
    debug_assert!(record.payload.len() <= MAX_PAYLOAD);
    let kind: u32 = match record.kind {
        RecordKind::Data => 0,
        RecordKind::Meta => 1,
    };
    let len_kind = (record.payload.len() as u32 & 0xff_ffff) | kind << 24;
    let mut rest = [0_u8; FRAME_LEN - 4];
    let seq = record.seq.get().to_le_bytes();
    for (to, from) in rest.iter_mut().zip(len_kind.to_le_bytes().into_iter().chain(seq)) {
        *to = from;
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed.0, &rest), record.payload);
    out.reserve(FRAME_LEN + record.payload.len());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&rest);
    out.extend_from_slice(record.payload);
}

/// The valid records at the head of a segment's frames. Ends at the first frame that does not check.
#[derive(Debug, Clone)]
pub(super) struct Records<'a> {
    rest: &'a [u8],
    seed: Seed,
}

impl<'a> Records<'a> {
    pub(super) fn new(frames: &'a [u8], seed: Seed) -> Self {
        Self { rest: frames, seed }
    }

    /// The bytes that were not consumed: empty after the last record of an undamaged segment.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (crc, checked) = self.rest.split_first_chunk::<4>()?;
        let (len_kind, behind) = checked.split_first_chunk::<4>()?;
        let (seq, behind) = behind.split_first_chunk::<8>()?;
        let (len, kind) = split_len_kind(*len_kind);
        let seq = u64::from_le_bytes(*seq);
        if len > MAX_PAYLOAD || seq == 0 {
            return None;
        }
        let kind = match kind {
            0 => RecordKind::Data,
            1 => RecordKind::Meta,
            _ => return None,
        };
        let (payload, rest) = behind.split_at_checked(len)?;
        let covered = checked.get(..FRAME_LEN - 4 + len)?;
        if crc32c::crc32c_append(self.seed.0, covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        self.rest = rest;
        Some(Record { kind, seq: ProcSeq::new(seq), payload })
    }
}

/// How many records a damaged tail may have held, by its lengths alone; at least 1 unless it is empty.
pub(super) fn estimate_records(mut tail: &[u8]) -> u64 {
    let mut records = 0;
    while let Some((head, behind)) = tail.split_first_chunk::<FRAME_LEN>() {
        let [_, _, _, _, a, b, c, d, seq @ ..] = *head;
        let (len, _) = split_len_kind([a, b, c, d]);
        if u64::from_le_bytes(seq) == 0 {
            break;
        }
        let Some((_, rest)) = behind.split_at_checked(len) else { break };
        records += 1;
        tail = rest;
    }
    if tail.is_empty() { records } else { records + 1 }
}

fn split_len_kind(bytes: [u8; 4]) -> (usize, u8) {
    let [a, b, c, kind] = bytes;
    (u32::from_le_bytes([a, b, c, 0]) as usize, kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> SegmentId {
        SegmentId { generation: 5, proc_id: ProcId::new(9).unwrap() }
    }

    fn header() -> Header {
        Header {
            flags: flag::SEALED | flag::META,
            id: id(),
            raw_len: 1_000,
            first_seq: ProcSeq::new(17),
            records: 3,
            seq_span: 4,
            created_ms: 1_700_000_000_000,
            dropped_records: 12,
            dropped_bytes: u64::MAX,
        }
    }

    #[test]
    fn a_header_reads_back_with_its_counters_clamped_to_48_bits() {
        let decoded = Header::decode(&header().encode()).unwrap();
        assert_eq!(decoded, Header { dropped_bytes: MAX_48, ..header() });
        assert_eq!(decoded.last_seq().get(), 21);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let good = header().encode();
        for bit in 0..HEADER_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Header::decode(&bad), Err(HeaderError::Corrupt(_))), "bit {bit}");
        }
        assert!(Header::decode(&[0; HEADER_LEN]).is_err());
        assert!(Header::decode(&good[..63]).is_err());
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut later = header().encode();
        later[4] = 2;
        let crc = crc32c::crc32c(&later[..60]);
        later[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&later), Err(HeaderError::Version(2)));
    }

    #[test]
    fn the_bytes_of_a_record_are_those_of_the_table() {
        let mut out = Vec::new();
        let record = Record { kind: RecordKind::Meta, seq: ProcSeq::new(0x0102), payload: b"{}" };
        encode_record(&mut out, Seed::new(id()), record);
        assert_eq!(&out[4..], b"\x02\0\0\x01\x02\x01\0\0\0\0\0\0{}");
        let mut covered = Vec::new();
        covered.extend_from_slice(&5_u64.to_le_bytes());
        covered.extend_from_slice(&9_u32.to_le_bytes());
        covered.extend_from_slice(&out[4..]);
        assert_eq!(out[..4], crc32c::crc32c(&covered).to_le_bytes());
    }

    #[test]
    fn zeros_and_blocks_of_other_segments_are_no_records() {
        assert_eq!(Records::new(&[0; 4096], Seed::new(id())).count(), 0);
        let mut out = Vec::new();
        let record = Record { kind: RecordKind::Data, seq: ProcSeq::new(1), payload: b"hello" };
        encode_record(&mut out, Seed::new(id()), record);
        let other = SegmentId { generation: 6, ..id() };
        assert_eq!(Records::new(&out, Seed::new(id())).count(), 1);
        assert_eq!(Records::new(&out, Seed::new(other)).count(), 0);
    }

    #[test]
    fn a_damaged_tail_is_estimated_by_its_lengths() {
        let mut out = Vec::new();
        for seq in 1..=5 {
            let record = Record { kind: RecordKind::Data, seq: ProcSeq::new(seq), payload: b"hello" };
            encode_record(&mut out, Seed::new(id()), record);
        }
        assert_eq!(estimate_records(&out), 5);
        assert_eq!(estimate_records(&out[..out.len() - 1]), 5);
        assert_eq!(estimate_records(&[]), 0);
        assert_eq!(estimate_records(&[0; 100]), 1);
    }

    proptest! {
        #[test]
        fn records_read_back(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let seed = Seed::new(id());
            let mut out = Vec::new();
            for (index, payload) in payloads.iter().enumerate() {
                let seq = ProcSeq::new(index as u64 + 1);
                encode_record(&mut out, seed, Record { kind: RecordKind::Data, seq, payload });
            }
            let mut records = Records::new(&out, seed);
            let read: Vec<_> = records.by_ref().map(|record| record.payload.to_vec()).collect();
            prop_assert_eq!(read, payloads);
            prop_assert!(records.rest().is_empty());
        }

        #[test]
        fn any_bytes_are_scanned_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let mut records = Records::new(&bytes, Seed::new(id()));
            let used: usize = records.by_ref().map(|record| FRAME_LEN + record.payload.len()).sum();
            prop_assert_eq!(used + records.rest().len(), bytes.len());
            let _ = Header::decode(&bytes);
            prop_assert!(estimate_records(&bytes) <= bytes.len() as u64);
        }
    }
}
