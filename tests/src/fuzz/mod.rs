//! The bodies of the fuzz targets. Each takes any bytes and panics if tuntrail breaks a promise on them.
//!
//! Two callers: `tests/fuzz` hands them what libFuzzer invents, and `tests/tests/fuzz_corpus.rs` the committed corpus
//! on every run of the tests, on stable Rust. A body keeps nothing from one call to the next, so that an input that
//! fails once fails always; only keys and indexes that the product itself draws at random differ.

#![allow(clippy::expect_used, reason = "panicking is how a fuzz target reports")]

mod command;
mod config;
mod counter;
mod engine;
mod input;
mod packet;
mod recorder;
mod segment;
mod store;

pub use self::{
    command::command_handle, config::config_parse, counter::counter_ops, engine::engine_datagram,
    packet::packet_parse, segment::segment_scan, store::store_actions,
};

/// A target: its name, which is also that of its corpus folder, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("command_handle", command_handle),
    ("packet_parse", packet_parse),
    ("config_parse", config_parse),
    ("counter_ops", counter_ops),
    ("segment_scan", segment_scan),
    ("engine_datagram", engine_datagram),
    ("store_actions", store_actions),
];
