//! Prints what timers cost in simulated scenarios, as a Markdown table.
//!
//! `cargo run --manifest-path tests/timers/Cargo.toml`

use tuntrail_timers::{Report, table};

fn main() {
    println!("| scenario | boringtun, polled every 250 ms | tuntrail |\n|---|---|---|");
    for row in table() {
        println!("| {} | {} | {} |", row.name, cell(&row.polled), cell(&row.engine));
    }
}

/// The calling node's wake-ups, and what both sent.
fn cell(report: &Report) -> String {
    format!(
        "{} wake-ups, {} idle; {} handshakes started, {} keepalives; {} of {} packets arrived",
        report.wakes[0],
        report.idle_wakes[0],
        report.initiations,
        report.keepalives,
        report.delivered,
        report.sent
    )
}
