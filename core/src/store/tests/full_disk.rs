//! A full disk: what makes room, in which order, and what a kill in between leaves.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    super::*,
    support::{Bed, Op, Seen, bytes_in, copy_dir, payload, small},
};

/// Forty records in sealed segments, and one byte of space left.
fn full() -> (Bed, Store, StreamHandle, Vec<SegmentInfo>) {
    let bed = Bed::new();
    let (store, handle) = bed.open(StreamConfig { max_disk_bytes: 1 << 20, ..small() });
    for number in 1..=40 {
        handle.append(&payload(number, 500)).unwrap();
    }
    let segments = handle.seal().unwrap();
    bed.fs.limit_capacity(bed.root.path(), bytes_in(bed.root.path()) + 1);
    (bed, store, handle, segments)
}

#[test]
fn the_oldest_segments_make_room_and_are_reported() {
    let (bed, _store, handle, segments) = full();
    handle.append(&payload(41, 500)).unwrap();
    handle.flush().unwrap();
    assert!(handle.stats().state == StreamState::Ready);
    let seen = Seen::all(&handle);
    let lost = seen.dropped_for(DropReason::DiskFull);
    assert!(lost >= u64::from(segments[0].records), "{lost}");
    assert_eq!(seen.data.len() as u64 + lost, 41);
    assert!(seen.seqs(handle.proc_id()).contains(&41), "the newest is kept");
    assert!(bed.dir().join("RESERVE").exists(), "for the next time");
}

#[test]
fn a_disk_that_stays_full_for_long_keeps_the_newest_and_reports_the_rest() {
    let (_bed, store, handle, _) = full();
    let mut appended: Vec<_> = (1..=40).collect();
    for number in 41..=200 {
        appended.push(handle.append(&payload(number, 500)).unwrap().get());
        handle.flush().unwrap();
    }
    let seen = Seen::all(&handle);
    assert_eq!(seen.data.len() as u64 + seen.dropped_for(DropReason::DiskFull), 200);
    let seqs = seen.seqs(handle.proc_id());
    assert!(seqs.len() >= 20, "{}", seqs.len());
    assert!(appended[190..].iter().all(|seq| seqs.contains(seq)), "{seqs:?}");
    for seq in appended {
        assert!(seqs.contains(&seq) || seen.reports_cover(handle.proc_id(), ProcSeq::new(seq)), "{seq}");
    }
    store.shutdown().unwrap();
}

#[test]
fn without_a_reserve_nothing_is_removed_that_is_not_reported() {
    let (bed, _store, handle, segments) = full();
    // Somebody else has taken the space.
    std::fs::remove_file(bed.dir().join("RESERVE")).unwrap();
    bed.fs.limit_capacity(bed.root.path(), bytes_in(bed.root.path()));
    handle.append(&payload(41, 500)).unwrap();
    assert!(matches!(handle.flush(), Err(StoreError::Degraded { reason: DropReason::DiskFull, .. })));
    let files = bed.named(".seg");
    assert_eq!(files.len(), segments.len());
    let crashed = bed.crashed();
    let (_other, reader) = crashed.open(StreamConfig { max_disk_bytes: 1 << 20, ..small() });
    assert_eq!(Seen::all(&reader).data.len(), 40);
    // With some space it goes on.
    bed.fs.heal();
    bed.clock.advance(Duration::from_secs(60));
    handle.append(&payload(42, 500)).unwrap();
    handle.flush().unwrap();
    let seen = Seen::all(&handle);
    assert_eq!(seen.data.len() as u64 + seen.dropped(), 42);
}

/// Copies of a directory as a kill would leave it before each operation that changes something.
type Crashes = Arc<Mutex<Vec<(String, Vec<ProcSeq>, TempDir)>>>;

/// The numbers of the records whose flush returned.
type Flushed = Arc<Mutex<Vec<ProcSeq>>>;

fn record_crashes(bed: &Bed, flushed: &Flushed) -> Crashes {
    let crashes = Crashes::default();
    let (list, root, flushed) = (Arc::clone(&crashes), bed.root.path().to_owned(), Arc::clone(flushed));
    bed.fs.rule(move |op, path| {
        if matches!(op, Op::Create | Op::Write | Op::Truncate | Op::Rename | Op::Remove) {
            let copy = tempfile::tempdir().unwrap();
            copy_dir(&root, copy.path());
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            list.lock().unwrap().push((format!("{op:?} {name}"), flushed.lock().unwrap().clone(), copy));
        }
        None
    });
    crashes
}

