//! Runs a foreign program to its end, with its output, but not for ever.

use std::{
    env,
    ffi::OsStr,
    io,
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// Long enough for a cold compiler on a slow machine, short enough that a hanging test is noticed.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// A program to be run.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

impl Program {
    /// The program at `path`, or of that name.
    #[must_use]
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(path);
        // A panic in Rust is part of the tests; where it happened is of no interest.
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in `folder`.
    #[must_use]
    pub fn current_dir(mut self, folder: &Utf8Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs the program and returns what it wrote to its standard output.
    ///
    /// # Errors
    ///
    /// [`Failure::Program`], with everything it printed, if it can't be started, fails, or takes more than ten minutes.
    pub fn run(mut self) -> Result<String, Failure> {
        let text = format!("{:?}", self.command);
        let failed =
            |reason: String, output: String| Failure::Program { command: text.clone(), reason, output };
        let child = self.command.spawn().map_err(|error| failed(error.to_string(), String::new()))?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (sender, ended) = mpsc::channel::<io::Result<Output>>();
        let waiter = thread::spawn(move || {
            // The receiver waits until the end, unless it has panicked.
            let _ = sender.send(child.wait_with_output());
        });
        let output = match ended.recv_timeout(TIME_LIMIT) {
            Ok(output) => output,
            Err(_) => {
                if let Some(id) = id {
                    // It may have ended just now, which is as good.
                    let _ = kill_process(id, Signal::KILL);
                }
                return Err(failed(format!("still running after {} s", TIME_LIMIT.as_secs()), String::new()));
            }
        };
        // It has sent what it had, so this is immediate.
        let _ = waiter.join();
        let output = output.map_err(|error| failed(error.to_string(), String::new()))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(failed(output.status.to_string(), format!("{printed}{errors}")))
    }
}

/// Where the search path has a program of that name, if it does.
#[must_use]
pub fn search_path(name: &str) -> Option<Utf8PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter_map(|folder| Utf8PathBuf::from_path_buf(folder.join(name)).ok())
        .find(|candidate| candidate.is_file())
}
