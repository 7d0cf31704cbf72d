//! One request, one answer.
//!
//! Built for one pass on the upload thread and dropped after it, so that nothing is left open between passes. HTTP/1.1
//! with one kept-alive connection. Redirects are answers, not instructions: the URL is a secret that must not follow
//! them. An answer is never trusted: its body is read up to 1 KiB for its message, and only the status decides. Where the
//! host takes [commands](super::commands) from its server, JSON in an answer to a delivered request is read up to 16 KiB.
//!
//! The timeouts run on tokio's clock, which stands still in suspend, unlike all others in this crate. That is harmless:
//! a device that sleeps wakes for nothing here, and after it has woken a dead connection costs what is left of one
//! request's timeout.

use std::{error::Error as _, fmt, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, Method, Request, Response, Url,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect, retry,
};

use super::{
    body::Body,
    commands::{self, MAX_REPLY},
    config::UploadConfig,
    tls,
    verdict::{Verdict, sanitize},
};

/// How much of an answer's body is read: enough for an error message, as in logtail.
pub(super) const MAX_ANSWER: usize = 1024;
/// How long to wait for the body of an answer whose status is known. It only gives a message and lets the connection
/// be used again, so it isn't worth more.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ORIG_CONTENT_LENGTH: HeaderName = HeaderName::from_static("orig-content-length");

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The server answered.
    Status {
        status: u16,
        /// The `Retry-After` header as it came.
        retry_after: Option<String>,
        /// The beginning of the answer's body, made fit for reports.
        message: String,
        /// What the server wants done, not looked at yet; empty unless the configuration accepts commands.
        commands: Vec<String>,
    },
    /// No answer, or none in HTTP.
    Failed(String),
}

/// A request, ready to be sent as often as it takes: the bytes are shared between repetitions.
pub(super) struct Outgoing {
    /// A secret: the private id is in it.
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Outgoing {
    /// The request for `body`. `key` names its content: a server that has seen it may ignore the repetition.
    pub(super) fn new(config: &UploadConfig, url: Url, body: Body, key: &str) -> Result<Self, String> {
        let mut headers = config.headers.clone();
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(key).map_err(|error| error.to_string())?);
        if body.compressed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
            headers.insert(ORIG_CONTENT_LENGTH, HeaderValue::from(body.raw_len));
        }
        Ok(Self { url, headers, body: body.bytes.into() })
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("body_bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// The HTTP client of a pass.
pub(super) struct Line {
    client: Client,
    accept_commands: bool,
}

impl Line {
    /// A client without a connection; the first request opens one. The error is a text fit for reports.
    pub(super) fn new(config: &UploadConfig) -> Result<Self, String> {
        let tls = tls::client_config(&config.trust, config.is_https()).map_err(|error| error.to_string())?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .pool_max_idle_per_host(1)
            .connect_timeout(config.connect_timeout)
            .timeout(config.request_timeout);
        if !config.proxy_from_env {
            builder = builder.no_proxy();
        }
        let accept_commands = config.accept_commands;
        builder.build().map(|client| Self { client, accept_commands }).map_err(describe)
    }

    pub(super) async fn send(&self, outgoing: &Outgoing) -> Answer {
        let mut request = Request::new(Method::POST, outgoing.url.clone());
        *request.headers_mut() = outgoing.headers.clone();
        *request.body_mut() = Some(outgoing.body.clone().into());
        match self.client.execute(request).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let retry_after = response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned);
                let delivered = Verdict::of_status(status) == Verdict::Delivered;
                if self.accept_commands && delivered && is_json(&response) {
                    let reply = beginning(response, MAX_REPLY + 1).await;
                    // The message of a delivery is in no report.
                    let commands = commands::of_reply(&reply);
                    return Answer::Status { status, retry_after, message: String::new(), commands };
                }
                let message = sanitize(&beginning(response, MAX_ANSWER).await);
                Answer::Status { status, retry_after, message, commands: Vec::new() }
            }
            Err(error) => Answer::Failed(describe(error)),
        }
    }
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// The first `limit` bytes of the answer's body, as far as they came.
async fn beginning(mut response: Response, limit: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            kept.extend(chunk.iter().take(limit.saturating_sub(kept.len())));
            if kept.len() >= limit {
                break;
            }
        }
    };
    // Either way, what was read is all that is wanted.
    let _ = tokio::time::timeout(ANSWER_PATIENCE, read).await;
    kept
}

/// The error and its causes in one line, without the URL, which is a secret.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    sanitize(text.as_bytes())
}
