//! Failures on demand, and how the server ends.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use serde_json::json;
use tuntrail_logserver::{Fault, Limits, Server, ServerConfig, Times};

use crate::support::*;

#[test]
fn a_status_is_answered_as_often_as_told_and_stores_nothing() {
    let server = start();
    let fault = Fault::Status { code: 503, retry_after: Some("7".into()), body: "later".into() };
    server.inject(fault, Times::exactly(2).unwrap()).unwrap();
    for _ in 0..2 {
        let answer = upload(&server, &entry(7, 1));
        assert_eq!((answer.status, answer.body.as_str()), (503, "later"));
        assert_eq!(answer.header("retry-after"), Some("7"));
    }
    assert!(server.entries(COLLECTION).unwrap().is_empty());
    assert_eq!(upload(&server, &entry(7, 1)).status, 200);
    let stats = server.stats();
    assert_eq!((stats.faults, stats.errors, stats.stored), (2, 2, 1));
}

#[test]
fn only_uploads_meet_faults_and_clearing_ends_them() {
    let server = start();
    upload(&server, &entry(7, 1));
    server.inject(Fault::CloseBeforeResponse, Times::Forever).unwrap();
    assert_eq!(get(&server, "/collections").status, 200);
    for _ in 0..3 {
        assert_eq!(raw_upload(&server, &entry(7, 2)), b"");
    }
    server.clear_faults();
    assert_eq!(upload(&server, &entry(7, 2)).json()["stored"], 1, "nothing was stored before");
    assert_eq!(server.requests()[2].status, None);
}

#[test]
fn a_lost_response_has_stored_the_entries() {
    let server = start();
    server.inject(Fault::LostResponse, Times::ONCE).unwrap();
    assert_eq!(raw_upload(&server, &entry(7, 1)), b"");
    assert_eq!(upload(&server, &entry(7, 1)).json(), json!({"stored": 0, "duplicates": 1}));
}

#[test]
fn a_cut_body_ends_before_the_announced_length() {
    let server = start();
    server.inject(Fault::CutBody, Times::ONCE).unwrap();
    let raw = String::from_utf8(raw_upload(&server, &entry(7, 1))).unwrap();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let announced: usize = head.split_once("content-length: ").unwrap().1.parse().unwrap();
    assert!(!body.is_empty() && body.len() < announced, "{raw}");
    assert_eq!(server.stats().stored, 1);
    assert_eq!(server.requests()[0].status, Some(200));
}

#[test]
fn garbage_is_sent_as_it_is() {
    let server = start();
    server.inject(Fault::Garbage(b"\x00\xffnot http".to_vec()), Times::ONCE).unwrap();
    assert_eq!(raw_upload(&server, &entry(7, 1)), b"\x00\xffnot http");
    assert_eq!((server.stats().stored, server.requests()[0].status), (0, None));
}

#[test]
fn a_slow_answer_comes_late_but_comes() {
    let server = start();
    let pause = Duration::from_millis(50);
    server.inject(Fault::Slow(pause), Times::ONCE).unwrap();
    let begin = Instant::now();
    assert_eq!(upload(&server, &entry(7, 1)).json()["stored"], 1);
    assert!(begin.elapsed() >= pause);
}

#[test]
fn stopping_interrupts_a_slow_answer() {
    let mut server = start();
    server.inject(Fault::Slow(Duration::from_secs(3600)), Times::ONCE).unwrap();
    let mut slow = connect(&server);
    slow.write_all(&request("POST", &upload_path(), &[], entry(7, 1).as_bytes())).unwrap();
    server.wait_for(|stats| stats.faults == 1, PATIENCE).unwrap();
    server.stop();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[test]
fn a_client_that_leaves_during_a_slow_answer_has_stored_nothing() {
    let server = start();
    server.inject(Fault::Slow(Duration::from_secs(3600)), Times::ONCE).unwrap();
    let mut slow = connect(&server);
    slow.write_all(&request("POST", &upload_path(), &[], entry(7, 1).as_bytes())).unwrap();
    server.wait_for(|stats| stats.faults == 1, PATIENCE).unwrap();
    drop(slow);
    server.wait_for(|stats| stats.uploads == 1, PATIENCE).unwrap();
    assert_eq!((server.stats().stored, server.requests()[0].status), (0, None));
}

#[test]
fn stopping_ends_idle_and_dawdling_connections_and_keeps_what_was_seen() {
    let mut server = start();
    upload(&server, &entry(7, 1));
    let silent = connect(&server);
    let mut dawdling = connect(&server);
    let head = "host: t\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n";
    dawdling.write_all(format!("POST {} HTTP/1.1\r\n{head}", upload_path()).as_bytes()).unwrap();
    let mut waiting = [0; 25];
    dawdling.read_exact(&mut waiting).unwrap();
    assert_eq!(&waiting, b"HTTP/1.1 100 Continue\r\n\r\n", "the server waits for the body");
    let begin = Instant::now();
    server.stop();
    server.stop();
    assert!(begin.elapsed() < PATIENCE, "the dawdler is cut off");
    for mut stream in [silent, dawdling] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"", "closed without an answer");
    }
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 1);
}

#[test]
fn a_kept_alive_connection_serves_many_uploads() {
    let server = start();
    let mut stream = connect(&server);
    for seq in 1..=3 {
        let body = entry(7, seq);
        let head =
            format!("POST {} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", upload_path(), body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = [0; 1000];
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    assert_eq!(server.stats().stored, 3);
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = Server::start(ServerConfig { limits, ..ServerConfig::default() }).unwrap();
    let mut first = connect(&server);
    let mut second = connect(&server);
    second.write_all(&request("POST", &upload_path(), &[], entry(7, 1).as_bytes())).unwrap();
    for _ in 0..20 {
        first.write_all(b"GET /collections HTTP/1.1\r\nhost: t\r\n\r\n").unwrap();
        let mut answer = [0; 1000];
        let length = first.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    assert_eq!(server.stats().uploads, 0, "there was time for it, but no slot");
    drop(first);
    let mut answer = Vec::new();
    second.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}

#[test]
fn faults_can_be_set_over_http_if_configured() {
    let server = Server::start(ServerConfig { fault_endpoint: true, ..ServerConfig::default() }).unwrap();
    let post = |body: &str| send(&server, "POST", "/debug/faults", &[], body.as_bytes());
    let one = json!({"fault": "status", "code": 429, "retry_after": "9", "body": "", "times": 2});
    assert_eq!(
        post(r#"{"fault":"status","code":429,"retry_after":"9","times":2}"#).json(),
        json!({"faults": [one]})
    );
    let list = post(r#"[{"fault":"lost_response"},{"fault":"slow","millis":1,"times":"forever"}]"#).json();
    assert_eq!(list["faults"].as_array().unwrap().len(), 3);
    assert_eq!(get(&server, "/debug/faults").json(), list);
    assert_eq!(upload(&server, "{}").status, 429);

    for wrong in [
        "",
        "x",
        "{}",
        r#"{"fault":"fire"}"#,
        r#"{"fault":"status","code":99}"#,
        r#"[{"fault":"cut_body","times":0}]"#,
    ] {
        let answer = post(wrong);
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(!answer.error().is_empty());
    }
    assert_eq!(send(&server, "DELETE", "/debug/faults", &[], b"").json(), json!({"faults": []}));
    assert_eq!(upload(&server, "{}").status, 200);
}

/// All bytes that come back for an upload.
fn raw_upload(server: &Server, body: &str) -> Vec<u8> {
    exchange(server, &request("POST", &upload_path(), &[], body.as_bytes()))
}
