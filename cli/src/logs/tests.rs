//! The tools on real stores, exports and servers, whole and damaged.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::channel},
};

use jiff::Timestamp;
use tempfile::TempDir;
use tuntrail::{
    clock::ManualClock,
    store::{Role, Store, StoreConfig, StreamConfig, StreamHandle, StreamName},
};
use tuntrail_logserver::{Limits, Server, ServerConfig};

use super::{
    export::export,
    filter::Filter,
    follow::{Wake, follow},
    output::{Format, Output},
    server::ServerArguments,
    show::show,
    source::{Event, SourceArguments},
    verify::check,
    *,
};

/// A store whose writer is open.
pub(super) struct Bed {
    directory: TempDir,
    store: Option<Store>,
}

/// A store with these records in its stream `netlog`, on disk.
pub(super) fn store_with(records: &[String]) -> Bed {
    let directory = tempfile::tempdir().unwrap();
    let name = StreamName::new("netlog").unwrap();
    let limits = StreamConfig { segment_bytes: 4096, max_disk_bytes: 64 * 1024, ..StreamConfig::new(name) };
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let config = StoreConfig { root: directory.path().to_owned(), role: Role::Extension, clock };
    let bed = Bed { store: Some(Store::open(config, vec![limits]).unwrap()), directory };
    bed.append(records);
    bed
}

impl Bed {
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn stream(&self) -> StreamHandle {
        self.store.as_ref().unwrap().stream(&StreamName::new("netlog").unwrap()).unwrap()
    }

    fn append(&self, records: &[String]) {
        let stream = self.stream();
        for record in records {
            stream.append(record.as_bytes()).unwrap();
        }
        stream.flush().unwrap();
    }

    /// Ends the writer; the files stay until this is dropped.
    pub(super) fn shutdown(mut self) -> TempDir {
        self.store.take().unwrap().shutdown().unwrap();
        self.directory
    }
}

/// A record of the window that begins `second` seconds after 03:04, as the client writes it.
pub(super) fn window(second: u64) -> String {
    let (from, to) = (second % 60, (second + 5) % 60);
    format!(
        r#"{{"logtail":{{"client_time":"2026-01-02T03:04:{from:02}Z"}},"nodeId":"n1","start":"2026-01-02T03:04:{from:02}Z","end":"2026-01-02T03:04:{to:02}Z","virtualTraffic":[{{"proto":6,"src":"100.64.0.1:5","dst":"100.64.0.2:{port}","txPkts":1,"txBytes":7}}]}}"#,
        port = 1000 + second
    )
}

fn shown(source: &Source, filter: &Filter, format: Format) -> String {
    let mut out = Vec::new();
    show(source, filter, &mut Output::new(&mut out, format)).unwrap();
    String::from_utf8(out).unwrap()
}

pub(super) fn all(source: &Source) -> String {
    shown(source, &Filter::default(), Format::Jsonl)
}

/// What is shown, and what is told as damage.
pub(super) fn entries_and_damage(source: &Source) -> (usize, Vec<String>) {
    let (mut entries, mut damage) = (0, Vec::new());
    source
        .read(None, &mut |event| {
            match event {
                Event::Entry(_) => entries += 1,
                Event::Notice(notice) if notice.is_damage => damage.push(notice.to_string()),
                Event::Segment(_) | Event::Log { .. } | Event::Stored { .. } | Event::Notice(_) => {}
            }
            Ok(())
        })
        .unwrap();
    (entries, damage)
}

pub(super) fn many(count: u64) -> Vec<String> {
    (0..count).map(window).collect()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let found = tuntrail::store::find_segments(directory).unwrap();
    found.segments.into_iter().map(|file| file.path).collect()
}

