//! The protocol over real loopback HTTP: what a client and a reader see.

use std::io::Write;

use serde_json::json;
use tuntrail_logserver::{Database, Limits, Server, ServerConfig, ServerError};

use crate::support::*;

#[test]
fn entries_sent_plain_and_compressed_are_kept_once_each() {
    let server = start();
    let first = upload(&server, &format!("[{},{}]", entry(7, 1), entry(7, 2)));
    assert_eq!((first.status, first.json()), (200, json!({"stored": 2, "duplicates": 0})));
    let second = upload_zstd(&server, &format!("[{},{}]", entry(7, 2), entry(7, 3)));
    assert_eq!((second.status, second.json()), (200, json!({"stored": 1, "duplicates": 1})));

    let entries = server.entries(COLLECTION).unwrap();
    let numbers: Vec<_> = entries.iter().map(|entry| entry.proc_seq.unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(entries.iter().all(|entry| entry.public_id == PUBLIC && entry.writer == PUBLIC));
    let stats = server.stats();
    assert_eq!((stats.requests, stats.uploads, stats.stored, stats.duplicates), (2, 2, 3, 1));
    assert!(stats.wire_bytes < stats.decoded_bytes, "{stats:?}");
}

#[test]
fn readers_get_what_was_sent_plus_id_and_server_time() {
    let server = start();
    let sent = r#"{"logtail":{"client_time":"2026-01-02T03:04:05.6789Z","proc_id":7,"proc_seq":1},"b":1e999,"a":18446744073709551617}"#;
    assert_eq!(upload(&server, sent).status, 200);

    let answer = get(&server, &format!("/c/{COLLECTION}"));
    assert_eq!(answer.status, 200);
    let time = server.entries(COLLECTION).unwrap()[0].server_time;
    let expected = format!(
        "{{\"logs\":[{{\"logtail\":{{\"client_time\":\"2026-01-02T03:04:05.6789Z\",\"proc_id\":7,\"proc_seq\":1,\
         \"id\":\"{PUBLIC}\",\"server_time\":\"{time}\"}},\"b\":1e999,\"a\":18446744073709551617}}]}}"
    );
    assert_eq!(answer.body, expected);
}

#[test]
fn queries_select_and_stream() {
    let server = start();
    for day in [3, 1, 2] {
        let body = format!("{{\"logtail\":{{\"client_time\":\"2026-01-0{day}T00:00:00Z\"}},\"day\":{day}}}");
        upload(&server, &body);
    }
    let days = |query: &str| -> Vec<i64> {
        let answer = get(&server, &format!("/c/{COLLECTION}?{query}"));
        answer.json()["logs"].as_array().unwrap().iter().map(|log| log["day"].as_i64().unwrap()).collect()
    };
    assert_eq!(days(""), [1, 2, 3]);
    assert_eq!(days("time-start=2026-01-02T00:00:00Z"), [2, 3]);
    assert_eq!(days("time-end=2026-01-02T00:00:00Z&max-count=9"), [1]);
    assert_eq!(days(&format!("instances={PUBLIC}&max-count=1")), [1]);
    assert_eq!(days(&format!("instances={PRIVATE}")), [0; 0], "a private ID reads nothing");

    let lines = get(&server, &format!("/c/{COLLECTION}?stream=true"));
    assert_eq!(lines.body.lines().count(), 3);
    assert!(lines.body.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    assert_eq!(lines.header("tuntrail-truncated"), None);
}

#[test]
fn answers_that_would_be_too_long_say_so() {
    let limits = Limits { response_bytes: 300, ..Limits::default() };
    let server = Server::start(ServerConfig { limits, ..ServerConfig::default() }).unwrap();
    upload(&server, &format!("[{},{}]", entry(7, 1), entry(7, 2)));
    let object = get(&server, &format!("/c/{COLLECTION}")).json();
    assert_eq!((object["logs"].as_array().unwrap().len(), &object["truncated"]), (1, &json!(true)));
    let lines = get(&server, &format!("/c/{COLLECTION}?stream=1"));
    assert_eq!((lines.body.lines().count(), lines.header("tuntrail-truncated")), (1, Some("true")));
}

#[test]
fn collections_tell_who_wrote_how_much() {
    let server = start();
    upload(&server, &entry(7, 1));
    let list = get(&server, "/collections").json();
    let info = &list["collections"][COLLECTION]["instances"][PUBLIC];
    assert_eq!((&info["records"], &info["size"]), (&json!(1), &json!(r#"{"text":"x"}"#.len())));
    assert!(info["first-seen"].as_str().unwrap().ends_with('Z'));
    assert_eq!(get(&server, &format!("/collections?collection-name={COLLECTION}")).json(), list);
    assert_eq!(get(&server, "/collections?collection-name=other").status, 404);
}

#[test]
fn a_copy_id_puts_the_entries_into_that_stream_too() {
    let server = start();
    let copy = "ab".repeat(32);
    let path = format!("{}?copyId={copy}", upload_path());
    assert_eq!(send(&server, "POST", &path, &[], entry(7, 1).as_bytes()).status, 200);
    let entries = server.entries(COLLECTION).unwrap();
    let mut streams: Vec<_> = entries.iter().map(|entry| entry.public_id.clone()).collect();
    let mut expected = [PUBLIC.to_owned(), tuntrail_logserver::public_id(&copy).unwrap()];
    streams.sort();
    expected.sort();
    assert_eq!(streams, expected);
    assert!(entries.iter().all(|entry| entry.writer == PUBLIC));
    assert_eq!(server.stats().copied, 1);
    for wrong in ["copyId=x".to_owned(), format!("copyId={copy}&copyId={copy}")] {
        let path = format!("{}?{wrong}", upload_path());
        assert_eq!(send(&server, "POST", &path, &[], entry(7, 2).as_bytes()).status, 400);
    }
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 2, "nothing is stored if the address is wrong");
}

#[test]
fn wrong_addresses_methods_and_parameters_are_explained() {
    let server = start();
    upload(&server, &entry(7, 1));
    let post = |path: &str| send(&server, "POST", path, &[], b"{}");
    let bad = post(&format!("/c/bad%20name/{PRIVATE}"));
    assert_eq!((bad.status, bad.body.as_str()), (403, r#"{"error":"invalid collection name"}"#));
    assert_eq!(post("/c/good.name/123").status, 400);
    assert_eq!(post(&format!("/c/%ff/{PRIVATE}")).status, 400);
    assert_eq!(post("/elsewhere").status, 404);
    assert_eq!(get(&server, "/c/unknown.name").status, 404);
    assert_eq!(get(&server, "/c/bad%20name").status, 403);
    assert_eq!(get(&server, &upload_path()).status, 405);
    let unknown = get(&server, &format!("/c/{COLLECTION}?limit=1"));
    assert_eq!(unknown.status, 400);
    assert!(unknown.error().contains("max-count"), "{}", unknown.body);
    assert_eq!(get(&server, "/debug/faults").status, 404, "off unless configured");
}

#[test]
fn bad_input_is_kept_as_an_error_and_refused() {
    let server = start();
    let mixed = upload(&server, &format!("[{},5]", entry(7, 1)));
    assert_eq!(mixed.status, 400);
    assert_eq!(mixed.json(), json!({"error": "entry 1 is not an object", "stored": 2, "duplicates": 0}));
    assert!(upload(&server, "not json").error().contains("not JSON"));
    assert!(upload(&server, r#"{"logtail":{"id":"me"}}"#).error().ends_with("in logtail: id"));
    let torn = send(
        &server,
        "POST",
        &upload_path(),
        &[("content-encoding", "zstd"), ("orig-content-length", "3")],
        b"not zstd",
    );
    assert_eq!(torn.status, 400);

    let logs = get(&server, &format!("/c/{COLLECTION}")).json();
    let details: Vec<_> = logs["logs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|log| log["logtail"]["error"]["detail"].as_str())
        .collect();
    assert_eq!(details.len(), 4, "{details:?}");
    assert!(details[3].starts_with("body is not valid zstd"), "{details:?}");
}

#[test]
fn too_long_a_body_is_413_however_it_is_sent() {
    let limits = Limits { body_bytes: 10_000, entries_per_upload: 3, ..Limits::default() };
    let server = Server::start(ServerConfig { limits, ..ServerConfig::default() }).unwrap();
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(10_000));
    assert_eq!(upload(&server, &long).status, 413);
    assert_eq!(upload_zstd(&server, &long).status, 413, "after decompression");
    let chunked = format!(
        "POST {} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        upload_path(),
        long.len()
    );
    let answer = exchange(&server, chunked.as_bytes());
    assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(upload(&server, "[{},{},{},{}]").status, 413, "too many entries");
    assert_eq!(upload(&server, "[{},{},{}]").status, 200);
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 3);
    let encoding = send(&server, "POST", &upload_path(), &[("content-encoding", "gzip")], b"{}");
    assert_eq!(encoding.status, 415);
}

#[test]
fn a_client_that_writes_before_it_reads_still_sees_the_413() {
    let server = start();
    let answer = upload(&server, &"x".repeat(6 << 20));
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("1048576 bytes"), "{}", answer.body);
    assert_eq!(server.requests()[0].wire_bytes, 6 << 20);
}

#[test]
fn a_body_without_end_is_not_read_for_ever() {
    let server = start();
    let mut stream = connect(&server);
    let head = "host: t\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("POST {} HTTP/1.1\r\n{head}", upload_path()).as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // 64 MiB are far beyond what may be read and what the system buffers.
    let refused = (0..1024).any(|_| stream.write_all(chunk.as_bytes()).is_err());
    assert!(refused, "the server closes the connection");
    let log = server.requests().remove(0);
    assert_eq!(log.status, Some(413));
    assert!(log.wire_bytes < 10 << 20, "{}", log.wire_bytes);
}

#[test]
fn the_largest_legal_batch_fits_the_default_limits() {
    let server = start();
    let almost = format!("{{\"x\":\"{}\"}}\n", "x".repeat(256 * 1024 - 20));
    assert_eq!(upload(&server, &format!("[{almost},{almost}]")).status, 200);
}

#[test]
fn requests_are_remembered_without_private_ids() {
    let server = start();
    let headers = [("idempotency-key", "k-1"), ("x-echo", PRIVATE)];
    send(&server, "POST", &format!("{}?copyId={PRIVATE}", upload_path()), &headers, b"[{}\n]");
    let log = server.requests().remove(0);
    assert_eq!(log.method, "POST");
    assert_eq!(log.path, format!("/c/{COLLECTION}/<private id>?copyId=<private id>"));
    assert_eq!((log.header("idempotency-key"), log.header("x-echo")), (Some("k-1"), Some("<private id>")));
    assert_eq!((log.wire_bytes, log.decoded_bytes, log.status), (5, 5, Some(200)));
    assert!(!format!("{log:?}").contains(PRIVATE));
}

#[test]
fn a_database_file_survives_the_server_and_never_holds_a_private_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let config = ServerConfig { database: Database::File(path), ..ServerConfig::default() };
    let server = Server::start(config.clone()).unwrap();
    upload(&server, &entry(7, 1));
    let (raw, text) = (hex::decode(PRIVATE).unwrap(), PRIVATE.as_bytes());
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(
            !bytes.windows(32).any(|window| window == raw) && !bytes.windows(64).any(|window| window == text)
        );
    }
    let address = server.local_addr();
    drop(server);

    let server = Server::start(ServerConfig { listen: address, ..config }).unwrap();
    assert_eq!(server.local_addr(), address, "the port is free again");
    assert_eq!(upload(&server, &entry(7, 1)).json()["duplicates"], 1);
}

#[test]
fn an_address_in_use_is_a_typed_error() {
    let server = start();
    let config = ServerConfig { listen: server.local_addr(), ..ServerConfig::default() };
    assert!(matches!(Server::start(config), Err(ServerError::Listen { .. })));
}
