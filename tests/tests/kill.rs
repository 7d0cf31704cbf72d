//! Processes that are killed: what was promised stays true.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{
    collections::HashSet,
    env,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use support::{COLLECTION, PATIENCE, app::App, client_config};
use tuntrail::{client::Client, upload::UploadOutcome};
use tuntrail_logserver::{Fault, Server, ServerConfig, Times};
use tuntrail_tests::kill::{self, KillOptions};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kill");

/// Where the child of a test finds its directory and its server.
const DIRECTORY: &str = "TUNTRAIL_TEST_DIRECTORY";
const SERVER: &str = "TUNTRAIL_TEST_SERVER";

#[test]
fn every_promised_record_survives_thirty_kills_and_what_was_revoked_does_not() {
    let options = KillOptions { cycles: 30, seed: 5, small_disk: false, program: PROGRAM.into() };
    let report = kill::run(&options, &mut |_| ()).unwrap();
    assert!(report.passed(), "{report:#?}");
    assert_eq!((report.cycles, report.seed), (30, 5));
    assert!(report.kills > 0 && report.appended > 0 && report.revocations > 0, "{report:#?}");
    let accounted = report.delivered + report.on_disk + report.reported_dropped + report.revoked;
    assert_eq!(accounted + report.unflushed_lost, report.appended);
}

#[test]
fn the_program_prints_its_findings_as_json() {
    let output = harness(&["--cycles", "3", "--seed", "7"]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["cycles"], &report["seed"], &report["unaccounted"]),
        (&3.into(), &7.into(), &0.into())
    );
    for field in
        ["appended", "delivered", "on_disk", "reported_dropped", "duplicates", "corrupt", "max_disk_bytes"]
    {
        assert!(report[field].is_u64(), "{field}");
    }
    for wrong in [&["--cycles"][..], &["--seed", "x"], &["--fast"]] {
        let output = harness(wrong);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage"), "{wrong:?}");
    }
}

#[test]
fn on_a_disk_that_is_always_full_nothing_is_altered_and_what_was_revoked_is_gone() {
    // The era that this seed begins with has a server that is down for 40 cycles, so the disk gets full at any speed.
    let Some(report) = small_disk(48, 24) else { return };
    assert!(report["reports"]["disk_full"].as_u64() > Some(0), "the disk was never full: {report}");
    assert_eq!((&report["corrupt"], &report["leaked"]), (&0.into(), &0.into()), "{report}");
    assert!(report["max_disk_bytes"].as_u64() <= report["cap_bytes"].as_u64(), "{report}");
}

#[test]
#[ignore = "on a full disk the store still removes a segment before the report about it is on disk"]
fn on_a_disk_that_is_always_full_every_promised_record_is_accounted_for() {
    let Some(report) = small_disk(100, 3) else { return };
    assert_eq!(report["unaccounted"], 0, "{report}");
}

#[test]
fn a_client_killed_before_the_answer_goes_on_with_the_upload_at_its_next_start() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    server.inject(Fault::Slow(Duration::from_secs(3_600)), Times::ONCE).unwrap();
    let child = Killable::start(directory.path(), &server);
    server.wait_for(|stats| stats.faults == 1, PATIENCE).expect("the request is at the server");
    drop(child);
    server.wait_for(|stats| stats.requests == 1, PATIENCE).expect("the server sees that the client has gone");
    assert!(server.entries(COLLECTION).unwrap().is_empty());

    let app = App::start(directory.path(), &server);
    server
        .wait_for(|stats| stats.stored == 3, PATIENCE)
        .expect("what was asked for is done without asking again");
    assert_eq!(app.upload().remaining_records, 0);
    assert_eq!(app.upload().outcome, UploadOutcome::NothingToSend);
    assert_eq!((server.entries(COLLECTION).unwrap().len(), server.stats().duplicates), (3, 0));
}

#[test]
fn a_client_killed_when_the_server_has_its_records_sends_them_again_and_the_server_recognises_them() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    server.inject(Fault::LostResponse, Times::ONCE).unwrap();
    server.inject(Fault::Slow(Duration::from_secs(3_600)), Times::ONCE).unwrap();
    let child = Killable::start(directory.path(), &server);
    server.wait_for(|stats| stats.faults == 2, PATIENCE).expect("the repetition is at the server");
    drop(child);
    server.wait_for(|stats| stats.requests == 2, PATIENCE).expect("the server sees that the client has gone");
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 3);

    let mut app = App::start(directory.path(), &server);
    server.wait_for(|stats| stats.duplicates == 3, PATIENCE).expect("the upload goes on where it was");
    app.record(4, 400);
    assert_eq!(app.upload().remaining_records, 0);
    assert_eq!(app.upload().outcome, UploadOutcome::NothingToSend);
    assert_eq!((server.entries(COLLECTION).unwrap().len(), server.stats().duplicates), (4, 3));
    let requests = server.requests();
    let keys: Vec<_> = requests.iter().map(|request| request.header("idempotency-key").unwrap()).collect();
    assert!(
        keys[..3].iter().all(|key| *key == keys[0]),
        "the same segment under the same key, also after a restart"
    );
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 2);
}

/// The child of the tests above: records, and asks for an upload that does not end before it is killed.
#[test]
#[ignore = "started by the tests that kill it"]
fn a_client_that_waits_to_be_killed() {
    let (Some(directory), Ok(server)) = (env::var_os(DIRECTORY), env::var(SERVER)) else { return };
    let mut config = client_config(Path::new(&directory), &server);
    config.upload.max_wait = Duration::ZERO;
    let mut app = App::of(Client::start(config).unwrap());
    for port in 1..=3 {
        app.record(port, 100);
    }
    let report = app.upload();
    panic!("nobody killed this client: {report:?}");
}

/// Runs the harness on a small disk of its own. `None` where that can't be had, but for CI, which has to.
fn small_disk(cycles: u32, seed: u64) -> Option<serde_json::Value> {
    let output = harness(&["--cycles", &cycles.to_string(), "--seed", &seed.to_string(), "--small-disk"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("for the small disk") {
        assert!(env::var_os("TUNTRAIL_REQUIRE_NAMESPACES").is_none(), "{errors}");
        eprintln!("skipped: {errors}");
        return None;
    }
    assert_ne!(output.status.code(), Some(2), "{errors}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn harness(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// A process with a client. Dropping it is its SIGKILL.
struct Killable(Child);

impl Killable {
    fn start(directory: &Path, server: &Server) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_client_that_waits_to_be_killed", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .env(SERVER, server.base_url())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
