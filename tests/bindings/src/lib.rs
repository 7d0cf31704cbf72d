//! What the tests of the bindings share: where the libraries are, how a foreign program is run, and what it must say.
//!
//! Each language has two callers in a folder of its own. One goes through the same [`SCENARIOS`] with the fixture facade, the other
//! through the [`SDK_STEPS`] with the SDK itself; both print `ok NAME` for each. A language whose compiler is missing is skipped with a message that is hard to miss;
//! with `TUNTRAIL_REQUIRE_TOOLCHAINS=1`, as in CI, that is a failure.

mod jvm;
mod mono;
mod process;
mod swift;

use std::{
    env, fmt, fs,
    io::{self, Write},
};

use camino::{Utf8Path, Utf8PathBuf};
use tuntrail_bindgen::{BindgenError, Language};

pub use self::{
    jvm::{Jvm, class_path_of},
    mono::Mono,
    process::{Program, search_path},
    swift::Swift,
};

/// What every caller checks, in this order.
pub const SCENARIOS: &[&str] = &[
    "numbers",
    "text",
    "bytes",
    "times",
    "optionals",
    "records",
    "defaults",
    "keywords",
    "lists",
    "enums",
    "errors",
    "flat errors",
    "panics",
    "constructors",
    "objects",
    "object lifetimes",
    "gone objects",
    "listeners",
    "listener errors",
    "listener threads",
    "rust listeners",
    "sinks",
    "rare types",
];

/// What every caller does with the SDK, against the log server and the network of `tuntrail-test-peer`, in this order: each builds on
/// those before.
pub const SDK_STEPS: &[&str] = &[
    "configuration",
    "tunnel",
    "upload",
    "exit flows",
    "sessions",
    "socket statistics",
    "network change",
    "cancelled upload",
    "held up upload",
    "debug upload",
    "consent",
    "export and clear",
    "log",
    "device end",
    "failing callbacks",
    "closing",
    "host transport",
    "claim",
    "thousand clients",
];

/// Why a test of a language failed.
#[derive(thiserror::Error)]
pub enum Failure {
    /// No bindings were written.
    #[error(transparent)]
    Bindgen(#[from] BindgenError),
    /// A file could not be read, written or copied.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program could not be run, failed, or took too long.
    #[error("{command}: {reason}\n{output}")]
    Program {
        /// What was run.
        command: String,
        /// How it ended.
        reason: String,
        /// What it printed.
        output: String,
    },
    /// A caller did not go through all scenarios.
    #[error("the caller stopped before {missing:?}; it printed:\n{output}")]
    Scenario {
        /// The first scenario without a line.
        missing: &'static str,
        /// What it printed.
        output: String,
    },
    /// A toolchain is missing where it must be there.
    #[error("TUNTRAIL_REQUIRE_TOOLCHAINS is set, but {what} is missing; {remedy}")]
    Toolchain {
        /// What is missing.
        what: String,
        /// How to get it.
        remedy: String,
    },
}

// What a test that returns an error prints: the text, with the foreign program's output as it was.
impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A shared library that Cargo built for these tests, by its crate's name with underscores.
///
/// # Errors
///
/// [`Failure::File`] if it isn't beside the running test.
pub fn library(crate_name: &str) -> Result<Utf8PathBuf, Failure> {
    let file = |path: Utf8PathBuf, source| Failure::File { path, source };
    let test = env::current_exe().map_err(|source| file("the running test".into(), source))?;
    let test = Utf8PathBuf::from_path_buf(test)
        .map_err(|path| file(path.display().to_string().into(), io::ErrorKind::InvalidFilename.into()))?;
    let name = format!("{}{crate_name}{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let path = test.with_file_name(name);
    fs::metadata(&path).map_err(|source| file(path.clone(), source))?;
    Ok(path)
}

/// The folder of this crate, where the callers' sources are.
#[must_use]
pub fn sources() -> &'static Utf8Path {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An empty folder for one test, kept afterwards so that what was generated can be looked at.
///
/// # Errors
///
/// [`Failure::File`].
pub fn fresh_folder(parent: &str, name: &str) -> Result<Utf8PathBuf, Failure> {
    let path = Utf8Path::new(parent).join("bindings").join(name);
    let failed = |source| Failure::File { path: path.clone(), source };
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::create_dir_all(&path).map_err(failed)?;
    Ok(path)
}

/// Writes the bindings of a library into `out`, with the configuration for tests, and copies the library there.
///
/// # Errors
///
/// [`Failure::Bindgen`] or [`Failure::File`].
pub fn bindings(crate_name: &str, language: Language, out: &Utf8Path) -> Result<(), Failure> {
    let library = library(crate_name)?;
    tuntrail_bindgen::generate(&library, language, out, Some(&sources().join("uniffi.toml")))?;
    let copy = out.join(library.file_name().unwrap_or_default());
    fs::copy(&library, &copy).map_err(|source| Failure::File { path: copy, source })?;
    Ok(())
}

/// The same for the SDK, and for what it is tested against.
///
/// # Errors
///
/// [`Failure::Bindgen`] or [`Failure::File`].
pub fn sdk_bindings(language: Language, out: &Utf8Path) -> Result<(), Failure> {
    bindings("tuntrail_ffi", language, out)?;
    bindings("tuntrail_test_peer", language, out)
}

/// Reads a text file.
///
/// # Errors
///
/// [`Failure::File`].
pub fn read(path: &Utf8Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::File { path: path.to_owned(), source })
}

/// Writes a text file.
///
/// # Errors
///
/// [`Failure::File`].
pub fn write(path: &Utf8Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|source| Failure::File { path: path.to_owned(), source })
}

