//! What a start must make of damaged, torn, doubled and foreign files. Each accident has a name.

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::{
    super::{
        frame::{FRAME_LEN, HEADER_LEN},
        *,
    },
    support::{Bed, Seen, payload, small},
};

/// A directory as a kill leaves it: one open file with these records.
fn killed_with(records: u64) -> (Bed, ProcId) {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    for number in 1..=records {
        handle.append(&payload(number, 40)).unwrap();
    }
    handle.flush().unwrap();
    let crashed = bed.crashed();
    (crashed, handle.proc_id())
}

/// A directory with one sealed segment of these records.
fn sealed_with(records: u64, text: bool) -> (Bed, ProcId) {
    let bed = Bed::new();
    let (store, handle) = bed.open(small());
    for number in 1..=records {
        let text_record = format!("{{\"record\":{number:08},\"proto\":6,\"bytes\":0}}").into_bytes();
        let record = if text { text_record } else { payload(number, 40) };
        handle.append(&record).unwrap();
    }
    store.shutdown().unwrap();
    (bed, handle.proc_id())
}

fn only_file(bed: &Bed) -> PathBuf {
    let files = bed.files();
    assert_eq!(files.len(), 1);
    bed.dir().join(files.keys().next().unwrap())
}

fn read_back(bed: &Bed) -> Seen {
    let (store, handle) = bed.open(small());
    let seen = Seen::all(&handle);
    store.shutdown().unwrap();
    seen
}

#[test]
fn an_open_file_cut_at_any_byte_yields_the_records_before_the_cut() {
    let (bed, proc_id) = killed_with(6);
    let path = only_file(&bed);
    let whole = fs::read(&path).unwrap();
    let frame = FRAME_LEN + 40;
    assert_eq!(whole.len(), HEADER_LEN + 6 * frame);
    for len in 0..=whole.len() {
        let cut = Bed::new();
        fs::create_dir_all(cut.dir()).unwrap();
        fs::write(cut.dir().join(path.file_name().unwrap()), &whole[..len]).unwrap();
        let seen = read_back(&cut);
        let good = (len.saturating_sub(HEADER_LEN) / frame) as u64;
        assert_eq!(seen.seqs(proc_id), (1..=good).collect(), "cut at {len}");
        let torn = len > HEADER_LEN && !(len - HEADER_LEN).is_multiple_of(frame);
        assert_eq!(seen.dropped_for(DropReason::Corrupt), u64::from(torn), "cut at {len}");
        assert!(cut.named(".open").is_empty());
    }
}

#[test]
fn a_sealed_file_cut_at_any_byte_yields_a_prefix_and_reports_the_rest() {
    for text in [true, false] {
        let (bed, proc_id) = sealed_with(12, text);
        let path = only_file(&bed);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            let segment = parse_segment(&whole[..len]);
            let count = segment.as_ref().map_or(0, |segment| segment.records().count());
            if let Ok(segment) = &segment {
                let seqs: Vec<_> = segment.records().map(|record| record.seq.get()).collect();
                assert_eq!(seqs, (1..=count as u64).collect::<Vec<_>>());
            }
            // The same through a store, for some of the cuts: each start takes a while.
            if len % 37 == 0 {
                fs::write(&path, &whole[..len]).unwrap();
                let cut = bed.crashed();
                let (store, handle) = cut.open(small());
                let segments = handle.seal().unwrap();
                let readable = segments.iter().find(|info| info.id.proc_id == proc_id);
                if let Some(info) = readable {
                    match handle.read(&info.id) {
                        Ok(segment) => {
                            assert_eq!(segment.records().count(), count);
                            handle.acknowledge(&info.id).unwrap();
                        }
                        Err(ReadError::Corrupt { .. }) => {
                            assert_eq!(count, 0);
                            handle.discard(&info.id, DropReason::Corrupt).unwrap();
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                let seen = Seen::all(&handle);
                if len > HEADER_LEN && text {
                    assert_eq!(seen.dropped_for(DropReason::Corrupt) + count as u64, 12, "cut at {len}");
                }
                store.shutdown().unwrap();
            }
        }
    }
}

#[test]
fn no_flipped_bit_ever_alters_a_record() {
    let originals = |number: u64| format!("{{\"record\":{number:08},\"proto\":6,\"bytes\":0}}").into_bytes();
    let (killed, _) = killed_with(4);
    let (sealed, _) = sealed_with(8, true);
    for (bed, text) in [(killed, false), (sealed, true)] {
        let good = fs::read(only_file(&bed)).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let Ok(segment) = parse_segment(&bad) else { continue };
            for record in segment.records() {
                let number = record.seq.get();
                let original = if text { originals(number) } else { payload(number, 40) };
                assert_eq!(record.payload, original, "bit {bit}");
            }
        }
    }
}

#[test]
fn a_damaged_record_in_an_open_file_ends_it_and_the_rest_is_reported() {
    let (bed, proc_id) = killed_with(6);
    let path = only_file(&bed);
    let mut bytes = fs::read(&path).unwrap();
    bytes[HEADER_LEN + 2 * (FRAME_LEN + 40) + FRAME_LEN + 3] ^= 1;
    fs::write(&path, bytes).unwrap();
    let seen = read_back(&bed);
    assert_eq!(seen.seqs(proc_id), (1..=2).collect());
    assert_eq!(seen.dropped_for(DropReason::Corrupt), 4);
    assert!((3..=6).all(|seq| seen.reports_cover(proc_id, ProcSeq::new(seq))));
    assert_eq!(read_back(&bed).dropped(), 4, "reported once");
}

#[test]
fn zeros_at_the_end_and_a_file_of_zeros_are_survived() {
    let (bed, proc_id) = killed_with(3);
    let path = only_file(&bed);
    let mut bytes = fs::read(&path).unwrap();
    bytes.resize(bytes.len() + 4_096, 0);
    fs::write(&path, bytes).unwrap();
    fs::write(bed.dir().join("0000000000000000-00000001.seg"), [0; 4_096]).unwrap();
    fs::write(bed.dir().join("0000000000000000-00000002.open"), [0; 4_096]).unwrap();
    fs::write(bed.dir().join("0000000000000000-00000003.open"), []).unwrap();
    fs::write(bed.dir().join("0000000000000000-00000004.seg"), []).unwrap();
    let seen = read_back(&bed);
    assert_eq!(seen.seqs(proc_id), (1..=3).collect());
    assert_eq!(seen.dropped_for(DropReason::Corrupt), 3);
    assert!(bed.files().keys().all(|name| !name.starts_with("0000000000000000")));
}

#[test]
fn an_open_file_with_nothing_but_a_header_held_no_record_and_goes() {
    let (bed, _) = killed_with(3);
    let path = only_file(&bed);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..HEADER_LEN]).unwrap();
    let seen = read_back(&bed);
    assert!(seen.data.is_empty() && seen.dropped() == 0);
    assert!(bed.files().is_empty());
}

