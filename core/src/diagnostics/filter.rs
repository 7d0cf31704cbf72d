//! What is logged, changeable while the process runs.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    filter::Targets,
    layer::{Context, Filter},
};

use super::DiagnosticsError;

/// Shared by the layers. Callsites that it excludes cost nothing: `tracing` remembers its answers until it changes.
#[derive(Clone)]
pub(super) struct RuntimeFilter(Arc<RwLock<Targets>>);

impl RuntimeFilter {
    pub(super) fn new(filter: &str) -> Result<Self, DiagnosticsError> {
        Ok(Self(Arc::new(RwLock::new(parse(filter)?))))
    }

    pub(super) fn set(&self, filter: &str) -> Result<(), DiagnosticsError> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = parse(filter)?;
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    fn allows(&self, metadata: &Metadata<'_>) -> bool {
        let targets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        targets.would_enable(metadata.target(), metadata.level())
    }
}

fn parse(filter: &str) -> Result<Targets, DiagnosticsError> {
    let error = |reason: String| DiagnosticsError::Filter { filter: filter.to_owned(), reason };
    for part in filter.split(',') {
        // The parser takes any word for a target to be logged in full: a mistyped level would silence all others.
        let part = part.trim();
        if part.is_empty() || !part.contains('=') && part.parse::<LevelFilter>().is_err() {
            return Err(error(format!("{part:?} is no level")));
        }
    }
    filter.parse::<Targets>().map_err(|reason| error(reason.to_string()))
}

impl<S: Subscriber> Filter<S> for RuntimeFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.allows(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.allows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let targets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        targets.iter().map(|(_, level)| level).chain(targets.default_level()).max()
    }
}

impl fmt::Debug for RuntimeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
