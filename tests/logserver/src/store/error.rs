//! Why a database did not do what a request needs, sorted by what the client should do.

use rusqlite::ErrorCode;
use thiserror::Error;
use tokio_postgres::error::SqlState;

/// A failure of the database. The texts are for the server's own log: they name no entry's content and no
/// password, but may name files and hosts.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// Gone, starting, too busy, or in the hands of somebody else: the same request may succeed soon.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Its limit or the disk's end is reached.
    #[error("the database is full: {0}")]
    Full(String),
    /// It will never take this content. The server's own checks should leave nothing of this kind.
    #[error("the database refuses the content: {0}")]
    Refused(String),
    /// Anything else, such as missing tables or permissions: somebody must look at it.
    #[error("the database failed: {0}")]
    Failed(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(text),
            // Another process, such as a backup, holds the file for longer than the server waits.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Unavailable(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let text = describe(&error);
        match error.code() {
            Some(code) => Self::of_state(code, text),
            // The conversion of a parameter or a result: a mistake of this program.
            None if is_conversion(&error) => Self::Failed(text),
            // No answer of the database: the connection failed.
            None => Self::Unavailable(text),
        }
    }
}

impl StoreError {
    /// Sorts an answer of PostgreSQL by its SQLSTATE, of which the first two characters are the class.
    fn of_state(code: &SqlState, text: String) -> Self {
        let class = code.code().get(..2).unwrap_or_default();
        match (class, code) {
            (_, &SqlState::DISK_FULL) => Self::Full(text),
            // A standby that has not been promoted yet takes no uploads.
            (_, &SqlState::READ_ONLY_SQL_TRANSACTION) => Self::Unavailable(text),
            // Connection, rollback for others' sake, resources, locks, an operator (shutdown, timeout), I/O.
            ("08" | "40" | "53" | "55" | "57" | "58", _) => Self::Unavailable(text),
            // Data exceptions, characters that the encoding lacks among them. Retrying could never help.
            ("22", _) => Self::Refused(text),
            _ => Self::Failed(text),
        }
    }
}

/// The error and its causes in one line. Of what PostgreSQL answers, the code and the message only: details
/// may repeat the content of rows.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return format!("{} ({})", answer.message(), answer.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn is_conversion(error: &tokio_postgres::Error) -> bool {
    // The library has no public kind for these; their texts are fixed and begin like this.
    let text = error.to_string();
    ["error serializing parameter", "error deserializing column", "invalid column"]
        .iter()
        .any(|beginning| text.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_postgres_is_sorted_by_what_helps() {
        let sort = |code: &str| match StoreError::of_state(&SqlState::from_code(code), String::new()) {
            StoreError::Unavailable(_) => "again",
            StoreError::Full(_) => "full",
            StoreError::Refused(_) => "refused",
            StoreError::Failed(_) => "failed",
        };
        // Shutting down, starting, too many connections, deadlock, statement timeout, lock timeout, standby, out of
        // memory, lost connection.
        for code in ["57P01", "57P03", "53300", "40P01", "57014", "55P03", "25006", "53200", "08006"] {
            assert_eq!(sort(code), "again", "{code}");
        }
        assert_eq!(sort("53100"), "full");
        // Characters that are none, numbers out of range, NUL.
        for code in ["22021", "22003", "22P05"] {
            assert_eq!(sort(code), "refused", "{code}");
        }
        // No such table, no permission, wrong password.
        for code in ["42P01", "42501", "28P01"] {
            assert_eq!(sort(code), "failed", "{code}");
        }
    }
}
