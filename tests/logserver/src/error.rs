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
    /// The file is no database, or a database of another program. It was left unchanged.
    #[error("{} is not a database of this server; choose another file", path.display())]
    ForeignDatabase {
        /// The file.
        path: PathBuf,
    },
    /// The database was written by a newer version of this server. It was left unchanged.
    #[error(
        "{} has schema version {found}, this server knows versions up to {supported}; use the newer server",
        path.display()
    )]
    NewerDatabase {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version that this server can read.
        supported: i64,
    },
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A fault that cannot be carried out as described.
    #[error("this fault is impossible: {reason}")]
    InvalidFault {
        /// What is wrong with it.
        reason: String,
    },
}
