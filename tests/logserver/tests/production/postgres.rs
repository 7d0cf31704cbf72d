//! What PostgreSQL alone can do to a collector, and what docs/collector.md promises of it.

use std::{io::Write, sync::mpsc::channel, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tuntrail_logserver::{Database, Limits, PostgresUrl, ServerConfig, ServerError, public_id};

use crate::{
    certificate::Certificate,
    cluster::{Cluster, OWNER, PASSWORD, free_port},
    database::{Fresh, documented, start_on},
    support::*,
};

const OTHER: &str = "1111111111111111111111111111111111111111111111111111111111111111";

#[test]
fn while_the_database_is_gone_uploads_are_told_to_come_back_and_then_work_without_a_restart() {
    let Some(cluster) = Cluster::own(&[]) else { return };
    let name = cluster.create("");
    let server = start_on(cluster.url(&name), Limits::default()).unwrap();
    assert_eq!(upload(&server, &entry(7, 1)).status, 200);
    for _ in 0..2 {
        cluster.stop();
        for _ in 0..3 {
            let answer = upload(&server, &entry(7, 2));
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")), "{answer:?}");
            assert_eq!(answer.json(), json!({"error": "the database is not available; try again later"}));
        }
        assert_eq!(get(&server, "/health").status, 503);
        assert_eq!(get(&server, &format!("/c/{COLLECTION}")).status, 503);
        cluster.start();
        assert_eq!(get(&server, "/health").status, 200);
        assert_eq!(upload(&server, &entry(7, 1)).json(), json!({"stored": 0, "duplicates": 1}));
    }
    assert_eq!(upload(&server, &entry(7, 2)).json(), json!({"stored": 1, "duplicates": 0}));
}

#[test]
fn a_database_that_hangs_is_given_up_and_the_connections_are_usable_afterwards() {
    let Some(cluster) = Cluster::shared() else { return };
    let name = cluster.create("");
    let limits = Limits {
        database_patience: Duration::from_millis(300),
        database_connections: 2,
        ..Limits::default()
    };
    let server = start_on(cluster.url(&name), limits).unwrap();
    assert_eq!(upload(&server, &entry(7, 1)).status, 200);
    let (runtime, lock) = cluster.connect(&name);
    runtime.block_on(lock.batch_execute("BEGIN; LOCK TABLE tuntrail.entries")).unwrap();
    thread::scope(|scope| {
        for seq in 2..8 {
            let server = &server;
            scope.spawn(move || {
                let answer = upload(server, &entry(7, seq));
                assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")), "{answer:?}");
            });
        }
    });
    runtime.block_on(lock.batch_execute("COMMIT")).unwrap();
    for seq in 1..8 {
        assert_eq!(upload(&server, &entry(7, seq)).status, 200);
    }
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 7);
    let connections = cluster.sql(
        &name,
        "SELECT count(*) <= 2 FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'tuntrail-logserver'",
    );
    assert_eq!(connections, [["t"]]);
}

#[test]
fn a_connection_that_freezes_is_given_up_and_replaced() {
    let Some(cluster) = Cluster::shared() else { return };
    let name = cluster.create("");
    let patience = Duration::from_millis(300);
    let limits = Limits { database_patience: patience, database_connections: 1, ..Limits::default() };
    let server = start_on(cluster.url(&name), limits).unwrap();
    assert_eq!(upload(&server, &entry(7, 1)).status, 200);
    let backends = cluster.sql(
        &name,
        "SELECT pid FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'tuntrail-logserver'",
    );
    let [backend] = &backends[..] else { panic!("{backends:?}") };
    let backend = Pid::from_raw(backend[0].parse().unwrap()).unwrap();
    // As if the network had gone without a word: the database does not even end the statement.
    kill_process(backend, Signal::STOP).unwrap();
    let answer = upload(&server, &entry(7, 2));
    let next = upload(&server, &entry(7, 2));
    kill_process(backend, Signal::CONT).unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")), "{answer:?}");
    assert_eq!(next.json(), json!({"stored": 1, "duplicates": 0}));
}

