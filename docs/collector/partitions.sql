-- Makes tuntrail.entries a table with a partition for each day, so that what is old goes with the day's table instead
-- of row by row. For databases with tens of millions of entries. Run as the owner of the tables while tuntrail.entries is
-- empty: psql -1 -f partitions.sql
--
-- The day is that of entries.time, the client's: a repetition has the same, so that an entry and its repetition meet
-- in one partition, where the dedupe key (with the time in it, as PostgreSQL demands) finds them equal. Entries without
-- client_time are de-duplicated only within one arrival time; tuntrail's clients always send it.

DROP VIEW tuntrail.records;
CREATE TABLE tuntrail.entries_by_day (
    id bigint GENERATED ALWAYS AS IDENTITY,
    stream bigint NOT NULL REFERENCES tuntrail.streams (id) ON DELETE CASCADE,
    writer bigint NOT NULL,
    proc_id bigint,
    proc_seq bigint,
    time bigint NOT NULL,
    client_time text,
    server_time bigint NOT NULL,
    error text,
    payload text NOT NULL,
    UNIQUE (stream, writer, proc_id, proc_seq, time)
) PARTITION BY RANGE (time);
-- Devices may have any time. What fits no day lands here and is expired by its arrival: tuntrail.expire.
CREATE TABLE tuntrail.entries_other_days PARTITION OF tuntrail.entries_by_day DEFAULT;
-- Fails if anything would be lost.
DO $$ BEGIN
    IF EXISTS (SELECT FROM tuntrail.entries) THEN RAISE 'tuntrail.entries is not empty'; END IF;
END $$;
DROP TABLE tuntrail.entries;
ALTER TABLE tuntrail.entries_by_day RENAME TO entries;
CREATE INDEX entries_by_time ON tuntrail.entries (stream, time);
CREATE INDEX entries_by_arrival ON tuntrail.entries USING brin (server_time);
CREATE INDEX entries_by_id ON tuntrail.entries (id);

CREATE VIEW tuntrail.records AS
SELECT s.collection, s.public_id, encode(s.public_id, 'hex') AS log, encode(w.public_id, 'hex') AS writer, e.proc_id,
    e.proc_seq, e.time AS at, to_timestamp(e.time / 1e9) AS time, to_timestamp(e.server_time / 1e9) AS received,
    tuntrail.as_jsonb(e.payload) AS record, tuntrail.as_jsonb(e.error) AS error, e.payload
FROM tuntrail.entries e
JOIN tuntrail.streams s ON s.id = e.stream
JOIN tuntrail.streams w ON w.id = e.writer;

-- Makes the partitions of so many days (UTC) from the first on, those that are not there yet. Every night, for a week ahead:
-- CALL tuntrail.make_partitions(current_date, 7)
CREATE PROCEDURE tuntrail.make_partitions(first_day date, days integer) LANGUAGE plpgsql
AS $$
DECLARE
    day date;
BEGIN
    FOR day IN SELECT generate_series(first_day, first_day + days - 1, '1 day')::date LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS tuntrail.%I PARTITION OF tuntrail.entries FOR VALUES FROM (%s) TO (%s)',
            'entries_' || to_char(day, 'YYYYMMDD'),
            tuntrail.nanos(day::timestamp AT TIME ZONE 'UTC'),
            tuntrail.nanos((day + 1)::timestamp AT TIME ZONE 'UTC'));
    END LOOP;
END
$$;

-- Deletes all days before this one: CALL tuntrail.drop_partitions(current_date - 90)
CREATE PROCEDURE tuntrail.drop_partitions(before date) LANGUAGE plpgsql
AS $$
DECLARE
    partition text;
BEGIN
    FOR partition IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'tuntrail.entries'::regclass AND c.relname ~ '^entries_[0-9]{8}$'
            AND substr(c.relname, 9) < to_char(before, 'YYYYMMDD')
    LOOP
        EXECUTE format('DROP TABLE tuntrail.%I', partition);
    END LOOP;
END
$$;
