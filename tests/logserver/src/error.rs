//! What can go wrong outside a request.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

/// Why a server could not start or could not do what it was told.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is in use, not ours, or not permitted.
    #[error("cannot listen on {address}: {source}; choose another address, or port 0 for a free port")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server's thread or its event loop could not be created.
    #[error("cannot start the server's thread: {0}")]
    Thread(#[source] io::Error),
    /// The database file could not be created.
    #[error("cannot create the database file {}: {source}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no database, or there are tables of another program. It was left unchanged.
    #[error("{database} is not a database of this server; choose another one")]
    ForeignDatabase {
        /// The file, or the PostgreSQL database.
        database: String,
    },
    /// The database was written by a newer version of this server. It was left unchanged.
    #[error(
        "{database} has schema version {found}, this server knows versions up to {supported}; use the newer server"
    )]
    NewerDatabase {
        /// The file, or the PostgreSQL database.
        database: String,
        /// The version in the file.
        found: i64,
        /// The newest version that this server can read.
        supported: i64,
    },
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// PostgreSQL could not be reached, let nobody in, or failed.
    #[error("cannot use PostgreSQL database {database}: {reason}")]
    Postgres {
        /// Host and name of the database; never the password.
        database: String,
        /// What went wrong, and what to do if that is known.
        reason: String,
    },
    /// A fault that cannot be carried out as described.
    #[error("this fault is impossible: {reason}")]
    InvalidFault {
        /// What is wrong with it.
        reason: String,
    },
}
