//! Opening the database: the file, its tables, its limits.

use std::{fs::OpenOptions, io, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode};

use crate::{
    ServerError,
    config::{Database, Limits},
};

/// Marks a database file as ours, in SQLite's header: "TTLS" in ASCII, for tuntrail log server.
const APPLICATION_ID: i64 = 0x5454_4c53;

/// The version of [`SCHEMA`].
const SCHEMA_VERSION: i64 = 1;

/// How long a statement waits for another process that uses the file, for example an sqlite3 shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The most pages of a database file that SQLite can manage.
const MAX_PAGES: u32 = u32::MAX - 1;

/// Times are nanoseconds since 1970. `entries.time` is what queries filter and sort by: the client's time if
/// it sent one, else the server's, for records may be uploaded long after they were made.
const SCHEMA: &str = "
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY,
        collection TEXT NOT NULL,
        public_id BLOB NOT NULL CHECK (length(public_id) = 32),
        first_seen INTEGER NOT NULL,
        bytes INTEGER NOT NULL DEFAULT 0,
        records INTEGER NOT NULL DEFAULT 0,
        UNIQUE (collection, public_id)
    ) STRICT;
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL REFERENCES streams (id),
        writer INTEGER NOT NULL REFERENCES streams (id),
        proc_id INTEGER,
        proc_seq INTEGER,
        time INTEGER NOT NULL,
        client_time TEXT,
        server_time INTEGER NOT NULL,
        error TEXT,
        payload TEXT NOT NULL,
        UNIQUE (stream, writer, proc_id, proc_seq)
    ) STRICT;
    CREATE INDEX entries_by_time ON entries (stream, time);
";

/// Opens or creates the database.
pub(crate) fn open(database: &Database, limits: &Limits) -> Result<Connection, ServerError> {
    let mut connection = match database {
        Database::File(path) => {
            create_private(path).map_err(|source| ServerError::Create { path: path.clone(), source })?;
            Connection::open(path)?
        }
        _ => Connection::open_in_memory()?,
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let path = match database {
        Database::File(path) => path,
        _ => Path::new(":memory:"),
    };
    prepare_schema(&mut connection, path)?;

    // Power loss may cost the last uploads, but never the file; a log server need not sync each upload.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let page_size: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = u32::try_from(limits.database_bytes / u64::from(page_size.max(1)))
        .unwrap_or(u32::MAX)
        .clamp(1, MAX_PAGES);
    // The pragma answers with the limit in force, which is not lower than the file's present size.
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    Ok(connection)
}

/// Makes an empty database file that only its owner can read, unless the file exists. SQLite gives its
/// side files the same permissions.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Creates the tables in an empty database; accepts one of ours; leaves any other unchanged.
fn prepare_schema(connection: &mut Connection, path: &Path) -> Result<(), ServerError> {
    let foreign = || ServerError::ForeignDatabase { database: path.display().to_string() };
    let header = |connection: &Connection, name| connection.pragma_query_value(None, name, |row| row.get(0));
    let application: i64 = match header(connection, "application_id") {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => return Err(foreign()),
        other => other?,
    };
    let version: i64 = header(connection, "user_version")?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;

    match (application, version) {
        (APPLICATION_ID, SCHEMA_VERSION) => {}
        (APPLICATION_ID, found) if found > SCHEMA_VERSION => {
            return Err(ServerError::NewerDatabase {
                database: path.display().to_string(),
                found,
                supported: SCHEMA_VERSION,
            });
        }
        (0, 0) if tables == 0 => {
            // Readers of the file don't wait for uploads then. Has no effect in memory.
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()?;
        }
        _ => return Err(foreign()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn foreign_and_newer_files_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let refused = || open(&Database::File(path.clone()), &Limits::default()).unwrap_err();

        fs::write(
            &path,
            "these are my notes, long enough to be looked at as a database header, and more so".repeat(9),
        )
        .unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(refused(), ServerError::ForeignDatabase { .. }));
        assert_eq!(fs::read(&path).unwrap(), before);

        fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(refused(), ServerError::ForeignDatabase { .. }));
        assert_eq!(fs::read(&path).unwrap(), before);

        fs::remove_file(&path).unwrap();
        drop(open(&Database::File(path.clone()), &Limits::default()).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
        assert!(matches!(refused(), ServerError::NewerDatabase { found: 2, supported: 1, .. }));
    }

    #[test]
    fn a_folder_that_does_not_exist_is_a_typed_error() {
        let database = Database::File("/nonexistent/folder/log.db".into());
        assert!(matches!(open(&database, &Limits::default()), Err(ServerError::Create { .. })));
    }
}
