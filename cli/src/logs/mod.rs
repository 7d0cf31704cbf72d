//! `tuntrail logs`: looking at what was recorded, without the app. Reads a store while its writer runs, an export, or a
//! server; changes nothing.
//!
//! Everything goes through one [`Source`], which tells what it finds one entry at a time; so memory does not grow with
//! what there is. What can't be read is a line on standard error, and the rest is shown.

mod archive;
mod directory;
mod entry;
mod export;
mod filter;
mod follow;
mod gaps;
mod ls;
mod manifest;
mod notice;
mod output;
mod report;
mod row;
mod server;
mod show;
mod source;
mod steady;
#[cfg(test)]
mod tests;
mod unpacked;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use self::source::Source;
use crate::CommandError;

/// Look at what was recorded: in a store, also while it is written to, in an export, or at a server.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List streams and segments: how much, from when, by which processes, and what was dropped.
    Ls(ls::Arguments),
    /// Show records as tables, CSV or JSON lines.
    Show(Box<show::Arguments>),
    /// Check every record and every number. Exit status 1 if anything is damaged, or missing without a report.
    Verify(verify::Arguments),
    /// Write everything into one file that can be mailed, as the app's export does, or into a directory.
    Export(export::Arguments),
    /// Write one HTML page: traffic over time, top talkers, flow durations, socket statistics, gaps and drops.
    Report(Box<report::Arguments>),
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let done = match &arguments.command {
        Command::Ls(arguments) => ls::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Show(arguments) => show::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Export(arguments) => export::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Report(arguments) => report::run(arguments).map(|()| ExitCode::SUCCESS),
    };
    match done {
        // Whoever read our output has seen enough, as `head` does.
        Err(error) if is_broken_pipe(error.as_ref()) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
