//! Taking over the segments of another role.

use super::{
    super::*,
    support::{Bed, Op, Seen, bytes_in, payload, small},
};

fn fill(handle: &StreamHandle, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        handle.append(&payload(number, 500)).unwrap();
    }
}

/// Claims and delivers until nothing is left.
fn deliver_all(app: &StreamHandle, role: &Role) -> Seen {
    let mut seen = Seen::default();
    while app.claim(role).unwrap() > 0 {
        for info in app.seal().unwrap() {
            seen.read(app, &info.id);
            app.acknowledge(&info.id).unwrap();
        }
    }
    seen
}

#[test]
fn the_app_delivers_what_a_dead_extension_left_sealed_and_open() {
    let bed = Bed::new();
    let (store, ext) = bed.open(small());
    fill(&ext, 1..=20);
    ext.flush().unwrap();
    let crashed = bed.crashed();
    drop(store);
    assert_eq!(crashed.named(".open").len(), 1);
    let (_app, app) = crashed.open_as(Role::App, small());
    app.append(b"my own").unwrap();
    let seen = deliver_all(&app, &Role::Extension);
    assert_eq!(seen.seqs(ext.proc_id()), (1..=20).collect());
    assert_eq!(seen.seqs(app.proc_id()), [1].into());
    assert_eq!(seen.dropped(), 0);
    assert!(crashed.files().is_empty());
    assert!(!crashed.dir_of("app").join("claimed").exists());
    assert_eq!(app.claim(&Role::Extension).unwrap(), 0);
}

#[test]
fn claimed_segments_are_listed_first_and_read_like_own_ones() {
    let bed = Bed::new();
    let (store, ext) = bed.open(small());
    fill(&ext, 1..=20);
    store.shutdown().unwrap();
    let (_app, app) = bed.open_as(Role::App, small());
    fill(&app, 1..=20);
    let own = app.seal().unwrap();
    let taken = app.claim(&Role::Extension).unwrap();
    let listed = app.seal().unwrap();
    assert_eq!(listed.len(), own.len() + taken);
    assert!(listed[..taken].iter().all(|info| info.proc_id == ext.proc_id()));
    assert!(listed[..taken].is_sorted_by_key(|info| info.id));
    assert_eq!(listed[taken..], own);
    for info in &listed {
        assert_eq!(app.read(&info.id).unwrap().info(), info);
    }
    assert_eq!(app.stats().disk_bytes, bytes_in(&bed.dir_of("app")));
}

#[test]
fn of_an_extension_that_runs_only_what_is_sealed_is_taken_and_its_writer_goes_on() {
    let bed = Bed::new();
    let (store, ext) = bed.open(small());
    fill(&ext, 1..=20);
    ext.flush().unwrap();
    let sealed = bed.named(".seg").len();
    let (_app, app) = bed.open_as(Role::App, small());
    assert_eq!(app.claim(&Role::Extension).unwrap(), sealed);
    assert_eq!(bed.named(".open").len(), 1);
    // The extension fills its directory far beyond its cap, and so looks for what is gone.
    fill(&ext, 21..=250);
    let mut seen = Seen::all(&ext);
    assert_eq!(ext.stats().state, StreamState::Ready);
    for info in app.seal().unwrap() {
        seen.read(&app, &info.id);
    }
    assert_eq!(seen.data.len() as u64 + seen.dropped(), 250, "claimed is neither dropped nor lost");
    assert!(bytes_in(&bed.dir()) <= small().max_disk_bytes);
    store.shutdown().unwrap();
}

#[test]
fn giving_up_a_segment_that_was_claimed_meanwhile_counts_as_no_loss() {
    let bed = Bed::new();
    let (_store, ext) = bed.open(small());
    fill(&ext, 1..=20);
    let listed = ext.seal().unwrap();
    let (_app, app) = bed.open_as(Role::App, small());
    app.claim(&Role::Extension).unwrap();
    assert!(matches!(ext.read(&listed[0].id), Err(ReadError::NotFound { .. })));
    ext.acknowledge(&listed[0].id).unwrap();
    ext.discard(&listed[1].id, DropReason::Rejected).unwrap();
    assert_eq!(ext.stats().dropped.total().records, 0);
    assert_eq!(ext.seal().unwrap(), []);
    assert_eq!(app.seal().unwrap(), listed);
}

