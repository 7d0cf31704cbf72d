//! The cap for any sizes, and clocks that jump.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{
    super::{
        catalog::MAX_FILES,
        frame::{Header, Seed, encode_record},
        *,
    },
    support::{Bed, Seen, bytes_in, payload, small},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_cap_holds_for_any_sizes_and_every_record_is_accounted_for(
        segment_bytes in 4 * 1024..=64_u32 * 1024,
        segments in 4..12_u64,
        lens in prop::collection::vec(prop_oneof![4 => 0..2_000_usize, 1 => 0..40_000_usize], 1..80),
    ) {
        let max_disk_bytes = (u64::from(segment_bytes) * segments).max(64 * 1024);
        let stream = StreamConfig { segment_bytes, max_disk_bytes, ..small() };
        let bed = Bed::new();
        let (store, handle) = bed.open(stream.clone());
        for (number, len) in lens.iter().enumerate() {
            let appended = handle.append(&payload(number as u64, *len));
            prop_assert!(matches!(appended, Ok(_) | Err(AppendError::TooLarge { .. })), "{appended:?}");
            handle.flush().unwrap();
            prop_assert!(bytes_in(&bed.dir()) <= max_disk_bytes, "{} of {max_disk_bytes}", bytes_in(&bed.dir()));
        }
        store.shutdown().unwrap();
        let (_store, reader) = bed.open(stream);
        let seen = Seen::all(&reader);
        prop_assert!(bytes_in(&bed.dir()) <= max_disk_bytes);
        prop_assert_eq!(seen.data.len() as u64 + seen.dropped(), lens.len() as u64);
    }
}

#[test]
fn a_large_record_behind_a_report_keeps_the_cap() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    let most = 20_000;
    for round in 0..40 {
        // The report begins a segment, in which there is no room for what comes then.
        let _ = handle.append(&vec![0; MAX_PAYLOAD]);
        handle.flush().unwrap();
        handle.append(&payload(round, most)).unwrap();
        handle.flush().unwrap();
        assert!(bed.disk_bytes() <= small().max_disk_bytes, "{} in round {round}", bed.disk_bytes());
    }
}

#[test]
fn a_clock_that_jumps_by_years_changes_neither_order_nor_rotation_nor_retention() {
    let bed = Bed::new();
    let years = |years: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * years);
    let mut appended = Vec::new();
    let mut number = 0;
    // Forwards, backwards, and before 1970.
    for wall in [30, 10, 90, -40, 50] {
        bed.clock.set_wall(years(wall));
        let (store, handle) = bed.open(small());
        for _ in 0..50 {
            number += 1;
            appended.push((handle.proc_id(), handle.append(&payload(number, 500)).unwrap()));
        }
        handle.flush().unwrap();
        // A device that slept for long.
        bed.clock.advance(Duration::from_secs(400 * 24 * 3_600));
        store.shutdown().unwrap();
    }
    let (_store, handle) = bed.open(small());
    let mut read = Vec::new();
    let mut seen = Seen::default();
    for info in handle.seal().unwrap() {
        for record in
            handle.read(&info.id).unwrap().records().filter(|record| record.kind == RecordKind::Data)
        {
            read.push((info.proc_id, record.seq));
        }
        seen.read(&handle, &info.id);
    }
    assert!(seen.dropped_for(DropReason::Rotation) > 0);
    assert_eq!(seen.dropped() + read.len() as u64, 250);
    assert_eq!(read, appended[250 - read.len()..], "the newest, in the order they were appended");
}

#[test]
fn a_directory_with_ten_thousand_files_is_read_reported_and_brought_under_its_bounds() {
    let bed = Bed::new();
    std::fs::create_dir_all(bed.dir()).unwrap();
    let files = 10_000;
    for generation in 1..=files {
        let id = SegmentId { generation, proc_id: ProcId::new(7).unwrap() };
        let seq = ProcSeq::new(generation);
        let mut frames = Vec::new();
        let record = Record { kind: RecordKind::Data, seq, payload: b"{}" };
        encode_record(&mut frames, Seed::new(id), record);
        let header = Header {
            flags: 1,
            id,
            raw_len: frames.len() as u32,
            first_seq: seq,
            records: 1,
            seq_span: 0,
            created_ms: 0,
            dropped_records: 0,
            dropped_bytes: 0,
        };
        let file = [header.encode().as_slice(), &frames].concat();
        std::fs::write(bed.dir().join(format!("{id}.seg")), file).unwrap();
    }
    let (_store, handle) = bed.open(StreamConfig { max_disk_bytes: 8 << 20, ..small() });
    assert_eq!(handle.seal().unwrap().len() as u64, files);
    handle.append(b"one more").unwrap();
    handle.flush().unwrap();
    assert!(bed.files().len() <= MAX_FILES);
    let seen = Seen::all(&handle);
    assert_eq!(seen.data.len() as u64 + seen.dropped_for(DropReason::Rotation), files + 1);
    assert!(seen.data.contains_key(&(ProcId::new(7).unwrap(), ProcSeq::new(files))), "the newest");
}
