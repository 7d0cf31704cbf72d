//! Conformance: tuntrail's output compared with golden data made by running the originals.
//!
//! A folder of vectors holds files with known names, one vector a line. Each line goes through the runner of its file;
//! a runner says nothing if tuntrail agrees, and otherwise what differs. Used by the binary `conform` and by the
//! tests, which run the vectors of this repository.

use std::{fmt, fs, io, path::Path};

mod diff;
mod logtail;
mod netlog;
mod packet;
mod sessions;

pub use diff::difference;

/// Runs one vector. The error says what differs, in a few short lines.
type Runner = fn(line: &str) -> Result<(), String>;

/// The files that are understood, and what runs their lines.
const RUNNERS: &[(&str, Runner)] = &[
    ("packet_headers.jsonl", packet::run),
    ("netlog_messages.jsonl", netlog::run),
    ("logtail_entries.jsonl", logtail::run),
    ("access_sessions.jsonl", sessions::run),
];

/// Why vectors can't be run.
#[derive(Debug, thiserror::Error)]
pub enum ConformError {
    /// A file or the folder can't be read.
    #[error("can't read {path}: {error}")]
    Unreadable {
        /// The file or folder.
        path: String,
        /// The system's error.
        error: io::Error,
    },
    /// Nothing to run: most likely the wrong folder.
    #[error("no vectors in {0}; expected one of {names}", names = names())]
    NoVectors(String),
}

/// A vector that tuntrail does not agree with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The file, with its path as found.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What differs.
    pub difference: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.file, self.line)?;
        self.difference.lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// What running vectors has shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Vectors that agree.
    pub passed: usize,
    /// Vectors that don't.
    pub mismatches: Vec<Mismatch>,
}

/// Runs all vectors in `folder`. Empty lines are skipped; a line that is no vector is a mismatch.
///
/// # Errors
/// [`ConformError`] if a file that is there can't be read, or none is there.
pub fn run(folder: &Path) -> Result<Outcome, ConformError> {
    let mut outcome = Outcome::default();
    let mut found = false;
    fs::read_dir(folder).map_err(|error| unreadable(folder, error))?;
    for &(name, runner) in RUNNERS {
        let path = folder.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(&path, error)),
        };
        found = true;
        for (line, vector) in (1..).zip(text.lines()).filter(|(_, vector)| !vector.trim().is_empty()) {
            match runner(vector) {
                Ok(()) => outcome.passed += 1,
                Err(difference) => {
                    outcome.mismatches.push(Mismatch { file: path.display().to_string(), line, difference });
                }
            }
        }
    }
    if found { Ok(outcome) } else { Err(ConformError::NoVectors(folder.display().to_string())) }
}

fn names() -> String {
    RUNNERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn unreadable(path: &Path, error: io::Error) -> ConformError {
    ConformError::Unreadable { path: path.display().to_string(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuntrail_agrees_with_all_vectors_of_this_repository() {
        let outcome = run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")).unwrap();
        let shown: Vec<_> = outcome.mismatches.iter().map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{}", shown.join("\n"));
        assert!(outcome.passed >= 757, "{} vectors", outcome.passed);
    }

    #[test]
    fn a_wrong_vector_is_reported_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let vectors = include_str!("../../vectors/logtail_entries.jsonl");
        let (first, second) = vectors.split_once('\n').map(|(a, b)| (a, b.lines().next().unwrap())).unwrap();
        let wrong = second.replace("plain", "plane");
        let text = format!("{first}\n\n{wrong}\nnot a vector\n");
        fs::write(folder.path().join("logtail_entries.jsonl"), text).unwrap();
        let outcome = run(folder.path()).unwrap();
        assert_eq!(outcome.passed, 1);
        assert_eq!(outcome.mismatches.iter().map(|mismatch| mismatch.line).collect::<Vec<_>>(), [3, 4]);
        let shown = outcome.mismatches[0].to_string();
        assert!(shown.contains("logtail_entries.jsonl:3:") && shown.contains("plane"), "{shown}");
    }

    #[test]
    fn a_folder_without_vectors_or_with_an_unreadable_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(run(folder.path()), Err(ConformError::NoVectors(_))));
        assert!(matches!(run(&folder.path().join("missing")), Err(ConformError::Unreadable { .. })));
        fs::write(folder.path().join("logtail_entries.jsonl"), [0xff, 0xfe]).unwrap();
        assert!(matches!(run(folder.path()), Err(ConformError::Unreadable { .. })));
    }
}
