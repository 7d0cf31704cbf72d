//! The demo's log server, which can go down and come back with what it had.

use std::net::{Ipv4Addr, SocketAddr};

use tuntrail_logserver::{Database, Server, ServerConfig};

use crate::CommandError;

/// A server at one address over several lives.
pub(super) struct LogServer {
    config: ServerConfig,
    server: Server,
    /// Of the lives before this one.
    duplicates: u64,
}

impl LogServer {
    /// Starts it on a free port of the loopback interface. Only with a database in a file does it have a memory.
    pub(super) fn start(database: Database) -> Result<Self, CommandError> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = ServerConfig { listen, database, ..ServerConfig::default() };
        let server = Server::start(config.clone())?;
        // Where clients expect it when it comes back.
        config.listen = server.local_addr();
        Ok(Self { config, server, duplicates: 0 })
    }

    /// The server: its address, faults and entries. After [`Self::stop`] the entries can still be read.
    pub(super) const fn get(&self) -> &Server {
        &self.server
    }

    /// Closes its port: connections are refused.
    pub(super) fn stop(&mut self) {
        self.server.stop();
    }

    /// Serves again at the same address.
    pub(super) fn restart(&mut self) -> Result<(), CommandError> {
        self.server.stop();
        self.duplicates += self.server.stats().duplicates;
        self.server = Server::start(self.config.clone())?;
        Ok(())
    }

    /// Entries that came again and were recognised, over all lives.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates + self.server.stats().duplicates
    }
}
