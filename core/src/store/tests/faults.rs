//! What the store does when the file system refuses.

use std::{collections::BTreeSet, io::ErrorKind, time::Duration};

use super::{
    super::*,
    support::{Bed, Op, Seen, payload, small},
};

#[test]
fn a_full_disk_degrades_and_recovers_with_every_record_accounted_for() {
    for error in [ErrorKind::StorageFull, ErrorKind::PermissionDenied, ErrorKind::Other] {
        let bed = Bed::new();
        let (store, handle) = bed.open(StreamConfig { max_disk_bytes: 1 << 20, ..small() });
        handle.append(&payload(1, 300)).unwrap();
        handle.flush().unwrap();
        bed.fs.rule(move |op, _| matches!(op, Op::Write | Op::Create).then_some(error));
        // 100 KiB, of which 64 KiB fit in memory.
        for number in 2..=101 {
            handle.append(&payload(number, 1_024)).unwrap();
        }
        assert!(matches!(handle.flush(), Err(StoreError::Degraded { .. })));
        let stats = handle.stats();
        assert!(matches!(stats.state, StreamState::Degraded { failures: 1, .. }), "{stats:?}");
        assert_eq!(stats.pending, 64);
        bed.fs.heal();
        // The pause is not over: no attempt.
        handle.append(&payload(102, 1_024)).unwrap();
        assert!(handle.flush().is_err());
        bed.clock.advance(Duration::from_secs(60));
        handle.append(&payload(103, 1_024)).unwrap();
        handle.flush().unwrap();
        assert_eq!(handle.stats().state, StreamState::Ready);
        let seen = Seen::all(&handle);
        assert_eq!(seen.data.len() as u64 + seen.dropped(), 103, "{error}");
        let reason = if error == ErrorKind::StorageFull { DropReason::DiskFull } else { DropReason::IoError };
        assert_eq!(seen.dropped_for(reason), seen.dropped());
        assert!(seen.seqs(handle.proc_id()).is_superset(&(39..=103).collect()));
        store.shutdown().unwrap();
        assert!(bed.named(".open").is_empty());
    }
}

#[test]
fn the_pause_between_attempts_doubles_up_to_an_hour() {
    let bed = Bed::new();
    bed.fs.fail(Op::Create, ErrorKind::StorageFull);
    let (store, handle) = bed.open(small());
    let mut failures = 0;
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        handle.append(b"x").unwrap();
        let _ = handle.flush();
        failures += 1;
        let StreamState::Degraded { failures: now, .. } = handle.stats().state else { panic!() };
        assert_eq!(now, failures);
        // One second too early nothing is tried.
        bed.clock.advance(Duration::from_secs(minutes * 60 - 1));
        handle.append(b"x").unwrap();
        let _ = handle.flush();
        assert!(
            matches!(handle.stats().state, StreamState::Degraded { failures: now, .. } if now == failures)
        );
        bed.clock.advance(Duration::from_secs(1));
    }
    assert!(matches!(store.shutdown(), Err(StoreError::Degraded { .. })));
}

#[test]
fn a_torn_write_that_cannot_be_cut_back_loses_nothing() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    handle.append(&payload(1, 300)).unwrap();
    handle.flush().unwrap();
    bed.fs.rule(|op, _| matches!(op, Op::Write | Op::Truncate).then_some(ErrorKind::Other));
    for number in 2..=5 {
        handle.append(&payload(number, 300)).unwrap();
    }
    assert!(handle.flush().is_err());
    bed.fs.heal();
    bed.clock.advance(Duration::from_secs(60));
    handle.append(&payload(6, 300)).unwrap();
    handle.flush().unwrap();
    let mut seqs = BTreeSet::new();
    for info in handle.seal().unwrap() {
        // A record that was whole in the torn write is there twice, under one number.
        for record in
            handle.read(&info.id).unwrap().records().filter(|record| record.kind == RecordKind::Data)
        {
            assert_eq!(record.payload, payload(record.seq.get(), 300));
            seqs.insert(record.seq.get());
        }
    }
    assert!(seqs.is_superset(&(1..=6).collect()), "{seqs:?}");
}

