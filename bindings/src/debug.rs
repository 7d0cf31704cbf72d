//! Debug uploads, and commands from afar that ask for them.

use std::{sync::Arc, time::Duration};

use tuntrail::client;

use crate::{Stream, TuntrailError, Upload, events::Events};

/// What a debug upload is to tell and to send.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct DebugRequest {
    /// What the user has to say about it. Cut to 1 KiB, on one line; more than 64 KiB are refused.
    #[uniffi(default = "")]
    pub note: String,
    /// The kinds of records to send, each as a whole; all if none is named. The record of the request is always sent.
    #[uniffi(default = [])]
    pub streams: Vec<Stream>,
    /// How far back lines of the SDK's own log are sent. Default: all there are.
    #[uniffi(default = None)]
    pub window: Option<Duration>,
    /// Lines below level info, too, if the filter let them into the log: they may name addresses and hosts.
    #[uniffi(default = false)]
    pub verbose: bool,
}

/// A debug upload on its way.
#[derive(Debug, Clone, uniffi::Record)]
pub struct DebugUpload {
    /// What the user reads out to support: `BUG-…`. It gives no access.
    pub marker: String,
    /// Its progress, its report, and the way to cancel it.
    pub upload: Arc<Upload>,
}

/// Whose commands the client obeys. They hold only under consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum RemoteCommands {
    /// Nobody's.
    Refused,
    /// Those given to `Client.handleCommand`, for example from a push message.
    Allowed,
    /// Also those in the log server's answers to uploads.
    FromServer,
}

/// What came of a command.
#[derive(Debug, Clone, uniffi::Enum)]
pub enum CommandOutcome {
    /// A debug upload is on its way. It sends no progress events.
    Uploading {
        /// Which.
        debug: DebugUpload,
    },
    /// Socket statistics are recorded for so long; not any more, if for no time.
    RecordingSockets {
        /// From now on.
        duration: Duration,
    },
    /// A command of this ID was obeyed before; this one was not.
    Duplicate,
}

impl DebugRequest {
    /// Asks for it. Its progress goes to `events`.
    pub(crate) fn start(
        self,
        client: &client::Client,
        events: &Arc<Events>,
    ) -> Result<DebugUpload, TuntrailError> {
        let Self { note, streams, window, verbose } = self;
        let mut request = client::DebugRequest { note, window, verbose, ..client::DebugRequest::default() };
        if !streams.is_empty() {
            request.streams = streams.into_iter().map(Into::into).collect();
        }
        let id = events.next_upload();
        let told = Arc::clone(events);
        let progress = Box::new(move |progress: &_| told.progress(id, From::from(progress)));
        Ok(DebugUpload::new(client.request_debug_upload(&request, Some(progress))?, id))
    }
}

impl DebugUpload {
    fn new(debug: client::DebugUpload, id: u64) -> Self {
        Self { marker: debug.marker.to_string(), upload: Upload::new(id, debug.upload) }
    }
}

/// See `Client.handleCommand`.
pub(crate) fn handle_command(
    client: &client::Client,
    events: &Events,
    command: &str,
) -> Result<CommandOutcome, TuntrailError> {
    match client.handle_command(command) {
        Ok(client::CommandOutcome::DebugUpload(debug)) => {
            Ok(CommandOutcome::Uploading { debug: DebugUpload::new(debug, events.next_upload()) })
        }
        Ok(client::CommandOutcome::SocketStats { duration }) => {
            Ok(CommandOutcome::RecordingSockets { duration })
        }
        Ok(client::CommandOutcome::Duplicate) => Ok(CommandOutcome::Duplicate),
        Ok(_) => Err(TuntrailError::Internal { reason: "the outcome has no name here".to_owned() }),
        Err(client::CommandError::Client(error)) => Err(error.into()),
        Err(error) => Err(TuntrailError::config(error)),
    }
}

impl From<RemoteCommands> for client::RemoteCommands {
    fn from(commands: RemoteCommands) -> Self {
        match commands {
            RemoteCommands::Refused => Self::Refused,
            RemoteCommands::Allowed => Self::Allowed,
            RemoteCommands::FromServer => Self::FromServer,
        }
    }
}
