//! `logs show`: the records themselves.

use std::io::{BufWriter, Write};

use super::{
    Source,
    filter::Filter,
    follow,
    notice::Notice,
    output::{Format, Output},
    row::rows,
    source::{Event, SourceArguments},
};
use crate::CommandError;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    filter: Filter,
    /// How to write what is found.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Go on with what is written from now on, until Ctrl-C. Only for a directory.
    #[arg(long, conflicts_with = "server")]
    follow: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let source = Source::open(&arguments.source)?;
    let out = BufWriter::new(std::io::stdout().lock());
    if arguments.follow {
        return match &source {
            Source::Directory(path) => {
                follow::run(path, &arguments.filter, Output::new(out, arguments.format))
            }
            _ => Err("--follow needs a directory that an app writes to: an export does not change".into()),
        };
    }
    show(&source, &arguments.filter, &mut Output::new(out, arguments.format))
}

/// Writes what `filter` wants of `source`.
pub(super) fn show<W: Write>(
    source: &Source,
    filter: &Filter,
    output: &mut Output<W>,
) -> Result<(), CommandError> {
    source.read(filter.since, &mut |event| take(event, filter, output))?;
    output.flush()?;
    let chosen = filter.describe();
    if output.is_empty() && !chosen.is_empty() {
        Notice::remark(source.name(), format!("nothing matches {}", chosen.join(", "))).tell();
    }
    Ok(())
}

/// Writes one thing that a source tells, if it is wanted.
pub(super) fn take<W: Write>(
    event: Event<'_>,
    filter: &Filter,
    output: &mut Output<W>,
) -> Result<(), CommandError> {
    match event {
        Event::Segment(_) | Event::Log { .. } | Event::Stored { .. } => {}
        Event::Notice(notice) => notice.tell(),
        Event::Entry(entry) => {
            let mut rows = rows(&entry);
            rows.retain(|row| filter.matches(row));
            output.write(&entry, &rows)?;
        }
    }
    Ok(())
}