#[test]
fn a_sealed_file_of_which_only_the_header_is_left_is_given_up_with_its_full_count() {
    let (bed, proc_id) = sealed_with(3, true);
    let path = only_file(&bed);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..HEADER_LEN]).unwrap();
    let (_store, handle) = bed.open(small());
    let id = handle.seal().unwrap()[0].id;
    assert!(matches!(handle.read(&id), Err(ReadError::Corrupt { .. })));
    handle.discard(&id, DropReason::Corrupt).unwrap();
    let seen = Seen::all(&handle);
    assert_eq!(seen.dropped_for(DropReason::Corrupt), 3);
    assert!((1..=3).all(|seq| seen.reports_cover(proc_id, ProcSeq::new(seq))));
}

#[test]
fn a_crash_between_any_two_steps_of_sealing_loses_and_doubles_nothing() {
    let (bed, proc_id) = killed_with(20);
    let open = only_file(&bed);
    let open_bytes = fs::read(&open).unwrap();
    let sealed_bed = bed.crashed();
    read_back(&sealed_bed);
    let sealed = only_file(&sealed_bed);
    assert_eq!(sealed.extension().unwrap(), "seg");
    let sealed_bytes = fs::read(&sealed).unwrap();
    let half = sealed_bytes[..sealed_bytes.len() / 2].to_vec();
    let mut torn = open_bytes.clone();
    torn.extend_from_slice(b"torn");

    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(&str, Files<'_>, u64); 6] = [
        ("temporary begun", &[("open", &open_bytes), ("tmp", &half)], 0),
        ("temporary whole", &[("open", &open_bytes), ("tmp", &sealed_bytes)], 0),
        ("renamed", &[("open", &open_bytes), ("seg", &sealed_bytes)], 0),
        ("renamed, data lost with the power", &[("open", &open_bytes), ("seg", &half)], 0),
        ("renamed, torn tail not reported", &[("open", &torn), ("seg", &sealed_bytes)], 1),
        ("done", &[("seg", &sealed_bytes)], 0),
    ];
    for (case, files, lost) in cases {
        let bed = Bed::new();
        fs::create_dir_all(bed.dir()).unwrap();
        for (extension, bytes) in files {
            fs::write(bed.dir().join(open.file_name().unwrap()).with_extension(extension), bytes).unwrap();
        }
        let seen = read_back(&bed);
        assert_eq!(seen.seqs(proc_id), (1..=20).collect(), "{case}");
        assert_eq!(seen.dropped(), lost, "{case}");
        assert!(bed.named(".open").is_empty() && bed.named(".tmp").is_empty(), "{case}");
        assert_eq!(read_back(&bed).seqs(proc_id).len(), 20, "{case}");
    }
}