#[test]
fn stopping_finishes_the_upload_that_waits_for_the_database() {
    let Some(cluster) = Cluster::own(&["-clog_lock_waits=on", "-cdeadlock_timeout=50ms"]) else { return };
    let name = cluster.create("");
    let mut server = start_on(cluster.url(&name), Limits::default()).unwrap();
    let (runtime, lock) = cluster.connect(&name);
    runtime.block_on(lock.batch_execute("BEGIN; LOCK TABLE tuntrail.streams")).unwrap();
    let mut waiting = connect(&server);
    waiting.write_all(&request("POST", &upload_path(), &[], entry(7, 1).as_bytes())).unwrap();
    let mut given_up = connect(&server);
    given_up.write_all(&request("POST", &upload_path(), &[], entry(7, 2).as_bytes())).unwrap();
    for _ in 0..2 {
        cluster.wait_for_log("still waiting for ");
    }
    // The client that leaves has stored nothing, and leaves no half-done transaction behind.
    drop(given_up);
    server.wait_for(|stats| stats.uploads == 1, PATIENCE).unwrap();

    let (stopped, has_stopped) = channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            server.stop();
            stopped.send(()).unwrap();
        });
        let beyond_the_grace = Duration::from_millis(1500);
        assert!(has_stopped.recv_timeout(beyond_the_grace).is_err(), "it waits for the upload");
        runtime.block_on(lock.batch_execute("COMMIT")).unwrap();
        has_stopped.recv_timeout(PATIENCE).unwrap();
    });
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut waiting, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let sequence: Vec<_> = server.entries(COLLECTION).unwrap().iter().map(|entry| entry.proc_seq).collect();
    assert_eq!(sequence, [Some(1)]);
}

