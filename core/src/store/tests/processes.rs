//! Several processes: in one role, in different ones, alive and dead. Two stores stand for two processes: locks belong
//! to open files, so that they keep each other out as those of two processes do.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    super::{
        fs::{Fs, RealFs},
        *,
    },
    support::{Bed, Op, Seen, name, payload, small},
};

/// The lock files of a role that somebody holds now.
fn held(bed: &Bed, role: &str) -> Vec<&'static str> {
    let dir = bed.dir_of(role);
    ["LOCK", "TURN"]
        .into_iter()
        .filter(|lock| dir.join(lock).exists() && RealFs.lock(&dir.join(lock)).unwrap().is_none())
        .collect()
}

#[test]
fn an_exclusive_role_holds_one_lock_from_open_to_shutdown() {
    for role in [Role::Extension, Role::Service] {
        let bed = Bed::new();
        let (store, handle) = bed.open_as(role.clone(), small());
        assert_eq!(held(&bed, role.as_str()), ["LOCK"]);
        handle.append(b"x").unwrap();
        handle.seal().unwrap();
        assert_eq!(held(&bed, role.as_str()), ["LOCK"]);
        store.shutdown().unwrap();
        assert!(held(&bed, role.as_str()).is_empty());
    }
}

#[test]
fn a_shared_role_holds_no_lock_while_idle() {
    for role in [Role::App, Role::Other(name())] {
        let bed = Bed::new();
        let (store, handle) = bed.open_as(role.clone(), small());
        // An answer of the writer comes when its turn is over, or in it: the second one is asked for after the first.
        let idle = |what: &str| {
            store.flush_all().unwrap();
            let (other, _) = bed.open_as(role.clone(), small());
            other.shutdown().unwrap();
            assert!(held(&bed, role.as_str()).is_empty(), "{what}");
        };
        idle("after opening");
        for number in 1..=30 {
            handle.append(&payload(number, 500)).unwrap();
        }
        handle.flush().unwrap();
        idle("after a flush");
        let segments = handle.seal().unwrap();
        idle("after a seal");
        handle.read(&segments[0].id).unwrap();
        handle.acknowledge(&segments[0].id).unwrap();
        idle("after an acknowledgement");
        handle.discard(&segments[1].id, DropReason::Rejected).unwrap();
        idle("after a drop");
        handle.claim(&Role::Extension).unwrap();
        idle("after a claim");
        store.shutdown().unwrap();
        assert!(held(&bed, role.as_str()).is_empty());
    }
}

#[test]
fn a_shared_role_takes_the_lock_for_every_change_of_a_file() {
    let bed = Bed::new();
    let dir = bed.dir_of("app");
    let unlocked = Arc::new(Mutex::new(Vec::new()));
    let (list, turn) = (Arc::clone(&unlocked), dir.join("TURN"));
    bed.fs.rule(move |op, path| {
        let changes = matches!(op, Op::Create | Op::Write | Op::Rename | Op::Remove);
        if changes && RealFs.lock(&turn).unwrap().is_some() {
            list.lock().unwrap().push((op, path.to_owned()));
        }
        None
    });
    let (store, handle) = bed.open_as(Role::App, small());
    for number in 1..=200 {
        handle.append(&payload(number, 500)).unwrap();
        if number % 7 == 0 {
            handle.flush().unwrap();
        }
    }
    for info in handle.seal().unwrap() {
        handle.acknowledge(&info.id).unwrap();
    }
    store.clear().unwrap();
    store.shutdown().unwrap();
    assert_eq!(*unlocked.lock().unwrap(), []);
}

#[test]
fn two_processes_of_a_shared_role_lose_nothing_and_keep_the_cap() {
    let bed = Bed::new();
    let stream = StreamConfig { max_disk_bytes: 128 * 1024, ..small() };
    let (first, a) = bed.open_as(Role::App, stream.clone());
    let mut appended = BTreeSet::new();
    let mut append = |handle: &StreamHandle, number| {
        let seq = handle.append(&payload(number, 500)).unwrap();
        appended.insert((handle.proc_id(), seq));
        handle.flush().unwrap();
    };
    for number in 1..=5 {
        append(&a, number);
    }
    // It takes over what the first one has open.
    let (second, b) = bed.open_as(Role::App, stream.clone());
    for number in 6..=400 {
        append(if number % 3 == 0 { &b } else { &a }, number);
        assert!(super::support::bytes_in(&bed.dir_of("app")) <= stream.max_disk_bytes, "{number}");
    }
    first.shutdown().unwrap();
    second.shutdown().unwrap();
    let (_third, reader) = bed.open_as(Role::App, stream);
    let seen = Seen::all(&reader);
    assert!(seen.dropped_for(DropReason::Rotation) > 0);
    assert_eq!(seen.data.len() as u64 + seen.dropped(), 400);
    for (proc_id, seq) in appended {
        assert!(seen.data.contains_key(&(proc_id, seq)) || seen.reports_cover(proc_id, seq));
    }
}

#[test]
fn what_one_process_delivered_the_other_neither_lists_nor_counts_as_lost() {
    let bed = Bed::new();
    let (_first, a) = bed.open_as(Role::App, small());
    for number in 1..=30 {
        a.append(&payload(number, 500)).unwrap();
    }
    let listed = a.seal().unwrap();
    let (_second, b) = bed.open_as(Role::App, small());
    assert_eq!(b.seal().unwrap(), listed);
    for info in &listed {
        b.acknowledge(&info.id).unwrap();
    }
    a.discard(&listed[0].id, DropReason::Rejected).unwrap();
    assert_eq!(a.seal().unwrap(), []);
    assert_eq!(a.stats().dropped.total().records, 0);
}

#[test]
fn without_its_turn_a_shared_role_keeps_records_in_memory_and_changes_nothing() {
    let bed = Bed::new();
    let (_store, handle) = bed.open_as(Role::App, small());
    handle.append(b"written").unwrap();
    handle.flush().unwrap();
    let before = fs::read_dir(bed.dir_of("app")).unwrap().count();
    bed.fs.fail(Op::Lock, std::io::ErrorKind::PermissionDenied);
    handle.append(b"held").unwrap();
    assert!(matches!(handle.flush(), Err(StoreError::Degraded { .. })));
    assert_eq!(fs::read_dir(bed.dir_of("app")).unwrap().count(), before);
    assert_eq!(handle.stats().pending, 1);
    bed.fs.heal();
    bed.clock.advance(Duration::from_secs(60));
    handle.append(b"and on").unwrap();
    handle.flush().unwrap();
    let seen = Seen::all(&handle);
    assert_eq!((seen.data.len(), seen.dropped()), (3, 0));
}

#[test]
fn a_directory_that_is_deleted_is_made_again_and_its_loss_reported() {
    for role in [Role::App, Role::Extension] {
        let bed = Bed::new();
        let (store, handle) = bed.open_as(role.clone(), small());
        for number in 1..=12 {
            handle.append(&payload(number, 500)).unwrap();
        }
        handle.seal().unwrap();
        fs::remove_dir_all(bed.root.path().join("netlog")).unwrap();
        handle.append(&payload(13, 500)).unwrap();
        handle.flush().unwrap();
        let seen = Seen::all(&handle);
        assert_eq!(seen.seqs(handle.proc_id()), [13].into(), "{role:?}");
        assert_eq!(seen.dropped_for(DropReason::IoError), 12, "{role:?}");
        if role == Role::Extension {
            assert_eq!(held(&bed, "ext"), ["LOCK"], "the new one");
        }
        store.shutdown().unwrap();
    }
}
