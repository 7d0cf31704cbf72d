//! docs/collector/partitions.sql: a partition for each day.

use serde_json::json;
use tuntrail_logserver::Limits;

use crate::{
    cluster::Cluster,
    database::{Fresh, documented, start_on},
    support::*,
};

/// The private ID of another client.
const OTHER: &str = "1111111111111111111111111111111111111111111111111111111111111111";

#[test]
fn with_a_partition_for_each_day_an_entry_still_is_stored_once() {
    let Some(database) = Fresh::postgres() else { return };
    let Fresh::Postgres(cluster, name) = &database else { unreachable!() };
    drop(database.server());
    cluster.sql(name, &documented("partitions.sql"));
    cluster.sql(name, "CALL tuntrail.make_partitions('2026-01-01', 3)");
    let server = database.server();
    let dated = |day: &str, seq: u32| {
        format!(r#"{{"logtail":{{"client_time":"{day}T12:00:00Z","proc_id":7,"proc_seq":{seq}}}}}"#)
    };
    let batch = ["2026-01-01", "2026-01-02", "2026-01-03", "2031-12-24", "1970-01-01"];
    let batch: Vec<_> = (1..).zip(batch).map(|(seq, day)| dated(day, seq)).collect();
    let body = format!("[{}]", batch.join(","));
    assert_eq!(upload(&server, &body).json(), json!({"stored": 5, "duplicates": 0}));
    assert_eq!(upload(&server, &body).json(), json!({"stored": 0, "duplicates": 5}));
    let tables = "SELECT tableoid::regclass::text, count(*) FROM tuntrail.entries GROUP BY 1 ORDER BY 1";
    let expected = [
        ["tuntrail.entries_20260101", "1"],
        ["tuntrail.entries_20260102", "1"],
        ["tuntrail.entries_20260103", "1"],
        ["tuntrail.entries_other_days", "2"],
    ];
    assert_eq!(cluster.sql(name, tables), expected);
    cluster.sql(name, "CALL tuntrail.drop_partitions('2026-01-02')");
    assert_eq!(cluster.sql(name, tables), expected[1..]);
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 4);
    assert_eq!(cluster.sql(name, &format!("SELECT tuntrail.forget('{PUBLIC}')")), [["4"]]);
}

#[test]
fn a_day_whose_entries_came_before_its_partition_gets_one_all_the_same() {
    let Some(database) = Fresh::postgres() else { return };
    let Fresh::Postgres(cluster, name) = &database else { unreachable!() };
    drop(database.server());
    cluster.sql(name, &documented("partitions.sql"));
    let server = database.server();
    let early = r#"{"logtail":{"client_time":"2031-12-24T12:00:00Z","proc_id":7,"proc_seq":1}}"#;
    let next = r#"{"logtail":{"client_time":"2031-12-25T12:00:00Z","proc_id":7,"proc_seq":2}}"#;
    assert_eq!(upload(&server, early).json()["stored"], 1);
    // Also twice, as every night.
    for _ in 0..2 {
        cluster.sql(name, "CALL tuntrail.make_partitions('2031-12-24', 2)");
    }
    assert_eq!(upload(&server, &format!("[{early},{next}]")).json(), json!({"stored": 1, "duplicates": 1}));
    let tables = "SELECT tableoid::regclass::text, count(*), count(DISTINCT id) FROM tuntrail.entries GROUP BY 1 ORDER BY 1";
    let expected = [["tuntrail.entries_20311224", "1", "1"], ["tuntrail.entries_20311225", "1", "1"]];
    assert_eq!(cluster.sql(name, tables), expected);
    cluster.sql(name, "CALL tuntrail.drop_partitions('2031-12-25')");
    assert_eq!(cluster.sql(name, tables), expected[1..]);
}

#[test]
fn with_partitions_an_entry_without_a_time_is_stored_once_too() {
    let Some(database) = Fresh::postgres() else { return };
    let Fresh::Postgres(cluster, name) = &database else { unreachable!() };
    drop(database.server());
    cluster.sql(name, &documented("partitions.sql"));
    let server = database.server();
    let report = r#"{"logtail":{"proc_id":7,"proc_seq":3},"tuntrail":{"drops":[]}}"#;
    let path = format!("{}?copyId={OTHER}", upload_path());
    let post = |body: &str| send(&server, "POST", &path, &[], body.as_bytes()).json();
    assert_eq!(post(report), json!({"stored": 1, "duplicates": 0}));
    // As an hour later and in another day's partition.
    cluster.sql(name, "UPDATE tuntrail.entries SET time = time - 3600 * 1000000000::bigint");
    cluster.sql(name, "CALL tuntrail.make_partitions((now() - interval '1 day')::date, 2)");
    assert_eq!(post(&format!("[{report},{report}]")), json!({"stored": 0, "duplicates": 2}));
    assert_eq!(server.entries(COLLECTION).unwrap().len(), 2, "one, and its copy");
    let unnumbered = r#"{"logtail":{"proc_id":7}}"#;
    assert_eq!(post(&format!("[{unnumbered},{unnumbered}]"))["stored"], 2, "these can't be recognised");
}

#[test]
fn partitions_leave_the_rights_of_others_as_they_were() {
    let Some(cluster) = Cluster::shared() else { return };
    let name = cluster.create("");
    cluster.sql(&name, include_str!("../../src/store/postgres/schema.sql"));
    let role = format!("collector_{name}");
    cluster.sql(&name, &documented("grants.sql").replace("tuntrail_collector", &role));
    cluster.sql(&name, &documented("partitions.sql"));
    cluster.sql(&name, "CALL tuntrail.make_partitions('2026-01-02', 1)");
    let server = start_on(cluster.url_of(&role, &name), Limits::default()).unwrap();
    assert_eq!(upload(&server, &entry(7, 1)).status, 200);
    assert_eq!(get(&server, &format!("/c/{COLLECTION}")).status, 200);
    let may = format!(
        "SELECT has_table_privilege('{role}', 'tuntrail.entries', 'DELETE'),
                has_table_privilege('{role}', 'tuntrail.records', 'SELECT')"
    );
    assert_eq!(cluster.sql(&name, &may), [["f", "t"]]);
}
