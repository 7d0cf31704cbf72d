//! The tables in a PostgreSQL database: made if there are none, checked if there are.

use deadpool_postgres::Client;

use super::{PostgresUrl, describe};
use crate::ServerError;

/// The version that `schema.sql` makes.
const SCHEMA_VERSION: i32 = 1;

/// Keeps two servers from making the tables at the same moment: "TTLS" in ASCII, for tuntrail log server.
const LOCK: i64 = 0x5454_4c53;

const SCHEMA: &str = include_str!("schema.sql");

/// Makes the tables in a database that has none of ours; accepts ours; leaves any other as it is.
pub(super) async fn prepare(client: &mut Client, url: &PostgresUrl) -> Result<(), ServerError> {
    let database = || url.to_string();
    let failed = |error: tokio_postgres::Error| ServerError::Postgres {
        database: database(),
        reason: describe(&error),
    };

    let transaction = client.transaction().await.map_err(failed)?;
    let encoding: String = transaction
        .query_one("SHOW server_encoding", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    if encoding != "UTF8" {
        // Any other lacks characters that entries may have.
        let reason = format!("its encoding is {encoding}; create it with ENCODING 'UTF8' TEMPLATE template0");
        return Err(ServerError::Postgres { database: database(), reason });
    }
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(failed)?;
    let row = transaction
        .query_one(
            "SELECT to_regclass('tuntrail.meta') IS NOT NULL, \
                    EXISTS (SELECT FROM pg_tables WHERE schemaname = 'tuntrail')",
            &[],
        )
        .await
        .map_err(failed)?;
    match (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?) {
        (true, _) => {
            let row =
                transaction.query_one("SELECT max(version) FROM tuntrail.meta", &[]).await.map_err(failed)?;
            match row.try_get(0).map_err(failed)? {
                Some(SCHEMA_VERSION) => {}
                Some(found) if found > SCHEMA_VERSION => {
                    return Err(ServerError::NewerDatabase {
                        database: database(),
                        found: i64::from(found),
                        supported: i64::from(SCHEMA_VERSION),
                    });
                }
                _ => return Err(ServerError::ForeignDatabase { database: database() }),
            }
        }
        (false, true) => return Err(ServerError::ForeignDatabase { database: database() }),
        (false, false) => transaction.batch_execute(SCHEMA).await.map_err(failed)?,
    }
    transaction.commit().await.map_err(failed)
}
