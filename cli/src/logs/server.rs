//! A log server as a source: its collections, page by page.
//!
//! Answers come as lines and are read as they arrive, one in memory at a time. A server is not trusted to be reasonable: each
//! line, each answer and the number of pages have a limit, beyond which reading stops and says so.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use reqwest::{Client, Response, Url, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;
use serde::Deserialize;
use tokio::runtime::Runtime;
use tuntrail::store::DropCount;

use super::{
    directory::tell_line,
    notice::Notice,
    output::plain,
    source::{Event, SegmentHead, Sink},
};
use crate::CommandError;

/// The reference server cuts its answers at 64 MiB of records; with what it adds, twice that is plenty.
const MAX_ANSWER: u64 = 128 << 20;
/// The list of collections: a hundred thousand logs of 160 bytes.
const MAX_LIST: usize = 16 << 20;
/// As in an export: four times the largest record.
const MAX_LINE: usize = 1 << 20;
/// Names of collections become parts of every entry, and of file names in an export.
const MAX_NAME: usize = 200;
/// Entries of one moment that are remembered, so that the next page does not tell them again. 16 bytes each.
const MAX_OF_A_MOMENT: usize = 100_000;
/// Each page makes progress; this is for a server that makes it in single nanoseconds.
const MAX_PAGES: usize = 10_000;
/// A server that sends nothing for so long is not going to.
const SILENCE: Duration = Duration::from_secs(30);

/// Which entries of a server.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ServerArguments {
    /// Read from this log server, such as http://127.0.0.1:8765.
    #[arg(long = "server", value_name = "URL")]
    server: Option<Url>,
    /// Only this collection; all by default.
    #[arg(long, value_name = "NAME", requires = "server")]
    collection: Vec<String>,
    /// Only the log with this public ID.
    #[arg(long, value_name = "LOG-ID", requires = "server")]
    instance: Vec<String>,
}

impl ServerArguments {
    /// The server's address.
    pub(crate) fn url(&self) -> &str {
        self.server.as_ref().map_or("", Url::as_str)
    }

    #[cfg(test)]
    pub(crate) fn at(url: &str) -> Self {
        Self { server: Some(url.parse().unwrap()), ..Self::default() }
    }
}

#[derive(Deserialize)]
struct Collections {
    collections: BTreeMap<String, Collection>,
}

#[derive(Deserialize)]
struct Collection {
    #[serde(default)]
    instances: BTreeMap<String, Instance>,
}

#[derive(Default, Deserialize)]
struct Instance {
    #[serde(default)]
    size: u64,
}

/// Tells everything that the arguments name and that is not older than `since`.
pub(super) fn read(
    arguments: &ServerArguments,
    since: Option<Timestamp>,
    sink: &mut Sink<'_>,
) -> Result<(), CommandError> {
    let (runtime, server) = Server::open(arguments)?;
    runtime.block_on(async {
        let known = server.collections().await?;
        for name in wanted(arguments, &known)? {
            let Some(collection) = known.get(&name) else { continue };
            if name.len() > MAX_NAME {
                let what = format!("a collection's name of more than {MAX_NAME} bytes; it is left out");
                sink(Event::Notice(Notice::damage(arguments.url(), what)))?;
                continue;
            }
            for (instance, about) in &collection.instances {
                if !arguments.instance.is_empty() && !arguments.instance.contains(instance) {
                    continue;
                }
                let head = SegmentHead {
                    stream: name.clone(),
                    writer: instance.chars().take(8).collect(),
                    name: instance.clone(),
                    state: None,
                    bytes: about.size,
                    dropped: DropCount::default(),
                };
                sink(Event::Segment(&head))?;
                server.entries(&name, instance, since, sink).await?;
            }
        }
        Ok(())
    })
}

/// The collections that `arguments` name, all by default.
pub(super) fn collections(arguments: &ServerArguments) -> Result<Vec<String>, CommandError> {
    let (runtime, server) = Server::open(arguments)?;
    let known = runtime.block_on(server.collections())?;
    wanted(arguments, &known)
}

fn wanted(
    arguments: &ServerArguments,
    known: &BTreeMap<String, Collection>,
) -> Result<Vec<String>, CommandError> {
    if arguments.collection.is_empty() {
        return Ok(known.keys().cloned().collect());
    }
    match arguments.collection.iter().find(|name| !known.contains_key(*name)) {
        None => Ok(arguments.collection.clone()),
        Some(name) => {
            // A terminal's height of them tells enough.
            let have: Vec<_> = known.keys().take(20).map(String::as_str).collect();
            Err(format!("the server has no collection {name:?}; it has: {}", plain(&have.join(", "))).into())
        }
    }
}

fn client(base: &Url) -> Result<Client, CommandError> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    // Without TLS no trust store is needed, and there may be none.
    let tls = match base.scheme() {
        "https" => tls.with_platform_verifier()?.with_no_client_auth(),
        "http" => tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        other => return Err(format!("{other:?} is no way to reach a log server; use https or http").into()),
    };
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .connect_timeout(SILENCE)
        .read_timeout(SILENCE);
    Ok(client.build()?)
}

struct Server {
    client: Client,
    base: Url,
}

