//! What the interface promises when nothing goes wrong.

use std::{sync::Arc, time::Duration};

use super::{
    super::{catalog::MAX_FILES, *},
    support::{Bed, Op, PATIENCE, Seen, name, payload, small},
};
use crate::clock::SystemClock;

#[test]
fn records_come_back_as_appended_and_in_order() {
    let bed = Bed::new();
    let (store, handle) = bed.open(small());
    for number in 1..=40 {
        assert_eq!(handle.append(&payload(number, 300)).unwrap().get(), number);
    }
    let segments = handle.seal().unwrap();
    assert!(segments.len() >= 3, "{segments:?}");
    assert!(segments.is_sorted_by_key(|info| info.id));
    let mut expected = 1;
    for info in &segments {
        let segment = handle.read(&info.id).unwrap();
        assert_eq!(segment.info(), info);
        assert_eq!(info.first_seq.get(), expected);
        for record in segment.records() {
            assert_eq!(record.seq.get(), expected);
            assert_eq!(record.payload, payload(expected, 300));
            expected += 1;
        }
        assert_eq!(info.last_seq.get(), expected - 1);
    }
    assert_eq!(expected, 41);
    store.shutdown().unwrap();
}

#[test]
fn nothing_is_on_disk_before_the_first_record() {
    let bed = Bed::new();
    let (store, handle) = bed.open(small());
    handle.flush().unwrap();
    assert_eq!(handle.seal().unwrap(), []);
    assert!(bed.files().is_empty());
    store.shutdown().unwrap();
    assert!(bed.files().is_empty());
}

#[test]
fn a_record_whose_flush_returned_survives_a_kill() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    handle.append(b"first").unwrap();
    handle.flush().unwrap();
    let crashed = bed.crashed();
    let (_other, reader) = crashed.open(small());
    let seen = Seen::all(&reader);
    assert_eq!(seen.data[&(handle.proc_id(), ProcSeq::new(1))], b"first");
    assert_eq!(seen.dropped(), 0);
    assert_ne!(reader.proc_id(), handle.proc_id());
}

#[test]
fn sixteen_kibibytes_are_written_at_once_and_less_waits() {
    let bed = Bed::new();
    let writes = bed.fs.watch();
    let (_store, handle) = bed.open(StreamConfig::new(name()));
    handle.append(&payload(1, 1_000)).unwrap();
    assert_eq!(bed.fs.writes(), 0);
    for number in 2..=17 {
        handle.append(&payload(number, 1_000)).unwrap();
    }
    let written = writes.recv_timeout(PATIENCE).unwrap();
    assert!(written >= 16 * 1024, "{written}");
}

#[test]
fn the_first_unwritten_record_waits_for_the_write_delay_only() {
    let bed = Bed::new();
    let writes = bed.fs.watch();
    let config = StoreConfig { clock: Arc::new(SystemClock), ..bed.config() };
    let stream = StreamConfig { write_delay: Duration::from_millis(5), ..small() };
    let store = Store::open_on(Arc::clone(&bed.fs) as Arc<dyn Fs>, config, vec![stream]).unwrap();
    store.stream(&name()).unwrap().append(b"alone").unwrap();
    writes.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn an_acknowledged_segment_is_gone_for_ever() {
    let bed = Bed::new();
    let (store, handle) = bed.open(small());
    handle.append(b"x").unwrap();
    let [info] = handle.seal().unwrap()[..] else { panic!() };
    handle.acknowledge(&info.id).unwrap();
    handle.acknowledge(&info.id).unwrap();
    assert!(matches!(handle.read(&info.id), Err(ReadError::NotFound { .. })));
    assert_eq!(handle.seal().unwrap(), []);
    store.shutdown().unwrap();
    let (_store, handle) = bed.open(small());
    assert_eq!(handle.seal().unwrap(), []);
    assert!(bed.files().is_empty());
}

#[test]
fn a_discarded_segment_leaves_its_report_and_the_reports_in_it() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    handle.append(b"12345").unwrap();
    let first = handle.seal().unwrap()[0];
    handle.discard(&first.id, DropReason::Rejected).unwrap();
    let second = handle.seal().unwrap();
    assert_eq!(second.len(), 1, "the report");
    handle.discard(&second[0].id, DropReason::Corrupt).unwrap();
    let seen = Seen::all(&handle);
    let range = SeqRange { proc_id: handle.proc_id(), from: ProcSeq::new(1), to: ProcSeq::new(1) };
    let report = DropReport {
        reason: DropReason::Rejected,
        count: DropCount { records: 1, bytes: 5 },
        range: Some(range),
    };
    assert_eq!(seen.reports, [report]);
    assert_eq!(handle.stats().dropped.get(DropReason::Rejected).records, 1);
}