#[test]
fn a_claim_never_drops_anything_and_keeps_the_cap() {
    let bed = Bed::new();
    let (store, ext) = bed.open(StreamConfig { max_disk_bytes: 1 << 20, ..small() });
    for number in 1..=1_000 {
        ext.append(&payload(number, 500)).unwrap();
        if number % 100 == 0 {
            ext.flush().unwrap();
        }
    }
    store.shutdown().unwrap();
    let (_app, app) = bed.open_as(Role::App, small());
    fill(&app, 1..=20);
    app.flush().unwrap();
    assert!(app.claim(&Role::Extension).unwrap() > 0);
    assert!(bytes_in(&bed.dir_of("app")) <= small().max_disk_bytes);
    assert_eq!(app.claim(&Role::Extension).unwrap(), 0, "no room before some are delivered");
    assert_eq!(app.stats().dropped.total().records, 0);
    let mut seen = Seen::default();
    for info in app.seal().unwrap() {
        seen.read(&app, &info.id);
        app.acknowledge(&info.id).unwrap();
    }
    let rest = deliver_all(&app, &Role::Extension);
    assert_eq!(seen.seqs(ext.proc_id()).len() + rest.seqs(ext.proc_id()).len(), 1_000);
}

#[test]
fn claims_make_room_for_own_records_first_and_are_reported() {
    let bed = Bed::new();
    let (store, ext) = bed.open(small());
    fill(&ext, 1..=60);
    store.shutdown().unwrap();
    let (_app, app) = bed.open_as(Role::App, small());
    app.claim(&Role::Extension).unwrap();
    for number in 1..=60 {
        app.append(&payload(number, 500)).unwrap();
        app.flush().unwrap();
        assert!(bytes_in(&bed.dir_of("app")) <= small().max_disk_bytes);
    }
    let seen = Seen::all(&app);
    let (own, claimed) = (seen.seqs(app.proc_id()), seen.seqs(ext.proc_id()));
    assert_eq!(own.len(), 60);
    let left = deliver_all(&app, &Role::Extension).seqs(ext.proc_id()).len();
    assert!(seen.dropped() > 0);
    let known =
        |seq| claimed.contains(&seq) || seen.reports_cover(ext.proc_id(), ProcSeq::new(seq)) || left > 0;
    assert!((1..=60).all(known));
}

#[test]
fn claims_that_were_not_delivered_go_back_at_the_next_opening() {
    let bed = Bed::new();
    let (store, ext) = bed.open(small());
    fill(&ext, 1..=20);
    store.shutdown().unwrap();
    let before = bed.files();
    let (app_store, app) = bed.open_as(Role::App, small());
    assert_eq!(app.claim(&Role::Extension).unwrap(), before.len());
    assert!(bed.files().is_empty());
    app_store.shutdown().unwrap();
    let (_app_store, app) = bed.open_as(Role::App, small());
    assert_eq!(app.seal().unwrap(), []);
    assert_eq!(bed.files(), before);
    assert!(!bed.dir_of("app").join("claimed").exists());
    let (_store, ext) = bed.open(small());
    assert_eq!(Seen::all(&ext).data.len(), 20);
}

#[test]
fn claims_go_back_to_an_extension_that_runs_and_it_finds_them() {
    let bed = Bed::new();
    let (_store, ext) = bed.open(small());
    fill(&ext, 1..=20);
    ext.seal().unwrap();
    let (app_store, app) = bed.open_as(Role::App, small());
    app.claim(&Role::Extension).unwrap();
    assert_eq!(ext.seal().unwrap(), []);
    app_store.shutdown().unwrap();
    let (_app_store, app) = bed.open_as(Role::App, small());
    app.flush().unwrap();
    assert_eq!(Seen::all(&ext).seqs(ext.proc_id()), (1..=20).collect());
}

