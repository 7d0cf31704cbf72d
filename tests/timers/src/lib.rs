//! Two WireGuard nodes under a mocked clock: what tuntrail's timers do, next to what bare boringtun does.
//!
//! A [`Node`] is either tuntrail's engine or boringtun alone, refreshed every 250 ms as its makers intend or never.
//! A [`Lab`] joins two of them without delay, for tests of single rules. A [`Scenario`] run by [`simulate`] puts a
//! network between them that loses, delays, reorders and repeats.
//!
//! Each thread has a clock of its own ([`clock`]), so tests can run side by side. Nothing waits for real time.

pub mod clock;
mod lab;
mod message;
mod node;
mod random;
mod scenario;
mod simulation;
mod table;

pub use lab::{Lab, Sent, Side};
pub use message::Kind;
pub use node::{Bare, EngineNode, Node, Polled, Unpolled, packet, packet_id};
pub use random::Random;
pub use scenario::{Link, Scenario, Send};
pub use simulation::{Report, simulate, simulate_late};
pub use table::{Row, table};
