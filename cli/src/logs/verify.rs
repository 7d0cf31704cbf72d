//! `logs verify`: whether all is whole, and all that is missing accounted for.

use std::{io::Write, process::ExitCode};

use super::{
    Source,
    gaps::{Account, Gaps, Range, count},
    notice::Notice,
    output::plain,
    source::{Event, SourceArguments},
};
use crate::{CommandError, text};

/// Ranges that are listed per process.
const LISTED: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let source = Source::open(&arguments.source)?;
    let found = check(&source)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", found.tell())?;
    Ok(if found.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a check found.
pub(super) struct Found {
    source: String,
    gaps: Gaps,
    segments: u64,
    entries: u64,
    damage: Vec<Notice>,
    /// A server has everything; a store gives away what was sent.
    from_one: bool,
}

/// Reads everything.
pub(super) fn check(source: &Source) -> Result<Found, CommandError> {
    let mut found = Found {
        source: source.name(),
        gaps: Gaps::default(),
        segments: 0,
        entries: 0,
        damage: Vec::new(),
        from_one: matches!(source, Source::Server(_)),
    };
    source.read(None, &mut |event| {
        match event {
            Event::Segment(_) => found.segments += 1,
            Event::Log { .. } => {}
            Event::Entry(entry) => {
                found.entries += 1;
                found.gaps.add(&entry);
            }
            Event::Notice(notice) => {
                notice.tell();
                // One per file or line that can't be read; a store has at most thousands of files.
                if notice.is_damage && found.damage.len() < 10_000 {
                    found.damage.push(notice);
                }
            }
        }
        Ok(())
    })?;
    Ok(found)
}

impl Found {
    /// Whether nothing is damaged, and nothing missing without a report.
    pub(super) fn is_good(&self) -> bool {
        self.damage.is_empty() && self.gaps.unexplained(self.from_one) == 0 && self.gaps.beyond() == 0
    }

    /// The result, for people.
    pub(super) fn tell(&self) -> String {
        let accounts = self.gaps.accounts(self.from_one);
        let rows = accounts.iter().map(|account| {
            let (stream, log, process) = &account.process;
            let log: String = log.chars().take(8).collect();
            [
                plain(format!("{stream} {log}").trim_end()).into_owned(),
                format!("{process:08x}"),
                account.entries.to_string(),
                account.repeated.to_string(),
                count(&account.explained).to_string(),
                count(&account.unexplained).to_string(),
            ]
        });
        let header =
            ["STREAM", "PROCESS", "ENTRIES", "REPEATED", "MISSING, REPORTED", "MISSING, NOT REPORTED"];
        let mut lines = vec![text::table(header, rows.collect(), 2).to_string()];
        lines.extend(accounts.iter().flat_map(gap_lines));
        let (reports, more) = self.gaps.reports();
        for (stream, report) in reports {
            let range = report
                .range
                .map(|range| format!(", process {}, numbers {} to {}", range.proc_id, range.from, range.to));
            lines.push(format!(
                "drop report: {}: {}: {} records, {}{}",
                plain(stream),
                report.reason,
                report.count.records,
                text::bytes(report.count.bytes),
                range.unwrap_or_default()
            ));
        }
        if more > 0 {
            lines.push(format!("and {more} more drop reports"));
        }
        if self.gaps.anonymous() > 0 {
            lines
                .push(format!("{} entries have no number and can't be accounted for", self.gaps.anonymous()));
        }
        if self.gaps.beyond() > 0 {
            lines.push(format!(
                "{} numbers are in too many pieces, or of too many processes, to be accounted for: fewer may be missing than is \
                 said here",
                self.gaps.beyond()
            ));
        }
        let unexplained = self.gaps.unexplained(self.from_one);
        lines.push(format!(
            "{}: {}: {} entries in {} segments; {} problems; {unexplained} entries missing without a report",
            plain(&self.source),
            if self.is_good() { "good" } else { "NOT good" },
            self.entries,
            self.segments,
            self.damage.len(),
        ));
        lines.join("\n")
    }
}

fn gap_lines(account: &Account) -> Vec<String> {
    let (stream, _, process) = &account.process;
    let name = format!("{} {process:08x}", plain(stream));
    let list = |ranges: &[Range], what: &str| {
        let shown = ranges
            .iter()
            .take(LISTED)
            .map(|&(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") });
        let shown: Vec<_> = shown.collect();
        let more = ranges.len().saturating_sub(shown.len());
        let more = if more > 0 { format!(" and {more} more ranges") } else { String::new() };
        (!ranges.is_empty()).then(|| format!("{name}: {what}: {}{more}", shown.join(", ")))
    };
    let explained = list(&account.explained, "missing, as reported");
    let unexplained = list(&account.unexplained, "missing without a report of their numbers");
    explained.into_iter().chain(unexplained).collect()
}
