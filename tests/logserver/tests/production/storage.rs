//! What must hold whichever database keeps the records: the same tests, once for each.

use std::thread;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tuntrail_logserver::{Limits, Server, ServerConfig, public_id};

use crate::{database::Fresh, support::*};

/// Private IDs of further clients.
const OTHER: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const SHARED: &str = "9999999999999999999999999999999999999999999999999999999999999999";

macro_rules! for_each_database {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&super::Fresh::sqlite()); })*
        }
        mod postgres {
            $(#[test] fn $name() { if let Some(database) = super::Fresh::postgres() { super::$name(&database); } })*
        }
    };
}

for_each_database! {
    an_entry_is_kept_once_per_stream_process_and_number
    entries_without_numbers_are_all_kept
    copies_of_different_writers_do_not_meet
    queries_filter_by_stream_and_time_and_count
    a_long_answer_is_cut_between_entries_and_says_so
    a_restart_keeps_everything_and_still_knows_duplicates
    the_same_batches_over_many_connections_and_two_servers_are_stored_once
    hostile_content_is_kept_as_it_came
    what_is_no_text_or_no_json_is_refused_and_kept_as_an_error
    any_body_is_answered_and_never_with_a_failure_of_the_server
    limits_hold
    collections_and_health_tell_the_totals
    no_private_id_is_stored
}