#[test]
fn password_and_certificate_are_needed_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    // Also says so if there is no PostgreSQL.
    if Cluster::shared().is_none() {
        return;
    }
    let certificate = Certificate::make(folder.path());
    let files = [
        ("server.crt", std::fs::read(&certificate.chain).unwrap()),
        ("server.key", std::fs::read(&certificate.key).unwrap()),
    ];
    let cluster = Cluster::on_port(port, &files).unwrap();
    let encoded: String = PASSWORD.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let url = |password: &str, parameters: &str| -> PostgresUrl {
        let text = format!("postgres://{OWNER}{password}@localhost:{port}/postgres{parameters}");
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    let plain = url(&format!(":{encoded}"), "");
    drop(start_on(plain.clone(), Limits::default()).unwrap());
    assert!(
        !format!("{:?}", ServerConfig { database: Database::Postgres(plain), ..ServerConfig::default() })
            .contains("s3cret")
    );
    let tls = url("", "?sslmode=require").with_password(PASSWORD);
    let server =
        start_on(tls.clone().with_root_certificates(&certificate.root_pem).unwrap(), Limits::default())
            .unwrap();
    assert_eq!(upload(&server, &entry(7, 1)).status, 200);
    let encrypted = cluster.sql(
        "postgres",
        "SELECT count(*) > 0 FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
         WHERE s.ssl AND a.application_name = 'tuntrail-logserver'",
    );
    assert_eq!(encrypted, [["t"]]);

    let elsewhere = tempfile::tempdir().unwrap();
    let other_root = Certificate::make(elsewhere.path()).root_pem;
    for (wrong, reason) in [
        (url(":s3cret2", ""), "password authentication failed"),
        (url("", ""), "password"),
        (tls.clone().with_root_certificates(&other_root).unwrap(), "invalid peer certificate"),
        (tls, "invalid peer certificate"),
    ] {
        let error = start_on(wrong, Limits::default()).unwrap_err();
        assert!(matches!(error, ServerError::Postgres { .. }), "{error:?}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(reason) && !text.contains("s3cret"), "{text}");
    }
}

#[test]
fn a_database_that_cannot_be_used_is_a_typed_error() {
    let Some(cluster) = Cluster::shared() else { return };
    let latin = cluster.create("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let error = start_on(cluster.url(&latin), Limits::default()).unwrap_err();
    assert!(error.to_string().contains("LATIN1") && error.to_string().contains("UTF8"), "{error}");

    let foreign = cluster.create("");
    cluster.sql(&foreign, "CREATE SCHEMA tuntrail; CREATE TABLE tuntrail.mine (x int)");
    let error = start_on(cluster.url(&foreign), Limits::default()).unwrap_err();
    assert!(matches!(error, ServerError::ForeignDatabase { .. }), "{error:?}");
    assert_eq!(
        cluster.sql(&foreign, "SELECT count(*) FROM pg_tables WHERE schemaname = 'tuntrail'"),
        [["1"]]
    );

    let newer = cluster.create("");
    drop(start_on(cluster.url(&newer), Limits::default()).unwrap());
    cluster.sql(&newer, "UPDATE tuntrail.meta SET version = 2");
    let error = start_on(cluster.url(&newer), Limits::default()).unwrap_err();
    assert!(matches!(error, ServerError::NewerDatabase { found: 2, supported: 1, .. }), "{error:?}");

    let error = start_on(cluster.url("nowhere"), Limits::default()).unwrap_err();
    assert!(error.to_string().contains("\"nowhere\" does not exist"), "{error}");
    let error = start_on("postgres:///x?host=/nonexistent".parse().unwrap(), Limits::default()).unwrap_err();
    assert!(matches!(error, ServerError::Postgres { .. }), "{error:?}");
}

#[test]
fn servers_that_start_together_make_the_tables_once() {
    let Some(cluster) = Cluster::shared() else { return };
    let name = cluster.create("");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drop(start_on(cluster.url(&name), Limits::default()).unwrap()));
        }
    });
    assert_eq!(cluster.sql(&name, "SELECT version FROM tuntrail.meta"), [["1"]]);
}

#[test]
fn a_role_that_can_only_store_and_read_is_enough() {
    let Some(cluster) = Cluster::shared() else { return };
    let name = cluster.create("");
    // As docs/collector.md has it: the owner makes the tables, the collector gets a role of its own.
    let schema = include_str!("../../src/store/postgres/schema.sql");
    cluster.sql(&name, schema);
    let role = format!("collector_{name}");
    cluster.sql(&name, &documented("grants.sql").replace("tuntrail_collector", &role));
    let server = start_on(cluster.url_of(&role, &name), Limits::default()).unwrap();
    let path = format!("{}?copyId={OTHER}", upload_path());
    assert_eq!(send(&server, "POST", &path, &[], entry(7, 1).as_bytes()).status, 200);
    assert_eq!(get(&server, &format!("/c/{COLLECTION}")).json()["logs"].as_array().unwrap().len(), 2);
    let may = format!(
        "SELECT has_table_privilege('{role}', 'tuntrail.entries', 'DELETE'),
                has_table_privilege('{role}', 'tuntrail.entries', 'UPDATE')"
    );
    assert_eq!(cluster.sql(&name, &may), [["f", "f"]]);

    // Missing rights are a failure for the operator to look at, and nothing that the client could help.
    cluster.sql(&name, &format!("REVOKE INSERT ON tuntrail.entries FROM {role}"));
    let answer = upload(&server, &entry(7, 2));
    assert_eq!(
        (answer.status, answer.error()),
        (500, "the database failed; see the server's log".to_owned())
    );
}

