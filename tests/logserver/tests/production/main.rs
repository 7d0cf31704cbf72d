//! The parts of docs/collector.md with the real programs: PostgreSQL, nginx with the documented configuration, and
//! the client.
//!
//! PostgreSQL and nginx are started by the tests, in folders of their own, and ended by them. Without them the tests that
//! need them are skipped with a message that is hard to miss; with `TUNTRAIL_REQUIRE_TOOLCHAINS=1`, as in CI, that
//! is a failure.

#![cfg(unix)]

// Integration tests are always built for testing; saying so lets helpers unwrap as tests may.
#[cfg(test)]
mod certificate;
#[cfg(test)]
mod client;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod database;
#[cfg(test)]
mod front;
#[cfg(test)]
mod partitions;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod program;
#[cfg(test)]
mod storage;
#[allow(dead_code, reason = "shared with the other tests over HTTP; each uses its part")]
#[cfg(test)]
#[path = "../http/support.rs"]
mod support;
