//! `logs report`: everything on one HTML page that needs nothing else.
//!
//! `gather` adds up what a source tells, in bounded memory, with `timeline`, `heaviest`, `pauses` and `losses`; `page` writes
//! the HTML, `plot` and `markup` its pieces. The page has no script and, by its own policy, no access to anything outside
//! itself.

mod gather;
mod heaviest;
mod losses;
mod markup;
mod page;
mod pauses;
mod plot;
mod sections;
#[cfg(test)]
mod tests;
mod timeline;

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use self::gather::Gathered;
use super::{Source, filter::Filter, source::SourceArguments};
use crate::{CommandError, text};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    filter: Filter,
    /// The page to write. A report that is there already is replaced, any other file left alone.
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let Arguments { source, filter, out } = arguments;
    let source = Source::open(source)?;
    // Before the work is done for nothing.
    check_place(out)?;
    let bytes = report(&source, filter, out, Timestamp::now())?;
    Ok(writeln!(io::stdout(), "{}: {}; open it in a browser", out.display(), text::bytes(bytes))?)
}

/// Writes the page about what `filter` wants of `source`. Returns its length.
pub(super) fn report(
    source: &Source,
    filter: &Filter,
    out: &Path,
    now: Timestamp,
) -> Result<u64, CommandError> {
    let gathered = Gathered::of(source, filter)?;
    let page = page::Page { source: &source.name(), filter, now }.write(gathered);
    place(out, &page).map_err(|error| format!("can't write {}: {error}", out.display()))?;
    Ok(page.len() as u64)
}

/// Puts the page into its place at once, readable for its owner only: it tells where somebody's traffic went.
fn place(out: &Path, page: &str) -> io::Result<()> {
    let directory = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut draft = tempfile::NamedTempFile::new_in(directory)?;
    draft.write_all(page.as_bytes())?;
    draft.persist(out)?;
    Ok(())
}

/// Refuses to replace what is no report.
fn check_place(out: &Path) -> Result<(), CommandError> {
    let mut start = String::new();
    match File::open(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("can't write {}: {error}", out.display()).into()),
        // What can't be read as text is no report, either.
        Ok(file) => drop(file.take(page::START.len() as u64).read_to_string(&mut start)),
    }
    if start != page::START {
        return Err(format!("{} is there, and no report; name another file with --out", out.display()).into());
    }
    Ok(())
}
