//! The client, and what of its records must have arrived.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use tuntrail::{
    client::{Client, ClientConfig, Collections},
    clock::{Clock, SystemClock},
    consent::Consent,
    flow::{FlowCounter, Layer, Message},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    netmap::{NetworkMap, Node, NodeId, Routes},
    upload::{PinnedRoots, Trust, UploadReport},
};
use tuntrail_logserver::{Fault, Server, ServerConfig, Times};

use crate::{cluster::Cluster, support::PATIENCE};

const OWN: &str = "100.64.0.1";
const PEER: &str = "100.64.0.2";
/// Where the windows of the clients go.
pub(crate) const WINDOWS: &str = "tailtraffic.log.test.example";

/// A client without a tunnel of ours, fed by hand.
pub(crate) struct App {
    pub(crate) client: Client,
    counter: FlowCounter,
}

impl App {
    /// A client for the server at `base`, of whose certificate `root` is the root.
    pub(crate) fn start(directory: &Path, base: &str, root: Option<&[u8]>) -> Self {
        let mut config = ClientConfig::new(directory, base).unwrap();
        config.consent = Consent::Granted;
        config.collections = Collections::of_host("test.example").unwrap();
        // No pause between the attempts of a pass, so that no test waits for a real clock.
        config.upload.max_wait = Duration::ZERO;
        if let Some(root) = root {
            config.upload.trust = Trust::Pinned(PinnedRoots::from_pem(root).unwrap());
        }
        let client = Client::start(config).unwrap();
        let node = |id: i64, address: &str| Node {
            id: NodeId(id),
            stable_id: format!("n{id}TEST"),
            name: format!("node-{id}.test.example."),
            addresses: vec![address.parse::<IpAddr>().unwrap().into()],
            os: "linux".to_owned(),
            user: None,
            tags: Vec::new(),
        };
        let map = NetworkMap::new(Some(node(1, OWN)), [node(2, PEER)], []).unwrap();
        client.set_network(map, Routes::new([OWN.parse::<IpAddr>().unwrap().into()], [], [])).unwrap();
        let counter = client.counter(Layer::Virtual).unwrap().unwrap();
        Self { client, counter }
    }

    /// One record: a connection from each of `ports`, of as many bytes as the port's number.
    pub(crate) fn record(&mut self, ports: impl IntoIterator<Item = u16>) {
        let now = SystemClock.now();
        for port in ports {
            let connection = Connection {
                protocol: Protocol::TCP,
                src: Some(SocketAddr::new(OWN.parse().unwrap(), port)),
                dst: Some(SocketAddr::new(PEER.parse().unwrap(), 443)),
            };
            self.counter.count(now, &connection, 1, u64::from(port), Direction::Tx);
        }
        self.counter.flush(now);
    }

    pub(crate) fn upload(&self) -> UploadReport {
        self.client.upload("test").unwrap().wait()
    }
}

/// The source ports in the records at the server, sorted; one that arrived twice is there twice.
pub(crate) fn ports_at(server: &Server) -> Vec<u16> {
    let mut ports = Vec::new();
    for entry in server.entries(WINDOWS).unwrap() {
        let message: Message = serde_json::from_str(&entry.payload).unwrap();
        for row in message.virtual_traffic {
            let port = row.src.unwrap().port();
            assert_eq!(row.counts.tx_bytes, u64::from(port));
            ports.push(port);
        }
    }
    ports.sort_unstable();
    ports
}

#[test]
fn each_record_of_several_clients_arrives_once_whatever_server_and_database_do() {
    let Some(cluster) = Cluster::own(&[]) else { return };
    let database = cluster.create("");
    let server = Server::start(ServerConfig {
        database: tuntrail_logserver::Database::Postgres(cluster.url(&database)),
        ..ServerConfig::default()
    })
    .unwrap();
    let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut apps =
        directories.each_ref().map(|directory| App::start(directory.path(), &server.base_url(), None));

    let status = |code| Fault::Status { code, retry_after: Some("1".to_owned()), body: "<html>".to_owned() };
    let faults = [
        Fault::LostResponse,
        Fault::CutBody,
        Fault::CloseBeforeResponse,
        status(503),
        status(429),
        Fault::Garbage(b"\xff".to_vec()),
    ];
    let mut port = 1000;
    for (round, fault) in faults.into_iter().enumerate() {
        if round % 2 == 1 {
            cluster.stop();
        }
        server.inject(fault, Times::ONCE).unwrap();
        for app in &mut apps {
            app.record([port, port + 1]);
            port += 2;
            let report = app.upload();
            assert_eq!(report.dropped_records, 0, "{report:?}");
        }
        if round % 2 == 1 {
            assert!(apps.iter().all(|app| app.upload().remaining_records > 0), "there is no database");
            cluster.start();
        }
    }
    for app in &apps {
        // A first request may still meet a connection to the database that has gone.
        let reports = [app.upload(), app.upload()];
        assert_eq!(reports[1].remaining_records, 0, "{reports:?}");
    }
    assert_eq!(ports_at(&server), (1000..port).collect::<Vec<_>>());
    assert!(server.stats().duplicates > 0, "some came twice");
    let rows = cluster.sql(
        &database,
        "SELECT count(*), count(DISTINCT (stream, proc_id, proc_seq)), count(DISTINCT stream) FROM tuntrail.entries",
    );
    assert_eq!(rows, [["18", "18", "3"]]);
    for app in apps {
        app.client.shutdown();
    }
    assert!(server.wait_for(|stats| stats.requests > 0, PATIENCE).is_some());
}
