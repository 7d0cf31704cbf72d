//! nginx in front, with the configuration from docs/collector: TLS, limits, and no private ID in any log.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
};

use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, pem::PemObject},
};
use tempfile::TempDir;
use tuntrail::upload::UploadOutcome;
use tuntrail_logserver::{Server, ServerConfig};

use crate::{
    certificate::Certificate,
    client::{App, ports_at},
    cluster::free_port,
    program::{Program, find, open_folder, skip},
    support::{COLLECTION, PATIENCE, PRIVATE, PUBLIC, entry, request, upload_path},
};

const CONFIGURATION: &str = include_str!("../../../../docs/collector/nginx.conf");

/// A running nginx and the folder with its configuration, certificate and logs.
struct Front {
    program: Program,
    folder: TempDir,
    certificate: Certificate,
    port: u16,
}

impl Front {
    /// Starts nginx before the server at `upstream`; `None` if there is no nginx, which has been said then. `changes` are
    /// made to the documented configuration, beside names of files and ports.
    fn start(upstream: SocketAddr, changes: &[(&str, &str)]) -> Option<Self> {
        let Some(nginx) = find("nginx", &["/usr/sbin".into()]) else {
            skip("nginx", "nginx-light");
            return None;
        };
        let folder = open_folder();
        let certificate = Certificate::make(folder.path());
        let port = free_port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (chain, key) = (certificate.chain.display(), certificate.key.display());
        let mut text = CONFIGURATION.to_owned();
        for (old, new) in [
            ("pid /run/nginx.pid;", format!("pid {};", path("pid"))),
            // A second log, for the test: it says when nginx is up, and what it would have logged at a lower level.
            ("worker_processes auto;", "worker_processes 1;\nerror_log stderr notice;".to_owned()),
            ("/var/log/nginx/error.log", path("error.log")),
            ("/var/log/nginx/collector.log", path("access.log")),
            ("listen 443 ssl;", format!("listen 127.0.0.1:{port} ssl;")),
            ("listen [::]:443 ssl;", String::new()),
            ("/etc/letsencrypt/live/logs.example.com/fullchain.pem", chain.to_string()),
            ("/etc/letsencrypt/live/logs.example.com/privkey.pem", key.to_string()),
            ("server 127.0.0.1:8765;", format!("server {upstream};")),
            (
                "sendfile on;",
                ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {};", path(kind)))
                    .concat(),
            ),
        ]
        .into_iter()
        .chain(changes.iter().map(|&(old, new)| (old, new.to_owned())))
        {
            assert_eq!(text.matches(old).count(), 1, "{old}");
            text = text.replace(old, &new);
        }
        fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let program = Program::start(
            Command::new(nginx)
                .args(["-g", "daemon off;", "-e", "stderr", "-p"])
                .arg(folder.path())
                .args(["-c", "nginx.conf"]),
        );
        program.wait_for("start worker process ");
        Some(Self { program, folder, certificate, port })
    }

    fn base_url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn app(&self, directory: &Path) -> App {
        App::start(directory, &self.base_url(), Some(&self.certificate.root_pem))
    }

    /// Sends one request and returns all that comes back.
    fn send(&self, method: &str, path: &str, body: &[u8]) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.certificate.root_pem).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        // nginx may answer and close before it has read everything.
        let _ = stream.write_all(&request(method, path, &[], body));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Ends nginx, which writes what it still has to write, and returns the logs that a collector would have, and what
    /// nginx would have logged at a lower level.
    fn logs(mut self) -> (String, String) {
        assert!(self.program.stop(Signal::QUIT).success(), "{}", self.program.output());
        let log = ["access.log", "error.log"]
            .map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default())
            .concat();
        (log, self.program.output())
    }
}

