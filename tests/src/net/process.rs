//! Foreign processes inside a namespace.

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tuntrail_netlab::linux::Namespace;

use super::NetError;

/// Lines kept of what a process says; far more than the processes here say in a run.
const MAX_LINES: usize = 4096;
/// Time for a process to end by itself after SIGTERM.
const END: Duration = Duration::from_secs(3);
/// The kernel reports processor time in units of 10 ms (USER_HZ, the same on all Linux systems).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that runs until it is dropped. What it prints, on both outputs, is kept for messages and to wait for.
#[derive(Debug)]
pub struct Process {
    command: String,
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Said>,
    readers: Vec<JoinHandle<()>>,
}

/// Processor time used so far, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CpuTime {
    /// In the process's own code.
    pub user: f64,
    /// In the kernel on its behalf.
    pub system: f64,
}

impl CpuTime {
    /// Both together.
    #[must_use]
    pub fn total(self) -> f64 {
        self.user + self.system
    }

    /// What was used after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

impl Process {
    /// Starts `command` inside `host`. `install` says how to get the program should it be missing. The process dies with the
    /// namespace's thread at the latest.
    ///
    /// # Errors
    /// When the program or `setpriv` is missing, or can't be started.
    pub fn start(host: &Namespace, command: Command, install: &'static str) -> Result<Self, NetError> {
        let shown = show(&command);
        let mut command = tied(command, install)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = host.run(move || command.spawn())?.map_err(NetError::system("starting a process"))?;
        let said = Arc::new(Said::default());
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|output| Box::new(output) as Box<_>),
            child.stderr.take().map(|output| Box::new(output) as Box<_>),
        ];
        let mut process =
            Self { command: shown, stdin: child.stdin.take(), child, said, readers: Vec::new() };
        process.said.lock().open = outputs.len();
        for output in outputs.into_iter().flatten() {
            let said = Arc::clone(&process.said);
            let reader = thread::Builder::new()
                .name("said".to_owned())
                .spawn(move || said.read(output))
                .map_err(NetError::system("starting a thread"))?;
            process.readers.push(reader);
        }
        Ok(process)
    }

    /// Writes to the process's standard input and closes it.
    ///
    /// # Errors
    /// When the process no longer reads.
    pub fn write_and_close(&mut self, text: &str) -> Result<(), NetError> {
        self.write(text)?;
        self.stdin = None;
        Ok(())
    }

    /// Writes to the process's standard input.
    ///
    /// # Errors
    /// When the process no longer reads.
    pub fn write(&mut self, text: &str) -> Result<(), NetError> {
        let stdin = self.stdin.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe));
        let written = stdin.and_then(|stdin| stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()));
        written.map_err(NetError::system("writing to a process"))
    }

    /// Closes the process's standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits until the process has printed `count` lines with `text` in them, since its start, and returns the last.
    ///
    /// # Errors
    /// When it ends or `patience` is over before.
    pub fn wait_for(&self, text: &str, count: usize, patience: Duration) -> Result<String, NetError> {
        let until = Instant::now() + patience;
        let mut lines = self.said.lock();
        loop {
            if let Some(line) =
                lines.lines.iter().filter(|line| line.contains(text)).nth(count.saturating_sub(1))
            {
                return Ok(line.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.open == 0 {
                return Err(NetError::Silent {
                    command: self.command.clone(),
                    expected: text.to_owned(),
                    patience,
                    output: lines.tail(),
                });
            }
            lines = self.said.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many lines with `text` in them the process has printed.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.said.lock().lines.iter().filter(|line| line.contains(text)).count()
    }

    /// The end of what the process has printed.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().tail()
    }

    /// Processor time used so far, ended children not included.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn cpu_time(&self) -> Result<CpuTime, NetError> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(path).map_err(NetError::system("reading a process's time"))?;
        // The name, in parentheses, may hold anything; user and system time are the 12th and 13th field after it.
        let mut fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
        let time = (|| Some(CpuTime { user: seconds()?, system: seconds()? }))();
        time.ok_or(NetError::Unreadable { source_name: "/proc/PID/stat", text })
    }

    /// Waits for the process to end by itself and returns all that it printed.
    ///
    /// # Errors
    /// When it fails, or takes longer than `patience`.
    pub fn finish(mut self, patience: Duration) -> Result<String, NetError> {
        self.stdin = None;
        let until = Instant::now() + patience;
        let mut lines = self.said.lock();
        while lines.open > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NetError::Silent {
                    command: self.command.clone(),
                    expected: "its end".to_owned(),
                    patience,
                    output: lines.tail(),
                });
            }
            lines = self.said.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let text = lines.lines.make_contiguous().join("\n");
        drop(lines);
        // Both outputs are closed: it has ended, or is about to.
        let status = self.child.wait().map_err(NetError::system("waiting for a process"))?;
        if status.success() {
            return Ok(text);
        }
        Err(NetError::Failed { command: self.command.clone(), output: failure(&text, status) })
    }

    fn end(&mut self) {
        self.stdin = None;
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It can't be another's id: the child has not been waited for.
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + END;
        let mut lines = self.said.lock();
        // Its outputs close with it.
        while lines.open > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            lines = self.said.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(lines);
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
    }
}

