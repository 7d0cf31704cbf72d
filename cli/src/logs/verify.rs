//! `logs verify`: whether all is whole, and all that is missing accounted for.

use std::{io::Write, process::ExitCode};

use super::{
    Source,
    gaps::{Account, Gaps, Range, count},
    notice::Notice,
    output::plain,
    source::{Event, Sink, SourceArguments},
    steady::steadily,
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
    /// Segments that went away while the others were read.
    gone: u64,
    /// A server has everything that has not expired; a store gives away what was sent.
    from_one: bool,
}

/// Reads everything.
pub(super) fn check(source: &Source) -> Result<Found, CommandError> {
    check_read(source, &mut |sink| source.read(None, sink))
}

/// Checks what `read` tells, again if it changes meanwhile.
fn check_read(
    source: &Source,
    read: &mut dyn FnMut(&mut Sink<'_>) -> Result<(), CommandError>,
) -> Result<Found, CommandError> {
    steadily(&source.name(), || check_once(source, read), Found::is_doubtful)
}

fn check_once(
    source: &Source,
    read: &mut dyn FnMut(&mut Sink<'_>) -> Result<(), CommandError>,
) -> Result<Found, CommandError> {
    let mut found = Found {
        source: source.name(),
        gaps: Gaps::default(),
        segments: 0,
        entries: 0,
        damage: Vec::new(),
        gone: 0,
        from_one: matches!(source, Source::Server(_)),
    };
    read(&mut |event| {
        match event {
            Event::Segment(head) => {
                found.segments += 1;
                if found.from_one {
                    found.gaps.begin_log(&head.stream, &head.name);
                }
            }
            Event::Stored { stream, name, records } => found.gaps.end_log(stream, name, records),
            Event::Log { .. } => {}
            Event::Entry(entry) => {
                found.entries += 1;
                found.gaps.add(&entry);
            }
            Event::Notice(notice) => {
                notice.tell();
                found.gone += u64::from(notice.is_gone);
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
    /// Whether there is something, nothing of it is damaged, and nothing missing without a report.
    pub(super) fn is_good(&self) -> bool {
        self.segments > 0
            && self.damage.is_empty()
            && self.gaps.unexplained(self.from_one) == 0
            && self.gaps.beyond() == 0
    }

    /// Whether what is missing may be what went away while this was reading: sent, between two segments that were read.
    fn is_doubtful(&self) -> bool {
        self.gone > 0 && self.gaps.unexplained(self.from_one) > 0
    }

    fn verdict(&self) -> &'static str {
        match self.segments {
            0 => "NOTHING to check",
            _ if self.is_good() => "good",
            _ if self.is_doubtful() => "changed while it was read, so this is no verdict; check again",
            _ => "NOT good",
        }
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
            self.verdict(),
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
    let expired = list(&account.expired, "missing, with all before the first: expired");
    explained.into_iter().chain(expired).chain(unexplained).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::logs::{entry::Entry, source::SegmentHead, steady::READS};

    fn tell(numbers: &[u64], is_one_gone: bool, sink: &mut Sink<'_>) -> Result<(), CommandError> {
        let head = SegmentHead {
            stream: "netlog".into(),
            writer: "ext".into(),
            name: String::new(),
            state: None,
            bytes: 0,
            dropped: Default::default(),
        };
        sink(Event::Segment(&head))?;
        for number in numbers {
            let line = format!(r#"{{"logtail":{{"proc_id":7,"proc_seq":{number}}}}}"#);
            sink(Event::Entry(Entry::parse("netlog", &line)?))?;
        }
        if is_one_gone {
            sink(Event::Notice(Notice::gone("a.seg", "was sent")))?;
        }
        Ok(())
    }

    #[test]
    fn what_is_sent_while_it_is_checked_is_no_loss() {
        let source = Source::Directory(PathBuf::from("store"));
        let mut reads = 0;
        let found = check_read(&source, &mut |sink| {
            reads += 1;
            if reads == 1 { tell(&[1, 4], true, sink) } else { tell(&[4, 5], false, sink) }
        });
        assert!(found.unwrap().is_good());
        assert_eq!(reads, 2);
        let mut reads = 0;
        let found = check_read(&source, &mut |sink| {
            reads += 1;
            tell(&[1, 4], true, sink)
        });
        let found = found.unwrap();
        assert!(!found.is_good() && found.tell().contains("no verdict"), "{}", found.tell());
        assert_eq!(reads, READS);
        let mut reads = 0;
        let found = check_read(&source, &mut |sink| {
            reads += 1;
            tell(&[1, 4], false, sink)
        });
        assert!(found.unwrap().tell().contains("NOT good"));
        assert_eq!(reads, 1);
    }

    #[test]
    fn nothing_is_not_good() {
        let place = tempfile::tempdir().unwrap();
        let found = check(&Source::Directory(place.path().to_owned())).unwrap();
        assert!(!found.is_good() && found.tell().contains("NOTHING to check"), "{}", found.tell());
    }
}
