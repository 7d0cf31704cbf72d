//! What a server is started with.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// Where the records are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// In memory: gone when the [`Server`](crate::Server) value is dropped.
    Memory,
    /// In this SQLite file, created (readable by its owner only) if it does not exist.
    File(PathBuf),
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
    /// The largest database, in bytes. An upload that does not fit: 507. Default 1 GiB.
    pub database_bytes: u64,
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