/// Every record that was flushed is readable, or in a report. Says how many kills there were.
fn check_crashes(crashes: &Crashes, proc_id: ProcId) -> usize {
    let crashes = std::mem::take(&mut *crashes.lock().unwrap());
    let count = crashes.len();
    for (step, flushed, root) in crashes {
        let bed = Bed { root, ..Bed::new() };
        let (_store, handle) = bed.open(StreamConfig { max_disk_bytes: 1 << 20, ..small() });
        let seen = Seen::all(&handle);
        for seq in flushed {
            let known = seen.data.contains_key(&(proc_id, seq)) || seen.reports_cover(proc_id, seq);
            assert!(known, "record {seq} is lost in silence by a kill before {step}");
        }
    }
    count
}

#[test]
fn a_kill_between_any_two_steps_on_a_full_disk_leaves_no_silent_loss() {
    let (bed, store, handle, _) = full();
    let flushed: Flushed = Arc::new(Mutex::new((1..=40).map(ProcSeq::new).collect()));
    let crashes = record_crashes(&bed, &flushed);
    for number in 41..=80 {
        let seq = handle.append(&payload(number, 500)).unwrap();
        handle.flush().unwrap();
        flushed.lock().unwrap().push(seq);
    }
    assert!(handle.stats().dropped.get(DropReason::DiskFull).records > 0);
    bed.fs.heal();
    store.shutdown().unwrap();
    let count = check_crashes(&crashes, handle.proc_id());
    assert!(count > 60, "{count} kills");
}

#[test]
fn a_kill_between_any_two_steps_of_rotation_leaves_no_silent_loss() {
    let bed = Bed::new();
    let (store, handle) = bed.open(small());
    let flushed = Flushed::default();
    let crashes = record_crashes(&bed, &flushed);
    let mut waiting = Vec::new();
    for number in 1..=160 {
        waiting.push(handle.append(&payload(number, 500)).unwrap());
        if number % 3 == 0 {
            handle.flush().unwrap();
            flushed.lock().unwrap().append(&mut waiting);
        }
    }
    assert!(handle.stats().dropped.get(DropReason::Rotation).records > 0);
    bed.fs.heal();
    store.shutdown().unwrap();
    let count = check_crashes(&crashes, handle.proc_id());
    assert!(count > 100, "{count} kills");
}

#[test]
fn a_segment_is_not_acknowledged_before_the_report_of_its_part_is_on_disk() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    handle.append(b"fine").unwrap();
    let large = handle.append(b"refused by the server").unwrap();
    let info = handle.seal().unwrap()[0];
    // Everything fails but removing.
    bed.fs.rule(|op, _| (op != Op::Remove && op != Op::Read).then_some(std::io::ErrorKind::PermissionDenied));
    handle.report_drop(DropReason::TooLarge, handle.proc_id(), large, large, 1, 21);
    assert!(matches!(handle.acknowledge(&info.id), Err(StoreError::Degraded { .. })));
    assert!(bed.named(".seg")[0].exists());
    bed.fs.heal();
    handle.acknowledge(&info.id).unwrap();
    let crashed = bed.crashed();
    let (_other, reader) = crashed.open(small());
    let seen = Seen::all(&reader);
    assert!(seen.data.is_empty());
    assert_eq!(seen.dropped_for(DropReason::TooLarge), 1);
}

#[test]
fn on_a_full_disk_the_reserve_holds_the_report_that_an_acknowledgement_needs() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    let large = handle.append(b"refused by the server").unwrap();
    let info = handle.seal().unwrap()[0];
    bed.fs.limit_capacity(bed.root.path(), bytes_in(bed.root.path()));
    handle.report_drop(DropReason::TooLarge, handle.proc_id(), large, large, 1, 21);
    handle.acknowledge(&info.id).unwrap();
    let crashed = bed.crashed();
    let (_other, reader) = crashed.open(small());
    let seen = Seen::all(&reader);
    assert!(seen.data.is_empty());
    assert_eq!(seen.dropped_for(DropReason::TooLarge), 1);
    assert!(seen.reports_cover(handle.proc_id(), large));
}
