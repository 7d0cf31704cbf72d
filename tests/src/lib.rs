//! Tests of tuntrail that need more than one of its parts.

pub mod conform;
pub mod fuzz;
