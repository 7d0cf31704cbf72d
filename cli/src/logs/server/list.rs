//! Which collections and logs a server has.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use serde::Deserialize;

use super::{Refused, Server, ServerArguments};
use crate::{CommandError, logs::output::plain};

/// The list of collections: the reference server cuts it at a hundred thousand logs, of 180 bytes each and of 470 if every one
/// is a collection with the longest name.
const MAX_LIST: usize = 64 << 20;
/// IDs in one address: the reference server takes 512, and proxies 8 KiB of address.
const MAX_INSTANCES: usize = 100;
/// What helps if the server is behind a proxy as `docs/collector.md` has it.
const HOW_TO_READ: &str = "if only uploads get through there, read on its machine or through it: \
    ssh -L 8765:127.0.0.1:8765 HOST, and --server http://127.0.0.1:8765";

#[derive(Default, Deserialize)]
pub(super) struct Collections {
    pub(super) collections: BTreeMap<String, Collection>,
    /// Whether there are more.
    #[serde(default)]
    pub(super) truncated: bool,
}

#[derive(Default, Deserialize)]
pub(super) struct Collection {
    #[serde(default)]
    pub(super) instances: BTreeMap<String, Instance>,
}

#[derive(Default, Deserialize)]
pub(super) struct Instance {
    #[serde(default)]
    pub(super) size: u64,
    /// All that it ever stored.
    pub(super) records: Option<u64>,
    #[serde(rename = "first-seen")]
    pub(super) first_seen: Option<String>,
}

impl Collections {
    fn has(&self, id: &str) -> bool {
        let mut ids = self.collections.values().flat_map(|collection| collection.instances.keys());
        ids.any(|known| known.eq_ignore_ascii_case(id))
    }
}

impl Server {
    /// The logs that the arguments name. What else there is is not asked for: a server may have more than it can list.
    pub(super) async fn list(&self, arguments: &ServerArguments) -> Result<Collections, CommandError> {
        let instances = arguments.instance.chunks(MAX_INSTANCES).map(|ids| Some(ids.join(",")));
        let instances: Vec<_> = if arguments.names_logs() { instances.collect() } else { vec![None] };
        let collections: Vec<_> = match arguments.collection.is_empty() {
            true => vec![None],
            false => arguments.collection.iter().map(Some).collect(),
        };
        let mut found = Collections::default();
        for collection in collections {
            for instances in &instances {
                let part = self.list_part(collection, instances.as_ref()).await?;
                found.truncated |= part.truncated;
                for (name, part) in part.collections {
                    found.collections.entry(name).or_default().instances.extend(part.instances);
                }
            }
        }
        // A server that does not know these parameters tells all that it has.
        let is_wanted = |wanted: &[String], name: &String| wanted.is_empty() || wanted.contains(name);
        found.collections.retain(|name, collection| {
            collection.instances.retain(|id, _| is_wanted(&arguments.instance, &id.to_ascii_lowercase()));
            let is_empty = arguments.names_logs() && collection.instances.is_empty();
            is_wanted(&arguments.collection, name) && !is_empty
        });
        if let Some(missing) = arguments.instance.iter().find(|id| !found.has(id)) {
            let there = if arguments.collection.is_empty() { "" } else { " in what --collection names" };
            return Err(format!("the server has no log {missing}{there}").into());
        }
        match arguments.collection.iter().find(|name| !found.collections.contains_key(*name)) {
            // One of several collections may lack the log that is named.
            Some(missing) if !arguments.names_logs() => Err(self.no_collection(missing).await),
            _ => Ok(found),
        }
    }

    async fn list_part(
        &self,
        collection: Option<&String>,
        instances: Option<&String>,
    ) -> Result<Collections, CommandError> {
        let query = [("collection-name", collection), ("instances", instances)];
        let query: Vec<_> =
            query.into_iter().filter_map(|(name, value)| Some((name, value?.clone()))).collect();
        let mut response = match self.get(self.url(&["collections"], &query)?).await {
            Ok(response) => response,
            Err(error) => {
                let status = error.downcast_ref::<Refused>().map(|refused| refused.status);
                return match (status, collection) {
                    (Some(StatusCode::NOT_FOUND), Some(name)) => Err(self.no_collection(name).await),
                    (
                        Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND),
                        None,
                    ) => Err(format!("{error}; {HOW_TO_READ}").into()),
                    _ => Err(error),
                };
            }
        };
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            if body.len() + piece.len() > MAX_LIST {
                let what = format!("the server's list of collections is longer than {MAX_LIST} bytes");
                return Err(format!("{what}; name some with --collection or --instance").into());
            }
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("the server's list of collections can't be read: {error}").into())
    }

    /// That a collection is not there, with those that are.
    async fn no_collection(&self, name: &str) -> CommandError {
        match Box::pin(self.list_part(None, None)).await {
            Err(error) => error,
            Ok(known) => {
                // A terminal's height of them tells enough.
                let have: Vec<_> = known.collections.keys().take(20).map(String::as_str).collect();
                format!("the server has no collection {name:?}; it has: {}", plain(&have.join(", "))).into()
            }
        }
    }
}
