-- A role that can store and read, but change and delete nothing that is stored. Run as the owner of the tables.
CREATE ROLE tuntrail_collector LOGIN;
GRANT USAGE ON SCHEMA tuntrail TO tuntrail_collector;
GRANT SELECT ON tuntrail.meta, tuntrail.records TO tuntrail_collector;
GRANT SELECT, INSERT ON tuntrail.entries TO tuntrail_collector;
-- UPDATE for the totals of a stream, and for its row's lock.
GRANT SELECT, INSERT, UPDATE ON tuntrail.streams TO tuntrail_collector;
