//! A scripted HTTP server on loopback.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Gives a status for the JSON of a body.
type Judge = Box<dyn FnMut(&[u8]) -> u16 + Send>;

/// What the server does with one request.
pub(in super::super) enum Reply {
    /// Answers with this status, header lines and body.
    Status(u16, &'static str, String),
    /// Judges the request's body (uncompressed) and answers with the status.
    Judge(Judge),
    /// Takes the request and closes the connection without a word.
    Hangup,
    /// Writes these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Takes the request, answers with these bytes, perhaps none, and says nothing more until the client goes away.
    Silence(Vec<u8>),
    /// Answers with the bytes, then with the piece again and again: so often, or until the client goes away. The counter
    /// tells how many bytes of pieces the client's system took.
    Flood(&'static [u8], &'static [u8], usize, Arc<AtomicUsize>),
}

impl Reply {
    pub(in super::super) fn status(status: u16) -> Self {
        Self::Status(status, "", String::new())
    }
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Received {
    /// The first line.
    pub(in super::super) line: String,
    /// Names in lower case.
    pub(in super::super) headers: Vec<(String, String)>,
    pub(in super::super) body: Vec<u8>,
}

impl Received {
    pub(in super::super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as it was before compression.
    pub(in super::super) fn json(&self) -> Vec<u8> {
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
    pub(in super::super) fn seqs(&self) -> Vec<u64> {
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&self.json()).unwrap();
        entries.iter().map(|entry| entry["logtail"]["proc_seq"].as_u64().unwrap()).collect()
    }
}

/// Answers requests on loopback by a script, then all further ones with 200.
pub(in super::super) struct Server {
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
    /// Connections are closed as soon as they are accepted.
    down: bool,
}

impl Server {
    pub(in super::super) fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(script, None)
    }

    /// A server that speaks TLS and shows the certificate of `testdata/localhost.pem`.
    pub(in super::super) fn start_tls(script: impl IntoIterator<Item = Reply>) -> Self {
        let certificate =
            CertificateDer::from_pem_slice(include_bytes!("../testdata/localhost.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../testdata/localhost.key")).unwrap();
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
                    let down = {
                        let mut log = log.lock().unwrap();
                        log.connections += 1;
                        log.down
                    };
                    if down {
                        continue;
                    }
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

    pub(in super::super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(in super::super) fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub(in super::super) fn requests(&self) -> Vec<Received> {
        self.log.lock().unwrap().requests.clone()
    }

    pub(in super::super) fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }

    /// Closes connections without a word from now on, or answers again.
    pub(in super::super) fn set_down(&self, down: bool) {
        self.log.lock().unwrap().down = down;
    }

    /// Calls `hook` on the server's thread when a request has come in, before it is answered.
    pub(in super::super) fn on_request(&self, hook: impl FnMut() + Send + 'static) {
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
            Reply::Silence(bytes) => {
                reader.get_mut().write_all(&bytes)?;
                reader.get_mut().flush()?;
                let mut rest = Vec::new();
                return reader.read_to_end(&mut rest).map(drop);
            }
            Reply::Flood(head, piece, times, taken) => {
                reader.get_mut().write_all(head)?;
                for _ in 0..times {
                    reader.get_mut().write_all(piece)?;
                    taken.fetch_add(piece.len(), Ordering::SeqCst);
                }
                return Ok(());
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