#[test]
fn forgetting_a_log_deletes_it_and_its_copies_and_nothing_else() {
    let Some(database) = Fresh::postgres() else { return };
    let server = database.server();
    let shared = "9".repeat(64);
    for private in [PRIVATE, OTHER] {
        for collection in ["one.example", "two.example"] {
            let path = format!("/c/{collection}/{private}?copyId={shared}");
            assert_eq!(send(&server, "POST", &path, &[], entry(7, 1).as_bytes()).status, 200);
        }
    }
    assert_eq!(database.sql(&format!("SELECT tuntrail.forget('{PUBLIC}')")), [["4"]]);
    assert_eq!(database.sql(&format!("SELECT tuntrail.forget('{PUBLIC}')")), [["0"]]);
    let rest = database.sql("SELECT DISTINCT writer FROM tuntrail.records");
    assert_eq!(rest, [[public_id(OTHER).unwrap()]]);
    assert_eq!(database.sql("SELECT count(*) FROM tuntrail.entries"), [["4"]]);
    assert_eq!(
        database.sql(&format!("SELECT count(*) FROM tuntrail.streams WHERE public_id = '\\x{PUBLIC}'")),
        [["0"]]
    );
    // The log may begin anew.
    let again = send(&server, "POST", &format!("/c/one.example/{PRIVATE}"), &[], entry(7, 1).as_bytes());
    assert_eq!(again.json(), json!({"stored": 1, "duplicates": 0}));
}

#[test]
fn old_entries_expire_by_their_arrival() {
    let Some(database) = Fresh::postgres() else { return };
    let server = database.server();
    let batch: Vec<_> = (1..=25).map(|seq| entry(7, seq)).collect();
    assert_eq!(upload(&server, &format!("[{}]", batch.join(","))).status, 200);
    database.sql("UPDATE tuntrail.entries SET server_time = server_time - 86400 * 31 * 1000000000::bigint WHERE proc_seq <= 20");
    database.sql("CALL tuntrail.expire('30 days', 8)");
    assert_eq!(database.sql("SELECT min(proc_seq), count(*) FROM tuntrail.entries"), [["21", "5"]]);
    database.sql("CALL tuntrail.expire('30 days')");
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 5);
}

#[test]
fn a_stream_without_entries_expires_and_no_other() {
    let Some(database) = Fresh::postgres() else { return };
    let server = database.server();
    let third = "3".repeat(64);
    // Of the first there will be only a copy, of the third nothing, and the fourth is new.
    let path = format!("{}?copyId={OTHER}", upload_path());
    assert_eq!(send(&server, "POST", &path, &[], entry(7, 1).as_bytes()).status, 200);
    for private in [&third, &"4".repeat(64)] {
        let path = format!("/c/{COLLECTION}/{private}");
        assert_eq!(send(&server, "POST", &path, &[], entry(8, 1).as_bytes()).status, 200);
    }
    let id = |private: &str| format!("decode('{}', 'hex')", public_id(private).unwrap());
    let old = format!("public_id IN ({}, {}, {})", id(PRIVATE), id(OTHER), id(&third));
    database.sql(&format!(
        "UPDATE tuntrail.streams SET first_seen = first_seen - 86400 * 31 * 1000000000::bigint WHERE {old}"
    ));
    database.sql("DELETE FROM tuntrail.entries WHERE writer = stream");
    // One stream at a time, so that it takes several steps.
    database.sql("CALL tuntrail.expire('30 days', 1)");
    let rest = database.sql("SELECT encode(public_id, 'hex') FROM tuntrail.streams ORDER BY public_id");
    let mut expected = [PRIVATE, OTHER, &"4".repeat(64)].map(|private| vec![public_id(private).unwrap()]);
    expected.sort();
    assert_eq!(rest, expected);
    // The stream may begin anew.
    let path = format!("/c/{COLLECTION}/{third}");
    let again = send(&server, "POST", &path, &[], entry(8, 1).as_bytes());
    assert_eq!(again.json(), json!({"stored": 1, "duplicates": 0}));
}

