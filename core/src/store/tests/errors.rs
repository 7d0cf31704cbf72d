//! Every operation fails with every error, once and for long: nothing hangs, nothing panics, nothing is lost in silence,
//! and when the fault ends the stream works again.

use std::{io, time::Duration};

use super::{
    super::*,
    support::{Bed, Op, Seen, payload, small},
};

/// The errors that matter on phones, by their Linux numbers; elsewhere these are errors too, if others. EPERM and
/// EACCES are those of a locked device.
const ERRORS: [(&str, i32); 9] = [
    ("ENOSPC", 28),
    ("EIO", 5),
    ("EACCES", 13),
    ("EPERM", 1),
    ("EROFS", 30),
    ("EMFILE", 24),
    ("ENOENT", 2),
    ("EINTR", 4),
    ("EDQUOT", 122),
];

/// Appends 60 records while `op` fails, ten of them in one flush, and 10 afterwards. Then adds up.
fn survive(role: &Role, op: Op, errno: i32, times: usize) {
    let case = format!("{role:?} {op:?} {} {times}", io::Error::from_raw_os_error(errno));
    let bed = Bed::new();
    let stream = StreamConfig { durability: Durability::OnSeal, ..small() };
    let (store, handle) = bed.open_as(role.clone(), stream.clone());
    let mut appended = Vec::new();
    let mut append = |numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            appended.push(handle.append(&payload(number, 500)).unwrap());
        }
    };
    append(1..=10);
    handle.seal().unwrap();
    let mut failures = 0;
    bed.fs.rule_errors(move |of, _| {
        failures += usize::from(of == op);
        (of == op && failures <= times).then(|| io::Error::from_raw_os_error(errno))
    });
    for round in 0..5 {
        append(11 + 10 * round..=20 + 10 * round);
        let _ = handle.flush();
        if round == 2 {
            let _ = handle.seal();
        }
        bed.clock.advance(Duration::from_secs(100));
    }
    bed.fs.heal();
    bed.clock.advance(Duration::from_secs(3_600));
    append(61..=70);
    handle.flush().unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(handle.stats().state, StreamState::Ready, "{case}");
    let seen = seen_once(&handle);
    let (data, dropped) = (seen.data.len() as u64, seen.dropped());
    assert!(data + dropped >= 70, "{case}: {data} and {dropped}");
    for seq in appended {
        let known =
            seen.data.contains_key(&(handle.proc_id(), seq)) || seen.reports_cover(handle.proc_id(), seq);
        assert!(known, "{case}: {seq}");
    }
    store.shutdown().unwrap_or_else(|error| panic!("{case}: {error}"));
    let (store, reader) = bed.open_as(role.clone(), stream);
    let again = seen_once(&reader);
    assert!(seen.data.iter().all(|record| again.data.get(record.0) == Some(record.1)), "{case}");
    store.shutdown().unwrap();
}

/// Everything readable. A torn write that could not be cut back leaves a record twice, under one number.
fn seen_once(handle: &StreamHandle) -> Seen {
    let mut seen = Seen::default();
    for info in handle.seal().unwrap() {
        for record in handle.read(&info.id).unwrap().records() {
            match record.kind {
                RecordKind::Data => {
                    let number = u64::from_le_bytes(record.payload[..8].try_into().unwrap());
                    assert_eq!(record.payload, payload(number, 500));
                    seen.data.insert((info.proc_id, record.seq), record.payload.to_vec());
                }
                RecordKind::Meta => seen.reports.extend(drop_reports(record.payload)),
            }
        }
    }
    seen
}

fn survive_all(role: &Role, times: usize) {
    for op in Op::ALL {
        for (_, errno) in ERRORS {
            survive(role, op, errno, times);
        }
    }
}

#[test]
fn any_operation_of_an_exclusive_role_may_fail_once_with_any_error() {
    survive_all(&Role::Extension, 1);
}

#[test]
fn any_operation_of_an_exclusive_role_may_fail_for_long_with_any_error() {
    survive_all(&Role::Extension, usize::MAX);
}

#[test]
fn any_operation_of_a_shared_role_may_fail_once_with_any_error() {
    survive_all(&Role::App, 1);
}

#[test]
fn any_operation_of_a_shared_role_may_fail_for_long_with_any_error() {
    survive_all(&Role::App, usize::MAX);
}

#[test]
fn opening_while_any_operation_fails_ends_in_an_error_or_in_a_store_that_recovers() {
    for op in Op::ALL {
        for (error, errno) in ERRORS {
            let bed = Bed::new();
            let (store, handle) = bed.open(small());
            for number in 1..=10 {
                handle.append(&payload(number, 500)).unwrap();
            }
            handle.flush().unwrap();
            let crashed = bed.crashed();
            drop(store);
            crashed.fs.rule_errors(move |of, _| (of == op).then(|| io::Error::from_raw_os_error(errno)));
            let opened = crashed.try_open(small());
            if let Ok(store) = opened {
                let handle = store.stream(&super::support::name()).unwrap();
                let _ = handle.flush();
                crashed.fs.heal();
                crashed.clock.advance(Duration::from_secs(60));
                handle.append(&payload(11, 500)).unwrap();
                handle.flush().unwrap();
                let seen = seen_once(&handle);
                assert_eq!(seen.data.len() as u64 + seen.dropped(), 11, "{op:?} {error}");
            } else {
                assert!(matches!(opened, Err(StoreError::Directory { .. })), "{op:?} {error}");
            }
        }
    }
}
