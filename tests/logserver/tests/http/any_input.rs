//! Whatever arrives: no input stops the server, and what real clients produce is accepted.

use std::{fs, io::Write, path::Path, thread};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;

use crate::support::*;

#[test]
fn any_body_with_any_encoding_is_answered() {
    let server = start();
    let encoding = prop::sample::select(vec![None, Some("zstd"), Some("identity"), Some("gzip"), Some("")]);
    let length =
        prop::sample::select(vec![None, Some("0"), Some("5"), Some("-1"), Some("99999999999999999999")]);
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        // Real zstd with some bytes changed reaches deeper than noise.
        (prop::collection::vec(any::<u8>(), 0..40), any::<prop::sample::Index>(), any::<u8>()).prop_map(
            |(plain, at, byte)| {
                let mut wire = zstd::bulk::compress(&plain, 1).unwrap();
                *at.get_mut(&mut wire) = byte;
                wire
            }
        ),
        "[\\[{}\\]\",:a0\n]{0,40}".prop_map(String::into_bytes),
    ];
    // No file for regressions: an integration test has no source folder of the usual shape.
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    runner
        .run(&(encoding, length, body), |(encoding, length, body)| {
            let mut headers = Vec::new();
            headers.extend(encoding.map(|value| ("content-encoding", value)));
            headers.extend(length.map(|value| ("orig-content-length", value)));
            let answer = send(&server, "POST", &upload_path(), &headers, &body);
            prop_assert!(matches!(answer.status, 200 | 400 | 413 | 415), "{answer:?}");
            prop_assert!(answer.json().is_object());
            Ok(())
        })
        .unwrap();
    assert_eq!(get(&server, &format!("/c/{COLLECTION}")).json()["truncated"], Value::Null);
}

#[test]
fn broken_requests_do_not_stop_the_server() {
    let server = start();
    let junk =
        [&b"\0\0\0\0\r\n\r\n"[..], b"POST / HTTP/9.9\r\n\r\n", b"GET", b"\r\n\r\n\r\n\r\n", &[0xff; 5000]];
    let heads = ["-1", "18446744073709551615", "x", "1000"].map(|length| {
        format!("POST {} HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n\r\n{{", upload_path())
    });
    for bytes in junk.into_iter().chain(heads.iter().map(String::as_bytes)) {
        connect(&server).write_all(bytes).unwrap();
    }
    assert_eq!(upload(&server, &entry(7, 1)).status, 200);
    assert_eq!(server.stats().stored, 1, "a torn body is not stored");
}

#[test]
fn every_entry_of_the_original_client_is_accepted_unchanged() {
    let server = start();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/logtail_entries.jsonl");
    let mut uploads = 0;
    for (number, line) in fs::read_to_string(vectors).unwrap().lines().enumerate() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let Some(entry) = vector["entry"].as_str().filter(|entry| !entry.is_empty()) else { continue };
        // A collection for each: many vectors have the same numbers.
        let collection = format!("vector-{number}");
        let path = format!("/c/{collection}/{PRIVATE}");
        let answer = send(&server, "POST", &path, &[], format!("[{entry}]").as_bytes());
        assert_eq!(answer.status, 200, "{entry}: {answer:?}");
        uploads += 1;

        let sent: Value = serde_json::from_str(entry).unwrap();
        let stored = server.entries(&collection).unwrap();
        assert_eq!(stored.len(), 1, "{entry}");
        let mut stored: Value = serde_json::from_str(&stored[0].to_json()).unwrap();
        let logtail = stored["logtail"].as_object_mut().unwrap();
        assert_eq!(logtail.remove("id"), Some(PUBLIC.into()));
        assert!(logtail.remove("server_time").is_some());
        if logtail.is_empty() {
            stored.as_object_mut().unwrap().remove("logtail");
        }
        assert_eq!(stored, sent);
    }
    assert!(uploads > 100, "the vectors were read: {uploads}");
}

#[test]
fn the_same_batch_from_many_connections_at_once_is_stored_once() {
    let server = start();
    let batch: Vec<_> = (1..=50).map(|seq| entry(7, seq)).collect();
    let body = format!("[{}]", batch.join(","));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(upload_zstd(&server, &body).status, 200));
        }
    });
    let stats = server.stats();
    assert_eq!((stats.stored, stats.duplicates), (50, 7 * 50));
}
