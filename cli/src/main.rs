//! The tuntrail command.

#[cfg(target_os = "linux")]
mod linux;

fn main() {}
