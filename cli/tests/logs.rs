//! `tuntrail logs` as its users run it: every verb on everything that is not as it should be, and what can't be read at all.
//! Memory is limited by the system where a source has no end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may fail loudly")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    thread,
};

use jiff::Timestamp;
use tempfile::TempDir;
use tuntrail::{
    clock::ManualClock,
    store::{Role, Store, StoreConfig, StreamConfig, StreamName, find_segments},
};

const TOOL: &str = env!("CARGO_BIN_EXE_tuntrail");

/// Every verb.
const VERBS: [&str; 5] = ["ls", "show", "verify", "export", "report"];

/// What a command wrote and how it ended.
struct Ran {
    code: Option<i32>,
    out: String,
    errors: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
    }
}

/// Runs a verb on a path; what it writes goes to files below `place`.
fn run(verb: &str, path: &Path, place: &Path) -> Ran {
    run_as(Command::new(TOOL), verb, path, place)
}

fn run_as(mut command: Command, verb: &str, path: &Path, place: &Path) -> Ran {
    command.args(["logs", verb]).arg(path);
    match verb {
        "export" => drop(command.arg(place.join("out"))),
        "report" => drop(command.arg("--out").arg(place.join("report.html"))),
        _ => {}
    }
    Ran::from(command.output().unwrap())
}

/// A store with 80 records in at least three segments, which no process has open.
fn store() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let name = StreamName::new("netlog").unwrap();
    let limits = StreamConfig { segment_bytes: 4096, ..StreamConfig::new(name.clone()) };
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let config = StoreConfig { root: directory.path().to_owned(), role: Role::Extension, clock };
    let store = Store::open(config, vec![limits]).unwrap();
    let stream = store.stream(&name).unwrap();
    for number in 0..80 {
        let record = format!(
            r#"{{"nodeId":"n1","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z","virtualTraffic":[{{"proto":6,"src":"100.64.0.1:5","dst":"100.64.0.2:{}","txPkts":1,"txBytes":7}}]}}"#,
            1_000 + number
        );
        stream.append(record.as_bytes()).unwrap();
    }
    stream.flush().unwrap();
    drop(stream);
    store.shutdown().unwrap();
    directory
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    find_segments(directory).unwrap().segments.into_iter().map(|file| file.path).collect()
}

/// Checks that each verb names what is wrong with `path`, and shows the rest.
fn each_verb_says_so_and_shows_the_rest(path: &Path, said: &str) {
    for verb in VERBS {
        let place = tempfile::tempdir().unwrap();
        let ran = run(verb, path, place.path());
        assert!(ran.errors.contains(said), "{verb}: {said}: {}", ran.errors);
        assert_eq!(ran.code, Some(i32::from(verb == "verify")), "{verb}: {}", ran.errors);
        assert!(ran.errors.lines().all(|line| line.starts_with("tuntrail: ")), "{verb}: {}", ran.errors);
        let shown = match verb {
            "report" => fs::read_to_string(place.path().join("report.html")).unwrap(),
            "export" => run("show", &place.path().join("out"), place.path()).out,
            _ => ran.out,
        };
        let rest = if ["ls", "verify"].contains(&verb) { "netlog" } else { "100.64.0.2" };
        assert!(shown.contains(rest), "{verb}: {shown}");
        if verb == "report" {
            assert!(shown.contains("could not be read"), "{shown}");
        }
    }
}

#[test]
fn a_damaged_segment() {
    let store = store();
    let file = segments(store.path()).remove(1);
    let mut bytes = fs::read(&file).unwrap();
    bytes[100..].fill(0x5a);
    fs::write(file, bytes).unwrap();
    each_verb_says_so_and_shows_the_rest(store.path(), "damaged");
}

