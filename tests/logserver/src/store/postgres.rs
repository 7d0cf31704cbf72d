//! The records in PostgreSQL: for a collector that serves a fleet.
//!
//! A bounded pool of connections, each with its prepared statements. An upload's transaction first locks the
//! rows of its streams, so that two uploads to one stream go one after the other and neither can meet the
//! other half-way; uploads to different streams don't wait for each other. A database that is gone or hangs
//! costs an upload at most three times the patience of [`Limits`], after which the client is told to come back;
//! the next one that comes gets a new connection.

mod connect;
mod schema;
mod url;

use std::time::Duration;

use deadpool_postgres::{Client, HookError, Pool, PoolError, Transaction};
use jiff::Timestamp;
use tokio::time::{error::Elapsed, timeout};
use tokio_postgres::{Error, IsolationLevel, Row, types::ToSql};

use self::connect::{failure, on_own_thread, pool, single};
pub use self::url::{PostgresUrl, PostgresUrlError};
use super::{Filter, Found, StoreError, Stored, StreamInfo, error::describe, from_nanos, to_nanos, to_u64};
use crate::{Entry, ServerError, batch::NewEntry, config::Limits, id::PublicId};

/// How long a query of a reader may take in the database: a collection of a fleet takes a while to sort.
const QUERY_PATIENCE: Duration = Duration::from_secs(60);

/// Rows fetched at once by a query. An entry has at most the length of an upload's body, 1 MiB by default, so
/// these have 64 MiB at most and about 100 KiB as a rule.
const ROWS_AT_ONCE: i32 = 64;

/// The columns of an entry in the order in which [`read_entry`] takes them; conditions may follow.
const SELECT: &str = "
    SELECT encode(s.public_id, 'hex'), encode(w.public_id, 'hex'), e.proc_id, e.proc_seq, e.client_time,
           e.server_time, e.error, e.payload
    FROM tuntrail.entries e
    JOIN tuntrail.streams s ON s.id = e.stream
    JOIN tuntrail.streams w ON w.id = e.writer
    WHERE s.collection = $1";

/// The conflict needs no name: in a partitioned table the dedupe key has the time in it, too. An entry without a time of its
/// own, such as a drop report, has that of its arrival, so that a repetition must be looked for. Nobody adds one meanwhile:
/// the stream's row is locked.
const INSERT: &str = "
    WITH inserted AS (
        INSERT INTO tuntrail.entries
            (stream, writer, proc_id, proc_seq, time, client_time, server_time, error, payload)
        SELECT $1, $2, e.proc_id, e.proc_seq, e.time, e.client_time, $3, e.error, e.payload
        FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[])
            WITH ORDINALITY AS e (proc_id, proc_seq, time, client_time, error, payload, position)
        WHERE e.client_time IS NOT NULL OR e.proc_seq IS NULL OR NOT EXISTS (
            SELECT FROM tuntrail.entries x
            WHERE x.stream = $1 AND x.writer = $2 AND x.proc_id = e.proc_id AND x.proc_seq = e.proc_seq)
        ORDER BY e.position
        ON CONFLICT DO NOTHING
        RETURNING octet_length(payload) + coalesce(octet_length(error), 0) AS length
    )
    UPDATE tuntrail.streams
    SET records = records + (SELECT count(*) FROM inserted),
        bytes = bytes + (SELECT coalesce(sum(length), 0) FROM inserted)
    WHERE id = $1
    RETURNING (SELECT count(*) FROM inserted)";

/// A PostgreSQL database.
pub(crate) struct Postgres {
    url: PostgresUrl,
    pool: Pool,
    patience: Duration,
}

impl Postgres {
    /// Connects once to make or check the tables, so that mistakes show at the start. Blocks.
    pub(crate) fn open(url: &PostgresUrl, limits: &Limits) -> Result<Self, ServerError> {
        let patience = limits.database_patience;
        on_own_thread(url, async {
            let mut client = single(url, patience).await?;
            schema::prepare(&mut client, url).await
        })?;
        let pool = pool(url, limits.database_connections, patience)?;
        Ok(Self { url: url.clone(), pool, patience })
    }

    /// `copy` is another stream than `writer`.
    pub(crate) async fn insert(
        &self,
        collection: &str,
        writer: PublicId,
        copy: Option<PublicId>,
        entries: &[NewEntry],
        now: Timestamp,
    ) -> Result<Stored, StoreError> {
        let mut client = self.client().await?;
        let columns = Columns::of(entries, now);
        let work = async {
            let transaction = begin(&mut client).await?;
            let (writer_row, copy_row) = stream_rows(&transaction, collection, writer, copy, now).await?;
            let mut result = Stored::default();
            result.stored = columns.insert(&transaction, writer_row, writer_row).await?;
            result.duplicates = to_u64(entries.len()) - result.stored;
            if let Some(copy_row) = copy_row {
                result.copied = columns.insert(&transaction, copy_row, writer_row).await?;
            }
            transaction.commit().await?;
            Ok(result)
        };
        // The database ends each statement after this time; twice of it means that it does not even do that.
        let result = timeout(self.patience.saturating_mul(2), work).await;
        settle(client, result)
    }

