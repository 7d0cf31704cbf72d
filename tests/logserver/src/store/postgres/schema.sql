-- The tables of the log server in PostgreSQL, version 1. The server makes them in an empty database; whoever wants
-- to grant it less than CREATE runs this file first, as the owner: psql -1 -f schema.sql.
--
-- Times are nanoseconds since 1970. entries.time is what queries filter and sort by: the client's time if it sent
-- one, else the server's, for records may be uploaded long after they were made.

CREATE SCHEMA IF NOT EXISTS tuntrail;

CREATE TABLE tuntrail.meta (version integer NOT NULL);
INSERT INTO tuntrail.meta VALUES (1);

CREATE TABLE tuntrail.streams (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text COLLATE "C" NOT NULL,
    -- The SHA-256 of the private ID. The private ID itself is nowhere in the database.
    public_id bytea NOT NULL CHECK (octet_length(public_id) = 32),
    first_seen bigint NOT NULL,
    -- What was ever stored, also if it has been deleted since.
    bytes bigint NOT NULL DEFAULT 0,
    records bigint NOT NULL DEFAULT 0,
    UNIQUE (collection, public_id)
);

CREATE TABLE tuntrail.entries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream bigint NOT NULL REFERENCES tuntrail.streams (id) ON DELETE CASCADE,
    -- The stream it was uploaded to; another one than stream in copies. No foreign key: its check would need one more
    -- index, and tuntrail.forget deletes the copies too.
    writer bigint NOT NULL,
    proc_id bigint,
    proc_seq bigint,
    time bigint NOT NULL,
    client_time text,
    server_time bigint NOT NULL,
    -- JSON as it was sent. No json or jsonb: these alter numbers, or refuse what is legal JSON, such as "\u0000".
    error text,
    payload text NOT NULL,
    -- The dedupe key. Entries without both numbers are never equal.
    UNIQUE (stream, writer, proc_id, proc_seq)
);
CREATE INDEX entries_by_time ON tuntrail.entries (stream, time);
-- For the retention. Entries arrive in the order of this column, so a few pages of index serve any number of them.
CREATE INDEX entries_by_arrival ON tuntrail.entries USING brin (server_time);
-- For deleting a log: whether it has copies in other streams, which few have.
CREATE INDEX entries_copies ON tuntrail.entries (writer) WHERE writer <> stream;

-- A time as entries.time has it.
CREATE FUNCTION tuntrail.nanos(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT (extract(epoch FROM at) * 1000000000)::bigint $$;

-- Stored JSON for PostgreSQL's operators; null for what jsonb cannot hold (\u0000, 1e999999), so that one hostile
-- entry does not make a query over all entries fail.
CREATE FUNCTION tuntrail.as_jsonb(body text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT
AS $$
BEGIN
    RETURN body::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$;

-- Entries for people. Filter by at, collection and public_id, which use the indexes.
CREATE VIEW tuntrail.records AS
SELECT s.collection, s.public_id, encode(s.public_id, 'hex') AS log, encode(w.public_id, 'hex') AS writer, e.proc_id,
    e.proc_seq, e.time AS at, to_timestamp(e.time / 1e9) AS time, to_timestamp(e.server_time / 1e9) AS received,
    tuntrail.as_jsonb(e.payload) AS record, tuntrail.as_jsonb(e.error) AS error, e.payload
FROM tuntrail.entries e
JOIN tuntrail.streams s ON s.id = e.stream
JOIN tuntrail.streams w ON w.id = e.writer;

-- Deletes all there is of a log, by its public ID in hexadecimal: its entries, their copies in other streams, and the
-- streams' rows. Uploads of this log that are under way wait, or are waited for. Returns the number of entries.
CREATE FUNCTION tuntrail.forget(log text) RETURNS bigint LANGUAGE plpgsql
AS $$
DECLARE
    id_bytes bytea := decode(log, 'hex');
    gone bigint;
    copies bigint;
BEGIN
    -- Takes locks in the order in which uploads and partitions.sql take them.
    LOCK TABLE tuntrail.streams IN ROW EXCLUSIVE MODE;
    PERFORM FROM tuntrail.streams WHERE public_id = id_bytes ORDER BY collection FOR UPDATE;
    DELETE FROM tuntrail.entries e USING tuntrail.streams s
        WHERE s.public_id = id_bytes AND e.writer = s.id AND e.writer <> e.stream;
    GET DIAGNOSTICS copies = ROW_COUNT;
    DELETE FROM tuntrail.entries e USING tuntrail.streams s WHERE s.public_id = id_bytes AND e.stream = s.id;
    GET DIAGNOSTICS gone = ROW_COUNT;
    DELETE FROM tuntrail.streams WHERE public_id = id_bytes;
    RETURN gone + copies;
END
$$;

-- Deletes entries that arrived longer ago than keep, and then the streams that are as old and have none left, in steps that
-- hold no lock for long. Call it by itself, not in a transaction.
CREATE PROCEDURE tuntrail.expire(keep interval, step integer DEFAULT 10000) LANGUAGE plpgsql
AS $$
DECLARE
    arrived_before bigint := tuntrail.nanos(now() - keep);
    gone bigint;
    empty bigint[];
    last bigint := 0;
BEGIN
    LOOP
        DELETE FROM tuntrail.entries
            WHERE id = ANY (ARRAY(SELECT id FROM tuntrail.entries WHERE server_time < arrived_before LIMIT step));
        GET DIAGNOSTICS gone = ROW_COUNT;
        COMMIT;
        EXIT WHEN gone < step;
    END LOOP;
    LOOP
        -- An upload holds the lock of its stream: such a stream is skipped.
        empty := ARRAY(SELECT s.id FROM tuntrail.streams s
            WHERE s.id > last AND s.first_seen < arrived_before
                AND NOT EXISTS (SELECT FROM tuntrail.entries e WHERE e.stream = s.id)
            ORDER BY s.id LIMIT step FOR UPDATE OF s SKIP LOCKED);
        EXIT WHEN cardinality(empty) = 0;
        last := empty[cardinality(empty)];
        -- What was stored before the lock was had is seen by a statement of its own.
        DELETE FROM tuntrail.streams s WHERE s.id = ANY (empty)
            AND NOT EXISTS (SELECT FROM tuntrail.entries e WHERE e.stream = s.id)
            AND NOT EXISTS (SELECT FROM tuntrail.entries e WHERE e.writer = s.id AND e.writer <> e.stream);
        COMMIT;
    END LOOP;
END
$$;
