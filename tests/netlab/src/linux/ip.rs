//! The `ip` command of iproute2, run without a shell.
//!
//! The child works in the network namespace of the calling thread.

use std::{
    io,
    process::{Command, Stdio},
};

use super::LinuxError;

/// Runs `ip`.
#[derive(Debug, Clone)]
pub struct Ip {
    program: &'static str,
}

impl Ip {
    /// The `ip` in the search path.
    pub const SYSTEM: Self = Self { program: "ip" };

    /// Runs `ip` with these arguments and returns what it printed.
    ///
    /// # Errors
    /// When the command is missing, can't be run or refuses.
    pub fn run(&self, arguments: &[&str]) -> Result<String, LinuxError> {
        let output = Command::new(self.program).args(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|error| match error.kind() {
            // The latter also when a folder of the search path may not be searched.
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                LinuxError::IpMissing { program: self.program.to_owned() }
            }
            _ => LinuxError::System { action: "running the ip command", source: error },
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let stderr = if lines.is_empty() { output.status.to_string() } else { lines.join("; ") };
        Err(LinuxError::Ip { arguments: arguments.join(" "), stderr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_the_package() {
        let error = Ip { program: "tuntrail-test-no-such-ip" }.run(&["link"]).unwrap_err();
        assert!(matches!(error, LinuxError::IpMissing { .. }));
        assert!(error.to_string().contains("iproute2"), "{error}");
    }

    #[test]
    fn a_refusal_quotes_the_arguments_and_the_words_of_the_command() {
        match Ip::SYSTEM.run(&["link", "show", "dev", "no-such-dev0"]) {
            Err(LinuxError::IpMissing { .. }) => println!("skipped: iproute2 is not installed"),
            Err(error @ LinuxError::Ip { .. }) => {
                let text = error.to_string();
                assert!(text.starts_with("`ip link show dev no-such-dev0` failed: "), "{text}");
                assert!(text.contains("no-such-dev0") && text.contains("does not exist"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}
