//! The records in SQLite: for development, tests and one machine.
//!
//! The connection sits behind a mutex; a call blocks its thread while SQLite works.

mod schema;

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{
    Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params, params_from_iter,
    types::Value,
};

use super::{Filter, Found, Stored, StreamInfo, from_nanos, to_nanos, to_u64};
use crate::{
    Entry, ServerError,
    batch::NewEntry,
    config::{Database, Limits},
    id::PublicId,
};

/// The columns of an entry in the order in which [`read_entry`] takes them; conditions may follow.
const SELECT: &str = "
    SELECT s.public_id, w.public_id, e.proc_id, e.proc_seq, e.client_time, e.server_time, e.error, e.payload
    FROM entries e JOIN streams s ON s.id = e.stream JOIN streams w ON w.id = e.writer
    WHERE s.collection = ?";

/// A database file, or one in memory.
#[derive(Debug)]
pub(crate) struct Sqlite(Mutex<Connection>);

impl Sqlite {
    pub(crate) fn open(database: &Database, limits: &Limits) -> Result<Self, ServerError> {
        Ok(Self(Mutex::new(schema::open(database, limits)?)))
    }

    /// `copy` is another stream than `writer`.
    pub(crate) fn insert(
        &self,
        collection: &str,
        writer: PublicId,
        copy: Option<PublicId>,
        entries: &[NewEntry],
        now: Timestamp,
    ) -> rusqlite::Result<Stored> {
        let mut connection = self.lock();
        // Takes the write lock at once. One that reads first fails without waiting if another process, such as a second
        // server, writes in between.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut result = Stored::default();
        let writer_row = stream_row(&transaction, collection, writer, now)?;
        result.stored = insert_into(&transaction, writer_row, writer_row, entries, now)?;
        result.duplicates = to_u64(entries.len()) - result.stored;
        if let Some(copy) = copy {
            let copy_row = stream_row(&transaction, collection, copy, now)?;
            result.copied = insert_into(&transaction, copy_row, writer_row, entries, now)?;
        }
        transaction.commit()?;
        Ok(result)
    }