#[test]
fn reads_and_writes_of_one_byte_at_a_time_change_nothing() {
    let bed = Bed::new();
    bed.fs.limit_transfers(1);
    let (_store, handle) = bed.open(small());
    for number in 1..=30 {
        handle.append(&payload(number, 300)).unwrap();
    }
    let seen = Seen::all(&handle);
    assert_eq!(seen.seqs(handle.proc_id()), (1..=30).collect());
}

#[test]
fn interrupted_writes_are_repeated() {
    let bed = Bed::new();
    let mut calls = 0;
    bed.fs.rule(move |op, _| {
        calls += usize::from(op == Op::Write);
        (op == Op::Write && calls % 2 == 1).then_some(ErrorKind::Interrupted)
    });
    let (_store, handle) = bed.open(small());
    for number in 1..=30 {
        handle.append(&payload(number, 300)).unwrap();
    }
    let seen = Seen::all(&handle);
    assert_eq!((seen.data.len(), seen.dropped()), (30, 0));
}

#[test]
fn without_compression_a_segment_is_sealed_as_it_is() {
    let bed = Bed::new();
    bed.fs.rule(|op, path| {
        let temporary = path.extension().is_some_and(|extension| extension == "tmp");
        (temporary && op == Op::Create).then_some(ErrorKind::StorageFull)
    });
    let (store, handle) = bed.open(small());
    for number in 1..=10 {
        handle.append(&[number; 300]).unwrap();
    }
    assert_eq!(Seen::all(&handle).data.len(), 10);
    assert!(bed.disk_bytes() > 3_000);
    store.shutdown().unwrap();
    let (_store, handle) = bed.open(small());
    assert_eq!(Seen::all(&handle).data.len(), 10);
}

#[test]
fn a_sealing_that_fails_leaves_the_records_for_a_later_start() {
    let bed = Bed::new();
    bed.fs.fail(Op::Rename, ErrorKind::PermissionDenied);
    let (store, handle) = bed.open(small());
    for number in 1..=10 {
        handle.append(&payload(number, 300)).unwrap();
    }
    assert_eq!(handle.seal().unwrap(), []);
    let _ = store.shutdown();
    bed.fs.heal();
    let (_store, handle) = bed.open(small());
    let seen = Seen::all(&handle);
    assert_eq!((seen.data.len(), seen.dropped()), (10, 0));
}

#[test]
fn an_unreadable_file_at_the_head_is_skipped_and_kept() {
    let bed = Bed::new();
    for _ in 0..3 {
        let (store, handle) = bed.open(small());
        handle.append(b"x").unwrap();
        store.shutdown().unwrap();
    }
    let head = bed.named(".seg")[0].clone();
    let unreadable = head.clone();
    bed.fs
        .rule(move |op, path| (op == Op::Read && path == unreadable).then_some(ErrorKind::PermissionDenied));
    let (store, handle) = bed.open(small());
    assert_eq!(Seen::all(&handle).data.len(), 2);
    assert_eq!(handle.stats().skipped_files, 1);
    store.shutdown().unwrap();
    assert!(head.exists());
    bed.fs.heal();
    let (_store, handle) = bed.open(small());
    assert_eq!(Seen::all(&handle).data.len(), 3);
}

#[test]
fn files_that_cannot_be_removed_are_hidden_and_the_cap_still_holds() {
    let bed = Bed::new();
    bed.fs.fail(Op::Remove, ErrorKind::PermissionDenied);
    let (store, handle) = bed.open(small());
    for number in 1..=400 {
        handle.append(&payload(number, 500)).unwrap();
        let _ = handle.flush();
    }
    assert!(bed.disk_bytes() <= small().max_disk_bytes, "{}", bed.disk_bytes());
    let stats = handle.stats();
    assert!(matches!(stats.state, StreamState::Degraded { .. }), "{stats:?}");
    bed.fs.heal();
    bed.clock.advance(Duration::from_secs(3_600));
    handle.append(&payload(401, 500)).unwrap();
    handle.flush().unwrap();
    let seen = Seen::all(&handle);
    assert_eq!(seen.data.len() as u64 + seen.dropped(), 401);
    drop(store);
}