#[test]
fn a_stream_that_an_upload_is_about_to_fill_does_not_expire() {
    let Some(database) = Fresh::postgres() else { return };
    let Fresh::Postgres(cluster, name) = &database else { unreachable!() };
    let server = database.server();
    assert_eq!(upload(&server, &entry(7, 1)).status, 200);
    database.sql("DELETE FROM tuntrail.entries; UPDATE tuntrail.streams SET first_seen = 0");
    // What an upload does first.
    let (runtime, upload) = cluster.connect(name);
    runtime.block_on(upload.batch_execute("BEGIN; SELECT FROM tuntrail.streams FOR NO KEY UPDATE")).unwrap();
    database.sql("CALL tuntrail.expire('30 days')");
    runtime.block_on(upload.batch_execute("COMMIT")).unwrap();
    assert_eq!(database.sql("SELECT count(*) FROM tuntrail.streams"), [["1"]]);
    database.sql("CALL tuntrail.expire('30 days')");
    assert_eq!(database.sql("SELECT count(*) FROM tuntrail.streams"), [["0"]]);
}

#[test]
fn the_documented_queries_answer_also_beside_hostile_entries() {
    let Some(database) = Fresh::postgres() else { return };
    let server = database.server();
    let windows = "tailtraffic.log.example.com";
    let window = |seq: u32, destination: &str, bytes: u32| {
        format!(
            r#"{{"logtail":{{"client_time":"2026-01-02T03:04:05Z","proc_id":7,"proc_seq":{seq}}},"nodeId":"nPhone","start":"2026-01-02T03:04:00Z","end":"2026-01-02T03:04:05Z","virtualTraffic":[{{"proto":6,"src":"100.64.0.1:5000","dst":"{destination}","txPkts":1,"txBytes":{bytes}}}]}}"#
        )
    };
    let hostile = [
        r#"{"virtualTraffic":[{"dst":"\u0000","txBytes":1e999999}]}"#,
        r#"{"virtualTraffic":[{"dst":"100.64.0.9:1","txBytes":"many"}]}"#,
        r#"{"virtualTraffic":{"txBytes":1}}"#,
        r#"{"virtualTraffic":[1,null,[],{"txBytes":-5}]}"#,
    ];
    let batch: Vec<_> = [
        window(1, "100.64.0.2:443", 500),
        window(2, "100.64.0.3:22", 9000),
        window(4, "100.64.0.2:443", 500),
    ]
    .into_iter()
    .chain(hostile.map(str::to_owned))
    .chain([r#"{"text":"BUG-4ef0a1-20260102"}"#.to_owned()])
    .collect();
    let path = format!("/c/{windows}/{PRIVATE}");
    let answer = send(&server, "POST", &path, &[], format!("[{}]", batch.join(",")).as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");

    let queries = documented("queries.sql");
    let mut answers = queries.split(';').filter(|query| query.contains("SELECT")).map(|query| {
        let query = query
            .replace("now() - interval '1 day'", "timestamptz '2026-01-01'")
            .replace("now()", "timestamptz '2126-01-01'")
            .replace("LOG-ID", PUBLIC);
        database.sql(&query)
    });
    let talkers = answers.next().unwrap();
    assert_eq!(talkers[0][..3], ["nPhone", "100.64.0.3:22", "9000"], "{talkers:?}");
    assert_eq!(talkers[1][..3], ["nPhone", "100.64.0.2:443", "1000"], "{talkers:?}");
    let marker = answers.next().unwrap();
    assert!(marker.len() == 1 && marker[0].contains(&PUBLIC.to_owned()), "{marker:?}");
    let gaps = answers.next().unwrap();
    assert_eq!(gaps, [["7", "3", "3"]], "number 3 is missing");
    let logs = answers.next().unwrap();
    assert_eq!(logs[0][0], PUBLIC);
    assert_eq!(answers.map(drop).count(), 2, "all of them are sound");
}
