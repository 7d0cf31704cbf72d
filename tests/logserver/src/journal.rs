//! What the server did, for whoever watches it: counters and the latest requests.
//!
//! A request enters the journal when it is answered or given up, once, with everything it did: whoever sees
//! a counter change also finds the request that changed it. Only faults are counted when they begin.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, Uri},
};

use crate::json::shorten;

/// The most bytes kept of a path or a header's value; clients of this protocol send far less.
const MAX_TEXT: usize = 1024;

/// What stands in the journal where a private ID stood.
const REDACTED: &str = "<private id>";

/// Totals since the server was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests of all kinds that were answered or given up.
    pub requests: u64,
    /// Those of them that were uploads, good or bad.
    pub uploads: u64,
    /// Uploads that met a [`Fault`](crate::Fault). Counted when the fault begins, so that a test can wait for
    /// an upload to be in the middle of [`Fault::Slow`](crate::Fault::Slow).
    pub faults: u64,
    /// Responses with a status from 400 on, provoked ones included.
    pub errors: u64,
    /// Entries stored in the stream they were uploaded to, errors made of bad input included.
    pub stored: u64,
    /// Entries that were there already and so were not stored again.
    pub duplicates: u64,
    /// Entries stored a second time because an upload had a `copyId`.
    pub copied: u64,
    /// Bytes of upload bodies as they arrived.
    pub wire_bytes: u64,
    /// Bytes of upload bodies after decompression.
    pub decoded_bytes: u64,
}

/// One request, as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestLog {
    /// The method.
    pub method: String,
    /// Path and query; a private ID is replaced by `<private id>`. At most about 1 KiB.
    pub path: String,
    /// Names (lower case) and values of the headers in the order of arrival; values of at most about 1 KiB,
    /// occurrences of the request's private IDs replaced.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body as they arrived (uploads only).
    pub wire_bytes: usize,
    /// Bytes of the body after decompression; 0 if it came to none (uploads only).
    pub decoded_bytes: usize,
    /// The status of the response; `None` if none was sent: by a fault, or since the client had gone.
    pub status: Option<u16>,
}

impl RequestLog {
    /// The value of the first header with this name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Counters and the latest requests.
pub(crate) struct Journal {
    pages: Mutex<Pages>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct Pages {
    stats: Stats,
    requests: VecDeque<RequestLog>,
}

/// What an upload has done so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) upload: bool,
    /// The connection will close without a status line.
    pub(crate) unanswered: bool,
    pub(crate) wire_bytes: usize,
    pub(crate) decoded_bytes: usize,
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
    pub(crate) copied: u64,
}

/// The [`Progress`] that a handler shares with the request's [`PendingRequest`].
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedProgress(Arc<Mutex<Progress>>);

impl SharedProgress {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being handled. Enters the journal when dropped, be that after the answer or, if the
/// client has gone, in the middle.
pub(crate) struct PendingRequest<'a> {
    journal: &'a Journal,
    log: RequestLog,
    progress: SharedProgress,
}

impl Journal {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { pages: Mutex::default(), changed: Condvar::new(), capacity }
    }

    pub(crate) fn begin(&self, request: &Request) -> PendingRequest<'_> {
        let (path, secrets) = redact(request.method(), request.uri());
        let log = RequestLog {
            method: shorten(request.method().as_str(), MAX_TEXT),
            path: shorten(&path, MAX_TEXT),
            headers: copy_headers(request.headers(), &secrets),
            wire_bytes: 0,
            decoded_bytes: 0,
            status: None,
        };
        PendingRequest { journal: self, log, progress: SharedProgress::default() }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().stats
    }

    pub(crate) fn requests(&self) -> Vec<RequestLog> {
        self.lock().requests.iter().cloned().collect()
    }

    pub(crate) fn wait_for(
        &self,
        mut condition: impl FnMut(&Stats) -> bool,
        timeout: Duration,
    ) -> Option<Stats> {
        let (pages, outcome) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |pages| !condition(&pages.stats))
            .unwrap_or_else(PoisonError::into_inner);
        (!outcome.timed_out()).then_some(pages.stats)
    }

    /// An upload has met a fault.
    pub(crate) fn fault_begins(&self) {
        self.lock().stats.faults += 1;
        self.changed.notify_all();
    }

    fn enter(&self, log: RequestLog, progress: &Progress) {
        let mut pages = self.lock();
        let stats = &mut pages.stats;
        stats.requests += 1;
        stats.uploads += u64::from(progress.upload);
        stats.errors += u64::from(log.status.is_some_and(|status| status >= 400));
        stats.stored += progress.stored;
        stats.duplicates += progress.duplicates;
        stats.copied += progress.copied;
        stats.wire_bytes = stats.wire_bytes.saturating_add(to_u64(progress.wire_bytes));
        stats.decoded_bytes = stats.decoded_bytes.saturating_add(to_u64(progress.decoded_bytes));
        if pages.requests.len() >= self.capacity {
            pages.requests.pop_front();
        }
        if self.capacity > 0 {
            pages.requests.push_back(log);
        }
        drop(pages);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingRequest<'_> {
    pub(crate) fn progress(&self) -> SharedProgress {
        self.progress.clone()
    }

    /// The handler came to an end; its response is about to be sent.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.log.status = Some(status.as_u16());
    }
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        let progress = self.progress.lock();
        let mut log = self.log.clone();
        log.wire_bytes = progress.wire_bytes;
        log.decoded_bytes = progress.decoded_bytes;
        log.status = log.status.filter(|_| !progress.unanswered);
        self.journal.enter(log, &progress);
    }
}

