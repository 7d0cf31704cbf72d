//! One cycle as the parent sees it: start the child, listen, kill it when its moment has come.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::{HarnessError, event::Event, order::Order};

/// The word in front of an [`Order`] on the command line.
pub(super) const CHILD: &str = "child";

/// A child that says nothing for so long hangs, however slow the machine is.
const HANG: Duration = Duration::from_secs(60);

/// When a child dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) after: Trigger,
    pub(super) delay: Duration,
    /// So long after it began at the latest, should the trigger not come; `None` if it then may live.
    pub(super) latest: Option<Duration>,
}

/// What a [`Moment`] is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    Spawned,
    Began,
    Uploading,
    Confirmed,
    Revoking,
}

impl Moment {
    /// The child ends by itself.
    pub(super) const NEVER: Self =
        Self { after: Trigger::Revoking, delay: Duration::from_secs(3_600), latest: None };

    /// The deadline that an event sets, if it does.
    fn set_by(&self, event: &Event) -> Option<Duration> {
        let trigger = match event {
            Event::Began { .. } if self.after != Trigger::Began => return self.latest,
            Event::Began { .. } => Trigger::Began,
            Event::Uploading => Trigger::Uploading,
            Event::Confirmed => Trigger::Confirmed,
            Event::Revoking => Trigger::Revoking,
            _ => return None,
        };
        (trigger == self.after && *self != Self::NEVER).then_some(self.delay)
    }
}

/// What came of a child.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) events: Vec<Event>,
    pub(super) killed: bool,
}

/// Runs a child of `program` to its end, be that by itself or by `moment`.
pub(super) fn run(program: &Path, order: &Order, moment: Moment) -> Result<Outcome, HarnessError> {
    let child = Command::new(program)
        .arg(CHILD)
        .arg(serde_json::to_string(order)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| HarnessError::Spawn { program: program.to_owned(), error })?;
    let mut child = Guard(child);
    let lines = child.0.stdout.take().ok_or(HarnessError::Missing("the child's output"))?;
    let events = listen(lines)?;
    let mut seen = Vec::new();
    let mut deadline = (moment.after == Trigger::Spawned).then(|| Instant::now() + moment.delay);
    let killed = loop {
        let patience = deadline.map_or(HANG, |deadline| deadline.saturating_duration_since(Instant::now()));
        match events.recv_timeout(patience) {
            Ok(event) => {
                if let Some(delay) = moment.set_by(&event) {
                    let at = Instant::now() + delay;
                    deadline = Some(deadline.map_or(at, |deadline| deadline.min(at)));
                }
                seen.push(event);
            }
            Err(RecvTimeoutError::Timeout) if deadline.is_some() => break true,
            Err(RecvTimeoutError::Timeout) => return Err(HarnessError::Hang { cycle: order.cycle }),
            Err(RecvTimeoutError::Disconnected) => break false,
        }
    };
    if killed {
        child.0.kill()?;
    }
    let status = child.0.wait()?;
    seen.extend(events);
    // A kill may come too late.
    let killed = killed && status.code().is_none();
    if !killed && !status.success() {
        let said = seen.iter().rev().find_map(|event| match event {
            Event::Failed(error) => Some(error.clone()),
            _ => None,
        });
        let error = said.unwrap_or_else(|| status.to_string());
        return Err(HarnessError::Child { cycle: order.cycle, error });
    }
    Ok(Outcome { events: seen, killed })
}

/// Reads whole lines until the pipe ends. The last one may have been cut off by the kill.
fn listen(output: ChildStdout) -> Result<Receiver<Event>, HarnessError> {
    let (sender, receiver) = mpsc::channel();
    let mut lines = BufReader::new(output);
    thread::Builder::new().name("kill-listen".into()).spawn(move || {
        let mut line = String::new();
        loop {
            line.clear();
            if !matches!(lines.read_line(&mut line), Ok(1..)) {
                return;
            }
            let event = line.strip_suffix('\n').and_then(|line| line.parse().ok());
            if event.is_some_and(|event| sender.send(event).is_err()) {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// No child outlives the harness.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It has usually ended long ago.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_trigger_of_a_moment_and_the_latest_time_set_the_deadline() {
        let [soon, late] = [1, 60].map(Duration::from_millis);
        let began = Event::Began { proc_id: 1, log: None };
        let moment = Moment { after: Trigger::Uploading, delay: soon, latest: Some(late) };
        assert_eq!(moment.set_by(&Event::Uploading), Some(soon));
        assert_eq!(moment.set_by(&began), Some(late));
        assert_eq!(moment.set_by(&Event::Revoking), None);
        let moment = Moment { after: Trigger::Began, delay: soon, latest: Some(late) };
        assert_eq!(moment.set_by(&began), Some(soon));
        assert_eq!((Moment::NEVER.set_by(&began), Moment::NEVER.set_by(&Event::Revoking)), (None, None));
    }
}
