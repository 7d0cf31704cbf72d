//! The `tuntrail` command: a demonstration of the whole product, a WireGuard tunnel with flow logs, the reference log
//! server, and tools that read what was recorded.

mod demo;
#[cfg(target_os = "linux")]
mod linux;
mod logs;
mod serve;
mod stop;
mod text;
#[cfg(target_os = "linux")]
mod up;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Parser)]
#[command(name = "tuntrail", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the main job on this machine: traffic through a tunnel becomes flow records at a log server.
    Demo(demo::Arguments),
    Serve(serve::Arguments),
    Logs(logs::Arguments),
    /// Bring up the WireGuard tunnel of a wg-quick file, with flow logs (Linux, root).
    #[cfg(target_os = "linux")]
    Up(up::Arguments),
}

/// Why a command ended without doing its job; shown to the user as it is.
type CommandError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Serve(arguments) => serve::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Logs(arguments) => logs::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Up(arguments) => up::run(&arguments).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            // Nobody listens any more: the exit status tells enough.
            let _ = writeln!(std::io::stderr(), "tuntrail: {}", text::with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
