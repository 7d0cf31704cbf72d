//! Tests of tuntrail that need more than one of its parts.

pub mod conform;
pub mod fuzz;
pub mod kill;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
