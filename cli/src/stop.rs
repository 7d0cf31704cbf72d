//! Waiting for the user to end a command that runs until it is stopped.

use std::sync::mpsc::{Receiver, channel};

/// Requests to stop, caught from now on: Ctrl-C everywhere, SIGTERM and SIGHUP on Unix.
#[derive(Debug)]
pub(crate) struct StopSignal(Receiver<()>);

impl StopSignal {
    /// Catches the signals; without this they would end the process at once. Fails when called twice.
    pub(crate) fn catch() -> Result<Self, ctrlc::Error> {
        let (sender, receiver) = channel();
        ctrlc::set_handler(move || {
            // Nobody listens any more: the command is stopping already.
            let _ = sender.send(());
        })?;
        Ok(Self(receiver))
    }

    /// Sleeps until a signal comes.
    pub(crate) fn wait(&self) {
        let _ = self.0.recv();
    }
}
