//! The tuntrail command.
fn main() {}