/// Path and query without private IDs, and the private IDs, in lower case.
///
/// Whatever follows a collection in a path is taken for a private ID, well-formed or not, and so is every
/// value in the query of a request that is no GET.
fn redact(method: &Method, uri: &Uri) -> (String, Vec<String>) {
    let mut secrets = Vec::new();
    let mut hide = |text: &str| {
        secrets.push(text.to_ascii_lowercase());
        REDACTED
    };
    let mut segments: Vec<&str> = uri.path().split('/').collect();
    if let ["", "c", _, rest @ ..] = segments.as_mut_slice() {
        for segment in rest {
            *segment = hide(segment);
        }
    }
    // A mistyped address has no such place, but an ID shows itself by its length.
    for segment in segments.iter_mut().filter(|segment| segment.len() >= 64) {
        *segment = hide(segment);
    }
    let mut path = segments.join("/");
    if let Some(query) = uri.query() {
        path.push('?');
        if *method == Method::GET {
            path.push_str(query);
        } else {
            let parts: Vec<String> = query
                .split('&')
                .map(|part| match part.split_once('=') {
                    Some((name, value)) => format!("{name}={}", hide(value)),
                    None => part.to_owned(),
                })
                .collect();
            path.push_str(&parts.join("&"));
        }
    }
    // Short ones cannot be IDs, and would make holes into innocent headers.
    secrets.retain(|secret| secret.len() >= 64);
    (path, secrets)
}

fn copy_headers(headers: &HeaderMap, secrets: &[String]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let mut text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            for secret in secrets {
                let lower = text.to_ascii_lowercase();
                if lower.contains(secret) {
                    text = lower.replace(secret, REDACTED);
                }
            }
            (shorten(name.as_str(), MAX_TEXT), shorten(&text, MAX_TEXT))
        })
        .collect()
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn private_ids_never_enter_the_journal() {
        let private = "aB".repeat(32);
        let journal = Journal::new(10);
        let request = Request::post(format!("/c/x.y/{private}?copyId={private}"))
            .header("Idempotency-Key", format!("{}-1-2", private.to_uppercase()))
            .header("X-Other", "Kept As It Is")
            .body(Body::empty())
            .unwrap();
        journal.begin(&request).answered(StatusCode::OK);

        let log = journal.requests().remove(0);
        assert_eq!(log.path, "/c/x.y/<private id>?copyId=<private id>");
        assert_eq!(log.header("idempotency-key"), Some("<private id>-1-2"));
        assert_eq!(log.header("x-other"), Some("Kept As It Is"));
        assert!(!format!("{log:?}").to_lowercase().contains(&private.to_lowercase()));
    }

    #[test]
    fn queries_keep_their_parameters() {
        let journal = Journal::new(10);
        let request = Request::get("/c/x?instances=ab&max-count=3").body(Body::empty()).unwrap();
        journal.begin(&request).answered(StatusCode::OK);
        assert_eq!(journal.requests().remove(0).path, "/c/x?instances=ab&max-count=3");
    }

    #[test]
    fn only_the_latest_requests_are_remembered_but_all_are_counted() {
        let journal = Journal::new(2);
        for number in 0..5 {
            let request = Request::get(format!("/{number}")).body(Body::empty()).unwrap();
            journal.begin(&request).answered(StatusCode::NOT_FOUND);
        }
        let paths: Vec<_> = journal.requests().into_iter().map(|log| log.path).collect();
        assert_eq!(paths, ["/3", "/4"]);
        assert_eq!((journal.stats().requests, journal.stats().errors), (5, 5));
    }

    #[test]
    fn a_request_given_up_is_journalled_without_a_status() {
        let journal = Journal::new(2);
        drop(journal.begin(&Request::get("/").body(Body::empty()).unwrap()));
        assert_eq!(journal.requests().remove(0).status, None);
    }

    #[test]
    fn waiting_ends_with_the_condition_or_with_none_at_the_timeout() {
        let journal = Journal::new(2);
        assert_eq!(journal.wait_for(|stats| stats.requests > 0, Duration::ZERO), None);
        std::thread::scope(|scope| {
            let waiter =
                scope.spawn(|| journal.wait_for(|stats| stats.requests > 0, Duration::from_secs(60)));
            drop(journal.begin(&Request::get("/").body(Body::empty()).unwrap()));
            assert_eq!(waiter.join().unwrap().unwrap().requests, 1);
        });
    }
}