#[test]
fn a_store_is_shown_filtered_and_verified_while_its_writer_has_it_open() {
    let bed = store_with(&many(50));
    let source = Source::Directory(bed.path().to_owned());
    let lines = all(&source);
    assert_eq!(lines.lines().count(), 50);
    assert!(lines.starts_with(r#"{"logtail":{"client_time":"2026-01-02T03:04:00Z","proc_id":"#), "{lines}");
    let filter = Filter { port: Some(1007), ..Filter::default() };
    assert_eq!(shown(&source, &filter, Format::Jsonl).lines().count(), 1);
    assert_eq!(shown(&source, &filter, Format::Csv).lines().count(), 2, "header and row");
    assert!(shown(&source, &filter, Format::Table).contains("100.64.0.2:1007"));
    assert!(check(&source).unwrap().is_good());
    bed.append(&[window(51)]);
    assert_eq!(all(&source).lines().count(), 51, "what came meanwhile");
}

#[test]
fn records_that_made_room_are_missing_as_reported() {
    let bed = store_with(&[]);
    // Random enough not to be packed away: more than the cap.
    for round in 0..600_u64 {
        let noise: String = (0..20_u64)
            .map(|n| format!("{:016x}", (round * 31 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        bed.append(&[format!("{{\"text\":\"{noise}\"}}")]);
    }
    let found = check(&Source::Directory(bed.path().to_owned())).unwrap();
    assert!(found.is_good(), "{}", found.tell());
    assert!(found.tell().contains("drop report: netlog: rotation"), "{}", found.tell());
}

#[test]
fn a_segment_that_somebody_removed_is_missing_without_a_report() {
    let directory = store_with(&many(50)).shutdown();
    let files = segments(directory.path());
    assert!(files.len() >= 3, "{files:?}");
    let source = Source::Directory(directory.path().to_owned());
    assert!(check(&source).unwrap().is_good());
    fs::remove_file(&files[1]).unwrap();
    let found = check(&source).unwrap();
    assert!(!found.is_good());
    assert!(found.tell().contains("NOT good"), "{}", found.tell());
    assert!(found.tell().contains("missing without a report of their numbers"), "{}", found.tell());
}

#[test]
fn damaged_cut_foreign_and_later_segments_are_named_and_the_rest_is_shown() {
    let directory = store_with(&many(80)).shutdown();
    let files = segments(directory.path());
    let source = Source::Directory(directory.path().to_owned());
    let (whole, _) = entries_and_damage(&source);
    let change = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let good = fs::read(file).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        fs::write(file, bad).unwrap();
        let found = entries_and_damage(&source);
        assert!(!check(&source).unwrap().is_good());
        fs::write(file, good).unwrap();
        found
    };
    let (entries, damage) = change(&files[0], &|bytes| bytes.truncate(bytes.len() / 2));
    assert!(entries < whole && entries > 0, "{entries} of {whole}");
    assert!(damage[0].contains("damaged"), "{damage:?}");
    let (entries, damage) = change(&files[1], &|bytes| bytes.fill(0));
    assert!(entries < whole && entries > 0 && damage[0].contains("damaged"), "{damage:?}");
    let (_, damage) = change(&files[1], &|bytes| *bytes = b"MZ, a program".to_vec());
    assert_eq!(damage.len(), 1, "{damage:?}");
    let (_, damage) = change(&files[0], &|bytes| bytes.truncate(0));
    assert_eq!(damage.len(), 1, "{damage:?}");
    let (entries, damage) = change(&files[1], &|bytes| {
        bytes[4] = 2;
        let sum = crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    });
    assert!(entries > 0 && damage[0].contains("format version 2"), "{damage:?}");
    fs::write(files[0].with_file_name("holiday.jpg"), "mine").unwrap();
    assert_eq!(entries_and_damage(&source), (whole, vec![]), "somebody's file is no damage");
}

#[test]
fn an_export_has_the_same_entries_and_damage_to_it_leaves_what_stands_before() {
    let bed = store_with(&many(80));
    let store = Source::Directory(bed.path().to_owned());
    let out = bed.path().join("out.tar.zst");
    let report = export(&store, &out, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((report.records, report.unreadable), (80, 0));
    let source = Source::open(&SourceArguments { path: Some(out.clone()), ..Default::default() }).unwrap();
    assert!(matches!(source, Source::Archive(_)));
    assert_eq!(all(&source), all(&store));
    assert!(check(&source).unwrap().is_good());
    assert!(export(&store, &out, Timestamp::UNIX_EPOCH).is_err(), "an export is never overwritten");

    let good = fs::read(&out).unwrap();
    fs::write(&out, &good[..good.len() * 2 / 3]).unwrap();
    let (_, damage) = entries_and_damage(&source);
    assert!(!damage.is_empty());
    fs::write(&out, b"PK not an export").unwrap();
    assert!(Source::open(&SourceArguments { path: Some(out), ..Default::default() }).is_err());
}

#[test]
fn parts_of_an_export_that_are_foreign_later_or_no_json_are_named() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("odd.tar.zst");
    let mut archive = tar::Builder::new(zstd::Encoder::new(fs::File::create(&path).unwrap(), 1).unwrap());
    let good = r#"{"logtail":{"proc_id":7,"proc_seq":1},"text":"x"}"#;
    let long = "x".repeat(2 << 20);
    for (name, content) in [
        ("tuntrail/manifest.json", r#"{"version":9}"#),
        ("tuntrail/netlog/a.jsonl", &format!("{good}\nnonsense\n{good}")),
        ("tuntrail/netlog/b.jsonl", long.as_str()),
        ("etc/passwd", "root"),
        ("tuntrail/summary.json", "{}"),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
    let (entries, damage) = entries_and_damage(&Source::Archive(path));
    assert_eq!(entries, 2);
    let expected = ["has version 9", "no entry", "a line of more than"];
    assert_eq!(damage.len(), expected.len(), "{damage:?}");
    for (damage, expected) in damage.iter().zip(expected) {
        assert!(damage.contains(expected), "{damage}");
    }
}

#[test]
fn following_shows_what_comes_once_also_over_a_seal() {
    let bed = store_with(&many(2));
    let path = bed.path().to_owned();
    let (sender, wakes) = channel();
    let (seen, lines) = channel();
    let watcher = sender.clone();
    let follower = std::thread::spawn(move || {
        let output = Output::new(Lines { seen, line: Vec::new() }, Format::Jsonl);
        follow(&path, &Filter::default(), output, watcher, &wakes).map_err(|error| error.to_string())
    });
    let next = || lines.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    assert!(next().contains("03:04:00Z") && next().contains("03:04:01Z"));
    for second in 2..40 {
        bed.append(&[window(second)]);
        assert!(next().contains(&format!("\"start\":\"2026-01-02T03:04:{second:02}Z\"")));
    }
    assert!(segments(bed.path()).len() > 2, "some were sealed meanwhile");
    sender.send(Wake::Stop).unwrap();
    follower.join().unwrap().unwrap();
    assert!(lines.recv().is_err(), "nothing was shown twice");
}

/// Hands over each line as it is written.
struct Lines {
    seen: std::sync::mpsc::Sender<String>,
    line: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for &byte in bytes {
            self.line.push(byte);
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                // The test has failed already.
                let _ = self.seen.send(String::from_utf8_lossy(&line).into_owned());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The private ID of a log, and its public one.
const PRIVATE: &str = "5858585858585858585858585858585858585858585858585858585858585858";
pub(super) const PUBLIC: &str = "9b955f934018bab805a22794ba7ee1462df77b37edf2c39090d18271b72cc29d";

/// Stores entries at a server through its protocol.
pub(super) fn post(server: &Server, collection: &str, entries: &str) {
    let address = server.base_url();
    let address = address.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /c/{collection}/{PRIVATE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{entries}",
        entries.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

pub(super) fn numbered(seq: u64) -> String {
    window(seq % 50).replacen(r#""},"#, &format!(r#"","proc_id":7,"proc_seq":{seq}}},"#), 1)
}

#[test]
fn a_server_is_read_page_by_page_and_each_entry_once() {
    // Answers hold some three entries, so that pages meet within a second.
    let limits = Limits { response_bytes: 1_000, ..Limits::default() };
    let server = Server::start(ServerConfig { limits, ..ServerConfig::default() }).unwrap();
    let entries: Vec<_> = (1..=40).map(numbered).collect();
    post(&server, "netlog.example", &format!("[{}]", entries.join(",")));
    let source = Source::Server(ServerArguments::at(&server.base_url()));
    let lines = all(&source);
    assert_eq!(lines.lines().count(), 40);
    let found = check(&source).unwrap();
    assert!(found.is_good(), "{}", found.tell());
    post(&server, "netlog.example", &format!("[{}]", numbered(43)));
    let found = check(&source).unwrap();
    assert!(!found.is_good() && found.tell().contains("41-42"), "{}", found.tell());
}

/// A server that answers the list of collections, and then `answer` for the entries.
fn odd_server(answer: impl Fn(&mut dyn Write) + Send + 'static) -> (Source, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let list = r#"{"collections":{"c":{"instances":{"ab":{"size":1}}}}}"#;
        for turn in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            server::tests::request_of(&mut stream);
            if turn == 0 {
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{list}",
                    list.len()
                )
                .unwrap();
            } else {
                answer(&mut stream);
            }
        }
    });
    (Source::Server(ServerArguments::at(&url)), thread)
}

const ENTRY: &str = "{\"logtail\":{\"proc_id\":7,\"proc_seq\":1},\"text\":\"x\"}\n";

#[test]
fn an_answer_of_a_gigabyte_is_refused_before_it_is_read() {
    let (source, thread) = odd_server(|stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1073741824\r\n\r\n{ENTRY}")
            .unwrap();
    });
    let (entries, damage) = entries_and_damage(&source);
    assert_eq!(entries, 0);
    assert!(damage[0].contains("is refused"), "{damage:?}");
    thread.join().unwrap();
}

#[test]
fn an_endless_line_is_refused_and_what_came_before_is_shown() {
    let (source, thread) = odd_server(|stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{ENTRY}").unwrap();
        let piece = [b'x'; 64 * 1024];
        // The reader hangs up.
        while stream.write_all(&piece).is_ok() {}
    });
    let (entries, damage) = entries_and_damage(&source);
    assert_eq!(entries, 1);
    assert!(damage[0].contains("a line of more than"), "{damage:?}");
    thread.join().unwrap();
}

#[test]
fn a_server_that_answers_with_errors_or_something_else_is_named() {
    let (source, thread) = odd_server(|stream| {
        write!(stream, "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let (entries, damage) = entries_and_damage(&source);
    assert_eq!(entries, 0);
    assert!(damage[0].contains("503"), "{damage:?}");
    thread.join().unwrap();
    let (source, thread) = odd_server(|stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>\n{ENTRY}").unwrap();
    });
    let (entries, damage) = entries_and_damage(&source);
    assert_eq!((entries, damage.len()), (1, 1), "{damage:?}");
    thread.join().unwrap();
}

/// CRC-32C, bit by bit: for 60 bytes no crate is needed.
fn crc32c(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), fold))
}
