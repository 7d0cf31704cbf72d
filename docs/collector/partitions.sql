-- Makes tuntrail.entries a table with a partition for each day, so that what is old goes with the day's table instead
-- of row by row. For databases with tens of millions of entries. Run as the owner of the tables while tuntrail.entries is
-- empty: psql -1 -f partitions.sql
--
-- The day is that of entries.time, the client's: a repetition has the same, so that an entry and its repetition meet
-- in one partition, where the dedupe key (with the time in it, as PostgreSQL demands) finds them equal. Entries without
-- client_time, such as drop reports, have the time of their arrival: the server looks for those in all partitions.

-- What others may do with the tables that are made anew, kept for the transaction that -1 makes of this file.
CREATE TEMPORARY TABLE kept_grants ON COMMIT DROP AS
SELECT table_name, privilege_type, grantee
FROM information_schema.role_table_grants
WHERE table_schema = 'tuntrail' AND table_name IN ('entries', 'records') AND grantee <> current_user;

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
CREATE INDEX entries_copies ON tuntrail.entries (writer) WHERE writer <> stream;
CREATE INDEX entries_by_id ON tuntrail.entries (id);

CREATE VIEW tuntrail.records AS
SELECT s.collection, s.public_id, encode(s.public_id, 'hex') AS log, encode(w.public_id, 'hex') AS writer, e.proc_id,
    e.proc_seq, e.time AS at, to_timestamp(e.time / 1e9) AS time, to_timestamp(e.server_time / 1e9) AS received,
    tuntrail.as_jsonb(e.payload) AS record, tuntrail.as_jsonb(e.error) AS error, e.payload
FROM tuntrail.entries e
JOIN tuntrail.streams s ON s.id = e.stream
JOIN tuntrail.streams w ON w.id = e.writer;

DO $$
DECLARE
    kept record;
BEGIN
    FOR kept IN SELECT * FROM kept_grants LOOP
        EXECUTE format('GRANT %s ON tuntrail.%I TO %s', kept.privilege_type, kept.table_name,
            CASE kept.grantee WHEN 'PUBLIC' THEN 'PUBLIC' ELSE quote_ident(kept.grantee) END);
    END LOOP;
END
$$;

-- Makes the partitions of so many days (UTC) from the first on, those that are not there yet, each with what has landed in
-- the default partition: a device whose clock is ahead sends entries of a day before it comes. Every night, for a week
-- ahead: CALL tuntrail.make_partitions(current_date, 7), by itself, not in a transaction.
CREATE PROCEDURE tuntrail.make_partitions(first_day date, days integer) LANGUAGE plpgsql
AS $$
DECLARE
    day date;
    name text;
    first_nano bigint;
    end_nano bigint;
BEGIN
    FOR ahead IN 0 .. days - 1 LOOP
        day := first_day + ahead;
        name := 'entries_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(format('tuntrail.%I', name)) IS NOT NULL;
        first_nano := tuntrail.nanos(day::timestamp AT TIME ZONE 'UTC');
        end_nano := tuntrail.nanos((day + 1)::timestamp AT TIME ZONE 'UTC');
        -- Who waits for these locks holds up all uploads: behind a backup that takes an hour, it is given up until the next
        -- night. Uploads take them in the same order.
        PERFORM set_config('lock_timeout', '10s', true);
        LOCK TABLE tuntrail.streams IN SHARE ROW EXCLUSIVE MODE;
        LOCK TABLE tuntrail.entries_other_days IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE tuntrail.%I (LIKE tuntrail.entries INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('WITH moved AS (DELETE FROM tuntrail.entries_other_days WHERE time >= %s AND time < %s RETURNING *)
            INSERT INTO tuntrail.%I SELECT * FROM moved', first_nano, end_nano, name);
        EXECUTE format('ALTER TABLE tuntrail.entries ATTACH PARTITION tuntrail.%I FOR VALUES FROM (%s) TO (%s)',
            name, first_nano, end_nano);
        COMMIT;
    END LOOP;
END
$$;

-- Deletes all days before this one: CALL tuntrail.drop_partitions(current_date - 90), by itself, not in a transaction.
CREATE PROCEDURE tuntrail.drop_partitions(before date) LANGUAGE plpgsql
AS $$
DECLARE
    partition text;
BEGIN
    FOR partition IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'tuntrail.entries'::regclass AND c.relname ~ '^entries_[0-9]{8}$'
            AND substr(c.relname, 9) < to_char(before, 'YYYYMMDD')
    LOOP
        -- As in make_partitions. The day's foreign key goes, too, which needs its other table.
        PERFORM set_config('lock_timeout', '10s', true);
        LOCK TABLE tuntrail.streams IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('DROP TABLE tuntrail.%I', partition);
        COMMIT;
    END LOOP;
END
$$;