/// Whether `output` has a line for every one of `scenarios`, in order.
///
/// # Errors
///
/// [`Failure::Scenario`] for the first that is missing.
pub fn all_of(scenarios: &[&'static str], output: &str) -> Result<(), Failure> {
    let mut lines = output.lines();
    for missing in scenarios {
        let expected = format!("ok {missing}");
        if !lines.any(|line| line.trim_end() == expected) {
            return Err(Failure::Scenario { missing, output: output.to_owned() });
        }
    }
    Ok(())
}

/// Ends a test whose toolchain is missing: well, but loudly, or as a failure where toolchains are required.
///
/// # Errors
///
/// [`Failure::Toolchain`] if the environment has `TUNTRAIL_REQUIRE_TOOLCHAINS=1`.
pub fn skip(what: &str, remedy: &str) -> Result<(), Failure> {
    let required = env::var("TUNTRAIL_REQUIRE_TOOLCHAINS").is_ok_and(|value| value == "1");
    let text = missing(required, what, remedy)?;
    // Straight to standard error: what a passing test prints with `eprintln!` is hidden.
    let _ = writeln!(io::stderr(), "{text}");
    Ok(())
}

fn missing(required: bool, what: &str, remedy: &str) -> Result<String, Failure> {
    if required {
        return Err(Failure::Toolchain { what: what.to_owned(), remedy: remedy.to_owned() });
    }
    Ok(format!("\n*** SKIPPED, NOT TESTED: {what} is missing; {remedy} ***\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_toolchain_fails_only_where_it_is_required() {
        assert!(missing(false, "a compiler", "get one").unwrap().contains("SKIPPED, NOT TESTED: a compiler"));
        let failure = missing(true, "a compiler", "get one").unwrap_err();
        assert!(failure.to_string().contains("a compiler is missing; get one"), "{failure}");
    }

    #[test]
    fn a_failing_program_shows_its_output_and_a_missing_one_its_name() {
        let failed = Program::new("sh").args(["-c", "echo said; echo wrong >&2; exit 3"]).run().unwrap_err();
        let text = format!("{failed:?}");
        assert!(text.contains("said") && text.contains("wrong") && text.contains('3'), "{text}");
        let missing = Program::new("/no/such/program").run().unwrap_err();
        assert!(missing.to_string().contains("/no/such/program"), "{missing}");
    }

    #[test]
    fn a_caller_that_leaves_a_scenario_out_or_changes_the_order_is_caught() {
        let lines = |names: &[&str]| names.iter().map(|name| format!("ok {name}\n")).collect::<String>();
        assert!(all_of(SCENARIOS, &lines(SCENARIOS)).is_ok());
        let without_last = lines(&SCENARIOS[..SCENARIOS.len() - 1]);
        assert!(matches!(
            all_of(SCENARIOS, &without_last),
            Err(Failure::Scenario { missing: "rare types", .. })
        ));
        let mut swapped = SCENARIOS.to_vec();
        swapped.swap(3, 4);
        assert!(matches!(
            all_of(SCENARIOS, &lines(&swapped)),
            Err(Failure::Scenario { missing: "optionals", .. })
        ));
    }
}