#[test]
fn a_cut_segment() {
    let store = store();
    let file = segments(store.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    fs::write(file, &bytes[..bytes.len() * 2 / 3]).unwrap();
    each_verb_says_so_and_shows_the_rest(store.path(), "damaged");
}

#[test]
fn a_segment_that_is_something_else() {
    let store = store();
    fs::write(segments(store.path()).remove(0), b"\x89PNG, a picture of a cat").unwrap();
    each_verb_says_so_and_shows_the_rest(store.path(), ".seg: ");
}

#[test]
fn a_segment_of_a_later_version() {
    let store = store();
    let file = segments(store.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[4] = 2;
    let sum = crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    fs::write(file, bytes).unwrap();
    each_verb_says_so_and_shows_the_rest(store.path(), "format version 2");
}

#[test]
fn an_export_that_is_cut() {
    let store = store();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("logs.tar.zst");
    let ran = Command::new(TOOL).args(["logs", "export"]).arg(store.path()).arg(&path).output().unwrap();
    assert!(ran.status.success());
    // Stored, so that what stands before the cut can be decoded.
    let plain = zstd::decode_all(File::open(&path).unwrap()).unwrap();
    let mut encoder = zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
    encoder.write_all(&plain[..plain.len() * 2 / 3]).unwrap();
    encoder.finish().unwrap();
    each_verb_says_so_and_shows_the_rest(&path, "cut");
}

#[test]
fn an_export_of_a_later_version() {
    let store = store();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("logs");
    let ran = Command::new(TOOL).args(["logs", "export"]).arg(store.path()).arg(&path).output().unwrap();
    assert!(ran.status.success());
    fs::write(path.join("manifest.json"), r#"{"version":2,"novel":true}"#).unwrap();
    each_verb_says_so_and_shows_the_rest(&path, "has version 2 of the layout, this reads 1");
}

#[test]
fn what_is_no_source_at_all_is_refused_by_each_verb() {
    let place = tempfile::tempdir().unwrap();
    let picture = place.path().join("cat.jpg");
    fs::write(&picture, b"\xff\xd8\xff a cat").unwrap();
    let database = place.path().join("server.sqlite");
    fs::write(&database, b"SQLite format 3\0").unwrap();
    let archive = place.path().join("other.tar.zst");
    let mut builder = tar::Builder::new(zstd::Encoder::new(File::create(&archive).unwrap(), 1).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    builder.append_data(&mut header, "notes.txt", &b"x"[..]).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    for (path, said) in [
        (picture, "is neither a directory nor an export"),
        (archive, "no export of records"),
        (database, "tuntrail serve --database"),
        (place.path().join("nothing"), "can't read"),
    ] {
        for verb in VERBS {
            let ran = run(verb, &path, place.path());
            assert_eq!(ran.code, Some(1), "{verb}: {}", ran.out);
            assert!(ran.errors.contains(said), "{verb}: {}", ran.errors);
            assert!(
                !place.path().join("report.html").exists() && !place.path().join("out").exists(),
                "{verb}"
            );
        }
    }
}

#[test]
fn a_choice_of_nothing_is_told_and_no_output() {
    let store = store();
    let mut command = Command::new(TOOL);
    command.args(["logs", "show", "--class", "exit", "--format", "csv"]).arg(store.path());
    let ran = Ran::from(command.output().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""));
    assert!(ran.errors.contains("nothing matches class exit"), "{}", ran.errors);
}

#[test]
fn readers_who_have_seen_enough_stop_nothing() {
    let store = store();
    fs::write(store.path().join("netlog/w-ext/holiday.jpg"), b"mine").unwrap();
    for verb in VERBS {
        for is_error in [true, false] {
            let place = tempfile::tempdir().unwrap();
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut command = Command::new(TOOL);
            if is_error {
                command.stderr(writer)
            } else {
                command.stdout(writer)
            };
            let ran = run_as(command, verb, store.path(), place.path());
            assert_eq!(ran.code, Some(0), "{verb}: {} {}", ran.out, ran.errors);
            assert!(!ran.errors.contains("panicked"), "{verb}: {}", ran.errors);
        }
    }
}

/// A server that lists one log and then sends `answer` again and again, until the reader hangs up. Returns how much the
/// reader took.
fn endless_server(answer: Vec<u8>) -> (String, thread::JoinHandle<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let list = r#"{"collections":{"c":{"instances":{"ab":{"size":1}}}}}"#;
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
            if request.starts_with(b"GET /collections") {
                write!(stream, "{head}Content-Length: {}\r\n\r\n{list}", list.len()).unwrap();
                continue;
            }
            write!(stream, "{head}\r\n").unwrap();
            let mut sent = 0;
            while sent < 1 << 30 && stream.write_all(&answer).is_ok() {
                sent += answer.len() as u64;
            }
            return sent;
        }
    });
    (url, server)
}