#[test]
fn a_partial_drop_is_reported_before_its_segment_goes() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    handle.append(b"fine").unwrap();
    let large = handle.append(b"refused by the server").unwrap();
    let info = handle.seal().unwrap()[0];
    handle.report_drop(DropReason::TooLarge, handle.proc_id(), large, large, 1, 21);
    handle.acknowledge(&info.id).unwrap();
    let (_other, reader) = {
        let crashed = bed.crashed();
        let pair = crashed.open(small());
        (crashed, pair)
    };
    let seen = Seen::all(&reader.1);
    assert!(seen.data.is_empty());
    assert_eq!(seen.dropped_for(DropReason::TooLarge), 1);
    assert!(seen.reports_cover(handle.proc_id(), large));
}

#[test]
fn too_large_and_too_many_are_refused_numbered_and_reported() {
    let bed = Bed::new();
    // The writer is held in its first write while the queue fills up.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let (entered, enter) = std::sync::mpsc::channel();
    bed.fs.rule(move |op, _| {
        if op == Op::Write {
            let _ = entered.send(());
            let _ = held.recv();
        }
        None
    });
    let stream = StreamConfig { write_delay: Duration::ZERO, ..StreamConfig::new(name()) };
    let (store, handle) = bed.open(stream);
    handle.append(b"goes to the writer").unwrap();
    enter.recv_timeout(PATIENCE).unwrap();
    for _ in 0..256 {
        handle.append(b"waits").unwrap();
    }
    assert!(matches!(handle.append(b"one too many"), Err(AppendError::QueueFull { records: 256, .. })));
    let too_large = handle.append(&vec![0; MAX_PAYLOAD + 1]);
    assert_eq!(too_large, Err(AppendError::TooLarge { len: MAX_PAYLOAD + 1, max: MAX_PAYLOAD }));
    drop(hold);
    let seen = Seen::all(&handle);
    assert_eq!(seen.data.len(), 257);
    assert_eq!(seen.dropped_for(DropReason::QueueFull), 1);
    assert_eq!(seen.dropped_for(DropReason::TooLarge), 1);
    assert!(seen.reports_cover(handle.proc_id(), ProcSeq::new(258)));
    assert!(seen.reports_cover(handle.proc_id(), ProcSeq::new(259)));
    let stats = handle.stats();
    assert_eq!((stats.appended, stats.written, stats.dropped.total().records), (257, 257, 2));
    store.shutdown().unwrap();
    assert_eq!(handle.append(b"late"), Err(AppendError::Closed));
    assert_eq!(handle.stats().refused_closed, 1);
    assert_eq!(handle.stats().state, StreamState::Closed);
    assert!(matches!(handle.flush(), Err(StoreError::Closed)));
}

#[test]
fn a_record_larger_than_a_segment_has_one_of_its_own() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(StreamConfig::new(name()));
    handle.append(b"before").unwrap();
    handle.flush().unwrap();
    handle.append(&payload(2, MAX_PAYLOAD)).unwrap();
    handle.flush().unwrap();
    handle.append(b"after").unwrap();
    let segments = handle.seal().unwrap();
    assert_eq!(segments.iter().map(|info| info.records).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(Seen::all(&handle).data[&(handle.proc_id(), ProcSeq::new(2))], payload(2, MAX_PAYLOAD));
}

#[test]
fn the_cap_holds_while_reports_are_carried_forward_over_many_rotations() {
    let bed = Bed::new();
    let stream = small();
    let cap = stream.max_disk_bytes;
    let (store, handle) = bed.open(stream.clone());
    let mut least = u64::MAX;
    let mut seqs = Vec::new();
    for number in 1..=3_000 {
        seqs.push(handle.append(&payload(number, 200)).unwrap());
        if number % 10 == 0 {
            handle.flush().unwrap();
            let used = bed.disk_bytes();
            assert!(used <= cap, "{used} at {number}");
            assert_eq!(handle.stats().disk_bytes, used);
            if number > 1_000 {
                least = least.min(used);
            }
        }
    }
    // What is kept never falls by half: reserves are a segment and room for the reports.
    assert!(least >= cap * 7 / 10, "{least} of {cap}");
    let seen = Seen::all(&handle);
    assert!(seen.dropped_for(DropReason::Rotation) > 2_000);
    assert_eq!(seen.data.len() as u64 + seen.dropped(), 3_000);
    for seq in seqs {
        assert!(
            seen.data.contains_key(&(handle.proc_id(), seq)) || seen.reports_cover(handle.proc_id(), seq)
        );
    }
    store.shutdown().unwrap();
    let (_store, reader) = bed.open(stream);
    let again = Seen::all(&reader);
    assert_eq!(again.data.len() as u64 + again.dropped(), 3_000);
}

#[test]
fn a_second_writer_in_the_same_role_is_refused_and_another_role_is_not() {
    let bed = Bed::new();
    let (store, _handle) = bed.open(small());
    assert!(matches!(bed.try_open(small()), Err(StoreError::InUse { .. })));
    let app = StoreConfig { role: Role::App, ..bed.config() };
    Store::open(app, vec![small()]).unwrap().shutdown().unwrap();
    store.shutdown().unwrap();
    bed.open(small()).0.shutdown().unwrap();
}

