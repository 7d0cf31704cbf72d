//! A whole segment: reading one from bytes, and making the sealed form.
//!
//! Pure apart from [`open_segment`]. Memory is bounded before anything is allocated: a file is read up to
//! [`MAX_FILE`], and unpacked up to the length in its header, which must not pass [`MAX_RAW`].

use std::{io::Read, path::Path};

use super::{
    MAX_PAYLOAD, ProcId, ProcSeq, ReadError, Record, RecordKind, SegmentId,
    frame::{FRAME_LEN, HEADER_LEN, Header, HeaderError, Records, Seed, flag},
    fs::{self, RealFs},
    report::Ledger,
};

/// Largest frames of a segment: one report and one record of the largest size.
pub(super) const MAX_RAW: usize = 2 * FRAME_LEN + Ledger::MAX_JSON + MAX_PAYLOAD;

/// Largest file of a segment. Compression is only used when it makes the file smaller.
pub(super) const MAX_FILE: usize = HEADER_LEN + MAX_RAW;

/// zstd level 1 packs our records 6 times. Even on lines whose every field is random (`zstd -b1 -e9 -B256K`), level 3
/// packs less (5.6 times instead of 5.9), and level 9 takes nine times as long and more memory for 6.4 times.
const ZSTD_LEVEL: i32 = 1;

/// Windows up to 512 KiB are accepted when a damaged frame is unpacked piecewise: [`MAX_RAW`] needs no larger.
const ZSTD_WINDOW_LOG_MAX: u32 = 19;

/// What is known of a sealed segment without reading its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its name.
    pub id: SegmentId,
    /// The process that wrote it.
    pub proc_id: ProcId,
    /// The lowest sequence number in it.
    pub first_seq: ProcSeq,
    /// The highest sequence number in it.
    pub last_seq: ProcSeq,
    /// Records in it, meta records included.
    pub records: u32,
    /// Bytes of its records with their frames, before compression.
    pub raw_bytes: u32,
    /// Bytes of its file.
    pub disk_bytes: u64,
}

/// A segment in memory. Its records were checked; the damaged rest, if any, is counted in [`Self::lost_records`].
#[derive(Debug, Clone)]
pub struct Segment {
    header: Header,
    info: SegmentInfo,
    frames: Vec<u8>,
    has_meta: bool,
    lost_records: u32,
}

impl Segment {
    /// What is known of it: the records that are valid.
    #[must_use]
    pub fn info(&self) -> &SegmentInfo {
        &self.info
    }

    /// The valid records, in the order they were written.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        Records::new(&self.frames, Seed::new(self.info.id))
    }

    /// Records that the header promises and that are damaged. Always 0 for a segment that was never sealed.
    #[must_use]
    pub fn lost_records(&self) -> u32 {
        self.lost_records
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn has_meta(&self) -> bool {
        self.has_meta
    }

    /// The valid frames.
    pub(super) fn frames(&self) -> &[u8] {
        &self.frames
    }
}

/// Reads a segment file of any store, sealed or open, without changing it. For tools and tests.
///
/// # Errors
///
/// See [`ReadError`]; never [`ReadError::NotFound`].
pub fn open_segment(path: &Path) -> Result<Segment, ReadError> {
    parse_segment(&fs::read(&RealFs, path, MAX_FILE)?)
}

/// Reads the bytes of a segment file. Never panics and allocates at most about 300 KiB, whatever the bytes are.
///
/// # Errors
///
/// See [`ReadError`]; only its variants about the content.
pub fn parse_segment(file: &[u8]) -> Result<Segment, ReadError> {
    scan_segment(file).map(|(segment, _)| segment)
}

