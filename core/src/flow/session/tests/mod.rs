//! What the log and the logger promise.

mod any_use;
mod batches;
mod flows;
mod life;
mod logger;
mod support;