#[test]
fn limits_out_of_range_and_double_streams_are_refused() {
    let bed = Bed::new();
    let tiny = StreamConfig { segment_bytes: 100, ..small() };
    assert!(matches!(bed.try_open(tiny), Err(StoreError::InvalidLimit { .. })));
    let low_cap = StreamConfig { max_disk_bytes: 10_000, ..small() };
    assert!(matches!(bed.try_open(low_cap), Err(StoreError::InvalidLimit { .. })));
    let twice = Store::open(bed.config(), vec![small(), small()]);
    assert!(matches!(twice, Err(StoreError::DuplicateStream { .. })));
}

#[test]
fn clear_deletes_what_is_queued_what_is_written_and_nothing_foreign() {
    let bed = Bed::new();
    let (store, handle) = bed.open(small());
    for number in 1..=30 {
        handle.append(&payload(number, 300)).unwrap();
    }
    handle.flush().unwrap();
    let foreign = bed.dir().join("notes.txt");
    std::fs::write(&foreign, "mine").unwrap();
    handle.append(b"queued").unwrap();
    store.clear().unwrap();
    assert_eq!(bed.files().into_keys().collect::<Vec<_>>(), ["notes.txt"]);
    assert_eq!(handle.stats().disk_bytes, 0);
    assert_eq!(handle.append(b"later").unwrap().get(), 32);
    assert_eq!(Seen::all(&handle).seqs(handle.proc_id()).into_iter().collect::<Vec<_>>(), [32]);
    store.destroy().unwrap();
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "mine");
    assert_eq!(bed.files().len(), 1);
}

#[test]
fn destroy_leaves_no_directory() {
    let bed = Bed::new();
    let (store, handle) = bed.open(small());
    handle.append(b"x").unwrap();
    store.destroy().unwrap();
    assert_eq!(std::fs::read_dir(bed.root.path()).unwrap().count(), 0);
}

#[test]
fn streams_of_one_store_are_apart() {
    let bed = Bed::new();
    let other = StreamName::new("sockstat").unwrap();
    let streams = vec![small(), StreamConfig { name: other.clone(), ..small() }];
    let store = Store::open(bed.config(), streams).unwrap();
    let (a, b) = (store.stream(&name()).unwrap(), store.stream(&other).unwrap());
    a.append(b"a").unwrap();
    assert_eq!(b.append(b"b").unwrap().get(), 1);
    assert_eq!(Seen::all(&a).data.into_values().collect::<Vec<_>>(), [b"a"]);
    assert_eq!(Seen::all(&b).data.into_values().collect::<Vec<_>>(), [b"b"]);
    assert!(store.stream(&StreamName::new("third").unwrap()).is_none());
}

#[test]
fn a_thousand_restarts_do_not_grow_the_directory() {
    let bed = Bed::new();
    for round in 0..1_000_u64 {
        let (store, handle) = bed.open(small());
        if round % 10 == 0 {
            handle.append(&payload(round, 20)).unwrap();
        }
        store.shutdown().unwrap();
    }
    assert_eq!(bed.files().len(), 100);
}

#[test]
fn the_number_of_files_is_bounded_too() {
    let bed = Bed::new();
    let rounds = MAX_FILES as u64 + 40;
    for round in 0..rounds {
        let (store, handle) = bed.open(small());
        handle.append(&payload(round, 20)).unwrap();
        store.shutdown().unwrap();
        assert!(bed.files().len() <= MAX_FILES);
    }
    let (_store, handle) = bed.open(small());
    let seen = Seen::all(&handle);
    assert_eq!(seen.data.len() as u64 + seen.dropped(), rounds);
}

#[test]
fn records_like_ours_take_a_fifth_of_their_size() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(StreamConfig::new(name()));
    let mut raw = 0;
    for number in 0..4_000_u64 {
        let record = format!(
            r#"{{"nodeId":"nKx3","start":"2025-06-01T12:{:02}:{:02}Z","virtualTraffic":[{{"proto":6,"src":"100.64.0.{}:{}","dst":"100.64.0.9:443","txPkts":{},"txBytes":{},"rxPkts":{},"rxBytes":{}}}]}}"#,
            number / 60 % 60,
            number % 60,
            number % 7,
            40_000 + number * 37 % 20_000,
            number * 31 % 97,
            number * 7_919 % 65_536,
            number * 13 % 89,
            number * 104_729 % 1_000_000,
        );
        raw += record.len() as u64;
        handle.append(record.as_bytes()).unwrap();
        if number % 50 == 0 {
            handle.flush().unwrap();
        }
    }
    handle.seal().unwrap();
    assert!(bed.disk_bytes() * 5 <= raw, "{} of {raw}", bed.disk_bytes());
}