/// Like [`parse_segment`], and the bytes behind the last valid record.
pub(super) fn scan_segment(file: &[u8]) -> Result<(Segment, Vec<u8>), ReadError> {
    let header = read_header(file)?;
    let body = file.get(HEADER_LEN..).unwrap_or_default();
    let mut frames = if header.has(flag::COMPRESSED) { unpack(body, header.raw_len)? } else { body.to_vec() };
    let mut records = Records::new(&frames, Seed::new(header.id));
    let (mut count, mut first, mut last, mut has_meta) = (0_u32, u64::MAX, 0, false);
    for record in records.by_ref() {
        count += 1;
        first = first.min(record.seq.get());
        last = last.max(record.seq.get());
        has_meta |= record.kind == RecordKind::Meta;
    }
    let valid = frames.len() - records.rest().len();
    let tail = frames.split_off(valid);
    let lost_records = if header.has(flag::SEALED) { header.records.saturating_sub(count) } else { 0 };
    if count == 0 {
        return Err(ReadError::Corrupt { what: "it has no valid record" });
    }
    let info = SegmentInfo {
        id: header.id,
        proc_id: header.id.proc_id,
        first_seq: ProcSeq::new(first),
        last_seq: ProcSeq::new(last),
        records: count,
        raw_bytes: frames.len() as u32,
        disk_bytes: file.len() as u64,
    };
    Ok((Segment { header, info, frames, has_meta, lost_records }, tail))
}

/// Decodes a header and refuses what this version can't use.
pub(super) fn read_header(file: &[u8]) -> Result<Header, ReadError> {
    let header = Header::decode(file).map_err(|error| match error {
        HeaderError::Corrupt(what) => ReadError::Corrupt { what },
        HeaderError::Version(version) => ReadError::Version { version },
    })?;
    if header.has(flag::ENCRYPTED) {
        return Err(ReadError::Encrypted);
    }
    Ok(header)
}

/// What the header of a sealed segment says, or `None` if it was never filled in and the records must be read.
pub(super) fn sealed_info(header: &Header, disk_bytes: u64) -> Option<SegmentInfo> {
    header.has(flag::SEALED).then(|| SegmentInfo {
        id: header.id,
        proc_id: header.id.proc_id,
        first_seq: header.first_seq,
        last_seq: header.last_seq(),
        records: header.records,
        raw_bytes: header.raw_len,
        disk_bytes,
    })
}

/// The compressed file of a segment, or `None` if it would not be smaller than the plain one.
pub(super) fn pack(segment: &Segment) -> Option<Vec<u8>> {
    let info = segment.info();
    let span = info.last_seq.get().saturating_sub(info.first_seq.get());
    let meta = if segment.has_meta() { flag::META } else { 0 };
    let header = Header {
        flags: flag::SEALED | flag::COMPRESSED | meta,
        raw_len: info.raw_bytes,
        first_seq: info.first_seq,
        records: info.records,
        seq_span: u32::try_from(span).ok()?,
        ..*segment.header()
    };
    // One frame with the length of its content: the decoder then needs no window of its own.
    let packed = zstd::bulk::compress(segment.frames(), ZSTD_LEVEL).ok()?;
    if packed.len() >= segment.frames().len() {
        return None;
    }
    let mut file = Vec::with_capacity(HEADER_LEN + packed.len());
    file.extend_from_slice(&header.encode());
    file.extend_from_slice(&packed);
    Some(file)
}

fn unpack(body: &[u8], raw_len: u32) -> Result<Vec<u8>, ReadError> {
    let raw_len = raw_len as usize;
    if raw_len > MAX_RAW {
        return Err(ReadError::Corrupt { what: "its header claims more bytes than a segment may have" });
    }
    zstd::bulk::decompress(body, raw_len).or_else(|_| unpack_prefix(body, raw_len))
}

/// Saves what stands before the damage. The records' checksums decide what of it is good.
fn unpack_prefix(body: &[u8], raw_len: usize) -> Result<Vec<u8>, ReadError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    let mut frames = Vec::with_capacity(raw_len);
    let mut piece = [0; 4096];
    while frames.len() < raw_len {
        match decoder.read(&mut piece) {
            Ok(len) if len > 0 => {
                let wanted = len.min(raw_len - frames.len());
                frames.extend_from_slice(piece.get(..wanted).unwrap_or_default());
            }
            _ => break,
        }
    }
    Ok(frames)
}
