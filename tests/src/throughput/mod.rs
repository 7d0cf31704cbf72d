//! TCP throughput of tuntrail and wireguard-go through the same two namespaces.
//!
//! Each contest is a tunnel between two hosts, one process at each end, and iperf3 through it. Contests take turns, round by
//! round, so that a busy moment of the machine hits all of them; what is reported are medians, and ratios taken within
//! a round. The binary `throughput` prints them, and is also what runs as tuntrail's end of a tunnel.

mod contest;
mod iperf;
mod measure;
mod node;
mod report;

use std::time::Duration;

pub use self::{
    contest::{Contest, Engine},
    measure::Measurement,
    node::run as run_node,
    report::Report,
};
use crate::net::{NetError, Offload, Version};

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Seconds of traffic per contest and round.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=60))]
    pub seconds: u16,
    /// How often each contest is run.
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub rounds: u16,
    /// Print JSON; the table goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// Have tuntrail read and write one packet at a time.
    #[arg(long)]
    pub no_offload: bool,
    /// Run only contests with this text in their name.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}

/// Runs all contests and says on standard error what is going on.
///
/// # Errors
/// When a program or a right is missing, or a run fails.
pub fn run(options: &Options) -> Result<Report, NetError> {
    let offload = if options.no_offload { Offload::Off } else { Offload::On };
    // Bookworm's is nice to have.
    let older = Version::Bookworm.program().is_ok();
    Version::Newest.program()?;
    let contests: Vec<_> = Contest::all(offload, older)
        .into_iter()
        .filter(|contest| options.only.as_ref().is_none_or(|text| contest.name().contains(text)))
        .collect();
    let duration = Duration::from_secs(options.seconds.into());
    let mut report = Report::new(&contests, options);
    for round in 1..=options.rounds {
        for (index, contest) in contests.iter().enumerate() {
            let measurement = measure::run(contest, duration)?;
            eprintln!("round {round}, {}: {measurement}", contest.name());
            report.add(index, measurement);
        }
    }
    Ok(report)
}
