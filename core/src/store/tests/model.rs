//! Random histories: whatever happens, every record is readable, acknowledged, or in a drop report.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    super::*,
    support::{Bed, Seen, payload, small},
};

#[derive(Debug, Clone)]
enum Action {
    Append {
        count: usize,
        len: usize,
    },
    Flush,
    /// Seal, read and acknowledge this many segments, oldest first.
    Upload(usize),
    /// Seal and give up the oldest segment.
    Discard,
    Restart,
    /// Kill the process: what was not flushed may be lost.
    Crash,
    /// Withdraw consent.
    Clear,
    /// Another process of the app takes over what is sealed, and delivers it or gives it back.
    Claim {
        deliver: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (1..60_usize, prop_oneof![8 => 8..600_usize, 1 => 4_000..12_000_usize])
            .prop_map(|(count, len)| Action::Append { count, len }),
        3 => Just(Action::Flush),
        2 => (1..6_usize).prop_map(Action::Upload),
        1 => Just(Action::Discard),
        2 => Just(Action::Restart),
        2 => Just(Action::Crash),
        1 => Just(Action::Clear),
        1 => any::<bool>().prop_map(|deliver| Action::Claim { deliver }),
    ]
}

/// What the outside world knows.
#[derive(Default)]
struct World {
    appended: BTreeMap<(ProcId, ProcSeq), Vec<u8>>,
    delivered: Seen,
    /// Appended, and not flushed at the time of a crash.
    uncertain: u64,
    unflushed: u64,
    /// The number of the last record.
    next: u64,
    /// Those before were deleted on request.
    forgotten: u64,
}

fn run(actions: Vec<Action>) {
    let mut bed = Bed::new();
    let (mut store, mut handle) = bed.open(small());
    let mut world = World::default();
    for action in actions {
        match action {
            Action::Append { count, len } => {
                for _ in 0..count {
                    world.next += 1;
                    let payload = payload(world.next, len);
                    // A full queue is accounted for by a report.
                    let seq = handle.append(&payload);
                    if let Ok(seq) = seq {
                        world.appended.insert((handle.proc_id(), seq), payload);
                    }
                    world.unflushed += 1;
                }
            }
            Action::Flush => {
                handle.flush().unwrap();
                world.unflushed = 0;
            }
            Action::Upload(count) => {
                for info in handle.seal().unwrap().into_iter().take(count) {
                    world.delivered.read(&handle, &info.id);
                    handle.acknowledge(&info.id).unwrap();
                }
                world.unflushed = 0;
            }
            Action::Discard => {
                if let Some(info) = handle.seal().unwrap().first() {
                    handle.discard(&info.id, DropReason::Rejected).unwrap();
                }
                world.unflushed = 0;
            }
            Action::Restart => {
                store.shutdown().unwrap();
                (store, handle) = bed.open(small());
                world.unflushed = 0;
            }
            Action::Crash => {
                // The writer may be at work; a copy of the directory is only a crash if it is at rest.
                handle.flush().unwrap();
                let lost = 3;
                let crashed = bed.crashed();
                for _ in 0..lost {
                    world.next += 1;
                    handle.append(&payload(world.next, 50)).unwrap();
                }
                world.uncertain += lost;
                drop(store);
                bed = crashed;
                (store, handle) = bed.open(small());
                world.unflushed = 0;
            }
            Action::Clear => {
                handle.flush().unwrap();
                store.clear().unwrap();
                assert_eq!(bed.disk_bytes(), 0);
                world = World { next: world.next, forgotten: world.next, ..World::default() };
            }
            Action::Claim { deliver } => {
                handle.flush().unwrap();
                world.unflushed = 0;
                let (app_store, app) = bed.open_as(Role::App, small());
                app.claim(&Role::Extension).unwrap();
                for info in app.seal().unwrap() {
                    if deliver {
                        world.delivered.read(&app, &info.id);
                        app.acknowledge(&info.id).unwrap();
                    }
                }
                app_store.shutdown().unwrap();
                // What is left goes back.
                bed.open_as(Role::App, small()).0.shutdown().unwrap();
            }
        }
        if world.unflushed == 0 {
            handle.flush().unwrap();
            assert!(bed.disk_bytes() <= small().max_disk_bytes);
        }
    }
    for info in handle.seal().unwrap() {
        world.delivered.read(&handle, &info.id);
    }
    let seen = &world.delivered;
    for (key, payload) in &seen.data {
        assert_eq!(world.appended.get(key), Some(payload), "altered or never appended");
    }
    for (proc_id, seq) in world.appended.keys() {
        let known = seen.data.contains_key(&(*proc_id, *seq)) || seen.reports_cover(*proc_id, *seq);
        let totals = seen.reports.iter().any(|report| report.range.is_none());
        assert!(known || totals, "{proc_id} {seq} is in no report");
    }
    let accounted = seen.data.len() as u64 + seen.dropped();
    assert_eq!(accounted + world.uncertain, world.next - world.forgotten);
    drop(store);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_readable_acknowledged_or_reported(
        actions in prop::collection::vec(action(), 1..40)
    ) {
        run(actions);
    }
}