#[test]
fn records_pass_through_tls_compressed_and_once_each() {
    let server = Server::start(ServerConfig::default()).unwrap();
    let Some(front) = Front::start(server.local_addr(), &[]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut app = front.app(directory.path());
    for first in [1000, 2000, 3000] {
        app.record(first..first + 100);
    }
    let report = app.upload();
    assert_eq!((report.outcome, report.sent_records), (UploadOutcome::Complete, 3));
    assert_eq!(ports_at(&server).len(), 300);
    let log = server.requests().remove(0);
    assert_eq!(log.header("content-encoding"), Some("zstd"), "the body is as the client sent it");
    assert!(log.wire_bytes < log.decoded_bytes);

    // Without the root that the certificate leads to there is no upload.
    let stranger = tempfile::tempdir().unwrap();
    let other_root = Certificate::make(stranger.path()).root_pem;
    let mut stranger = App::start(&stranger.path().join("store"), &front.base_url(), Some(&other_root));
    stranger.record([4000]);
    assert_eq!(stranger.upload().remaining_records, 1);
    assert_eq!(server.stats().uploads, 1);
}

#[test]
fn no_log_holds_a_private_id_and_nothing_but_uploads_gets_through() {
    let server = Server::start(ServerConfig::default()).unwrap();
    let Some(front) = Front::start(server.local_addr(), &[]) else { return };
    let body = entry(7, 1);
    let copy = "ab".repeat(32);
    assert_status(&front.send("POST", &format!("{}?copyId={copy}", upload_path()), body.as_bytes()), 200);
    assert_status(&front.send("POST", &upload_path().to_uppercase().replace("/C/", "/c/"), b"{}"), 200);
    assert_eq!(server.entries(COLLECTION).unwrap()[0].writer, PUBLIC);
    let uploads = server.stats().requests;
    for (method, path, status) in [
        ("GET", upload_path(), 403),
        ("GET", format!("/c/{COLLECTION}"), 404),
        ("GET", "/collections".to_owned(), 404),
        ("GET", "/health".to_owned(), 404),
        ("POST", "/debug/faults".to_owned(), 404),
        ("POST", format!("{}/", upload_path()), 404),
        ("POST", format!("//c/{COLLECTION}/..//{PRIVATE}"), 404),
        ("POST", format!("/{PRIVATE}"), 404),
        ("POST", format!("/c/{COLLECTION}/{PRIVATE}0"), 404),
    ] {
        assert_status(&front.send(method, &path, b"{}"), status);
    }
    let answer = front.send("POST", &upload_path(), &vec![b'x'; 2 << 20]);
    assert_status(&answer, 413);
    assert!(answer.contains("<html>"), "{answer}");
    assert_eq!(server.stats().requests, uploads, "none of them reached the server");

    let (logs, would_have) = front.logs();
    let secrets = [PRIVATE.to_owned(), PRIVATE.to_uppercase(), copy];
    assert!(secrets.iter().all(|secret| !logs.contains(secret)), "{logs}");
    let uri = format!(r#""uri":"/c/{COLLECTION}/(private id)","status":200"#);
    assert_eq!(logs.matches(&uri).count(), 1, "{logs}");
    assert_eq!(logs.lines().count(), 12, "{logs}");
    assert!(logs.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{logs}");
    // What the level of the error log is good for.
    assert!(would_have.contains(PRIVATE), "{would_have}");
}

#[test]
fn a_413_of_nginx_makes_the_client_send_less_at_once() {
    let server = Server::start(ServerConfig::default()).unwrap();
    let changes = [("client_max_body_size 1m;", "client_max_body_size 2k;")];
    let Some(front) = Front::start(server.local_addr(), &changes) else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut app = front.app(directory.path());
    for first in (1000..9000).step_by(1000) {
        app.record((first..first + 1000).step_by(7));
    }
    let report = app.upload();
    assert_eq!((&report.outcome, report.sent_records), (&UploadOutcome::Complete, 8));
    assert!(report.attempts > report.sent_bodies, "some were too large: {report:?}");
    assert_eq!(ports_at(&server).len(), 8 * 143);
}

#[test]
fn a_429_of_nginx_is_obeyed_and_a_502_waited_out() {
    let mut server = Server::start(ServerConfig::default()).unwrap();
    let address = server.local_addr();
    let changes = [("rate=20r/s;", "rate=1r/m;"), ("burst=100 nodelay;", "burst=1 nodelay;")];
    let Some(front) = Front::start(address, &changes) else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut app = front.app(directory.path());
    for port in [1000, 2000] {
        app.record([port]);
        assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    }
    app.record([3000]);
    let report = app.upload();
    assert_eq!(
        (report.sent_records, report.remaining_records, report.dropped_records),
        (0, 1, 0),
        "{report:?}"
    );
    let answer = front.send("POST", &upload_path(), b"{}");
    assert_status(&answer, 429);
    assert!(answer.contains("Retry-After: 30\r\n"), "{answer}");
    assert_eq!(server.stats().requests, 2, "nginx keeps it away from the server");
    app.client.shutdown();
    drop(front);

    // Before the next start of the client, which carries on by itself with what the 429 interrupted.
    server.stop();
    let front = Front::start(address, &[]).unwrap();
    let mut app = front.app(directory.path());
    let report = app.upload();
    assert_eq!(
        (report.sent_records, report.remaining_records, report.dropped_records),
        (0, 1, 0),
        "{report:?}"
    );
    assert_status(&front.send("POST", &upload_path(), b"{}"), 502);
    let server = Server::start(ServerConfig { listen: address, ..ServerConfig::default() }).unwrap();
    app.record([4000]);
    assert_eq!(app.upload().outcome, UploadOutcome::Complete);
    assert_eq!(ports_at(&server), [3000, 4000]);
    let (logs, _) = front.logs();
    assert!(logs.contains(r#""status":502"#) && !logs.contains(PRIVATE), "{logs}");
}

fn assert_status(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "not {status}: {answer}");
}