/// Runs `command` inside `host` to its end and returns what it printed.
pub(super) fn output(
    host: &Namespace,
    command: Command,
    install: &'static str,
    input: Option<&str>,
    patience: Duration,
) -> Result<String, NetError> {
    let mut process = Process::start(host, command, install)?;
    if let Some(input) = input {
        process.write_and_close(input)?;
    }
    process.finish(patience)
}

/// What a process printed so far.
#[derive(Debug, Default)]
struct Said {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    /// Outputs that are not closed yet.
    open: usize,
}

impl Lines {
    fn tail(&self) -> String {
        const SHOWN: usize = 30;
        let skipped = self.lines.len().saturating_sub(SHOWN);
        self.lines.iter().skip(skipped).map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, output: impl Read) {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            let mut lines = self.lock();
            if lines.lines.len() == MAX_LINES {
                lines.lines.pop_front();
            }
            lines.lines.push_back(line);
            self.changed.notify_all();
        }
        self.lock().open -= 1;
        self.changed.notify_all();
    }
}

/// The same command, ended by the kernel should the thread end that starts it.
fn tied(command: Command, install: &'static str) -> Result<Command, NetError> {
    let program = command.get_program();
    let found = |name: &std::ffi::OsStr| {
        let path = std::path::Path::new(name);
        let inside = |folder: std::path::PathBuf| folder.join(path).is_file();
        if path.components().count() > 1 {
            path.is_file()
        } else {
            std::env::var_os("PATH").is_some_and(|folders| std::env::split_paths(&folders).any(inside))
        }
    };
    let missing = |program: &std::ffi::OsStr, install| {
        Err(NetError::Missing { program: program.to_string_lossy().into_owned(), install })
    };
    if !found(program) {
        return missing(program, install);
    }
    let setpriv = std::ffi::OsStr::new("setpriv");
    if !found(setpriv) {
        return missing(setpriv, "apt-get install util-linux");
    }
    let mut tied = Command::new(setpriv);
    tied.args(["--pdeathsig", "KILL", "--"]).arg(program).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    Ok(tied)
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn failure(text: &str, status: ExitStatus) -> String {
    if text.trim().is_empty() { status.to_string() } else { format!("{text} ({status})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(host: &Namespace, script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(host, command, "-").unwrap()
    }

    #[test]
    fn what_a_process_says_is_waited_for_kept_and_given_back() {
        let Some(host) = Namespace::new_or_skip() else { return };
        let mut process = shell(&host, "echo one; echo one more >&2; read line; echo got $line");
        process.wait_for("one", 2, PATIENCE).unwrap();
        assert_eq!(process.count("one"), 2);
        assert!(process.cpu_time().unwrap().total() < 10.0);
        process.write("this\n").unwrap();
        let text = process.finish(PATIENCE).unwrap();
        assert!(text.ends_with("got this"), "{text}");
    }

    #[test]
    fn failures_say_what_was_run_and_what_it_said() {
        let Some(host) = Namespace::new_or_skip() else { return };
        let failed = shell(&host, "echo no luck >&2; exit 3").finish(PATIENCE).unwrap_err().to_string();
        assert!(failed.contains("sh -c") && failed.contains("no luck") && failed.contains('3'), "{failed}");
        // Waiting ends with the process, long before the time is over.
        let silent = shell(&host, "echo something else").wait_for("this", 1, Duration::from_secs(3600));
        assert!(silent.unwrap_err().to_string().contains("something else"));
        let missing = Process::start(&host, Command::new("no-such-program"), "apt-get install it");
        assert!(missing.unwrap_err().to_string().contains("apt-get install it"));
    }

    #[test]
    fn a_dropped_process_ends_also_when_it_would_rather_not() {
        let Some(host) = Namespace::new_or_skip() else { return };
        let process = shell(&host, "trap '' TERM; echo ready; while :; do read line || sleep 1; done");
        process.wait_for("ready", 1, PATIENCE).unwrap();
        let place = format!("/proc/{}", process.child.id());
        assert!(fs::exists(&place).unwrap());
        drop(process);
        assert!(!fs::exists(&place).unwrap());
    }
}
