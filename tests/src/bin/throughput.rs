//! `throughput`: TCP through tuntrail and through wireguard-go, in turns (Linux, root).
//!
//! Prints a table, or with `--json` every measurement. See `docs/interop.md`.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use clap::Parser;
    use tuntrail_tests::throughput;

    /// TCP through tuntrail and through wireguard-go, in turns (Linux, root).
    #[derive(Debug, Parser)]
    #[command(name = "throughput", args_conflicts_with_subcommands = true)]
    struct Arguments {
        #[command(flatten)]
        options: throughput::Options,
        #[command(subcommand)]
        command: Option<Command>,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Command {
        /// Run one end of a tunnel, as standard input says.
        #[command(hide = true)]
        Node,
    }

    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Node) => throughput::run_node(),
        None => throughput::run(&arguments.options).map_err(Into::into).map(|report| {
            if arguments.options.json {
                println!("{:#}", report.json());
                eprintln!("{}", report.table());
            } else {
                println!("{}", report.table());
            }
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("throughput: only Linux has network namespaces");
    ExitCode::FAILURE
}