/// The tool with no more than so many MiB of memory of its own; linked libraries and stacks are in it.
#[cfg(target_os = "linux")]
fn limited(mib: u64) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -d {} && exec \"$0\" \"$@\"", mib * 1024), TOOL]);
    command
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_that_never_ends_is_refused_at_the_limit_in_bounded_memory() {
    // A megabyte per line, nearly.
    let line =
        format!("{{\"logtail\":{{\"proc_id\":7,\"proc_seq\":1}},\"text\":\"{}\"}}\n", "x".repeat(1_000_000));
    for verb in ["report", "show"] {
        let (url, server) = endless_server(line.clone().into_bytes());
        let place = tempfile::tempdir().unwrap();
        let mut command = limited(64);
        command.args(["logs", verb, "--server", &url]);
        match verb {
            "report" => drop(command.arg("--out").arg(place.path().join("report.html"))),
            "show" => drop(command.args(["--format", "jsonl", "--flow", "none"])),
            other => panic!("{other}"),
        }
        let ran = Ran::from(command.output().unwrap());
        let sent = server.join().unwrap();
        assert!(
            ran.errors.contains("an answer of more than 134217728 bytes is refused"),
            "{verb}: {}",
            ran.errors
        );
        assert_eq!(ran.code, Some(0), "{verb}: {}", ran.errors);
        // What was on its way is sent, too.
        assert!((128 << 20..200 << 20).contains(&sent), "{verb}: {sent}");
    }
}

/// An export that begins well and then tells `length` zeros about its next file, in a member of this kind.
#[cfg(target_os = "linux")]
fn endless_header(place: &Path, kind: tar::EntryType, length: u64) -> PathBuf {
    let path = place.join("hostile.tar.zst");
    let encoder = zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
    let mut builder = tar::Builder::new(encoder);
    let line = r#"{"logtail":{"proc_id":7,"proc_seq":1},"text":"x"}"#;
    for (name, content) in [("manifest.json", r#"{"version":1}"#), ("netlog/0.jsonl", line)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, format!("tuntrail/{name}"), content.as_bytes()).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(length);
    header.set_cksum();
    builder.append(&header, std::io::repeat(0).take(length)).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    path
}

#[cfg(target_os = "linux")]
#[test]
fn what_an_export_tells_about_a_file_takes_bounded_memory() {
    let too_much = "tells more than 65536 bytes about a file";
    for (kind, said) in [
        (tar::EntryType::GNULongName, too_much),
        (tar::EntryType::XHeader, too_much),
        (tar::EntryType::GNULongLink, "summary.json, is missing"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let path = endless_header(place.path(), kind, 256 << 20);
        assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
        for verb in VERBS {
            let ran = run_as(limited(64), verb, &path, place.path());
            // And not that there was no memory.
            assert!(ran.errors.contains(said), "{kind:?} {verb}: {}", ran.errors);
            assert_eq!(ran.code, Some(i32::from(verb == "verify")), "{kind:?} {verb}: {}", ran.errors);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_of_many_megabytes_take_bounded_memory() {
    let place = tempfile::tempdir().unwrap();
    let stream = place.path().join("netlog");
    fs::create_dir(&stream).unwrap();
    fs::write(place.path().join("manifest.json"), r#"{"version":1}"#).unwrap();
    fs::write(place.path().join("summary.json"), "{}").unwrap();
    let mut file = File::create(stream.join("0.jsonl")).unwrap();
    // Each line has names of its own that are 200 kB long, for each of 300 connections.
    for number in 0..150_u32 {
        let name = format!("{number}{}", "n".repeat(200_000));
        let row = r#"{"dst":"100.64.0.2:1","txBytes":1}"#;
        let rows = vec![row; 300].join(",");
        writeln!(
            file,
            r#"{{"logtail":{{"proc_id":{number},"proc_seq":1}},"nodeId":"{name}","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z","dstNodes":[{{"nodeId":"{name}","name":"{name}","addresses":["100.64.0.2"]}}],"virtualTraffic":[{rows}]}}"#
        )
        .unwrap();
    }
    drop(file);
    for verb in ["report", "ls", "verify", "export"] {
        let mut command = limited(64);
        command.args(["logs", verb]).arg(place.path());
        match verb {
            "report" => drop(command.arg("--out").arg(place.path().join("report.html"))),
            "export" => drop(command.arg(place.path().join("out.tar.zst"))),
            _ => {}
        }
        let ran = Ran::from(command.output().unwrap());
        assert_eq!(ran.code, Some(0), "{verb}: {}", ran.errors);
    }
    let page = fs::read_to_string(place.path().join("report.html")).unwrap();
    assert!(page.contains("value=\"45000\"") && page.len() < 100_000, "{}", page.len());
}

/// CRC-32C, bit by bit: for 60 bytes no crate is needed.
fn crc32c(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), fold))
}
