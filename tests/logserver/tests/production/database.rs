//! A fresh database of either kind for one test.

use std::sync::Arc;

use tempfile::TempDir;
use tuntrail_logserver::{Database, Limits, PostgresUrl, Server, ServerConfig, ServerError};

use crate::cluster::Cluster;

/// An empty database that nobody else uses.
pub(crate) enum Fresh {
    Sqlite(TempDir),
    Postgres(Arc<Cluster>, String),
}

impl Fresh {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// `None` if there is no PostgreSQL, which has been said then.
    pub(crate) fn postgres() -> Option<Self> {
        let cluster = Cluster::shared()?;
        let name = cluster.create("");
        Some(Self::Postgres(cluster, name))
    }

    pub(crate) fn database(&self) -> Database {
        match self {
            Self::Sqlite(folder) => Database::File(folder.path().join("log.sqlite")),
            Self::Postgres(cluster, name) => Database::Postgres(cluster.url(name)),
        }
    }

    pub(crate) fn server(&self) -> Server {
        Server::start(ServerConfig { database: self.database(), ..ServerConfig::default() }).unwrap()
    }

    /// What PostgreSQL says to the SQL.
    pub(crate) fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        match self {
            Self::Postgres(cluster, name) => cluster.sql(name, sql),
            Self::Sqlite(_) => panic!("for PostgreSQL only"),
        }
    }
}

/// A file of docs/collector.
pub(crate) fn documented(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/collector").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// A server on a PostgreSQL database.
pub(crate) fn start_on(url: PostgresUrl, limits: Limits) -> Result<Server, ServerError> {
    Server::start(ServerConfig { database: Database::Postgres(url), limits, ..ServerConfig::default() })
}
