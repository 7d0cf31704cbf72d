//! Responses: JSON, errors as `{"error":"…"}`.

use axum::{
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A status and a JSON body.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) const fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body }
    }

    pub(crate) fn error(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, body: json!({ "error": text.into() }) }
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, text)
    }

    /// The protocol's own words.
    pub(crate) fn invalid_collection() -> Self {
        Self::error(StatusCode::FORBIDDEN, "invalid collection name")
    }

    /// SQLite failed. The reason goes to the server's own log: it may name files.
    pub(crate) fn database(error: &rusqlite::Error) -> Self {
        tracing::error!(%error, "the database failed");
        if crate::store::is_full(error) {
            Self::error(StatusCode::INSUFFICIENT_STORAGE, "the database is full")
        } else {
            Self::error(StatusCode::INTERNAL_SERVER_ERROR, "the database failed; see the server's log")
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body.to_string()).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