#[test]
fn one_file_that_cannot_be_removed_stops_nothing() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    handle.append(&payload(1, 500)).unwrap();
    let first = handle.seal().unwrap()[0].id;
    bed.fs.rule(move |op, path| {
        let first = path.file_name().is_some_and(|name| name == format!("{first}.seg").as_str());
        (op == Op::Remove && first).then_some(ErrorKind::PermissionDenied)
    });
    for number in 2..=400 {
        handle.append(&payload(number, 500)).unwrap();
        handle.flush().unwrap();
        assert!(bed.disk_bytes() <= small().max_disk_bytes, "{number}");
    }
    let seen = Seen::all(&handle);
    assert!(!seen.data.contains_key(&(handle.proc_id(), ProcSeq::new(1))), "reported, so hidden");
    assert_eq!(seen.data.len() as u64 + seen.dropped(), 400);
}

#[test]
fn a_sealing_that_failed_is_repeated_at_the_next_seal() {
    let bed = Bed::new();
    bed.fs.fail(Op::Rename, ErrorKind::PermissionDenied);
    let (_store, handle) = bed.open(small());
    handle.append(b"x").unwrap();
    assert_eq!(handle.seal().unwrap(), []);
    bed.fs.heal();
    assert_eq!(Seen::all(&handle).data.len(), 1);
}

#[test]
fn a_directory_removed_under_the_writer_is_reported() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    for number in 1..=5 {
        handle.append(&payload(number, 300)).unwrap();
    }
    handle.flush().unwrap();
    for path in bed.named(".open") {
        std::fs::remove_file(path).unwrap();
    }
    handle.append(&payload(6, 300)).unwrap();
    let _ = handle.seal().unwrap();
    let seen = Seen::all(&handle);
    assert_eq!(seen.data.len() as u64 + seen.dropped_for(DropReason::IoError), 6);
}

#[test]
fn without_access_to_the_directory_opening_fails_with_the_path() {
    let bed = Bed::new();
    for op in [Op::CreateDirs, Op::List] {
        bed.fs.fail(op, ErrorKind::PermissionDenied);
        let Err(StoreError::Directory { path, source }) = bed.try_open(small()) else { panic!("{op:?}") };
        assert!(path.ends_with("netlog/w-ext"));
        assert_eq!(source.kind(), ErrorKind::PermissionDenied);
        bed.fs.heal();
    }
    // A file in the place of the directory.
    let other = Bed::new();
    std::fs::write(other.root.path().join("netlog"), "").unwrap();
    assert!(matches!(other.try_open(small()), Err(StoreError::Directory { .. })));
}

#[test]
fn uploading_goes_on_while_nothing_can_be_written() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    handle.append(b"x").unwrap();
    let info = handle.seal().unwrap()[0];
    bed.fs.rule(|op, _| matches!(op, Op::Create | Op::Write).then_some(ErrorKind::PermissionDenied));
    handle.append(b"y").unwrap();
    assert!(handle.flush().is_err());
    assert_eq!(handle.seal().unwrap(), [info]);
    assert_eq!(handle.read(&info.id).unwrap().records().count(), 1);
    handle.acknowledge(&info.id).unwrap();
    assert_eq!(handle.seal().unwrap(), []);
}

#[test]
fn a_directory_that_cannot_be_listed_is_looked_at_later() {
    let bed = Bed::new();
    let (store, handle) = bed.open(small());
    handle.append(b"old").unwrap();
    store.shutdown().unwrap();
    // The first listing is that of the opening itself.
    let mut listings = 0;
    bed.fs.rule(move |op, _| {
        listings += usize::from(op == Op::List);
        (op == Op::List && listings == 2).then_some(ErrorKind::Other)
    });
    let (_store, handle) = bed.open(small());
    handle.append(b"new").unwrap();
    assert!(handle.flush().is_err());
    assert_eq!(handle.seal().unwrap(), []);
    bed.clock.advance(Duration::from_secs(60));
    handle.append(b"newer").unwrap();
    handle.flush().unwrap();
    let payloads: Vec<_> = Seen::all(&handle).data.into_values().collect();
    assert_eq!(payloads.len(), 3);
}
