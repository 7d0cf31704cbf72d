//! The reference log server, in the caller's process.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tuntrail::flow::Message;
use tuntrail_logserver::{Fault, Server, ServerConfig, Times};

use crate::{PATIENCE, RecordedFlow, TestPeerError, records};

/// Far longer than a test runs: a stalled request ends with its client or with the server.
const STALL: Duration = Duration::from_secs(3600);

/// A log server on loopback, with its database in memory.
#[derive(uniffi::Object)]
pub struct LogServer {
    server: RwLock<Server>,
    /// How many requests had met a fault when the server was told to stall.
    faults: AtomicU64,
}

#[uniffi::export]
impl LogServer {
    /// Starts a server on a free port.
    #[uniffi::constructor]
    pub fn start() -> Result<Arc<Self>, TestPeerError> {
        let server = Server::start(ServerConfig::default()).map_err(|error| failed("can't start", error))?;
        Ok(Arc::new(Self { server: RwLock::new(server), faults: AtomicU64::new(0) }))
    }

    /// Its address, as the SDK's configuration wants it.
    pub fn url(&self) -> String {
        self.with(Server::base_url)
    }

    /// Every record of a collection, as JSON.
    pub fn entries(&self, collection: &str) -> Result<Vec<String>, TestPeerError> {
        let entries = self.with(|server| server.entries(collection));
        let entries = entries.map_err(|error| failed(collection, error))?;
        Ok(entries.into_iter().map(|entry| entry.payload).collect())
    }

    /// Every row of the records of windows in a collection.
    pub fn flows(&self, collection: &str) -> Result<Vec<RecordedFlow>, TestPeerError> {
        let mut flows = Vec::new();
        for entry in self.entries(collection)? {
            let message: Message =
                serde_json::from_str(&entry).map_err(|error| failed("not a record of a window", error))?;
            flows.extend(records::rows(&message));
        }
        Ok(flows)
    }

    /// Every whole number that the records of a collection have under this name, however deep; of lists, all their numbers.
    pub fn numbers(&self, collection: &str, name: &str) -> Result<Vec<u64>, TestPeerError> {
        let mut numbers = Vec::new();
        for entry in self.entries(collection)? {
            let entry = serde_json::from_str(&entry).map_err(|error| failed("not JSON", error))?;
            collect(&entry, name, &mut numbers);
        }
        Ok(numbers)
    }

    /// How many uploads have come, good and bad.
    pub fn uploads(&self) -> u64 {
        self.with(|server| server.stats().uploads)
    }

    /// How many records came a second time.
    pub fn duplicates(&self) -> u64 {
        self.with(|server| server.stats().duplicates)
    }

    /// Refuses the next upload with this status.
    pub fn refuse_next(&self, status: u16) -> Result<(), TestPeerError> {
        let fault = Fault::Status { code: status, retry_after: None, body: "refused on purpose".to_owned() };
        self.with(|server| server.inject(fault, Times::ONCE)).map_err(|error| failed("refuse", error))
    }

    /// Leaves uploads without an answer until [`Self::go_on`].
    pub fn stall(&self) -> Result<(), TestPeerError> {
        self.with(|server| {
            self.faults.store(server.stats().faults, Ordering::SeqCst);
            server.inject(Fault::Slow(STALL), Times::Forever).map_err(|error| failed("stall", error))
        })
    }

    /// Waits until an upload has come since [`Self::stall`] and waits for its answer.
    pub fn wait_until_stalled(&self) -> Result<(), TestPeerError> {
        let before = self.faults.load(Ordering::SeqCst);
        let reached = self.with(|server| server.wait_for(|stats| stats.faults > before, PATIENCE));
        reached.map(drop).ok_or_else(|| failed("wait_until_stalled", "no upload has come"))
    }

    /// Answers the uploads that come from now on.
    pub fn go_on(&self) {
        self.with(Server::clear_faults);
    }

    /// Ends it; its records can still be looked at.
    pub fn stop(&self) {
        self.server.write().unwrap_or_else(PoisonError::into_inner).stop();
    }
}

impl LogServer {
    fn with<T>(&self, ask: impl FnOnce(&Server) -> T) -> T {
        ask(&self.server.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn failed(what: &str, why: impl std::fmt::Display) -> TestPeerError {
    TestPeerError::new(&format!("log server: {what}"), why)
}

fn collect(value: &Value, name: &str, numbers: &mut Vec<u64>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                match value {
                    Value::Number(number) if member == name => numbers.extend(number.as_u64()),
                    Value::Array(list) if member == name => {
                        numbers.extend(list.iter().filter_map(Value::as_u64));
                    }
                    _ => collect(value, name, numbers),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, name, numbers)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;

    /// Sends one record, a message with one row of virtual traffic, and returns the answer's first line.
    fn post(server: &LogServer) -> String {
        let record = r#"{"nodeId":"n1","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z","virtualTraffic":
            [{"proto":6,"src":"100.64.0.1:5","dst":"100.64.0.2:443","txPkts":1,"txBytes":40}]}"#;
        let (address, id) = (server.url().replace("http://", ""), "ab".repeat(32));
        let mut stream = TcpStream::connect(&address).unwrap();
        let length = record.len();
        write!(
            stream,
            "POST /c/c.log/{id} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{record}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn records_come_back_as_rows_and_numbers() {
        let server = LogServer::start().unwrap();
        server.refuse_next(503).unwrap();
        assert!(post(&server).contains("503"));
        assert!(server.entries("c.log").unwrap().is_empty());
        assert!(post(&server).contains("200"));
        let flows = server.flows("c.log").unwrap();
        assert_eq!((flows[0].kind, flows[0].protocol), (crate::TrafficKind::Virtual, 6));
        assert_eq!((flows[0].tx_packets, flows[0].tx_bytes, flows[0].rx_packets), (1, 40, 0));
        assert_eq!(flows[0].destination.as_deref(), Some("100.64.0.2:443"));
        assert_eq!(server.numbers("c.log", "txBytes").unwrap(), [40]);
        assert_eq!(server.uploads(), 2);
        server.stop();
        assert_eq!(server.entries("c.log").unwrap().len(), 1, "still there");
    }

    #[test]
    fn a_stalled_upload_is_seen_and_the_next_one_goes_through() {
        let server = LogServer::start().unwrap();
        server.stall().unwrap();
        std::thread::scope(|scope| {
            let stalled = scope.spawn(|| post(&server));
            server.wait_until_stalled().unwrap();
            server.go_on();
            assert!(post(&server).contains("200"));
            server.stop();
            assert!(stalled.join().unwrap().contains("503"));
        });
    }
}