impl Server {
    fn open(arguments: &ServerArguments) -> Result<(Runtime, Self), CommandError> {
        let base = arguments.server.clone().ok_or("name a directory, an export or --server URL")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok((runtime, Self { client: client(&base)?, base }))
    }

    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Result<Url, CommandError> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| "this address can't have a path")?.pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn get(&self, url: Url) -> Result<Response, CommandError> {
        let response = self.client.get(url.clone()).send().await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(format!("{url} answered {}", response.status()).into())
    }

    async fn collections(&self) -> Result<BTreeMap<String, Collection>, CommandError> {
        let mut response = self.get(self.url(&["collections"], &[])?).await?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            if body.len() + piece.len() > MAX_LIST {
                return Err(
                    format!("the server's list of collections is longer than {MAX_LIST} bytes").into()
                );
            }
            body.extend_from_slice(&piece);
        }
        let list: Collections = serde_json::from_slice(&body)
            .map_err(|error| format!("the server's list of collections can't be read: {error}"))?;
        Ok(list.collections)
    }

    /// Tells the entries of one log, page by page.
    async fn entries(
        &self,
        collection: &str,
        instance: &str,
        since: Option<Timestamp>,
        sink: &mut Sink<'_>,
    ) -> Result<(), CommandError> {
        let place = format!("{collection} at {}", self.base);
        let mut page = Page { start: since, ..Page::default() };
        for _ in 0..MAX_PAGES {
            let mut query = vec![("stream", "true".to_owned()), ("instances", instance.to_owned())];
            query.extend(page.start.map(|start| ("time-start", start.to_string())));
            let response = match self.get(self.url(&["c", collection], &query)?).await {
                Ok(response) => response,
                Err(error) => return sink(Event::Notice(Notice::damage(&place, error))),
            };
            let is_cut = response.headers().contains_key("tuntrail-truncated");
            if let Err(problem) = page.read(collection, response, &place, sink).await? {
                return sink(Event::Notice(Notice::damage(&place, problem)));
            }
            if !is_cut {
                return Ok(());
            }
            if !page.turn() {
                let what = "has more entries of one moment than one answer holds; the rest is left out";
                return sink(Event::Notice(Notice::damage(&place, what)));
            }
        }
        sink(Event::Notice(Notice::damage(
            &place,
            format!("has more than {MAX_PAGES} pages; the rest is left out"),
        )))
    }
}

/// Where reading a log has come to. Pages overlap by the entries of one moment, which are told once.
#[derive(Default)]
struct Page {
    start: Option<Timestamp>,
    /// The latest time so far.
    latest: Option<Timestamp>,
    /// The lines of that time.
    at_latest: HashSet<Fingerprint>,
    /// The lines of `start` that were told with the page before.
    told: HashSet<Fingerprint>,
    keys: [RandomState; 2],
}

/// What a line is recognised by: so many bits that no two lines share it, made with keys that no server can guess.
type Fingerprint = [u64; 2];

impl Page {
    /// Tells what an answer holds. The inner error says why the rest of it is refused.
    async fn read(
        &mut self,
        collection: &str,
        mut response: Response,
        place: &str,
        sink: &mut Sink<'_>,
    ) -> Result<Result<(), String>, CommandError> {
        let too_long = || Ok(Err(format!("an answer of more than {MAX_ANSWER} bytes is refused")));
        if response.content_length().is_some_and(|length| length > MAX_ANSWER) {
            return too_long();
        }
        let (mut line, mut total) = (Vec::new(), 0_u64);
        loop {
            let piece = match response.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return Ok(Err(format!("the answer broke off: {error}"))),
            };
            total += piece.len() as u64;
            if total > MAX_ANSWER {
                return too_long();
            }
            for (index, part) in piece.split(|&byte| byte == b'\n').enumerate() {
                if index > 0 {
                    self.tell(collection, &line, place, sink)?;
                    line.clear();
                }
                if line.len() + part.len() > MAX_LINE {
                    return Ok(Err(format!("a line of more than {MAX_LINE} bytes is refused")));
                }
                line.extend_from_slice(part);
            }
        }
        self.tell(collection, &line, place, sink)?;
        Ok(Ok(()))
    }

    fn tell(
        &mut self,
        collection: &str,
        line: &[u8],
        place: &str,
        sink: &mut Sink<'_>,
    ) -> Result<(), CommandError> {
        if line.is_empty() {
            return Ok(());
        }
        let fingerprint = self.keys.each_ref().map(|key| key.hash_one(line));
        if self.told.contains(&fingerprint) {
            return Ok(());
        }
        if let Some(time) = time(line) {
            if self.latest.is_none_or(|latest| time > latest) {
                self.latest = Some(time);
                self.at_latest.clear();
            }
            if self.latest == Some(time) && self.at_latest.len() < MAX_OF_A_MOMENT {
                self.at_latest.insert(fingerprint);
            }
        }
        tell_line(collection, line, &place, sink)
    }

    /// Goes on behind what was told; false if that would not get further.
    fn turn(&mut self) -> bool {
        let is_full = self.at_latest.len() >= MAX_OF_A_MOMENT;
        if self.latest.is_none() || self.latest == self.start || is_full {
            return false;
        }
        self.start = self.latest;
        self.told = std::mem::take(&mut self.at_latest);
        self.at_latest.clone_from(&self.told);
        true
    }
}

/// The time by which a server orders entries.
fn time(line: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Times {
        logtail: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        client_time: Option<String>,
        server_time: Option<String>,
    }
    let Times { logtail } = serde_json::from_slice(line).ok()?;
    logtail.client_time.or(logtail.server_time)?.parse().ok()
}
