//! Responses: JSON, errors as `{"error":"…"}`.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER as RETRY_AFTER_HEADER},
    },
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::store::StoreError;

/// When to try again while the database is gone, in seconds: about as long as a restart of it takes.
const RETRY_AFTER: u16 = 30;

/// A status and a JSON body.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// The client should come back after this many seconds.
    pub(crate) retry_after: Option<u16>,
}

impl Reply {
    pub(crate) const fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body, retry_after: None }
    }

    pub(crate) fn error(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, body: json!({ "error": text.into() }), retry_after: None }
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, text)
    }

    /// The protocol's own words.
    pub(crate) fn invalid_collection() -> Self {
        Self::error(StatusCode::FORBIDDEN, "invalid collection name")
    }

    /// What a client is told when the database failed. The reason is not for it: it may name files and hosts.
    pub(crate) fn database(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self {
                retry_after: Some(RETRY_AFTER),
                ..Self::error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the database is not available; try again later",
                )
            },
            StoreError::Full(_) => Self::error(StatusCode::INSUFFICIENT_STORAGE, "the database is full"),
            StoreError::Refused(_) => Self::bad_request("the database cannot store this content"),
            StoreError::Failed(_) => {
                Self::error(StatusCode::INTERNAL_SERVER_ERROR, "the database failed; see the server's log")
            }
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body.to_string()).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER_HEADER, HeaderValue::from(seconds));
        }
        response
    }
}
