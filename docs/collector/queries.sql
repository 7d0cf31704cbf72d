-- Which connections moved the most bytes since yesterday, by the node that counted them.
SELECT r.record ->> 'nodeId' AS node, c ->> 'dst' AS destination,
    sum(CASE jsonb_typeof(c -> 'txBytes') WHEN 'number' THEN (c ->> 'txBytes')::numeric ELSE 0 END
        + CASE jsonb_typeof(c -> 'rxBytes') WHEN 'number' THEN (c ->> 'rxBytes')::numeric ELSE 0 END) AS bytes
FROM tuntrail.records r,
    unnest(ARRAY['virtualTraffic', 'subnetTraffic', 'exitTraffic']) AS class,
    jsonb_path_query(r.record -> class, 'lax $[*]') AS c
WHERE r.at >= tuntrail.nanos(now() - interval '1 day') AND r.collection LIKE 'tailtraffic.log.%' AND r.log = r.writer
GROUP BY 1, 2
ORDER BY bytes DESC
LIMIT 20;

-- The entry with the marker that a user has read to you. Its log, process and number are what to look around.
SELECT r.time, r.collection, r.log, r.proc_id, r.proc_seq, r.payload
FROM tuntrail.records r
WHERE r.at >= tuntrail.nanos(now() - interval '1 day') AND r.payload LIKE '%BUG-4ef0a1%' AND r.log = r.writer;

-- Entries of a log that never arrived: the numbers between which there is nothing.
SELECT proc_id, before + 1 AS first_missing, proc_seq - 1 AS last_missing
FROM (
    SELECT r.proc_id, r.proc_seq, lag(r.proc_seq) OVER (PARTITION BY r.collection, r.proc_id ORDER BY r.proc_seq) AS before
    FROM tuntrail.records r
    WHERE r.public_id = '\xLOG-ID' AND r.log = r.writer
) AS neighbours
WHERE proc_seq > before + 1
ORDER BY 1, 2;

-- The largest logs, by all that they ever stored.
SELECT encode(public_id, 'hex') AS log, collection, records, pg_size_pretty(bytes) AS size,
    to_timestamp(first_seen / 1e9) AS since
FROM tuntrail.streams
ORDER BY streams.bytes DESC
LIMIT 20;

-- What was wrong with entries of the last day: entries that the server could not read, and what clients reported.
SELECT r.collection, r.error ->> 'detail' AS detail, count(*), count(DISTINCT r.log) AS logs
FROM tuntrail.records r
WHERE r.at >= tuntrail.nanos(now() - interval '1 day') AND r.error IS NOT NULL
GROUP BY 1, 2
ORDER BY 3 DESC
LIMIT 20;

-- How much space the entries take, with indexes, and how many there are, about.
SELECT pg_size_pretty(sum(pg_total_relation_size(c.oid))) AS size, sum(greatest(c.reltuples, 0))::bigint AS entries
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'tuntrail' AND c.relkind = 'r' AND c.relname LIKE 'entries%';
