//! Helpers of the uploader's tests: a source in memory and a scripted HTTP server on loopback.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{
    entry::EntryIds,
    source::{DroppedRange, Entry, ReadFailure, SegmentData, SegmentRef, SegmentSource},
};
use crate::store::{ProcId, RecordKind, SegmentId};

/// The process that all entries of a [`FakeSource`] come from.
pub(super) const PROC_ID: u32 = 0x9f3c_21aa;

/// A source that holds segments in memory and remembers what was done to them.
pub(super) struct FakeSource {
    name: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    segments: Vec<(SegmentRef, Arc<FakeSegment>)>,
    drops: Vec<DroppedRange>,
    repeated: Vec<Vec<u8>>,
    fail_seal: bool,
    unreadable: Option<ReadFailure>,
    fail_acknowledge: bool,
}

struct FakeSegment {
    first_seq: u64,
    payloads: Vec<(RecordKind, Vec<u8>)>,
}

impl SegmentData for FakeSegment {
    fn entries(&self) -> Vec<Entry<'_>> {
        (self.first_seq..)
            .zip(&self.payloads)
            .map(|(proc_seq, (kind, payload))| Entry {
                kind: *kind,
                ids: EntryIds { proc_id: PROC_ID, proc_seq },
                payload,
            })
            .collect()
    }
}

impl FakeSource {
    pub(super) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, state: Mutex::default() })
    }

    /// Adds a segment with the given payloads, numbered on from the last segment.
    pub(super) fn push(&self, payloads: &[&str]) {
        self.push_kind(RecordKind::Data, payloads);
    }

    pub(super) fn push_kind(&self, kind: RecordKind, payloads: &[&str]) {
        let mut state = self.state.lock().unwrap();
        let (generation, first_seq) = state.segments.last().map_or((1, 1), |(segment, data)| {
            (segment.id.generation + 1, data.first_seq + data.payloads.len() as u64)
        });
        let proc_id = ProcId::new(PROC_ID).unwrap();
        let payloads: Vec<_> = payloads.iter().map(|payload| (kind, payload.as_bytes().to_vec())).collect();
        let id = SegmentId { generation, proc_id };
        let segment = SegmentRef { id, records: u32::try_from(payloads.len()).unwrap() };
        state.segments.push((segment, Arc::new(FakeSegment { first_seq, payloads })));
    }

    pub(super) fn fail_seal(&self) {
        self.state.lock().unwrap().fail_seal = true;
    }

    /// Makes the next read fail.
    pub(super) fn fail_read(&self, failure: ReadFailure) {
        self.state.lock().unwrap().unreadable = Some(failure);
    }

    pub(super) fn fail_acknowledge(&self) {
        self.state.lock().unwrap().fail_acknowledge = true;
    }

    /// Records still held.
    pub(super) fn pending(&self) -> usize {
        self.state.lock().unwrap().segments.iter().map(|(segment, _)| segment.records as usize).sum()
    }

    pub(super) fn drops(&self) -> Vec<DroppedRange> {
        self.state.lock().unwrap().drops.clone()
    }

    /// Payloads of meta records whose reports were made again.
    pub(super) fn repeated(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().repeated.clone()
    }

    fn remove(&self, segment: &SegmentRef) {
        self.state.lock().unwrap().segments.retain(|(other, _)| other != segment);
    }
}

impl SegmentSource for FakeSource {
    fn name(&self) -> &str {
        self.name
    }

    fn seal(&self) -> Result<Vec<SegmentRef>, String> {
        let state = self.state.lock().unwrap();
        if state.fail_seal {
            return Err("the disk is gone".to_owned());
        }
        Ok(state.segments.iter().map(|(segment, _)| *segment).collect())
    }

    fn read(&self, segment: &SegmentRef) -> Result<Arc<dyn SegmentData>, ReadFailure> {
        let mut state = self.state.lock().unwrap();
        if let Some(failure) = state.unreadable.take() {
            return Err(failure);
        }
        let found = state.segments.iter().find(|(other, _)| other == segment);
        found.map(|(_, data)| Arc::clone(data) as Arc<dyn SegmentData>).ok_or(ReadFailure::Gone)
    }

    fn acknowledge(&self, segment: &SegmentRef) -> Result<(), String> {
        if self.state.lock().unwrap().fail_acknowledge {
            return Err("read-only file system".to_owned());
        }
        self.remove(segment);
        Ok(())
    }

    fn discard_corrupt(&self, segment: &SegmentRef) -> Result<(), String> {
        self.remove(segment);
        Ok(())
    }

