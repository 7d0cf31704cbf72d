//! The reference log server: accepts logtail-style uploads, keeps each record once, answers queries.
//!
//! `tuntrail serve`, the demo and the tests embed it through [`Server`]. It speaks the protocol of a real log
//! service, keeps records in SQLite or PostgreSQL, and can be told to misbehave ([`Fault`]) so that a client
//! meets every failure the protocol knows. It has no accounts and no TLS: what reaches it from elsewhere comes
//! through a proxy that has (docs/collector.md).
//!
//! A server owns one thread. Everything below [`Server`] runs on it; the methods of [`Server`] may be called
//! from any thread that is not inside the server.
//!
//! ```
//! use tuntrail_logserver::{Fault, Server, ServerConfig, Times};
//!
//! let mut server = Server::start(ServerConfig::default())?;
//! server.inject(Fault::LostResponse, Times::ONCE)?;
//! println!("upload to {}/c/tailtraffic.log.example.com/...", server.base_url());
//! // ... let a client upload, then look at what arrived:
//! for entry in server.entries("tailtraffic.log.example.com")? {
//!     println!("{}", entry.to_json());
//! }
//! server.stop();
//! # Ok::<(), tuntrail_logserver::ServerError>(())
//! ```
//!
//! What it never does: store or log a private log ID. A private ID arrives in the address of an upload, is
//! hashed to the public ID, and is forgotten.

mod batch;
mod body;
mod config;
mod connection;
mod entry;
mod error;
mod fault;
mod id;
mod journal;
mod json;
mod query;
mod reply;
mod routes;
mod server;
mod store;
mod trouble;
mod upload;

pub use config::{Database, Limits, ServerConfig};
pub use entry::Entry;
pub use error::ServerError;
pub use fault::{Fault, Times};
pub use id::public_id;
pub use journal::{RequestLog, Stats};
pub use server::Server;
pub use store::{PostgresUrl, PostgresUrlError};
