//! Waiting for the disk: when, for which file, and what a refusal means.

use std::io::ErrorKind;

use super::{
    super::*,
    support::{Bed, Op, Seen, payload, small},
};

fn on_seal() -> StreamConfig {
    StreamConfig { durability: Durability::OnSeal, ..small() }
}

#[test]
fn nobody_waits_for_the_disk_unless_asked_to() {
    let bed = Bed::new();
    let (store, handle) = bed.open(small());
    handle.append(&payload(1, 300)).unwrap();
    handle.seal().unwrap();
    store.shutdown().unwrap();
    assert!(bed.fs.syncs().is_empty());
}

#[test]
fn a_segment_is_on_the_disk_before_it_has_its_final_name() {
    let bed = Bed::new();
    let (events, order) = std::sync::mpsc::channel();
    bed.fs.rule(move |op, path| {
        if matches!(op, Op::Sync | Op::Rename | Op::Remove) {
            let _ = events.send((op, path.extension().map(|extension| extension.to_owned())));
        }
        None
    });
    let (_store, handle) = bed.open(on_seal());
    handle.append(b"{\"a\":1,\"a\":1,\"a\":1,\"a\":1,\"a\":1,\"a\":1,\"a\":1,\"a\":1}").unwrap();
    handle.seal().unwrap();
    let order: Vec<_> = order.try_iter().filter(|(_, extension)| extension.is_some()).collect();
    let at = |wanted: Op, extension: &str| {
        order
            .iter()
            .position(|(op, of)| *op == wanted && of.as_ref().is_some_and(|of| of == extension))
            .unwrap()
    };
    assert!(at(Op::Sync, "tmp") < at(Op::Rename, "tmp"), "{order:?}");
    assert!(at(Op::Rename, "tmp") < at(Op::Remove, "open"), "{order:?}");
    assert_eq!(handle.stats().sync_failures, 0);
}

#[test]
fn a_segment_that_does_not_shrink_is_on_the_disk_before_its_final_name_too() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(on_seal());
    handle.append(&payload(1, 40)).unwrap();
    handle.seal().unwrap();
    let syncs = bed.fs.syncs();
    assert_eq!(syncs.len(), 1);
    assert!(syncs[0].extension().is_some_and(|extension| extension == "open"), "{syncs:?}");
}

#[test]
fn a_disk_that_refuses_is_counted_and_the_segment_is_sealed_all_the_same() {
    for error in [ErrorKind::StorageFull, ErrorKind::Other] {
        let bed = Bed::new();
        bed.fs.fail(Op::Sync, error);
        let (store, handle) = bed.open(on_seal());
        for number in 1..=30_u64 {
            handle.append(format!("{{\"record\":{number:0100}}}").as_bytes()).unwrap();
        }
        let segments = handle.seal().unwrap();
        assert_eq!(segments.iter().map(|info| info.records).sum::<u32>(), 30);
        // Once for the compressed file and once for the plain one, which is then kept.
        let syncs = bed.fs.syncs();
        assert_eq!(handle.stats().sync_failures, 2 * segments.len() as u64);
        assert_eq!(syncs.len(), 2 * segments.len(), "never twice for one file: {syncs:?}");
        handle.append(b"goes on").unwrap();
        assert_eq!(handle.seal().unwrap().len(), segments.len() + 1, "in a new file");
        assert_eq!(handle.stats().state, StreamState::Ready);
        store.shutdown().unwrap();
        bed.fs.heal();
        let (_store, reader) = bed.open(on_seal());
        let seen = Seen::all(&reader);
        assert_eq!((seen.data.len(), seen.dropped()), (31, 0));
    }
}
