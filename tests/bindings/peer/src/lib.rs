//! What the callers in each language test the SDK against, as a UniFFI library of its own beside the SDK's.
//!
//! Kotlin, C#, Swift and Python all need the same around the SDK: a log server that can fail ([`LogServer`]), the rest of
//! the world at the other end of its tunnel ([`VirtualNetwork`]), and figures of the process, measured the same way
//! everywhere (`resident_bytes` and others). It shares no memory with the SDK: what they have in common is a socket, a
//! descriptor, and HTTP. Nothing here ships. Linux only.
//!
//! Every wait is bounded, so that a caller that waits for what never comes ends with a [`TestPeerError`].

mod error;
mod network;
mod process;
mod records;
mod server;
mod wire;

use std::time::Duration;

pub use self::{
    error::TestPeerError,
    network::{CarriedFlow, Place, VirtualNetwork},
    process::{native_thread_name, open_descriptors, resident_bytes, threads_named, wait_for_threads_named},
    records::{RecordedFlow, TrafficKind},
    server::LogServer,
};

/// Longer than anything takes on a busy machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

uniffi::setup_scaffolding!("testpeer");
