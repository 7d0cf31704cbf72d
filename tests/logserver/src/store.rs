//! The records: what a database must do, whichever it is.
//!
//! A *stream* is a collection and a public ID. An upload goes to the stream of its private ID and, if it has a
//! `copyId`, also to that one's. An entry is kept once per (stream, writer, `proc_id`, `proc_seq`), where the
//! writer is the stream it was uploaded to: in a stream that collects the copies of many writers, two of them
//! may have drawn the same `proc_id`. Entries without both numbers cannot be recognised and are always kept.
//!
//! An upload is stored in one transaction, which is committed when [`Store::insert`] returns. Called on the
//! server's thread: SQLite blocks it while it works, PostgreSQL does not.

mod error;
mod postgres;
mod sqlite;

use jiff::Timestamp;

pub use self::postgres::{PostgresUrl, PostgresUrlError};
pub(crate) use self::{error::StoreError, postgres::Postgres, sqlite::Sqlite};
use crate::{
    Entry, ServerError,
    batch::NewEntry,
    config::{Database, Limits},
    id::PublicId,
};

/// What became of the entries of one upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
    /// Entries also stored in the stream of the `copyId`.
    pub(crate) copied: u64,
}

/// Which entries a query asks for.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Only these streams; all if empty.
    pub(crate) instances: Vec<PublicId>,
    /// From this time on.
    pub(crate) start: Option<Timestamp>,
    /// Before this time.
    pub(crate) end: Option<Timestamp>,
    /// At most so many.
    pub(crate) max_count: Option<u32>,
}

/// The answer to a query.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) entries: Vec<Entry>,
    /// There are more, but the answer would have been too long.
    pub(crate) truncated: bool,
    bytes: usize,
}

impl Found {
    /// Takes an entry if it fits into `max_bytes`, and the first one in any case, or nobody could ever read
    /// past a long entry; else marks the answer as cut. Says whether it was taken.
    fn take(&mut self, entry: Entry, max_bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(entry.weight());
        self.truncated = self.bytes > max_bytes && !self.entries.is_empty();
        if !self.truncated {
            self.entries.push(entry);
        }
        !self.truncated
    }
}

/// What is known about one stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StreamInfo {
    pub(crate) collection: String,
    pub(crate) public_id: String,
    pub(crate) first_seen: Timestamp,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
}

/// The database of a server.
pub(crate) enum Store {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Store {
    /// Opens the database and makes its tables if there are none. Blocks.
    pub(crate) fn open(database: &Database, limits: &Limits) -> Result<Self, ServerError> {
        match database {
            Database::Postgres(url) => Postgres::open(url, limits).map(Self::Postgres),
            Database::Memory | Database::File(_) => Sqlite::open(database, limits).map(Self::Sqlite),
        }
    }

    /// Stores the entries of one upload in one transaction: all of them, or none if there is an error.
    pub(crate) async fn insert(
        &self,
        collection: &str,
        writer: PublicId,
        copy: Option<PublicId>,
        entries: &[NewEntry],
        now: Timestamp,
    ) -> Result<Stored, StoreError> {
        let copy = copy.filter(|copy| *copy != writer);
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.insert(collection, writer, copy, entries, now)?),
            Self::Postgres(postgres) => postgres.insert(collection, writer, copy, entries, now).await,
        }
    }

    /// All entries of a collection by stream, process and number; those without numbers first, as they came.
    /// Blocks; called by the owner of the server on any thread.
    pub(crate) fn all(&self, collection: &str) -> Result<Vec<Entry>, ServerError> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.all(collection)?),
            Self::Postgres(postgres) => postgres.all(collection),
        }
    }

    /// The entries of a collection that `filter` selects, oldest first, as many as fit into `max_bytes`
    /// (but at least one); `None` if the collection does not exist.
    pub(crate) async fn find(
        &self,
        collection: &str,
        filter: &Filter,
        max_bytes: usize,
    ) -> Result<Option<Found>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.find(collection, filter, max_bytes)?),
            Self::Postgres(postgres) => postgres.find(collection, filter, max_bytes).await,
        }
    }

    /// The first `max` streams by collection and ID, of all collections or of one, and with any ID or, if there are
    /// `instances`, one of these.
    pub(crate) async fn streams(
        &self,
        collection: Option<&str>,
        instances: &[PublicId],
        max: u32,
    ) -> Result<Vec<StreamInfo>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.streams(collection, instances, max)?),
            Self::Postgres(postgres) => postgres.streams(collection, instances, max).await,
        }
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.ping()?),
            Self::Postgres(postgres) => postgres.ping().await,
        }
    }
}

/// Nanoseconds since 1970; times before 1677 and after 2262 become the nearest that fits.
fn to_nanos(time: Timestamp) -> i64 {
    let nanos = time.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

fn from_nanos(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
