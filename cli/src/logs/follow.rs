//! `logs show --follow`: a store as it grows.
//!
//! Sleeps until the system tells of a change in the directory, and then reads what is new in the segments that are there. A
//! sealed segment begins with what it had while it was open, so the number of entries that were shown says what is new.

use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
};

use notify::{RecursiveMode, Watcher};

use super::{directory, filter::Filter, notice::Notice, output::Output, show::take};
use crate::CommandError;

/// Why to wake up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// Something changed in the directory.
    Changed,
    /// The user has seen enough.
    Stop,
}

/// Shows what is there and what comes, until Ctrl-C.
pub(super) fn run<W: Write>(path: &Path, filter: &Filter, output: Output<W>) -> Result<(), CommandError> {
    let (sender, wakes) = channel();
    let stop = sender.clone();
    ctrlc::set_handler(move || {
        // Nobody listens any more: the command is stopping already.
        let _ = stop.send(Wake::Stop);
    })?;
    follow(path, filter, output, sender, &wakes)
}

/// Shows what is there, and after each change what is new.
pub(super) fn follow<W: Write>(
    path: &Path,
    filter: &Filter,
    mut output: Output<W>,
    changed: Sender<Wake>,
    wakes: &Receiver<Wake>,
) -> Result<(), CommandError> {
    // Watched before the first look, so that nothing comes in between.
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is what this does itself.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Nobody listens any more: the command is stopping already.
            let _ = changed.send(Wake::Changed);
        }
    })?;
    watcher.watch(path, RecursiveMode::Recursive)?;
    let mut shown = HashMap::new();
    loop {
        show_new(path, filter, &mut output, &mut shown)?;
        // Changes come in bursts: all that are known by now are looked at together.
        let first = wakes.recv().unwrap_or(Wake::Stop);
        if first == Wake::Stop || wakes.try_iter().any(|wake| wake == Wake::Stop) {
            return Ok(());
        }
    }
}

/// How far a segment was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    entries: usize,
    /// Of the file, when it was looked at.
    bytes: u64,
}

fn show_new<W: Write>(
    path: &Path,
    filter: &Filter,
    output: &mut Output<W>,
    shown: &mut HashMap<PathBuf, Shown>,
) -> Result<(), CommandError> {
    let found = directory::list(path)?;
    for (place, error) in &found.unreadable {
        Notice::damage(place.display(), format!("can't be listed: {error}")).tell();
    }
    let mut still = HashMap::new();
    for file in &found.segments {
        let name = file.path.with_extension("");
        let before = shown.get(&name).copied();
        // One that is gone by now has nothing new; one that grows meanwhile changes again.
        let bytes = std::fs::metadata(&file.path).map_or(0, |metadata| metadata.len());
        let skip = before.map_or(0, |shown| shown.entries);
        let entries = match before {
            Some(shown) if shown.bytes == bytes => shown.entries,
            _ => directory::read_file(file, skip, &mut |event| take(event, filter, output))?,
        };
        still.insert(name, Shown { entries, bytes });
    }
    // Those that are gone don't come back.
    *shown = still;
    Ok(output.flush()?)
}
