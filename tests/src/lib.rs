//! Tests of tuntrail that need more than one of its parts.

pub mod conform;
pub mod fuzz;
#[cfg(target_os = "linux")]
pub mod idle;
pub mod kill;
#[cfg(target_os = "linux")]
pub mod net;
#[cfg(target_os = "linux")]
pub mod throughput;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
