//! A client that can do what HTTP libraries refuse to: send garbage, stop in the middle, see raw answers.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use serde_json::Value;
use tuntrail_logserver::{Server, ServerConfig};

pub(crate) const COLLECTION: &str = "tailtraffic.log.example.com";
pub(crate) const PRIVATE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
pub(crate) const PUBLIC: &str = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd";

/// No test waits so long unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn start() -> Server {
    Server::start(ServerConfig::default()).unwrap()
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

pub(crate) fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `bytes` and returns all that comes back until the server closes.
pub(crate) fn exchange(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(server);
    stream.write_all(bytes).unwrap();
    // An error is a reset connection, which some faults cause on purpose.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let _ = stream.shutdown(Shutdown::Both);
    answer
}

/// The bytes of a request that asks for the connection to be closed afterwards.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) fn send(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let raw = exchange(server, &request(method, path, headers, body));
    let text = String::from_utf8_lossy(&raw).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {head:?}"));
    let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    if let Some(length) = answer.header("content-length") {
        assert_eq!(length, body.len().to_string(), "the whole body arrives");
    }
    answer
}

pub(crate) fn get(server: &Server, path: &str) -> Answer {
    send(server, "GET", path, &[], b"")
}

pub(crate) fn upload_path() -> String {
    format!("/c/{COLLECTION}/{PRIVATE}")
}

/// Uploads a plain body to the usual stream.
pub(crate) fn upload(server: &Server, body: &str) -> Answer {
    send(server, "POST", &upload_path(), &[], body.as_bytes())
}

/// Uploads a body compressed as clients do it.
pub(crate) fn upload_zstd(server: &Server, body: &str) -> Answer {
    let wire = zstd::bulk::compress(body.as_bytes(), 1).unwrap();
    let length = body.len().to_string();
    let headers = [("content-encoding", "zstd"), ("orig-content-length", length.as_str())];
    send(server, "POST", &upload_path(), &headers, &wire)
}

/// An entry with numbers, framed as clients frame it.
pub(crate) fn entry(proc_id: u32, proc_seq: u64) -> String {
    format!("{{\"logtail\":{{\"proc_id\":{proc_id},\"proc_seq\":{proc_seq}}},\"text\":\"x\"}}\n")
}
