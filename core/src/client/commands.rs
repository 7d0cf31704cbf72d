//! Commands: what support asks of the device from afar, through the host's push message or the log server's answer.
//!
//! ```text
//! {"v":1,"id":"case-17","kind":"debug_upload","note":"…","streams":["windows","diagnostics"],"window_s":3600}
//! {"v":1,"id":"case-18","kind":"socket_stats","seconds":600,"at_end":"upload"}
//! ```
//!
//! A command is foreign text. It is obeyed only if the configuration allows it and the user has agreed to recording; it is
//! refused as a whole if anything in it is not understood; each ID is obeyed once; and there are few of them per day. So the
//! worst that a hostile sender can do is to have sent, at 24 times a day, what the user has agreed to send. It can't make the
//! log talk more, ask for lines that name addresses, or send anything elsewhere.
//!
//! Works under the client's lock. Commands of the host run on its thread; those of the server on a thread of their own,
//! `tuntrail-command`, which lives for as long as they take: the upload thread must not wait for the client.

mod ledger;
mod parse;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use thiserror::Error;
use tracing::{debug, info, warn};

use self::{
    ledger::Ledger,
    parse::{Command, Order},
};
use super::{
    Client, ClientConfig, ClientError, DebugUpload, RemoteCommands, State, debug::upload, lock, socket_stats,
};
use crate::{consent::Consent, upload::Uploader};

/// Why a command was refused. Nothing was done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The configuration allows none.
    #[error("remote commands are not allowed; set ClientConfig::remote_commands")]
    NotAllowed,
    /// Too long, no JSON object, or a member is missing, unknown, or of the wrong type or range.
    #[error("not a command: {reason}")]
    Malformed {
        /// What is wrong with it, without what it says.
        reason: String,
    },
    /// A later version of the SDK may understand it.
    #[error("commands of version {version} are not known; this SDK knows version 1")]
    Version {
        /// The command's.
        version: u64,
    },
    /// A later version of the SDK may know it.
    #[error("there is no command of the kind {kind:?}; this SDK knows debug_upload and socket_stats")]
    Kind {
        /// The command's, cut and cleaned.
        kind: String,
    },
    /// Too many commands.
    #[error("too many commands; try again in {} s", wait.as_secs())]
    TooSoon {
        /// Until one like it is obeyed again.
        wait: Duration,
    },
    /// The client can't do it: [`ClientError::NoConsent`] above all.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// What came of a command.
#[derive(Debug)]
#[non_exhaustive]
pub enum CommandOutcome {
    /// A debug upload is on its way.
    DebugUpload(DebugUpload),
    /// Socket statistics are recorded for so long; not any more, if for no time.
    SocketStats {
        /// From now on.
        duration: Duration,
    },
    /// A command of this ID was obeyed before; this one was not.
    Duplicate,
}

impl Client {
    /// Obeys a command that came to the host, for example in a push message: JSON of at most 4 KiB, described in
    /// `docs/debugging.md`. Waits for the disk, not for the network.
    ///
    /// # Errors
    /// See [`CommandError`]. Nothing was done then, and the ID may be used again.
    pub fn handle_command(&self, command: impl AsRef<[u8]>) -> Result<CommandOutcome, CommandError> {
        // Before anything else: who allows no commands need not fear what is in them.
        if self.config.remote_commands == RemoteCommands::Refused {
            return Err(CommandError::NotAllowed);
        }
        handle(&self.config, &mut *self.lock()?, command.as_ref())
    }
}

fn handle(config: &ClientConfig, state: &mut State, command: &[u8]) -> Result<CommandOutcome, CommandError> {
    let Command { id, order } = Command::parse(command)?;
    if state.consent != Consent::Granted {
        return Err(ClientError::NoConsent(state.consent).into());
    }
    let kind = order.kind();
    let path = path(config);
    let mut ledger = Ledger::load(&path).map_err(ClientError::from)?;
    if ledger.has(&id) {
        info!(kind, "a command came again");
        return Ok(CommandOutcome::Duplicate);
    }
    let now = config.clock.wall();
    ledger.allow(kind, now).map_err(|wait| CommandError::TooSoon { wait })?;
    // Noted before it is obeyed: a command that takes the process down must not do so at each repetition.
    ledger.add(id, kind, now);
    ledger.save(&path).map_err(ClientError::from)?;
    info!(kind, "a command is obeyed");
    let done = match order {
        Order::DebugUpload(request) => upload(config, state, &request, None).map(CommandOutcome::DebugUpload),
        Order::SocketStats { duration, at_end } => socket_stats::enable(config, state, duration, at_end)
            .map(|()| CommandOutcome::SocketStats { duration }),
    };
    done.map_err(|error| {
        ledger.forget_last();
        // If that fails, too, the command counts as obeyed.
        let _ = ledger.save(&path);
        error.into()
    })
}

/// Obeys the commands in the server's answers from now on.
pub(super) fn listen(uploader: &Uploader, config: &Arc<ClientConfig>, state: &Arc<Mutex<State>>) {
    let (config, state) = (Arc::clone(config), Arc::downgrade(state));
    let busy = Arc::new(AtomicBool::new(false));
    uploader.set_command_listener(move |commands| {
        if busy.swap(true, Ordering::AcqRel) {
            // One thread at a time is enough for a few commands a day; the server may repeat them.
            debug!(commands = commands.len(), "commands of the server came while others are obeyed");
            return;
        }
        let idle = Idle(Arc::clone(&busy));
        let (config, state) = (Arc::clone(&config), Weak::clone(&state));
        let run = move || {
            let _idle = idle;
            obey(&config, &state, &commands);
        };
        if let Err(error) = thread::Builder::new().name("tuntrail-command".to_owned()).spawn(run) {
            warn!(%error, "commands of the server are not obeyed: there is no thread");
        }
    });
}

fn obey(config: &ClientConfig, state: &Weak<Mutex<State>>, commands: &[String]) {
    for command in commands {
        // The client is gone or about to be: so are its commands.
        let Some(state) = state.upgrade() else { return };
        let Ok(mut state) = lock(&state) else { return };
        if let Err(error) = handle(config, &mut state, command.as_bytes()) {
            warn!("a command of the server is refused");
            debug!(%error, "the reason");
        }
    }
}

/// Lets the next commands come, also when a thread could not be made or has panicked.
struct Idle(Arc<AtomicBool>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Forgets which commands were obeyed.
pub(super) fn forget(config: &ClientConfig) -> io::Result<()> {
    crate::files::remove(&path(config))
}

fn path(config: &ClientConfig) -> PathBuf {
    config.directory.join(format!("commands-{}", config.role.as_str()))
}
