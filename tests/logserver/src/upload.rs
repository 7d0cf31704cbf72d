//! `POST /c/{collection}/{private id}`: receiving entries.
//!
//! Bodies arrive side by side; decoding and storing happens on the server's only thread, one upload at a time.

use axum::{
    body::Body,
    extract::{
        ConnectInfo, Extension, Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    batch::{Batch, TooManyEntries},
    body::{self, BodyError},
    connection::Switch,
    fault::Fault,
    id::{PublicId, is_collection_name},
    journal::SharedProgress,
    reply::Reply,
    routes::Shared,
};

/// Where an upload goes.
struct Target {
    collection: String,
    writer: PublicId,
    copy: Option<PublicId>,
}

type Pairs = Vec<(String, String)>;

pub(crate) async fn handle(
    State(shared): State<Shared>,
    Extension(progress): Extension<SharedProgress>,
    ConnectInfo(switch): ConnectInfo<Switch>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<Pairs>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    progress.lock().upload = true;
    let limit = shared.limits.body_bytes;
    let wire = body::receive(body, limit, |bytes| progress.lock().wire_bytes += bytes).await;
    let fault = if matches!(wire, Err(BodyError::Broken(_))) { None } else { shared.faults.take() };
    if fault.is_some() {
        shared.journal.fault_begins();
    }

    let process = || {
        let target = match target(path, query) {
            Ok(target) => target,
            Err(reply) => return reply,
        };
        process(&shared, &progress, &target, &headers, wire)
    };
    let hang_up = |bytes: Vec<u8>| {
        progress.lock().unanswered = true;
        switch.replace_response(bytes);
        // Never seen: whatever is written next is replaced.
        StatusCode::OK.into_response()
    };
    match fault {
        None => process().into_response(),
        Some(Fault::Status { code, retry_after, body }) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match retry_after {
                Some(text) => (status, [("retry-after", text)], body).into_response(),
                None => (status, body).into_response(),
            }
        }
        Some(Fault::Slow(pause)) => {
            let mut stopped = shared.stopped.clone();
            tokio::select! {
                () = sleep(pause) => process().into_response(),
                _ = stopped.wait_for(|stopped| *stopped) => {
                    Reply::error(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping").into_response()
                }
            }
        }
        Some(Fault::CutBody) => {
            let reply = process();
            let status = reply.status;
            switch.replace_response(half(&reply));
            status.into_response()
        }
        Some(Fault::CloseBeforeResponse) => hang_up(Vec::new()),
        Some(Fault::LostResponse) => {
            process();
            hang_up(Vec::new())
        }
        Some(Fault::Garbage(bytes)) => hang_up(bytes),
        Some(Fault::Commands(commands)) => {
            let mut reply = process();
            if let Some(members) = reply.body.as_object_mut() {
                members.insert("commands".to_owned(), commands.into());
            }
            reply.into_response()
        }
    }
}

/// Where the upload goes, if its address is right. Parameters other than `copyId` are ignored.
fn target(
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Result<Target, Reply> {
    let Path((collection, private_id)) =
        path.map_err(|_| Reply::bad_request("the path is not valid UTF-8"))?;
    if !is_collection_name(&collection) {
        return Err(Reply::invalid_collection());
    }
    let writer = PublicId::of_private(&private_id)
        .ok_or_else(|| Reply::bad_request("invalid private ID: it has 64 hexadecimal digits"))?;
    let Query(pairs) = query.map_err(|_| Reply::bad_request("the query is not valid"))?;
    let copies: Vec<_> = pairs.iter().filter(|(name, _)| name == "copyId").collect();
    let copy = match copies.as_slice() {
        [] => None,
        [(_, id)] => Some(
            PublicId::of_private(id)
                .ok_or_else(|| Reply::bad_request("invalid copyId: it has 64 hexadecimal digits"))?,
        ),
        _ => return Err(Reply::bad_request("there may be only one copyId")),
    };
    Ok(Target { collection, writer, copy })
}

/// Decodes and stores the body.
fn process(
    shared: &Shared,
    progress: &SharedProgress,
    target: &Target,
    headers: &HeaderMap,
    wire: Result<Vec<u8>, BodyError>,
) -> Reply {
    let limits = &shared.limits;
    let decoded = wire.and_then(|wire| body::decode(headers, wire, limits.body_bytes));
    let batch = match decoded {
        Ok(body) => {
            progress.lock().decoded_bytes = body.len();
            Batch::parse(&body, limits.entries_per_upload)
        }
        // The body as a whole cannot be read. Its bytes are compressed, so they are not worth keeping.
        Err(BodyError::Undecodable(detail)) => Ok(Batch::unusable(&detail, None)),
        Err(error @ BodyError::Broken(_)) => return Reply::bad_request(error.to_string()),
        Err(error @ BodyError::TooLarge { .. }) => {
            return Reply::error(StatusCode::PAYLOAD_TOO_LARGE, error.to_string());
        }
        Err(error @ BodyError::Encoding(_)) => {
            return Reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string());
        }
    };
    let batch = match batch {
        Ok(batch) => batch,
        Err(TooManyEntries(count)) => {
            let text = format!(
                "the body has {count} entries, and {} is the limit; send fewer at once",
                limits.entries_per_upload
            );
            return Reply::error(StatusCode::PAYLOAD_TOO_LARGE, text);
        }
    };

    let Target { collection, writer, copy } = target;
    let result = match shared.store.insert(collection, *writer, *copy, &batch.entries, Timestamp::now()) {
        Ok(result) => result,
        Err(error) => return Reply::database(&error),
    };
    let mut progress = progress.lock();
    (progress.stored, progress.duplicates, progress.copied) =
        (result.stored, result.duplicates, result.copied);
    let counts = json!({ "stored": result.stored, "duplicates": result.duplicates });
    match batch.complaint {
        None => Reply::ok(counts),
        Some(complaint) => Reply {
            status: StatusCode::BAD_REQUEST,
            body: json!({ "error": complaint, "stored": result.stored, "duplicates": result.duplicates }),
        },
    }
}

/// The head of a response and half of the body that it announces.
fn half(reply: &Reply) -> Vec<u8> {
    let body = reply.body.to_string().into_bytes();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        reply.status,
        body.len()
    );
    let half = body.len() / 2;
    head.into_bytes().into_iter().chain(body.into_iter().take(half)).collect()
}
