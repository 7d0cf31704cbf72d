//! Any bytes as a segment file of the store.

use tuntrail::store::{MAX_PAYLOAD, RecordKind, parse_segment};

/// Bytes of a segment's header; the last four are its checksum.
const HEADER: usize = 64;
/// Bytes in front of a record's payload; the first four are the checksum.
const FRAME: usize = 16;
/// Where generation and process id stand in the header. Every record's checksum begins with them.
const IDENTITY: std::ops::Range<usize> = 8..20;

/// `data` is a file. Reading it never fails in a bad way, and what it gives makes sense. Checksums stop a fuzzer at
/// the door, so the file is read a second time with checksums that fit.
pub fn segment_scan(data: &[u8]) {
    check(data);
    check(&with_checksums(data));
}

fn check(file: &[u8]) {
    let Ok(segment) = parse_segment(file) else { return };
    let info = segment.info();
    assert_eq!(info.disk_bytes, file.len() as u64);
    assert_eq!(info.proc_id, info.id.proc_id);
    let (mut count, mut bytes, mut seqs) = (0, 0, Vec::new());
    for record in segment.records() {
        assert!(record.payload.len() <= MAX_PAYLOAD);
        assert!(matches!(record.kind, RecordKind::Data | RecordKind::Meta));
        count += 1;
        bytes += FRAME + record.payload.len();
        seqs.push(record.seq);
    }
    assert!(count > 0, "a segment without a record is no segment");
    assert_eq!((info.records, info.raw_bytes as usize), (count, bytes));
    assert_eq!(seqs.iter().min(), Some(&info.first_seq));
    assert_eq!(seqs.iter().max(), Some(&info.last_seq));
    assert!(info.first_seq.get() > 0);
}

/// The file with fitting checksums in its header and in all frames, as far as its lengths make frames.
fn with_checksums(file: &[u8]) -> Vec<u8> {
    let mut fixed = file.to_vec();
    let Some((header, frames)) = fixed.split_at_mut_checked(HEADER) else { return fixed };
    if let Some((body, checksum)) = header.split_last_chunk_mut::<4>() {
        *checksum = crc32c::crc32c(body).to_le_bytes();
    }
    let identity = crc32c::crc32c(header.get(IDENTITY).unwrap_or_default());
    let mut rest = frames;
    while let Some((checksum, behind)) = rest.split_first_chunk_mut::<4>() {
        let Some(&[a, b, c, _]) = behind.first_chunk::<4>() else { break };
        let len = FRAME - 4 + u32::from_le_bytes([a, b, c, 0]) as usize;
        let Some((covered, next)) = behind.split_at_mut_checked(len) else { break };
        *checksum = crc32c::crc32c_append(identity, covered).to_le_bytes();
        rest = next;
    }
    fixed
}
