//! Processes that are killed: what was promised stays true.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{
    collections::HashSet,
    env,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use support::{COLLECTION, PATIENCE, app::App, client_config};
use tuntrail::{
    client::Client,
    upload::{UploadOptions, UploadOutcome},
};
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
    let Some(report) = small_disk(20) else { return };
    assert!(report["reports"]["disk_full"].as_u64() > Some(0), "the disk was never full: {report}");
    assert_eq!((&report["corrupt"], &report["leaked"]), (&0.into(), &0.into()), "{report}");
    assert!(report["max_disk_bytes"].as_u64() <= report["cap_bytes"].as_u64(), "{report}");
}

#[test]
#[ignore = "on a full disk the store still removes a segment before the report about it is on disk"]
fn on_a_disk_that_is_always_full_every_promised_record_is_accounted_for() {
    let Some(report) = small_disk(100) else { return };
    assert_eq!(report["unaccounted"], 0, "{report}");
}

#[test]
fn a_client_killed_before_the_answer_sends_nothing_until_asked_and_then_everything() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    server.inject(Fault::Slow(Duration::from_secs(3_600)), Times::ONCE).unwrap();
    let child = Killable::start(directory.path(), &server);
    server.wait_for(|stats| stats.faults == 1, PATIENCE).expect("the request is at the server");
    drop(child);
    server.wait_for(|stats| stats.requests == 1, PATIENCE).expect("the server sees that the client has gone");
    assert!(server.entries(COLLECTION).unwrap().is_empty());

    let app = App::start(directory.path(), &server);
    assert_eq!(server.stats().requests, 1, "nobody has asked");
    let report = app.upload();
    assert_eq!((report.outcome, report.sent_records), (UploadOutcome::Complete, 3));
    assert_eq!((server.entries(COLLECTION).unwrap().len(), server.stats().duplicates), (3, 0));
}

#[test]
fn a_client_killed_after_the_answer_sends_it_again_and_the_server_recognises_it() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut child = Killable::start(directory.path(), &server);
    child.wait_for("confirmed");
    drop(child);
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 3);

    let mut app = App::start(directory.path(), &server);
    app.record(4, 400);
    let report = app.upload();
    assert_eq!(
        (report.outcome, report.sent_records, report.remaining_records),
        (UploadOutcome::Complete, 4, 0)
    );
    let entries = server.entries(COLLECTION).unwrap();
    assert_eq!((entries.len(), server.stats().duplicates), (4, 3));
    let key = |path: &str| -> Vec<String> {
        let requests = server.requests();
        requests.iter().filter_map(|request| request.header(path).map(str::to_owned)).collect()
    };
    let keys = key("idempotency-key");
    assert_eq!(keys[0], keys[1], "the same segment under the same key, also from another process");
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 2);
    assert_eq!(app.upload().outcome, UploadOutcome::NothingToSend);
}

/// The child of the tests above: records, asks for an upload and stops dead at its first confirmation.
#[test]
#[ignore = "started by the tests that kill it"]
fn a_client_that_waits_to_be_killed() {
    let (Some(directory), Ok(server)) = (env::var_os(DIRECTORY), env::var(SERVER)) else { return };
    let mut app = App::of(Client::start(client_config(Path::new(&directory), &server)).unwrap());
    for port in 1..=3 {
        app.record(port, 100);
    }
    let wait_for_the_end = || {
        // Ends with the parent, if that does not kill.
        let _ = io::stdin().read(&mut [0]);
    };
    let progress = move |_: &_| {
        println!("\nconfirmed");
        wait_for_the_end();
    };
    let options = UploadOptions { progress: Some(Box::new(progress)), ..UploadOptions::default() };
    let ticket = app.client.upload_with("test", options).unwrap();
    let _ = ticket.wait();
}

/// Runs the harness on a small disk of its own. `None` where that can't be had, but for CI, which has to.
fn small_disk(cycles: u32) -> Option<serde_json::Value> {
    let output = harness(&["--cycles", &cycles.to_string(), "--seed", "3", "--small-disk"]);
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
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// Waits until the child prints this line.
    fn wait_for(&mut self, line: &str) {
        let lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|found| found == line), "the child ended without {line:?}");
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
