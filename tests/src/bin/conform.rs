//! `conform DIR`: runs the conformance vectors in DIR through tuntrail.
//!
//! Prints each mismatch with file, line and what differs, then `N passed, N failed`. The exit status is 0 if all agree,
//! 1 if one doesn't, 2 if the vectors can't be read or there are none.

use std::{env, path::Path, process::ExitCode};

use tuntrail_tests::conform;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: conform DIR");
        return ExitCode::from(2);
    };
    match conform::run(Path::new(&folder)) {
        Ok(outcome) => {
            for mismatch in &outcome.mismatches {
                println!("{mismatch}");
            }
            println!("{} passed, {} failed", outcome.passed, outcome.mismatches.len());
            if outcome.mismatches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
