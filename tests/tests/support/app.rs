//! A client that is fed by hand.

use std::{net::SocketAddr, path::Path, time::Duration};

use tuntrail::{
    client::Client,
    clock::{Clock, SystemClock},
    flow::{FlowCounter, Layer},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    upload::UploadReport,
};
use tuntrail_logserver::Server;

use super::{PHONE, ROUTER, addr, client_config, inner, map, messages, routes};

/// A client without a tunnel of ours, as an app with its own tunnel has it.
pub(crate) struct App {
    pub(crate) client: Client,
    pub(crate) counter: FlowCounter,
}

impl App {
    pub(crate) fn start(directory: &Path, server: &Server) -> Self {
        let mut config = client_config(directory, &server.base_url());
        // No pause between the attempts of a pass, so that no test waits for a real clock.
        config.upload.max_wait = Duration::ZERO;
        Self::of(Client::start(config).unwrap())
    }

    pub(crate) fn of(client: Client) -> Self {
        client.set_network(map(1, PHONE, 2, ROUTER), routes(PHONE, &[], &[])).unwrap();
        let counter = client.counter(Layer::Virtual).unwrap().unwrap();
        Self { client, counter }
    }

    /// Counts one packet of `bytes` bytes from the port, and closes the window.
    pub(crate) fn record(&mut self, port: u16, bytes: u64) {
        let src: SocketAddr = (PHONE[0].parse::<std::net::Ipv4Addr>().unwrap(), port).into();
        let connection =
            Connection { protocol: Protocol::TCP, src: Some(src), dst: Some(addr("100.64.0.2:443")) };
        let now = SystemClock.now();
        self.counter.count(now, &connection, 1, bytes, Direction::Tx);
        self.counter.flush(now);
    }

    pub(crate) fn upload(&self) -> UploadReport {
        self.client.upload("test").unwrap().wait()
    }
}

/// Bytes sent through the tunnel, as the records at the server have them.
pub(crate) fn bytes_at(server: &Server) -> u64 {
    messages(server).iter().flat_map(inner).map(|row| row.counts.tx_bytes).sum()
}
