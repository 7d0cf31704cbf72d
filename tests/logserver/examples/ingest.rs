//! How many entries a second a log server takes, by database: the figures in docs/collector.md.
//!
//! ```text
//! cargo run --release -p tuntrail-logserver --example ingest -- /tmp/ingest.sqlite postgres:///scratch
//! ```
//!
//! Each argument is an SQLite file or a PostgreSQL URL; give databases that are new and may be thrown away. Eight clients
//! upload over a connection each, to a stream each, compressed, batches of 100 entries like flow records; then the
//! first tenth again, which must come back as duplicates.

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tuntrail_logserver::{Database, PostgresUrl, Server, ServerConfig};

/// As many as may wait for the database at the same time by default.
const CLIENTS: u32 = 8;
/// About what a device uploads at once: 100 windows with two connections are 50 KiB before compression.
const ENTRIES: u32 = 100;
/// Of each client; 40,000 entries in all keep a small machine busy for some seconds.
const UPLOADS: u32 = 50;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut first = None;
    for argument in std::env::args().skip(1) {
        let (kind, database) = if PostgresUrl::looks_like_one(&argument) {
            ("PostgreSQL", Database::Postgres(argument.parse::<PostgresUrl>()?))
        } else {
            ("SQLite", Database::File(argument.into()))
        };
        let mut server = Server::start(ServerConfig { database, ..ServerConfig::default() })?;
        let fresh = upload_all(&server, UPLOADS)?;
        let again = upload_all(&server, UPLOADS / 10)?;
        let stats = server.stats();
        let expected = u64::from(CLIENTS * ENTRIES);
        if (stats.stored, stats.duplicates)
            != (expected * u64::from(UPLOADS), expected * u64::from(UPLOADS / 10))
        {
            return Err(format!("not stored once each; was the database new? {stats:?}").into());
        }
        server.stop();
        let rate = stats.stored as f64 / fresh.as_secs_f64();
        println!(
            "{kind}: {} entries in {:.2} s: {rate:.0} entries/s; {:.0} duplicates/s; an upload of {ENTRIES} entries has \
             {} bytes, {} as sent; {:.2} of the first",
            stats.stored,
            fresh.as_secs_f64(),
            stats.duplicates as f64 / again.as_secs_f64(),
            stats.decoded_bytes / stats.uploads,
            stats.wire_bytes / stats.uploads,
            rate / *first.get_or_insert(rate),
        );
    }
    Ok(())
}

/// The time until all clients have uploaded so often.
fn upload_all(server: &Server, uploads: u32) -> Result<Duration, Failure> {
    let begin = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> =
            (1..=CLIENTS).map(|client| scope.spawn(move || upload(server, client, uploads))).collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| "a client panicked")?)
    })?;
    Ok(begin.elapsed())
}

fn upload(server: &Server, client: u32, uploads: u32) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(server.local_addr())?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    for number in 0..uploads {
        let entries: Vec<_> = (1..=ENTRIES).map(|entry| record(client, number * ENTRIES + entry)).collect();
        let body = format!("[{}]", entries.join("\n,"));
        let wire = zstd::bulk::compress(body.as_bytes(), 1)?;
        let head = format!(
            "POST /c/tailtraffic.log.example.com/{client:064x} HTTP/1.1\r\nhost: t\r\ncontent-encoding: zstd\r\n\
             orig-content-length: {}\r\ncontent-length: {}\r\n\r\n",
            body.len(),
            wire.len()
        );
        stream.write_all(&[head.as_bytes(), &wire].concat())?;
        let (mut status, mut length, mut line) = (String::new(), 0, String::new());
        reader.read_line(&mut status)?;
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line)?;
            length = line.strip_prefix("content-length: ").map_or(Ok(length), |text| text.trim().parse())?;
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        if !status.starts_with("HTTP/1.1 200 ") {
            return Err(format!("{status}{}", serde_json::from_slice::<Value>(&answer)?).into());
        }
    }
    Ok(())
}

/// An entry like a flow record: two connections in a window, with numbers that differ.
fn record(client: u32, number: u32) -> String {
    let noise = number.wrapping_mul(2_654_435_761) ^ client.wrapping_mul(40_503);
    let (port, bytes, minute, second) =
        (1024 + noise % 60_000, noise >> 8, number / 12 % 60, number * 5 % 60);
    let time = format!("2026-01-02T{:02}:{minute:02}:{second:02}", number / 720 % 24);
    format!(
        r#"{{"logtail":{{"client_time":"{time}.{:09}Z","proc_id":{client},"proc_seq":{number}}},"nodeId":"n{client}CNTRL","start":"{time}Z","end":"{time}.9Z","virtualTraffic":[{{"proto":6,"src":"100.64.0.{client}:{port}","dst":"100.64.1.{}:443","txPkts":{},"txBytes":{bytes},"rxPkts":{},"rxBytes":{}}},{{"proto":17,"src":"100.64.0.{client}:{}","dst":"100.64.1.1:53","txPkts":1,"txBytes":{},"rxPkts":1,"rxBytes":{}}}]}}"#,
        noise % 1_000_000_000,
        noise % 250,
        noise % 97,
        noise % 89,
        bytes / 3,
        port ^ 1,
        60 + noise % 30,
        90 + noise % 200,
    )
}