    fn report_drop(&self, drop: &DroppedRange) {
        self.state.lock().unwrap().drops.push(*drop);
    }

    fn repeat_reports(&self, meta: &[u8]) {
        self.state.lock().unwrap().repeated.push(meta.to_vec());
    }
}

/// Gives a status for the JSON of a body.
type Judge = Box<dyn FnMut(&[u8]) -> u16 + Send>;

/// What the server does with one request.
pub(super) enum Reply {
    /// Answers with this status, header lines and body.
    Status(u16, &'static str, String),
    /// Judges the request's body (uncompressed) and answers with the status.
    Judge(Judge),
    /// Takes the request and closes the connection without a word.
    Hangup,
    /// Writes these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Takes the request and says nothing until the client goes away.
    Silence,
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self::Status(status, "", String::new())
    }
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    /// The first line.
    pub(super) line: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as it was before compression.
    pub(super) fn json(&self) -> Vec<u8> {
        match self.header("content-encoding") {
            None => self.body.clone(),
            Some("zstd") => {
                let len = self.header("orig-content-length").unwrap().parse().unwrap();
                let json = zstd::bulk::decompress(&self.body, len).unwrap();
                assert_eq!(json.len(), len);
                json
            }
            Some(other) => panic!("unexpected encoding {other}"),
        }
    }

    /// The sequence numbers of the entries in the body.
    pub(super) fn seqs(&self) -> Vec<u64> {
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&self.json()).unwrap();
        entries.iter().map(|entry| entry["logtail"]["proc_seq"].as_u64().unwrap()).collect()
    }
}

/// Answers requests on loopback by a script, then all further ones with 200.
pub(super) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Log {
    script: VecDeque<Reply>,
    requests: Vec<Received>,
    connections: usize,
    on_request: Option<Box<dyn FnMut() + Send>>,
}

impl Server {
    pub(super) fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(script, None)
    }

    /// A server that speaks TLS and shows the certificate of `testdata/localhost.pem`.
    pub(super) fn start_tls(script: impl IntoIterator<Item = Reply>) -> Self {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("testdata/localhost.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/localhost.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::start_with(script, Some(Arc::new(config)))
    }

    fn start_with(script: impl IntoIterator<Item = Reply>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log { script: script.into_iter().collect(), ..Log::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            move || {
                while let Ok((connection, _)) = listener.accept() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    log.lock().unwrap().connections += 1;
                    // The client may go away at any point: that ends the connection and nothing else.
                    let _ = match &tls {
                        None => serve(connection, &log),
                        Some(config) => {
                            let session = ServerConnection::new(Arc::clone(config)).unwrap();
                            serve(StreamOwned::new(session, connection), &log)
                        }
                    };
                }
            }
        });
        Self { address, log, stop, thread: Some(thread) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.log.lock().unwrap().requests.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }

    /// Calls `hook` on the server's thread when a request has come in, before it is answered.
    pub(super) fn on_request(&self, hook: impl FnMut() + Send + 'static) {
        self.log.lock().unwrap().on_request = Some(Box::new(hook));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread from accept.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(connection: impl Read + Write, log: &Mutex<Log>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    while let Some(request) = receive(&mut reader)? {
        let json = request.json();
        let (reply, hook) = {
            let mut log = log.lock().unwrap();
            log.requests.push(request);
            (log.script.pop_front(), log.on_request.take())
        };
        if let Some(mut hook) = hook {
            hook();
            log.lock().unwrap().on_request.get_or_insert(hook);
        }
        match reply.unwrap_or(Reply::status(200)) {
            Reply::Status(status, headers, body) => answer(reader.get_mut(), status, headers, &body)?,
            Reply::Judge(mut judge) => {
                answer(reader.get_mut(), judge(&json), "", "judged")?;
                log.lock().unwrap().script.push_front(Reply::Judge(judge));
            }
            Reply::Hangup => return Ok(()),
            Reply::Raw(bytes) => return reader.get_mut().write_all(&bytes),
            Reply::Silence => {
                let mut rest = Vec::new();
                return reader.read_to_end(&mut rest).map(drop);
            }
        }
    }
    Ok(())
}

fn answer(writer: &mut impl Write, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    // In one piece: the rest would wait for the client's delayed acknowledgement.
    let answer = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
    writer.write_all(answer.as_bytes())
}

/// The next request, or `None` when the client has closed the connection.
fn receive(reader: &mut impl BufRead) -> std::io::Result<Option<Received>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut lines = lines.into_iter();
    let line = lines.next().unwrap_or_default();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body)?;
    Ok(Some(Received { line, headers, body }))
}
