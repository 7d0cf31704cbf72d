//! What a server is started with.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::PostgresUrl;

/// Where the records are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Database {
    /// In memory: gone when the [`Server`](crate::Server) value is dropped.
    Memory,
    /// In this SQLite file, created (readable by its owner only) if it does not exist.
    File(PathBuf),
    /// In this PostgreSQL database, in tables of the schema `tuntrail`, which are made if they do not exist.
    Postgres(PostgresUrl),
}

/// Bounds on what one client, one query or the whole database may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest upload body, in bytes, both as sent and after decompression. Longer: 413.
    ///
    /// Default 1 MiB: a batch is closed once it reaches 256 KiB and its last entry may have 256 KiB, so
    /// 512 KiB is the longest legal body; twice that leaves room for framing and for other clients' habits.
    pub body_bytes: usize,
    /// The most entries in one upload. More: 413.
    ///
    /// Default 16,384: entries with a `logtail` envelope have at least 50 bytes, of which fewer fit into the
    /// longest legal body.
    pub entries_per_upload: usize,
    /// The most bytes of records in one answer to a query. A longer answer is cut between two records and
    /// says so. Default 64 MiB, since an answer is built in memory.
    pub response_bytes: usize,
    /// The largest SQLite database, in bytes. An upload that does not fit: 507. Default 1 GiB. For PostgreSQL the
    /// disk and the retention set the limit.
    pub database_bytes: u64,
    /// The most connections to PostgreSQL. Default 8: an upload holds one for a few milliseconds, and a
    /// PostgreSQL as it is installed allows 100 in all.
    pub database_connections: usize,
    /// How long an upload may wait for a connection to PostgreSQL, and then for each of its statements. After this,
    /// and after three times of it in all, it is answered 503. Default 10 s: uploaders give a request up after 45 s.
    pub database_patience: Duration,
    /// The most open connections; further ones wait to be accepted. Default 256: with the body limit this
    /// bounds the memory of all uploads together.
    pub connections: usize,
    /// How many of the latest requests [`Server::requests`](crate::Server::requests) remembers.
    /// Default 1,024.
    pub remembered_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 2 * 2 * 256 * 1024,
            entries_per_upload: 16_384,
            response_bytes: 64 << 20,
            database_bytes: 1 << 30,
            database_connections: 8,
            database_patience: Duration::from_secs(10),
            connections: 256,
            remembered_requests: 1024,
        }
    }
}

/// What a server is started with. `ServerConfig::default()` serves from memory on a free loopback port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The address to listen on; port 0 picks a free port.
    pub listen: SocketAddr,
    /// Where the records are kept.
    pub database: Database,
    /// Bounds.
    pub limits: Limits,
    /// Whether `/debug/faults` exists. Anybody who can reach it can make uploads fail, so it is off by default.
    pub fault_endpoint: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            database: Database::Memory,
            limits: Limits::default(),
            fault_endpoint: false,
        }
    }
}
