//! What the server's own log says while the database fails: the first failure and the end, not each request
//! of a fleet that is turned away.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{reply::Reply, store::StoreError};

/// How often the database has failed since it last answered.
#[derive(Debug, Default)]
pub(crate) struct Trouble(AtomicU64);

impl Trouble {
    /// Turns a failure of the database into the answer to the client.
    pub(crate) fn watch<T>(&self, result: Result<T, StoreError>) -> Result<T, Reply> {
        match &result {
            Ok(_) => match self.0.swap(0, Ordering::Relaxed) {
                0 => {}
                turned_away => tracing::warn!(turned_away, "the database answers again"),
            },
            // The database works, and says no to this one.
            Err(error @ StoreError::Refused(_)) => tracing::warn!(%error, "an upload was refused"),
            Err(error) => match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => tracing::error!(%error, "until it answers again, further failures are logged as debug"),
                _ => tracing::debug!(%error, "a request was turned away"),
            },
        }
        result.map_err(|error| Reply::database(&error))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn failures_are_counted_until_the_database_answers() {
        let trouble = Trouble::default();
        let gone = || Err::<(), _>(StoreError::Unavailable("gone".to_owned()));
        let reply = trouble.watch(gone()).unwrap_err();
        assert_eq!((reply.status, reply.retry_after), (StatusCode::SERVICE_UNAVAILABLE, Some(30)));
        assert!(!reply.body.to_string().contains("gone"));
        assert!(trouble.watch(gone()).is_err());
        assert!(trouble.watch(Err::<(), _>(StoreError::Refused(String::new()))).is_err());
        assert_eq!(trouble.0.load(Ordering::Relaxed), 2);
        assert!(trouble.watch(Ok(())).is_ok());
        assert_eq!(trouble.0.load(Ordering::Relaxed), 0);
    }
}