    pub(crate) fn all(&self, collection: &str) -> rusqlite::Result<Vec<Entry>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "{SELECT} ORDER BY s.public_id, e.proc_id, e.proc_seq, w.public_id, e.id"
        ))?;
        statement.query_map([collection], read_entry)?.collect()
    }

    pub(crate) fn find(
        &self,
        collection: &str,
        filter: &Filter,
        max_bytes: usize,
    ) -> rusqlite::Result<Option<Found>> {
        let connection = self.lock();
        let known =
            connection.prepare_cached("SELECT 1 FROM streams WHERE collection = ?")?.exists([collection])?;
        if !known {
            return Ok(None);
        }

        let mut sql = SELECT.to_owned();
        let mut values = vec![Value::from(collection.to_owned())];
        if !filter.instances.is_empty() {
            sql += &format!(" AND s.public_id IN ({})", vec!["?"; filter.instances.len()].join(","));
            values.extend(filter.instances.iter().map(|id| Value::from(id.as_bytes().to_vec())));
        }
        for (bound, comparison) in [(filter.start, " AND e.time >= ?"), (filter.end, " AND e.time < ?")] {
            if let Some(bound) = bound {
                sql += comparison;
                values.push(to_nanos(bound).into());
            }
        }
        sql += " ORDER BY e.time, e.id LIMIT ?";
        values.push(filter.max_count.map_or(-1, i64::from).into());

        let mut statement = connection.prepare(&sql)?;
        let mut found = Found::default();
        for entry in statement.query_map(params_from_iter(values), read_entry)? {
            if !found.take(entry?, max_bytes) {
                break;
            }
        }
        Ok(Some(found))
    }

    pub(crate) fn streams(
        &self,
        collection: Option<&str>,
        instances: &[PublicId],
        max: u32,
    ) -> rusqlite::Result<Vec<StreamInfo>> {
        let connection = self.lock();
        let mut sql =
            "SELECT collection, public_id, first_seen, bytes, records FROM streams WHERE true".to_owned();
        let mut values = Vec::new();
        if let Some(collection) = collection {
            sql += " AND collection = ?";
            values.push(Value::from(collection.to_owned()));
        }
        if !instances.is_empty() {
            sql += &format!(" AND public_id IN ({})", vec!["?"; instances.len()].join(","));
            values.extend(instances.iter().map(|id| Value::from(id.as_bytes().to_vec())));
        }
        sql += " ORDER BY collection, public_id LIMIT ?";
        values.push(i64::from(max).into());
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| {
            Ok(StreamInfo {
                collection: row.get(0)?,
                public_id: PublicId::from_bytes(row.get(1)?).to_string(),
                first_seen: from_nanos(row.get(2)?),
                bytes: row.get::<_, i64>(3)?.unsigned_abs(),
                records: row.get::<_, i64>(4)?.unsigned_abs(),
            })
        })?;
        rows.collect()
    }

    pub(crate) fn ping(&self) -> rusqlite::Result<()> {
        self.lock().prepare_cached("SELECT count(*) FROM sqlite_schema")?.query_row([], |_| Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The row of a stream, made if it is new.
fn stream_row(
    transaction: &Transaction<'_>,
    collection: &str,
    id: PublicId,
    now: Timestamp,
) -> rusqlite::Result<i64> {
    let found = transaction
        .prepare_cached("SELECT id FROM streams WHERE collection = ? AND public_id = ?")?
        .query_row(params![collection, id.as_bytes()], |row| row.get(0))
        .optional()?;
    if let Some(row) = found {
        return Ok(row);
    }
    transaction
        .prepare_cached("INSERT INTO streams (collection, public_id, first_seen) VALUES (?, ?, ?)")?
        .insert(params![collection, id.as_bytes(), to_nanos(now)])
}

/// Stores the entries that are not there yet, and returns their number.
fn insert_into(
    transaction: &Transaction<'_>,
    stream: i64,
    writer: i64,
    entries: &[NewEntry],
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO entries
             (stream, writer, proc_id, proc_seq, time, client_time, server_time, error, payload)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (stream, writer, proc_id, proc_seq) DO NOTHING",
    )?;
    let (mut records, mut bytes) = (0_i64, 0_i64);
    for entry in entries {
        let time = entry.client_time.as_ref().map_or(now, |(_, time)| *time);
        let inserted = statement.execute(params![
            stream,
            writer,
            entry.proc_id,
            entry.proc_seq,
            to_nanos(time),
            entry.client_time.as_ref().map(|(text, _)| text),
            to_nanos(now),
            entry.error,
            entry.payload,
        ])?;
        if inserted > 0 {
            records += 1;
            let length = entry.payload.len() + entry.error.as_ref().map_or(0, String::len);
            bytes = bytes.saturating_add(i64::try_from(length).unwrap_or(i64::MAX));
        }
    }
    transaction
        .prepare_cached("UPDATE streams SET records = records + ?, bytes = bytes + ? WHERE id = ?")?
        .execute(params![records, bytes, stream])?;
    Ok(records.unsigned_abs())
}

/// The entry in a row of [`SELECT`].
fn read_entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        public_id: PublicId::from_bytes(row.get(0)?).to_string(),
        writer: PublicId::from_bytes(row.get(1)?).to_string(),
        proc_id: row.get(2)?,
        proc_seq: row.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
        client_time: row.get(4)?,
        server_time: from_nanos(row.get(5)?),
        error: row.get(6)?,
        payload: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::ErrorCode;

    use super::*;

    #[test]
    fn an_entry_is_kept_once_per_process_and_number() {
        let store = memory();
        let batch = [entry(7, 1, "{}"), entry(7, 2, "{}"), entry(8, 1, "{}")];
        assert_eq!(insert(&store, 1, None, &batch), Stored { stored: 3, ..Stored::default() });
        let again = [entry(7, 2, "{\"late\":1}"), entry(7, 3, "{}")];
        assert_eq!(insert(&store, 1, None, &again), Stored { stored: 1, duplicates: 1, copied: 0 });
        assert_eq!(insert(&store, 2, None, &batch).stored, 3, "another stream has its own numbers");
        let numbers: Vec<_> = store.all("c").unwrap().iter().map(|e| (e.proc_id, e.proc_seq)).collect();
        let of_one = [(Some(7), Some(1)), (Some(7), Some(2)), (Some(7), Some(3)), (Some(8), Some(1))];
        assert_eq!(numbers[..4], of_one, "by stream, process, number");
        assert_eq!(numbers.len(), 7);
        assert_eq!(store.all("c").unwrap()[1].payload, "{}", "the first one stays");
    }

    #[test]
    fn entries_without_numbers_are_all_kept() {
        let store = memory();
        let nameless = NewEntry { payload: "{}".into(), ..NewEntry::default() };
        let half = NewEntry { proc_id: Some(7), payload: "{}".into(), ..NewEntry::default() };
        let batch = [nameless, half];
        insert(&store, 1, None, &batch);
        assert_eq!(insert(&store, 1, None, &batch).stored, 2);
    }

    #[test]
    fn copies_of_different_writers_don_t_meet() {
        let store = memory();
        let batch = [entry(7, 1, "{}")];
        assert_eq!(insert(&store, 1, Some(9), &batch).copied, 1);
        assert_eq!(insert(&store, 2, Some(9), &batch).copied, 1);
        assert_eq!(insert(&store, 2, Some(9), &batch), Stored { stored: 0, duplicates: 1, copied: 0 });
        let writers: Vec<_> = store
            .all("c")
            .unwrap()
            .into_iter()
            .filter(|e| e.public_id == text(9))
            .map(|e| e.writer)
            .collect();
        assert_eq!(writers, [text(1), text(2)]);
    }

    #[test]
    fn queries_filter_by_stream_and_time_and_count() {
        let store = memory();
        for (id, second) in [(1, 30), (2, 20), (1, 10)] {
            let time = Timestamp::from_second(second).unwrap();
            let mut entry = entry(7, second, "{}");
            entry.client_time = Some((time.to_string(), time));
            insert(&store, id, None, &[entry]);
        }
        let numbers = |filter: Filter| -> Vec<_> {
            let found = store.find("c", &filter, usize::MAX).unwrap().unwrap();
            found.entries.iter().filter_map(|e| e.proc_seq).collect()
        };
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        assert_eq!(numbers(Filter::default()), [10, 20, 30]);
        assert_eq!(numbers(Filter { start: at(20), ..Filter::default() }), [20, 30]);
        assert_eq!(numbers(Filter { end: at(20), ..Filter::default() }), [10]);
        assert_eq!(numbers(Filter { max_count: Some(2), ..Filter::default() }), [10, 20]);
        assert_eq!(numbers(Filter { instances: vec![id(1)], ..Filter::default() }), [10, 30]);
        assert_eq!(numbers(Filter { instances: vec![id(3)], ..Filter::default() }), [0; 0]);
        assert!(store.find("other", &Filter::default(), 1).unwrap().is_none());
    }

    #[test]
    fn a_long_answer_is_cut_between_entries_and_says_so() {
        let store = memory();
        let batch: Vec<_> = (0..10).map(|seq| entry(7, seq, "{}")).collect();
        insert(&store, 1, None, &batch);
        let cut = store.find("c", &Filter::default(), 500).unwrap().unwrap();
        assert_eq!((cut.entries.len(), cut.truncated), (2, true));
        let one = store.find("c", &Filter::default(), 1).unwrap().unwrap();
        assert_eq!(one.entries.len(), 1, "or nobody could ever read past a long entry");
        assert!(!store.find("c", &Filter::default(), 1 << 20).unwrap().unwrap().truncated);
    }

    #[test]
    fn a_file_keeps_entries_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::File(folder.path().join("log.db"));
        let store = Sqlite::open(&database, &Limits::default()).unwrap();
        insert(&store, 1, None, &[entry(7, 1, "{}")]);
        drop(store);
        let store = Sqlite::open(&database, &Limits::default()).unwrap();
        assert_eq!(insert(&store, 1, None, &[entry(7, 1, "{}")]).duplicates, 1);
        let info = store.streams(Some("c"), &[], 9).unwrap().remove(0);
        assert_eq!((info.records, info.bytes, info.public_id), (1, 2, text(1)));
        #[cfg(unix)]
        for file in fs::read_dir(folder.path()).unwrap() {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&file.unwrap().metadata().unwrap().permissions());
            assert_eq!(mode & 0o077, 0);
        }
    }

    #[test]
    fn a_full_database_stores_all_of_an_upload_or_nothing() {
        let limits = Limits { database_bytes: 128 << 10, ..Limits::default() };
        let store = Sqlite::open(&Database::Memory, &limits).unwrap();
        insert(&store, 1, None, &[entry(7, 1, "{}")]);
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(60_000));
        let batch: Vec<_> = (2..6).map(|seq| entry(7, seq, &long)).collect();
        let error = store.insert("c", id(1), None, &batch, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DiskFull), "{error}");
        assert_eq!(store.all("c").unwrap().len(), 1);
        assert_eq!(insert(&store, 1, None, &[entry(7, 2, "{}")]).stored, 1, "small ones still fit");
    }

    fn memory() -> Sqlite {
        Sqlite::open(&Database::Memory, &Limits::default()).unwrap()
    }

    fn insert(store: &Sqlite, writer: u8, copy: Option<u8>, entries: &[NewEntry]) -> Stored {
        store.insert("c", id(writer), copy.map(id), entries, Timestamp::UNIX_EPOCH).unwrap()
    }

    fn id(number: u8) -> PublicId {
        PublicId::from_bytes([number; 32])
    }

    fn text(number: u8) -> String {
        id(number).to_string()
    }

    fn entry(proc_id: u32, proc_seq: i64, payload: &str) -> NewEntry {
        NewEntry {
            proc_id: Some(proc_id),
            proc_seq: Some(proc_seq),
            payload: payload.to_owned(),
            ..NewEntry::default()
        }
    }
}