#[test]
fn a_crash_between_report_and_removal_reports_twice_and_never_less() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    let mut before = BTreeMap::new();
    let mut number = 0;
    // Up to the first rotation.
    while handle.stats().dropped.total().records == 0 {
        before = bed.files();
        number += 1;
        handle.append(&payload(number, 500)).unwrap();
        handle.flush().unwrap();
    }
    let crashed = bed.crashed();
    for (name, bytes) in before {
        let path = crashed.dir().join(name);
        if path.extension().is_some_and(|extension| extension == "seg") && !path.exists() {
            fs::write(path, bytes).unwrap();
        }
    }
    let (_other, reader) = crashed.open(StreamConfig { max_disk_bytes: 1 << 20, ..small() });
    let seen = Seen::all(&reader);
    assert_eq!(seen.seqs(handle.proc_id()).len() as u64, number, "nothing was lost");
    assert!(seen.dropped() > 0, "the report came first");
}

#[test]
fn foreign_files_directories_and_links_are_never_touched() {
    let (bed, proc_id) = killed_with(3);
    let dir = bed.dir();
    let outside = bed.root.path().join("outside");
    fs::write(&outside, "precious").unwrap();
    for name in
        ["readme.txt", "0000000000000001-00000001.seg.bak", "1-2.seg", "0000000000000001-0000000g.open"]
    {
        fs::write(dir.join(name), name).unwrap();
    }
    fs::create_dir(dir.join("0000000000000001-00000009.seg")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&outside, dir.join("0000000000000001-00000008.open")).unwrap();
    let seen = read_back(&bed);
    assert_eq!(seen.seqs(proc_id), (1..=3).collect());
    assert_eq!(seen.dropped(), 0);
    let (store, _) = bed.open(small());
    store.clear().unwrap();
    store.destroy().unwrap();
    assert_eq!(bed.files().len(), 4);
    assert!(dir.join("0000000000000001-00000009.seg").is_dir());
    #[cfg(unix)]
    assert!(dir.join("0000000000000001-00000008.open").is_symlink());
    assert_eq!(fs::read_to_string(outside).unwrap(), "precious");
}

#[test]
fn files_of_a_later_version_are_skipped_kept_and_counted() {
    let (bed, _) = sealed_with(5, true);
    let path = only_file(&bed);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let open = path.with_file_name("0000000000000009-00000009.open");
    fs::write(&open, &bytes).unwrap();
    let (store, handle) = bed.open(small());
    assert_eq!(handle.seal().unwrap(), []);
    assert_eq!(handle.stats().skipped_files, 2);
    store.shutdown().unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read(&open).unwrap(), bytes);
    assert!(matches!(open_segment(&path), Err(ReadError::Version { version: 2 })));
}

#[test]
fn a_file_under_another_name_is_not_taken_for_that_one() {
    let (bed, _) = sealed_with(5, true);
    let path = only_file(&bed);
    fs::rename(&path, path.with_file_name("0000000000000077-00000077.seg")).unwrap();
    let seen = read_back(&bed);
    assert!(seen.data.is_empty());
    assert_eq!(seen.dropped_for(DropReason::Corrupt), 1);
}

#[test]
fn two_processes_with_one_generation_are_kept_apart() {
    let (bed, first) = sealed_with(3, true);
    let (other, second) = sealed_with(4, true);
    for (name, bytes) in other.files() {
        fs::write(bed.dir().join(name), bytes).unwrap();
    }
    let seen = read_back(&bed);
    assert_eq!((seen.seqs(first).len(), seen.seqs(second).len()), (3, 4));
}

#[test]
fn an_inflated_length_in_a_header_is_refused_before_memory_is_taken() {
    let (bed, _) = sealed_with(5, true);
    let mut bytes = fs::read(only_file(&bed)).unwrap();
    bytes[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(parse_segment(&bytes), Err(ReadError::Corrupt { .. })));
}

#[test]
fn a_lower_cap_is_reached_at_the_first_record() {
    let bed = Bed::new();
    let (store, handle) = bed.open(StreamConfig { max_disk_bytes: 1 << 20, ..small() });
    for number in 1..=1_000 {
        handle.append(&payload(number, 500)).unwrap();
        if number % 100 == 0 {
            handle.flush().unwrap();
        }
    }
    store.shutdown().unwrap();
    assert!(bed.disk_bytes() > 400_000);
    let (_store, handle) = bed.open(small());
    handle.append(b"x").unwrap();
    handle.flush().unwrap();
    assert!(bed.disk_bytes() <= small().max_disk_bytes);
    let seen = Seen::all(&handle);
    assert_eq!(seen.data.len() as u64 + seen.dropped(), 1_001);
}

#[test]
fn any_bytes_are_parsed_without_panic() {
    let (bed, _) = sealed_with(12, true);
    let good = fs::read(only_file(&bed)).unwrap();
    for number in 0..2_000_u64 {
        let mut bytes = good.clone();
        for (index, value) in payload(number, 12).iter().enumerate() {
            let at = (number as usize * 31 + index * 97 + usize::from(*value)) % bytes.len();
            bytes[at] = *value;
        }
        // With a header that checks, so that the rest is looked at.
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        let _ = parse_segment(&bytes);
    }
}