#[test]
fn when_the_role_they_are_from_is_gone_claims_stay_with_who_has_them() {
    let bed = Bed::new();
    let (store, ext) = bed.open(small());
    fill(&ext, 1..=20);
    store.shutdown().unwrap();
    let (app_store, app) = bed.open_as(Role::App, small());
    app.claim(&Role::Extension).unwrap();
    app_store.shutdown().unwrap();
    bed.open(small()).0.destroy().unwrap();
    let (_app_store, app) = bed.open_as(Role::App, small());
    assert_eq!(Seen::all(&app).seqs(ext.proc_id()), (1..=20).collect());
    assert!(!bed.dir().exists());
}

#[test]
fn clearing_deletes_claims_too() {
    let bed = Bed::new();
    let (store, ext) = bed.open(small());
    fill(&ext, 1..=20);
    store.shutdown().unwrap();
    let (app_store, app) = bed.open_as(Role::App, small());
    app.claim(&Role::Extension).unwrap();
    app_store.clear().unwrap();
    assert_eq!(app.seal().unwrap(), []);
    assert_eq!(bytes_in(&bed.dir_of("app")), 0);
    app_store.destroy().unwrap();
    assert!(!bed.dir_of("app").exists());
}

#[test]
fn there_is_nothing_to_claim_from_oneself_or_from_nobody() {
    let bed = Bed::new();
    let (_store, handle) = bed.open(small());
    fill(&handle, 1..=20);
    let listed = handle.seal().unwrap();
    assert_eq!(handle.claim(&Role::Extension).unwrap(), 0);
    assert_eq!(handle.claim(&Role::Service).unwrap(), 0);
    assert_eq!(handle.seal().unwrap(), listed);
    assert!(!bed.dir_of("svc").exists(), "asking leaves no trace");
}

#[test]
fn a_process_that_dies_while_it_claims_loses_nothing() {
    let bed = Bed::new();
    let (store, ext) = bed.open(small());
    fill(&ext, 1..=30);
    store.shutdown().unwrap();
    // The third rename does not happen any more.
    let mut renames = 0;
    bed.fs.rule(move |op, path| {
        let claim = op == Op::Rename && path.components().any(|part| part.as_os_str() == "w-ext");
        renames += usize::from(claim);
        (claim && renames == 3).then_some(std::io::ErrorKind::Other)
    });
    let (_app, app) = bed.open_as(Role::App, small());
    assert!(matches!(app.claim(&Role::Extension), Err(StoreError::Io { action: "claim", .. })));
    assert_eq!(app.seal().unwrap().len(), 2, "what was moved is here");
    let crashed = bed.crashed();
    let (_other, app) = crashed.open_as(Role::App, small());
    let seen = deliver_all(&app, &Role::Extension);
    assert_eq!(seen.seqs(ext.proc_id()), (1..=30).collect());
}

#[test]
fn the_extension_may_start_while_it_is_claimed_from() {
    let bed = Bed::new();
    let (store, ext) = bed.open(small());
    fill(&ext, 1..=30);
    store.shutdown().unwrap();
    let (_app, app) = bed.open_as(Role::App, small());
    // In the middle of the claim, somebody starts an extension: it has to wait, and is not refused.
    let (claiming, started) = std::sync::mpsc::channel();
    let (opening, go_on) = std::sync::mpsc::channel::<()>();
    let mut told = false;
    bed.fs.rule(move |op, path| {
        if op == Op::Rename && !told && path.components().any(|part| part.as_os_str() == "w-ext") {
            told = true;
            claiming.send(()).unwrap();
            go_on.recv().unwrap();
        }
        None
    });
    std::thread::scope(|scope| {
        let claim = scope.spawn(|| app.claim(&Role::Extension).unwrap());
        started.recv().unwrap();
        let config = bed.config();
        let open = scope.spawn(move || Store::open(config, vec![small()]));
        opening.send(()).unwrap();
        open.join().unwrap().unwrap().shutdown().unwrap();
        assert!(claim.join().unwrap() > 0);
    });
    bed.fs.heal();
    assert_eq!(deliver_all(&app, &Role::Extension).seqs(ext.proc_id()).len(), 0);
    assert!(bed.files().is_empty());
}
