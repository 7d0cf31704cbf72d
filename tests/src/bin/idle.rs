//! `idle --seconds N`: shows that a client with everything switched on does not wake the device when nothing happens.
//!
//! Two clients with a tunnel between them move some packets and then none. After the last deadline that the traffic caused,
//! the kernel's counts of context switches are compared over N seconds. The exit status is 0 if no thread of the product ran,
//! 1 if one did, 2 if nothing could be measured. `--scenario keepalive` and `light` measure a tunnel in use instead.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};

#[derive(Debug, Parser)]
#[command(about = "Counts how often tuntrail's threads wake up")]
struct Arguments {
    /// How long to measure.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What the tunnel does meanwhile.
    #[arg(long, value_enum, default_value_t = Scenario::Idle)]
    scenario: Scenario,
    /// What to wait for before: until WireGuard has wiped its keys (540 s) and nothing is armed, or 20 s, for its passive
    /// keepalive.
    #[arg(long, value_enum, default_value_t = After::Wipe)]
    after: After,
    /// Record nothing: the tunnel alone.
    #[arg(long)]
    tunnel_only: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scenario {
    Idle,
    Keepalive,
    Light,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum After {
    Wipe,
    Keepalive,
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use tuntrail_tests::idle;

    let arguments = Arguments::parse();
    let plan = idle::Plan {
        scenario: match arguments.scenario {
            Scenario::Idle => idle::Scenario::Idle,
            Scenario::Keepalive => idle::Scenario::Keepalive,
            Scenario::Light => idle::Scenario::Light,
        },
        after: match arguments.after {
            After::Wipe => idle::After::Wipe,
            After::Keepalive => idle::After::Keepalive,
        },
        records: !arguments.tunnel_only,
        measured: Duration::from_secs(arguments.seconds),
    };
    let report = match idle::run(plan, |text| eprintln!("{text}")) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if arguments.json {
        match serde_json::to_string_pretty(&report) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("{error}"),
        }
    } else {
        print(&report);
    }
    let passed = arguments.scenario.is_in_use() || report.is_idle();
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    let _ = Arguments::parse();
    eprintln!("this needs Linux: it reads /proc");
    ExitCode::from(2)
}

#[cfg(target_os = "linux")]
fn print(report: &tuntrail_tests::idle::Report) {
    println!("{:8} {:16} {:>9} {:>11}  waits", "node", "thread", "voluntary", "involuntary");
    for thread in &report.threads {
        let waits = format!("{:?}", thread.waits).to_lowercase();
        println!(
            "{:8} {:16} {:>9} {:>11}  {waits}",
            thread.node, thread.thread, thread.voluntary, thread.involuntary
        );
    }
    println!("armed timers: {}", report.armed_timers);
    println!(
        "{} wake-ups of both clients in {:.0} s, begun {:.1} s after the traffic; one client: {:.0} in an hour",
        report.wakeups, report.measured_seconds, report.waited_seconds, report.phone_wakeups_per_hour
    );
    println!("source: {}", report.source);
}

impl Scenario {
    /// Whether wake-ups are what is measured, and no failure.
    const fn is_in_use(self) -> bool {
        !matches!(self, Self::Idle)
    }
}
