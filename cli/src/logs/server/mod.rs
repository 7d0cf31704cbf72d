//! A log server as a source: its collections, page by page.
//!
//! Answers come as lines and are read as they arrive, one in memory at a time. A server is not trusted to be reasonable: each
//! line, each answer and the number of pages have a limit, beyond which reading stops and says so.

mod list;
mod page;
#[cfg(test)]
pub(super) mod tests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode, Url, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::runtime::Runtime;
use tuntrail::store::DropCount;

use self::{list::Collections, page::Page};
use super::{
    notice::Notice,
    source::{Event, SegmentHead, Sink},
};
use crate::CommandError;

/// Names of collections become parts of every entry, and of file names in an export.
const MAX_NAME: usize = 200;
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
    #[arg(long, value_name = "LOG-ID", requires = "server", value_parser = parse_log_id)]
    instance: Vec<String>,
}

/// A public ID as servers write it: with small letters.
fn parse_log_id(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a log's public ID has 64 hexadecimal digits".into()),
    }
}

impl ServerArguments {
    /// Whether a server is named.
    pub(crate) const fn is_some(&self) -> bool {
        self.server.is_some()
    }

    /// Whether single logs are named.
    pub(crate) const fn names_logs(&self) -> bool {
        !self.instance.is_empty()
    }

    /// The server's address, for people.
    pub(crate) fn url(&self) -> String {
        self.server.as_ref().map_or_else(String::new, |url| shown(url).to_string())
    }

    #[cfg(test)]
    pub(crate) fn at(url: &str) -> Self {
        Self { server: Some(url.parse().unwrap()), ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn with_instance(mut self, id: &str) -> Self {
        self.instance.push(parse_log_id(id).unwrap());
        self
    }
}

/// An address without name and password, which are nobody else's business: reports are mailed.
fn shown(url: &Url) -> Url {
    let mut url = url.clone();
    // An address that can't have them has none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// A log at a server, as its list has it.
pub(super) struct Listed {
    pub(super) head: SegmentHead,
    /// How many records it ever stored, also if some have expired.
    pub(super) records: Option<u64>,
    /// When the first one arrived.
    pub(super) first_seen: Option<Timestamp>,
}

/// Tells everything that the arguments name and that is not older than `since`.
pub(super) fn read(
    arguments: &ServerArguments,
    since: Option<Timestamp>,
    sink: &mut Sink<'_>,
) -> Result<(), CommandError> {
    let (runtime, server) = Server::open(arguments)?;
    runtime.block_on(async {
        let known = server.list(arguments).await?;
        let logs = logs(arguments, &known, sink)?;
        for Listed { head, .. } in &logs {
            sink(Event::Segment(head))?;
            server.entries(&head.stream, &head.name, since, sink).await?;
        }
        // Asked for again: what has arrived meanwhile may have been read, and is not to pass for what has expired.
        let known = server.list(arguments).await.unwrap_or(known);
        for Listed { head, .. } in &logs {
            let instance = known.collections.get(&head.stream).and_then(|of| of.instances.get(&head.name));
            if let Some(records) = instance.and_then(|instance| instance.records) {
                sink(Event::Stored { stream: &head.stream, name: &head.name, records })?;
            }
        }
        Ok(())
    })
}

/// The logs that the arguments name, by collection; what is wrong with the list goes to `sink`.
pub(super) fn list(arguments: &ServerArguments, sink: &mut Sink<'_>) -> Result<Vec<Listed>, CommandError> {
    let (runtime, server) = Server::open(arguments)?;
    let known = runtime.block_on(server.list(arguments))?;
    logs(arguments, &known, sink)
}

/// The collections that `arguments` name, all by default.
pub(super) fn collections(arguments: &ServerArguments) -> Result<Vec<String>, CommandError> {
    let (runtime, server) = Server::open(arguments)?;
    Ok(runtime.block_on(server.list(arguments))?.collections.into_keys().collect())
}

fn logs(
    arguments: &ServerArguments,
    known: &Collections,
    sink: &mut Sink<'_>,
) -> Result<Vec<Listed>, CommandError> {
    if known.truncated {
        let what = "has more logs than it lists; name some with --collection or --instance";
        sink(Event::Notice(Notice::damage(arguments.url(), what)))?;
    }
    let mut logs = Vec::new();
    for (name, collection) in &known.collections {
        if name.len() > MAX_NAME {
            let what = format!("a collection's name of more than {MAX_NAME} bytes; it is left out");
            sink(Event::Notice(Notice::damage(arguments.url(), what)))?;
            continue;
        }
        for (instance, about) in &collection.instances {
            let head = SegmentHead {
                stream: name.clone(),
                writer: instance.chars().take(8).collect(),
                name: instance.clone(),
                state: None,
                bytes: about.size,
                dropped: DropCount::default(),
            };
            let first_seen = about.first_seen.as_ref().and_then(|time| time.parse().ok());
            logs.push(Listed { head, records: about.records, first_seen });
        }
    }
    Ok(logs)
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

/// A server's answer that is none.
#[derive(Debug, thiserror::Error)]
#[error("{url} answered {status}")]
struct Refused {
    url: Url,
    status: StatusCode,
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
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(Refused { url: shown(&url), status }.into()),
        }
    }

    /// Tells the entries of one log, page by page.
    async fn entries(
        &self,
        collection: &str,
        instance: &str,
        since: Option<Timestamp>,
        sink: &mut Sink<'_>,
    ) -> Result<(), CommandError> {
        let place = format!("{collection} at {}", shown(&self.base));
        let mut page = Page::since(since);
        for _ in 0..MAX_PAGES {
            let mut query = vec![("stream", "true".to_owned()), ("instances", instance.to_owned())];
            query.extend(page.start().map(|start| ("time-start", start.to_string())));
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
