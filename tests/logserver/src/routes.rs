//! Which address does what, and what every request shares.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    body,
    config::{Limits, ServerConfig},
    fault::{Fault, FaultSpec, Faults, Times},
    journal::Journal,
    query,
    reply::Reply,
    store::Store,
    trouble::Trouble,
    upload,
};

/// The longest body of a request to `/debug/faults`: room for a thousand faults.
const MAX_FAULT_BYTES: usize = 256 * 1024;

/// What all requests share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

/// See [`Shared`].
pub(crate) struct Inner {
    pub(crate) limits: Limits,
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) trouble: Trouble,
    /// How many uploads have arrived and are being stored.
    working: watch::Sender<usize>,
    /// Becomes true when the server is told to stop.
    pub(crate) stopped: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn new(limits: Limits, store: Store, stopped: watch::Receiver<bool>) -> Self {
        let journal = Journal::new(limits.remembered_requests);
        let (faults, trouble, working) = (Faults::default(), Trouble::default(), watch::Sender::new(0));
        Self(Arc::new(Inner { limits, store, faults, journal, trouble, working, stopped }))
    }

    /// Counts an upload as being stored until the answer is dropped.
    pub(crate) fn working(&self) -> Working<'_> {
        self.working.send_modify(|uploads| *uploads += 1);
        Working(&self.working)
    }

    /// Waits until no upload is being stored.
    pub(crate) async fn at_rest(&self) {
        // The sender lives as long as this value, so the wait cannot fail.
        let _ = self.working.subscribe().wait_for(|uploads| *uploads == 0).await;
    }
}

/// An upload that is being stored.
pub(crate) struct Working<'a>(&'a watch::Sender<usize>);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|uploads| *uploads = uploads.saturating_sub(1));
    }
}

impl std::ops::Deref for Shared {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

pub(crate) fn router(config: &ServerConfig, shared: Shared) -> Router {
    let mut router = Router::new()
        .route("/c/{collection}/{private_id}", post(upload::handle))
        .route("/c/{collection}", get(query::entries))
        .route("/collections", get(query::collections))
        .route("/health", get(health));
    if config.fault_endpoint {
        router = router.route("/debug/faults", get(list_faults).post(add_faults).delete(clear_faults));
    }
    router
        .fallback(async || Reply::error(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Reply::error(StatusCode::METHOD_NOT_ALLOWED, "this address does not know this method")
        })
        .layer(from_fn_with_state(shared.clone(), record))
        .with_state(shared)
}

/// Enters every request in the journal.
async fn record(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let pending = shared.journal.begin(&request);
    request.extensions_mut().insert(pending.progress());
    let response = next.run(request).await;
    pending.answered(response.status());
    response
}

/// Whether uploads can be stored, for whoever decides where to send them, and the totals since the start.
async fn health(State(shared): State<Shared>) -> Result<Reply, Reply> {
    shared.trouble.watch(shared.store.ping().await)?;
    let stats = shared.journal.stats();
    Ok(Reply::ok(json!({
        "status": "ok",
        "requests": stats.requests,
        "uploads": stats.uploads,
        "errors": stats.errors,
        "stored": stats.stored,
        "duplicates": stats.duplicates,
        "copied": stats.copied,
        "wire_bytes": stats.wire_bytes,
        "decoded_bytes": stats.decoded_bytes,
    })))
}

async fn list_faults(State(shared): State<Shared>) -> Reply {
    let faults: Vec<FaultSpec> = shared.faults.list().into_iter().map(FaultSpec::from).collect();
    Reply::ok(json!({ "faults": faults }))
}

/// Adds one fault or an array of them, up to the first impossible one.
async fn add_faults(State(shared): State<Shared>, body: Body) -> Result<Reply, Reply> {
    let body = body::receive(body, MAX_FAULT_BYTES, |_| {})
        .await
        .map_err(|error| Reply::error(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?;
    let wrong = |error: serde_json::Error| Reply::bad_request(format!("this describes no fault: {error}"));
    let specs: Vec<FaultSpec> = match serde_json::from_slice(&body).map_err(wrong)? {
        list @ Value::Array(_) => serde_json::from_value(list).map_err(wrong)?,
        single => vec![serde_json::from_value(single).map_err(wrong)?],
    };
    for spec in specs {
        let (fault, times): (Fault, Times) = spec.into();
        shared.faults.push(fault, times).map_err(|error| Reply::bad_request(error.to_string()))?;
    }
    Ok(list_faults(State(shared)).await)
}

async fn clear_faults(State(shared): State<Shared>) -> Reply {
    shared.faults.clear();
    list_faults(State(shared)).await
}
