//! Connections to PostgreSQL: a bounded pool for the server, and single ones for its start and its owner.

use std::{io, thread, time::Duration};

use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio::runtime;
use tokio_postgres::NoTls;

use super::{PostgresUrl, QUERY_PATIENCE, describe};
use crate::ServerError;

/// A pool that makes connections when they are needed.
pub(super) fn pool(url: &PostgresUrl, connections: usize, patience: Duration) -> Result<Pool, ServerError> {
    let mut config = url.config().clone();
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(patience);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(patience);
    }
    // A broken connection is noticed when it is used, or by the task that reads from it.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match url.tls().map_err(|error| failure(url, error.to_string()))? {
        Some(tls) => Manager::from_config(config, tls, recycling),
        None => Manager::from_config(config, NoTls, recycling),
    };
    let settings = format!(
        "SET statement_timeout = {0}; SET idle_in_transaction_session_timeout = {1}",
        patience.as_millis().max(1),
        QUERY_PATIENCE.as_millis()
    );
    Pool::builder(manager)
        .max_size(connections.max(1))
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(patience))
        .create_timeout(Some(patience))
        .recycle_timeout(Some(patience))
        .post_create(Hook::async_fn(move |client, _| {
            let settings = settings.clone();
            Box::pin(async move { client.batch_execute(&settings).await.map_err(HookError::Backend) })
        }))
        .build()
        .map_err(|error| failure(url, error.to_string()))
}

/// One connection, for a runtime that ends soon.
pub(super) async fn single(url: &PostgresUrl, patience: Duration) -> Result<Client, ServerError> {
    pool(url, 1, patience)?.get().await.map_err(|error| {
        let reason = match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                describe(&error)
            }
            other => other.to_string(),
        };
        failure(url, reason)
    })
}

/// Does `work` on a thread and a runtime of its own, for callers that may be on any thread, also one that runs
/// another runtime.
pub(super) fn on_own_thread<T: Send>(
    url: &PostgresUrl,
    work: impl Future<Output = Result<T, ServerError>> + Send,
) -> Result<T, ServerError> {
    let run = || -> io::Result<_> {
        Ok(runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
    };
    thread::scope(|scope| thread::Builder::new().spawn_scoped(scope, run).map(|handle| handle.join()))
        .and_then(|joined| joined.unwrap_or_else(|_| Err(io::Error::other("the thread ended early"))))
        .map_err(|error| failure(url, error.to_string()))?
}

pub(super) fn failure(url: &PostgresUrl, reason: String) -> ServerError {
    ServerError::Postgres { database: url.to_string(), reason }
}
