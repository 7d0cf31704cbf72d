//! The core of tuntrail: a WireGuard tunnel that counts every connection passing through it, keeps the
//! counts as records in a bounded buffer on disk, and uploads them when somebody asks.
//!
//! A packet's journey, and the module for each step:
//!
//! 1. [`tunnel`] moves packets between a TUN device and UDP sockets, on one thread.
//! 2. Each inner packet and each datagram is reported through [`hook`] to a counter.
//! 3. [`flow`] counts into a table owned by that thread, closes a window 5 s after its first packet, classifies
//!    the connections with the [`netmap`], removes what privacy demands and writes the record.
//! 4. [`store`] keeps records in checksummed segments on disk, oldest dropped first, every drop reported.
//! 5. [`upload`] sends sealed segments to a logtail-style HTTP endpoint, only on demand.
//!
//! Beside it, [`sockstat`] records how many bytes each of the app's jobs moves, when somebody asks for that.
//!
//! [`client`] assembles all of it. Apps use that; the other modules are public for hosts with their own tunnel
//! and for tests.
//!
//! Two rules hold in every module. Time is passed in: only drivers read a [`clock`]. And nothing ticks: each part
//! names its next deadline or none, so an idle process is never woken.

pub mod client;
pub mod clock;
pub mod consent;
pub mod diagnostics;
mod files;
pub mod flow;
pub mod hook;
pub mod netmap;
pub mod packet;
pub mod sockstat;
pub mod store;
pub mod timer;
pub mod tunnel;
pub mod upload;
