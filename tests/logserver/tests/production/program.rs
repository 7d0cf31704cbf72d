//! A foreign program that runs beside a test.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::chown, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// No program takes so long unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program. Dropping it ends it.
pub(crate) struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    fresh: Mutex<Receiver<String>>,
}

impl Program {
    /// Starts it and collects what it says on standard error.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, fresh): (Sender<String>, _) = channel();
        let (stderr, all) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            // The end of the program ends the lines, and with them this thread and the channel.
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                all.lock().unwrap().push(line.clone());
                let _ = sender.send(line);
            }
        });
        Self { child, lines, fresh: Mutex::new(fresh) }
    }

    /// Waits for a new line with `text` in it.
    pub(crate) fn wait_for(&self, text: &str) {
        let fresh = self.fresh.lock().unwrap();
        loop {
            match fresh.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return,
                Ok(_) => {}
                Err(_) => panic!("never said {text:?}, but:\n{}", self.output()),
            }
        }
    }

    /// All it has said so far.
    pub(crate) fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It has not been waited for, so the number still is its own.
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Tells it to end and waits until it has.
    pub(crate) fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        // The channel ends with its standard error, so this waits for the event and not for a time.
        let fresh = self.fresh.lock().unwrap();
        while fresh.recv_timeout(PATIENCE).is_ok() {}
        drop(fresh);
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let fresh = self.fresh.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            while fresh.recv_timeout(PATIENCE).is_ok() {}
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a program to its end, which must be a good one.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(
        output.status.success(),
        "{command:?} ended with {:?}:\n{text}",
        (output.status, output.status.signal())
    );
    text
}

/// The program of this name in one of the folders or in `PATH`.
pub(crate) fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    folders
        .iter()
        .cloned()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Says that a test does not test anything here, or fails where that is required.
pub(crate) fn skip(what: &str, package: &str) {
    let required = env::var("TUNTRAIL_REQUIRE_TOOLCHAINS").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "TUNTRAIL_REQUIRE_TOOLCHAINS is set, but {what} is missing; apt-get install {package}"
    );
    // Straight to standard error: what a passing test prints with `eprintln!` is hidden.
    let _ = writeln!(
        std::io::stderr(),
        "\n*** SKIPPED, NOT TESTED: {what} is missing; apt-get install {package} ***\n"
    );
}

/// A user that is not root, for programs that refuse to run as root; `None` if the tests do not run as root.
pub(crate) struct OtherUser {
    uid: u32,
    gid: u32,
}

impl OtherUser {
    pub(crate) fn if_root() -> Option<Self> {
        // "nobody" and its group, on every Linux.
        rustix::process::geteuid().is_root().then_some(Self { uid: 65534, gid: 65534 })
    }

    /// Gives a file or folder to that user.
    pub(crate) fn own(&self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid)).unwrap();
    }
}

/// A command, run as that user.
pub(crate) fn command_as(user: Option<&OtherUser>, program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user {
        std::os::unix::process::CommandExt::uid(&mut command, user.uid);
        std::os::unix::process::CommandExt::gid(&mut command, user.gid);
    }
    command
}

/// A folder that others may enter, which those of `tempfile` are not.
pub(crate) fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}
