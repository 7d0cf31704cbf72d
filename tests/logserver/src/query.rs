//! `GET /c/{collection}` and `GET /collections`: reading entries.

use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    id::{PublicId, is_collection_name},
    reply::Reply,
    routes::Shared,
    store::{Filter, Found},
};

/// The most streams one query may name: 33 KB of address, half of what HTTP libraries take.
const MAX_INSTANCES: usize = 512;

/// The most streams that `GET /collections` lists: 20 MB of answer. A fleet may have more; those are counted in SQL.
const MAX_STREAMS: u32 = 100_000;

/// Says that an answer in lines was cut for its length, where no member can say it.
const TRUNCATED: HeaderName = HeaderName::from_static("tuntrail-truncated");

type Pairs = Vec<(String, String)>;

/// Entries of one collection.
pub(crate) async fn entries(
    State(shared): State<Shared>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Response {
    answer(&shared, path, query).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(
    shared: &Shared,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Result<Response, Reply> {
    let Path(collection) = path.map_err(|_| Reply::bad_request("the path is not valid UTF-8"))?;
    if !is_collection_name(&collection) {
        return Err(Reply::invalid_collection());
    }
    let Query(pairs) = query.map_err(|_| Reply::bad_request("the query is not valid"))?;
    let (filter, stream) = parse(&pairs).map_err(Reply::bad_request)?;
    let found = shared.store.find(&collection, &filter, shared.limits.response_bytes).await;
    let found = shared.trouble.watch(found)?.ok_or_else(|| unknown_collection(&collection))?;
    Ok(if stream { as_lines(&found) } else { as_object(&found) })
}

/// The streams of all collections, or of the one named by `collection-name`; only those of `instances`, if there are any.
pub(crate) async fn collections(
    State(shared): State<Shared>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Result<Reply, Reply> {
    let Query(pairs) = query.map_err(|_| Reply::bad_request("the query is not valid"))?;
    let (mut only, mut instances) = (None, Vec::new());
    for (name, value) in pairs {
        match name.as_str() {
            "collection-name" if !is_collection_name(&value) => return Err(Reply::invalid_collection()),
            "collection-name" => only = Some(value),
            "instances" => add_instances(&mut instances, &value).map_err(Reply::bad_request)?,
            _ => {
                return Err(Reply::bad_request(format!(
                    "unknown parameter {name:?}; there are collection-name and instances"
                )));
            }
        }
    }
    let streams = shared.store.streams(only.as_deref(), &instances, MAX_STREAMS + 1).await;
    let mut streams = shared.trouble.watch(streams)?;
    let truncated = streams.len() > usize::try_from(MAX_STREAMS).unwrap_or(usize::MAX);
    if truncated {
        streams.pop();
    }
    if let (Some(name), true, true) = (&only, instances.is_empty(), streams.is_empty()) {
        return Err(unknown_collection(name));
    }
    let mut collections = Map::new();
    for stream in streams {
        let collection = collections.entry(stream.collection).or_insert_with(|| json!({ "instances": {} }));
        if let Some(Value::Object(instances)) = collection.get_mut("instances") {
            let info = json!({
                "first-seen": stream.first_seen.to_string(),
                "size": stream.bytes,
                "records": stream.records,
            });
            instances.insert(stream.public_id, info);
        }
    }
    Ok(Reply::ok(match truncated {
        true => json!({ "collections": collections, "truncated": true }),
        false => json!({ "collections": collections }),
    }))
}

fn unknown_collection(name: &str) -> Reply {
    let text = format!("there is no collection {name:?} yet; GET /collections names those there are");
    Reply::error(StatusCode::NOT_FOUND, text)
}

/// The parameters of a query: what to find, and whether to answer in lines.
fn parse(pairs: &[(String, String)]) -> Result<(Filter, bool), String> {
    let mut filter = Filter::default();
    let mut stream = false;
    for (name, value) in pairs {
        match name.as_str() {
            "instances" => add_instances(&mut filter.instances, value)?,
            "time-start" => filter.start = Some(time(name, value)?),
            "time-end" => filter.end = Some(time(name, value)?),
            "max-count" => {
                let count = value.parse().ok().filter(|count| *count > 0);
                let wrong = || format!("max-count: {value:?} is no number from 1 to {}", u32::MAX);
                filter.max_count = Some(count.ok_or_else(wrong)?);
            }
            "stream" => {
                stream = match value.as_str() {
                    "" | "1" | "true" => true,
                    "0" | "false" => false,
                    _ => return Err(format!("stream: {value:?} is neither true nor false")),
                }
            }
            _ => {
                return Err(format!(
                    "unknown parameter {name:?}; there are instances, time-start, time-end, max-count and stream"
                ));
            }
        }
    }
    if let (Some(start), Some(end)) = (filter.start, filter.end)
        && start > end
    {
        return Err(format!("time-start {start} is after time-end {end}"));
    }
    Ok((filter, stream))
}

/// Adds the public IDs of a list with commas.
fn add_instances(instances: &mut Vec<PublicId>, list: &str) -> Result<(), String> {
    for id in list.split(',').filter(|id| !id.is_empty()) {
        instances.push(
            PublicId::parse(id).ok_or_else(|| {
                format!("instances: {id:?} is no public ID, which has 64 hexadecimal digits")
            })?,
        );
    }
    if instances.len() > MAX_INSTANCES {
        return Err(format!("instances: at most {MAX_INSTANCES} can be named"));
    }
    Ok(())
}

fn time(name: &str, value: &str) -> Result<Timestamp, String> {
    value.parse().map_err(|_| {
        format!(
            "{name}: {value:?} is no RFC 3339 time such as 2026-01-02T03:04:05Z (a + must be written %2B)"
        )
    })
}

fn as_object(found: &Found) -> Response {
    let entries: Vec<String> = found.entries.iter().map(|entry| entry.to_json()).collect();
    let truncated = if found.truncated { ",\"truncated\":true" } else { "" };
    let body = format!("{{\"logs\":[{}]{truncated}}}", entries.join(",\n"));
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn as_lines(found: &Found) -> Response {
    let body: String = found.entries.iter().flat_map(|entry| [entry.to_json(), "\n".to_owned()]).collect();
    let truncated = found.truncated.then_some([(TRUNCATED, "true")]);
    match truncated {
        Some(header) => ([(CONTENT_TYPE, "application/x-ndjson")], header, body).into_response(),
        None => ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_understood() {
        let id = "0a".repeat(32);
        let (filter, stream) = parse(&pairs(&[
            ("instances", &format!("{id},{id}")),
            ("time-start", "2026-01-02T03:04:05Z"),
            ("time-end", "2026-01-02T05:04:05+01:00"),
            ("max-count", "3"),
            ("stream", "true"),
        ]))
        .unwrap();
        assert_eq!(filter.instances.len(), 2);
        assert_eq!(filter.end.unwrap().to_string(), "2026-01-02T04:04:05Z");
        assert_eq!((filter.max_count, stream), (Some(3), true));
    }

    #[test]
    fn wrong_parameters_are_named() {
        for (name, value) in [
            ("instances", "xyz"),
            ("time-start", "yesterday"),
            ("time-end", ""),
            ("max-count", "0"),
            ("max-count", "-1"),
            ("stream", "maybe"),
            ("limit", "1"),
        ] {
            let error = parse(&pairs(&[(name, value)])).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        let reversed = [("time-start", "2026-01-02T00:00:00Z"), ("time-end", "2026-01-01T00:00:00Z")];
        assert!(parse(&pairs(&reversed)).is_err());
    }

    fn pairs(list: &[(&str, &str)]) -> Pairs {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}