    pub(crate) fn all(&self, collection: &str) -> Result<Vec<Entry>, ServerError> {
        on_own_thread(&self.url, async {
            let client = single(&self.url, QUERY_PATIENCE).await?;
            let sql = format!(
                "{SELECT} ORDER BY s.public_id, e.proc_id NULLS FIRST, e.proc_seq NULLS FIRST, w.public_id, e.id"
            );
            let rows = client.query(&sql, &[&collection]).await;
            rows.and_then(|rows| rows.iter().map(read_entry).collect())
                .map_err(|error| failure(&self.url, describe(&error)))
        })
    }

    pub(crate) async fn find(
        &self,
        collection: &str,
        filter: &Filter,
        max_bytes: usize,
    ) -> Result<Option<Found>, StoreError> {
        let mut client = self.client().await?;
        let result =
            timeout(QUERY_PATIENCE.saturating_mul(2), find(&mut client, collection, filter, max_bytes)).await;
        settle(client, result)
    }

    pub(crate) async fn streams(
        &self,
        collection: Option<&str>,
        instances: &[PublicId],
        max: u32,
    ) -> Result<Vec<StreamInfo>, StoreError> {
        let client = self.client().await?;
        let instances: Vec<&[u8]> = instances.iter().map(|id| &id.as_bytes()[..]).collect();
        let work = async {
            let statement = client
                .prepare_cached(
                    "SELECT collection, encode(public_id, 'hex'), first_seen, bytes, records
                     FROM tuntrail.streams
                     WHERE ($1::text IS NULL OR collection = $1)
                         AND (cardinality($2::bytea[]) = 0 OR public_id = ANY ($2))
                     ORDER BY collection, public_id LIMIT $3",
                )
                .await?;
            let rows = client.query(&statement, &[&collection, &instances, &i64::from(max)]).await?;
            rows.iter().map(read_stream).collect()
        };
        let result = timeout(self.patience.saturating_mul(2), work).await;
        settle(client, result)
    }

    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        let client = self.client().await?;
        let result = timeout(self.patience, client.batch_execute("SELECT")).await;
        settle(client, result)
    }

    /// A connection that works, as far as is known. Waiting for a free one and making a new one take at most the
    /// patience together.
    async fn client(&self) -> Result<Client, StoreError> {
        let Ok(client) = timeout(self.patience, self.pool.get()).await else {
            return Err(StoreError::Unavailable("no connection in time".to_owned()));
        };
        client.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            other => StoreError::Unavailable(other.to_string()),
        })
    }
}

/// The result of work that had `client`. A connection whose answer did not come in time may hang for ever:
/// it is closed and replaced.
fn settle<T>(client: Client, result: Result<Result<T, Error>, Elapsed>) -> Result<T, StoreError> {
    match result {
        Ok(result) => Ok(result?),
        Err(Elapsed { .. }) => {
            drop(Client::take(client));
            Err(StoreError::Unavailable("no answer in time".to_owned()))
        }
    }
}

/// Begins a transaction that sees what others have committed, whatever the database's default is.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, Error> {
    client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await
}

/// The rows of the streams, made if they are new and locked until the transaction ends: always in the order
/// of their IDs, or two uploads could wait for each other.
async fn stream_rows(
    transaction: &Transaction<'_>,
    collection: &str,
    writer: PublicId,
    copy: Option<PublicId>,
    now: Timestamp,
) -> Result<(i64, Option<i64>), Error> {
    match copy {
        None => Ok((stream_row(transaction, collection, writer, now).await?, None)),
        Some(copy) if copy.as_bytes() < writer.as_bytes() => {
            let copy_row = stream_row(transaction, collection, copy, now).await?;
            Ok((stream_row(transaction, collection, writer, now).await?, Some(copy_row)))
        }
        Some(copy) => {
            let writer_row = stream_row(transaction, collection, writer, now).await?;
            Ok((writer_row, Some(stream_row(transaction, collection, copy, now).await?)))
        }
    }
}

async fn stream_row(
    transaction: &Transaction<'_>,
    collection: &str,
    id: PublicId,
    now: Timestamp,
) -> Result<i64, Error> {
    let id = &id.as_bytes()[..];
    let statement = transaction
        .prepare_cached(
            "SELECT id FROM tuntrail.streams WHERE collection = $1 AND public_id = $2 FOR NO KEY UPDATE",
        )
        .await?;
    if let Some(row) = transaction.query_opt(&statement, &[&collection, &id]).await? {
        return row.try_get(0);
    }
    // The update changes nothing; it locks and returns the row that another upload has made meanwhile.
    let statement = transaction
        .prepare_cached(
            "INSERT INTO tuntrail.streams (collection, public_id, first_seen) VALUES ($1, $2, $3)
             ON CONFLICT (collection, public_id) DO UPDATE SET first_seen = streams.first_seen RETURNING id",
        )
        .await?;
    transaction.query_one(&statement, &[&collection, &id, &to_nanos(now)]).await?.try_get(0)
}