fn an_entry_is_kept_once_per_stream_process_and_number(database: &Fresh) {
    let server = database.server();
    let batch = format!("[{},{},{}]", entry(7, 1), entry(7, 2), entry(8, 1));
    assert_eq!(post(&server, PRIVATE, &batch), json!({"stored": 3, "duplicates": 0}));
    let again = r#"[{"logtail":{"proc_id":7,"proc_seq":2},"late":1},{"logtail":{"proc_id":7,"proc_seq":3}}]"#;
    assert_eq!(post(&server, PRIVATE, again), json!({"stored": 1, "duplicates": 1}));
    let twice = format!("[{},{}]", entry(9, 1), entry(9, 1));
    assert_eq!(post(&server, PRIVATE, &twice), json!({"stored": 1, "duplicates": 1}), "within one upload");
    assert_eq!(post(&server, OTHER, &batch)["stored"], 3, "another stream has its own numbers");

    let entries = server.entries(COLLECTION).unwrap();
    let mine: Vec<_> = entries.iter().filter(|entry| entry.public_id == PUBLIC).collect();
    let numbers: Vec<_> =
        mine.iter().map(|entry| (entry.proc_id.unwrap(), entry.proc_seq.unwrap())).collect();
    assert_eq!(numbers, [(7, 1), (7, 2), (7, 3), (8, 1), (9, 1)], "by process and number");
    assert_eq!(mine[1].payload, r#"{"text":"x"}"#, "the first one stays");
    assert_eq!(entries.len(), 8);
}

fn entries_without_numbers_are_all_kept(database: &Fresh) {
    let server = database.server();
    let batch = r#"[{"n":1},{"logtail":{"proc_id":7},"n":2},{"logtail":{"proc_seq":1},"n":3}]"#;
    post(&server, PRIVATE, batch);
    assert_eq!(post(&server, PRIVATE, batch), json!({"stored": 3, "duplicates": 0}));
    let payloads: Vec<_> =
        server.entries(COLLECTION).unwrap().into_iter().map(|entry| (entry.proc_id, entry.payload)).collect();
    assert_eq!(payloads.len(), 6);
    let of = |n| (None, format!(r#"{{"n":{n}}}"#));
    assert_eq!(payloads[..2], [of(1), of(1)], "those without a process first, as they came");
}

fn copies_of_different_writers_do_not_meet(database: &Fresh) {
    let server = database.server();
    let copy = |private: &str, copy: &str| {
        let path = format!("/c/{COLLECTION}/{private}?copyId={copy}");
        let answer = send(&server, "POST", &path, &[], entry(7, 1).as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    copy(PRIVATE, SHARED);
    copy(OTHER, SHARED);
    assert_eq!(copy(OTHER, SHARED), json!({"stored": 0, "duplicates": 1}));
    assert_eq!(server.stats().copied, 2);
    let shared = public_id(SHARED).unwrap();
    let entries = server.entries(COLLECTION).unwrap();
    let writers: Vec<_> =
        entries.iter().filter(|entry| entry.public_id == shared).map(|entry| entry.writer.clone()).collect();
    let mut expected = [PUBLIC.to_owned(), public_id(OTHER).unwrap()];
    expected.sort();
    assert_eq!(writers, expected);

    copy(SHARED, SHARED);
    assert_eq!(server.stats().copied, 2, "a copy into the same stream is no copy");
    // Each writes into the other's stream at the same time, which must not end in a knot.
    thread::scope(|scope| {
        for pair in [[PRIVATE, OTHER], [OTHER, PRIVATE], [PRIVATE, OTHER], [OTHER, PRIVATE]] {
            scope.spawn(move || (0..10).for_each(|_| drop(copy(pair[0], pair[1]))));
        }
    });
    assert_eq!(server.stats().errors, 0);
}

fn queries_filter_by_stream_and_time_and_count(database: &Fresh) {
    let server = database.server();
    for (private, second) in [(PRIVATE, 30), (OTHER, 20), (PRIVATE, 10)] {
        let body =
            format!(r#"{{"logtail":{{"client_time":"2026-01-02T00:00:{second}.000000001Z"}},"s":{second}}}"#);
        post(&server, private, &body);
    }
    let seconds = |query: &str| -> Vec<i64> {
        let answer = get(&server, &format!("/c/{COLLECTION}?{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["logs"].as_array().unwrap().iter().map(|log| log["s"].as_i64().unwrap()).collect()
    };
    assert_eq!(seconds(""), [10, 20, 30]);
    assert_eq!(seconds("time-start=2026-01-02T00:00:20.000000001Z"), [20, 30]);
    assert_eq!(seconds("time-start=2026-01-02T00:00:20.000000002Z"), [30], "to the nanosecond");
    assert_eq!(seconds("time-end=2026-01-02T00:00:20.000000001Z"), [10]);
    assert_eq!(seconds("max-count=2"), [10, 20]);
    let other = public_id(OTHER).unwrap();
    assert_eq!(seconds(&format!("instances={PUBLIC}")), [10, 30]);
    assert_eq!(seconds(&format!("instances={PUBLIC},{other}&max-count=9")), [10, 20, 30]);
    assert_eq!(seconds(&format!("instances={}&time-start=2026-01-02T00:00:11Z", "0".repeat(64))), [0; 0]);
    assert_eq!(get(&server, "/c/other").status, 404);
}

fn a_long_answer_is_cut_between_entries_and_says_so(database: &Fresh) {
    let limits = Limits { response_bytes: 20_000, ..Limits::default() };
    let config = ServerConfig { database: database.database(), limits, ..ServerConfig::default() };
    let server = Server::start(config).unwrap();
    // More rows than are fetched at once, and more bytes than an answer may have.
    let batch: Vec<_> = (1..=150).map(|seq| entry(7, seq)).collect();
    post(&server, PRIVATE, &format!("[{}]", batch.join(",")));
    let cut = get(&server, &format!("/c/{COLLECTION}")).json();
    let found = cut["logs"].as_array().unwrap().len();
    assert!((65..150).contains(&found) && cut["truncated"] == true, "{found}");
    let some = get(&server, &format!("/c/{COLLECTION}?max-count=70")).json();
    assert_eq!((some["logs"].as_array().unwrap().len(), &some["truncated"]), (70, &Value::Null));
    // The connection that was left in the middle of an answer serves the next one.
    assert_eq!(post(&server, PRIVATE, &entry(7, 151))["stored"], 1);
}

fn a_restart_keeps_everything_and_still_knows_duplicates(database: &Fresh) {
    let mut server = database.server();
    post(&server, PRIVATE, &entry(7, 1));
    server.stop();
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 1, "still there to look at");
    drop(server);
    let server = database.server();
    let batch = format!("[{},{}]", entry(7, 1), entry(7, 2));
    assert_eq!(post(&server, PRIVATE, &batch), json!({"stored": 1, "duplicates": 1}));
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 2);
}

fn the_same_batches_over_many_connections_and_two_servers_are_stored_once(database: &Fresh) {
    let servers = [database.server(), database.server()];
    let batches: Vec<_> = (0..4)
        .map(|number| (1..=25).map(|seq| entry(7, number * 25 + seq)).collect::<Vec<_>>())
        .map(|batch| format!("[{}]", batch.join(",")))
        .collect();
    thread::scope(|scope| {
        for worker in 0..8 {
            let (server, batches) = (&servers[worker % 2], &batches);
            // Each sends all of them, in an order of its own.
            scope.spawn(move || {
                for number in 0..batches.len() {
                    let answer = upload_zstd(server, &batches[(number + worker) % batches.len()]);
                    assert_eq!(answer.status, 200, "{answer:?}");
                }
            });
        }
    });
    let stored: u64 = servers.iter().map(|server| server.stats().stored).sum();
    let duplicates: u64 = servers.iter().map(|server| server.stats().duplicates).sum();
    assert_eq!((stored, duplicates), (100, 700));
    let sequence: Vec<_> =
        servers[0].entries(COLLECTION).unwrap().iter().map(|entry| entry.proc_seq.unwrap()).collect();
    assert_eq!(sequence, (1..=100).collect::<Vec<_>>());
}

fn hostile_content_is_kept_as_it_came(database: &Fresh) {
    let server = database.server();
    let contents = [
        r#"{"nul":"a\u0000b"}"#.to_owned(),
        r#"{"\u0000":"name"}"#.to_owned(),
        r#"{"n":1e999999,"m":-0.0,"k":18446744073709551617,"d":0.10000000000000000000001}"#.to_owned(),
        r#"{"sql":"'); DROP TABLE entries; --","quote":"\"\\ $1 $$ {} %s E'\\\\'"}"#.to_owned(),
        r#"{"controls":"\u0001\u001f\u007f\b\f\u0085"}"#.to_owned(),
        "{\"bidi\":\"\u{202e}\u{feff}\u{10ffff}\u{1f469}\u{200d}\u{1f4bb}\u{0}\"}".replace('\u{0}', ""),
        r#"{"pair":"\ud83d\ude00","high":"\udbff\udfff"}"#.to_owned(),
        format!("{{\"deep\":{}1{}}}", "[".repeat(100), "]".repeat(100)),
        format!("{{\"long\":\"{}\"}}", "\u{1f600}".repeat(60_000)),
        r#"{"logtail ":1,"LOGTAIL":2,"":3}"#.to_owned(),
    ];
    for (seq, content) in (1..).zip(&contents) {
        let head = format!(r#"{{"logtail":{{"proc_id":7,"proc_seq":{seq},"error":{{"detail":"\u0000"}}}},"#);
        let sent = content.replacen('{', &head, 1);
        assert_eq!(post(&server, PRIVATE, &sent), json!({"stored": 1, "duplicates": 0}), "{content}");
        assert_eq!(post(&server, PRIVATE, &sent), json!({"stored": 0, "duplicates": 1}), "{content}");
    }
    let payloads: Vec<_> =
        server.entries(COLLECTION).unwrap().into_iter().map(|entry| entry.payload).collect();
    assert_eq!(payloads, contents);
    let answer = get(&server, &format!("/c/{COLLECTION}?stream=1"));
    assert_eq!((answer.status, answer.body.lines().count()), (200, contents.len()));
    // Times far outside of what nanoseconds can say are kept as they were spelled.
    for (seq, time) in (1..).zip(["9999-12-30T22:00:00Z", "-009999-01-02T01:59:59Z", "1677-01-01T00:00:00Z"])
    {
        let sent = format!(r#"{{"logtail":{{"client_time":"{time}","proc_id":8,"proc_seq":{seq}}}}}"#);
        assert_eq!(post(&server, PRIVATE, &sent)["stored"], 1, "{time}");
    }
}

fn what_is_no_text_or_no_json_is_refused_and_kept_as_an_error(database: &Fresh) {
    let server = database.server();
    let refused: [&[u8]; 9] = [
        b"\0",
        b"{\"a\":\"\0\"}",
        b"{\"a\0\":1}",
        b"\xff\xfe{\0}\0",
        b"{\"latin\":\"\xe9\"}",
        b"{\"surrogate\":\"\xed\xa0\x80\"}",
        b"{\"a\":\"\\ud800\"}",
        b"[{\"a\":1,\"a\":2}]",
        b"{\"logtail\":{\"client_time\":\"2026-01-01\\u0000\"}}",
    ];
    for body in refused {
        let text = String::from_utf8_lossy(body);
        let answer = send(&server, "POST", &upload_path(), &[], body);
        assert_eq!((answer.status, &answer.json()["stored"]), (400, &json!(1)), "{text}: {answer:?}");
    }
    let entries = server.entries(COLLECTION).unwrap();
    assert_eq!(entries.len(), refused.len());
    assert!(entries.iter().all(|entry| entry.error.as_ref().is_some_and(|error| !error.contains('\0'))));
    assert_eq!(server.stats().errors, to_u64(refused.len()));
}

fn any_body_is_answered_and_never_with_a_failure_of_the_server(database: &Fresh) {
    let server = database.server();
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\n",
        "\0",
        "\"logtail\"",
        "\"proc_id\"",
        "\"proc_seq\"",
        "\"client_time\"",
        "\"error\"",
        "{}",
        "1",
        "4294967295",
        "9223372036854775807",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "null",
        "{\"a\":1}",
        "\"2026-01-02T03:04:05Z\"",
        "{\"logtail\":{\"proc_id\":1,\"x\":\"\\u0000\"}}",
        "\"logtail\":{\"proc_seq\":3}",
    ]);
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(token, 0..20).prop_map(|tokens| tokens.concat().into_bytes()),
        "\\{\"\\PC{0,20}\":\"\\PC{0,20}\"\\}".prop_map(String::into_bytes),
    ];
    // No file for regressions: an integration test has no source folder of the usual shape.
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    runner
        .run(&body, |body| {
            let answer = send(&server, "POST", &upload_path(), &[], &body);
            prop_assert!(matches!(answer.status, 200 | 400), "{answer:?}");
            Ok(())
        })
        .unwrap();
    let entries = server.entries(COLLECTION).unwrap();
    assert_eq!(to_u64(entries.len()), server.stats().stored);
}

fn limits_hold(database: &Fresh) {
    let server = database.server();
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20));
    for answer in [upload(&server, &long), upload_zstd(&server, &long)] {
        assert_eq!(answer.status, 413, "{}", answer.body);
    }
    let many = vec!["{}"; 16_385].join(",");
    assert_eq!(upload(&server, &format!("[{many}]")).status, 413);
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 0);
    let many = vec!["{}"; 16_384].join(",");
    assert_eq!(post(&server, PRIVATE, &format!("[{many}]"))["stored"], 16_384);
    assert_eq!(post(&server, PRIVATE, "[]"), json!({"stored": 0, "duplicates": 0}));
}

fn collections_and_health_tell_the_totals(database: &Fresh) {
    let server = database.server();
    post(&server, PRIVATE, &format!("[{},{}]", entry(7, 1), entry(7, 2)));
    post(&server, PRIVATE, &entry(7, 2));
    let list = get(&server, "/collections").json();
    let info = &list["collections"][COLLECTION]["instances"][PUBLIC];
    assert_eq!((&info["records"], &info["size"]), (&json!(2), &json!(2 * r#"{"text":"x"}"#.len())));
    assert_eq!(get(&server, &format!("/collections?collection-name={COLLECTION}")).json(), list);
    assert_eq!(get(&server, "/collections?collection-name=other").status, 404);
    let upper = PUBLIC.to_uppercase();
    for query in [format!("instances={upper}"), format!("collection-name={COLLECTION}&instances={PUBLIC}")] {
        assert_eq!(get(&server, &format!("/collections?{query}")).json(), list, "{query}");
    }
    let none = format!("/collections?collection-name={COLLECTION}&instances={}", "0".repeat(64));
    assert_eq!(get(&server, &none).json(), json!({"collections": {}}));
    assert_eq!(get(&server, "/collections?instances=xyz").status, 400);
    let health = get(&server, "/health").json();
    assert_eq!(
        (&health["status"], &health["stored"], &health["duplicates"]),
        (&json!("ok"), &json!(2), &json!(1))
    );
}

fn no_private_id_is_stored(database: &Fresh) {
    let server = database.server();
    let path = format!("{}?copyId={SHARED}", upload_path());
    assert_eq!(send(&server, "POST", &path, &[("x-echo", PRIVATE)], b"{}").status, 200);
    let has_secret = |bytes: &[u8]| {
        let found =
            |secret: &[u8]| bytes.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret));
        [PRIVATE, SHARED].iter().any(|id| found(id.as_bytes()) || found(&hex::decode(id).unwrap()))
    };
    match database {
        Fresh::Sqlite(folder) => {
            for file in std::fs::read_dir(folder.path()).unwrap() {
                assert!(!has_secret(&std::fs::read(file.unwrap().path()).unwrap()));
            }
        }
        // Its log has all statements of all tests with their values.
        Fresh::Postgres(cluster, _) => {
            let log = cluster.log();
            assert!(
                log.contains("INSERT INTO tuntrail.entries") && log.contains(PUBLIC),
                "values are logged"
            );
            assert!(!has_secret(log.as_bytes()));
        }
    }
}

fn post(server: &Server, private: &str, body: &str) -> Value {
    let answer = send(server, "POST", &format!("/c/{COLLECTION}/{private}"), &[], body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn to_u64(length: usize) -> u64 {
    length.try_into().unwrap()
}
