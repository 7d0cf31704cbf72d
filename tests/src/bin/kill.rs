//! `kill --cycles N [--seed S] [--small-disk]`: kills processes that record and upload, and settles accounts.
//!
//! Prints one JSON object; findings and, on a terminal, progress go to standard error. The exit status is 0 if every
//! promise was kept, 1 if one wasn't, 2 if the harness could not do its work.

use std::{
    env,
    hash::{BuildHasher, RandomState},
    io::{self, IsTerminal},
    process::ExitCode,
};

use tuntrail_tests::kill::{self, KillOptions, KillReport};

const USAGE: &str = "usage: kill [--cycles N] [--seed S] [--small-disk]";

/// What a run takes in a few seconds.
const DEFAULT_CYCLES: u64 = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, order] = arguments.as_slice()
        && command == "child"
    {
        return kill::child_main(order);
    }
    match options(&arguments).and_then(|options| run(&options).map_err(|error| error.to_string())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn options(arguments: &[String]) -> Result<KillOptions, String> {
    let program = env::current_exe().map_err(|error| format!("can't find this program: {error}"))?;
    // JSON readers keep integers up to 2^53.
    let seed = RandomState::new().hash_one(()) >> 11;
    let mut options = KillOptions { cycles: DEFAULT_CYCLES, seed, small_disk: false, program };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().ok_or_else(|| format!("{argument} needs a number\n{USAGE}"))?;
            text.parse().map_err(|error| format!("{argument} {text}: {error}\n{USAGE}"))
        };
        match argument.as_str() {
            "--cycles" => options.cycles = number()?,
            "--seed" => options.seed = number()?,
            "--small-disk" => options.small_disk = true,
            _ => return Err(format!("unknown argument {argument}\n{USAGE}")),
        }
    }
    Ok(options)
}

fn run(options: &KillOptions) -> Result<bool, kill::HarnessError> {
    let terminal = io::stderr().is_terminal();
    let mut show = |report: &KillReport| {
        if terminal {
            eprint!("\r{} of {} cycles, {} killed ", report.cycles, options.cycles, report.kills);
        }
    };
    let report = kill::run(options, &mut show)?;
    if terminal {
        eprintln!();
    }
    for finding in &report.findings {
        eprintln!("{finding}");
    }
    println!("{}", serde_json::to_string(&report)?);
    Ok(report.passed())
}