/// The entries of an upload, column by column: one statement stores them all.
struct Columns<'a> {
    proc_ids: Vec<Option<i64>>,
    proc_seqs: Vec<Option<i64>>,
    times: Vec<i64>,
    client_times: Vec<Option<&'a str>>,
    errors: Vec<Option<&'a str>>,
    payloads: Vec<&'a str>,
    now: i64,
}

impl<'a> Columns<'a> {
    fn of(entries: &'a [NewEntry], now: Timestamp) -> Self {
        Self {
            proc_ids: entries.iter().map(|entry| entry.proc_id.map(i64::from)).collect(),
            proc_seqs: entries.iter().map(|entry| entry.proc_seq).collect(),
            times: entries
                .iter()
                .map(|entry| to_nanos(entry.client_time.as_ref().map_or(now, |(_, time)| *time)))
                .collect(),
            client_times: entries
                .iter()
                .map(|entry| entry.client_time.as_ref().map(|(text, _)| text.as_str()))
                .collect(),
            errors: entries.iter().map(|entry| entry.error.as_deref()).collect(),
            payloads: entries.iter().map(|entry| entry.payload.as_str()).collect(),
            now: to_nanos(now),
        }
    }

    /// Stores the entries that are not there yet, and returns their number.
    async fn insert(&self, transaction: &Transaction<'_>, stream: i64, writer: i64) -> Result<u64, Error> {
        let statement = transaction.prepare_cached(INSERT).await?;
        let row = transaction
            .query_one(
                &statement,
                &[
                    &stream,
                    &writer,
                    &self.now,
                    &self.proc_ids,
                    &self.proc_seqs,
                    &self.times,
                    &self.client_times,
                    &self.errors,
                    &self.payloads,
                ],
            )
            .await?;
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }
}

async fn find(
    client: &mut Client,
    collection: &str,
    filter: &Filter,
    max_bytes: usize,
) -> Result<Option<Found>, Error> {
    let instances: Vec<&[u8]> = filter.instances.iter().map(|id| &id.as_bytes()[..]).collect();
    let (start, end) = (filter.start.map(to_nanos), filter.end.map(to_nanos));
    let limit = filter.max_count.map(i64::from);
    let mut sql = SELECT.to_owned();
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&collection];
    if !instances.is_empty() {
        values.push(&instances);
        sql += &format!(" AND s.public_id = ANY (${})", values.len());
    }
    for (bound, comparison) in [(&start, ">="), (&end, "<")] {
        if bound.is_some() {
            values.push(bound);
            sql += &format!(" AND e.time {comparison} ${}", values.len());
        }
    }
    values.push(&limit);
    sql += &format!(" ORDER BY e.time, e.id LIMIT ${}", values.len());

    let transaction = client.build_transaction().read_only(true).start().await?;
    transaction
        .batch_execute(&format!("SET LOCAL statement_timeout = {}", QUERY_PATIENCE.as_millis()))
        .await?;
    let known = transaction
        .query_opt("SELECT FROM tuntrail.streams WHERE collection = $1 LIMIT 1", &[&collection])
        .await?;
    if known.is_none() {
        return Ok(None);
    }
    let statement = transaction.prepare_cached(&sql).await?;
    let portal = transaction.bind(&statement, &values).await?;
    let mut found = Found::default();
    loop {
        let rows = transaction.query_portal(&portal, ROWS_AT_ONCE).await?;
        if rows.is_empty() {
            return Ok(Some(found));
        }
        for row in &rows {
            if !found.take(read_entry(row)?, max_bytes) {
                return Ok(Some(found));
            }
        }
    }
}

/// The entry in a row of [`SELECT`].
fn read_entry(row: &Row) -> Result<Entry, Error> {
    Ok(Entry {
        public_id: row.try_get(0)?,
        writer: row.try_get(1)?,
        proc_id: row.try_get::<_, Option<i64>>(2)?.and_then(|id| u32::try_from(id).ok()),
        proc_seq: row.try_get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
        client_time: row.try_get(4)?,
        server_time: from_nanos(row.try_get(5)?),
        error: row.try_get(6)?,
        payload: row.try_get(7)?,
    })
}

fn read_stream(row: &Row) -> Result<StreamInfo, Error> {
    Ok(StreamInfo {
        collection: row.try_get(0)?,
        public_id: row.try_get(1)?,
        first_seen: from_nanos(row.try_get(2)?),
        bytes: row.try_get::<_, i64>(3)?.unsigned_abs(),
        records: row.try_get::<_, i64>(4)?.unsigned_abs(),
    })
}
