//! The thread `tuntrail-upload`: it sleeps until a pass is asked for or due, and drives it with the built-in transport.
//!
//! Between passes it has no connection, no runtime and, on demand, no timer. With
//! [`Transport::Host`](super::Transport::Host) it only watches the policy's deadline and calls the host.

use std::sync::Arc;

use tokio::runtime::{self, Runtime};

use super::{
    config::UploadConfig,
    engine::{Step, Turn},
    http::Line,
    report::UploadEvent,
    rules::UploadPolicy,
    shared::Shared,
};

/// Runs until the uploader is dropped.
pub(super) fn run(shared: &Arc<Shared>) {
    let _ending = Ending(shared);
    note_leftovers(shared);
    loop {
        match shared.next_turn() {
            Turn::Drive => drive(shared),
            Turn::CallHost => shared.tell(UploadEvent::WorkWaiting),
            Turn::End => return,
        }
    }
}

/// Tells the policy of what earlier processes left. On demand that is nobody's business.
fn note_leftovers(shared: &Shared) {
    if shared.config.policy == UploadPolicy::OnDemand {
        return;
    }
    for (index, stream) in shared.streams.iter().enumerate() {
        // A store that fails here is heard of in the first pass.
        let segments = stream.source.seal().unwrap_or_default();
        let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        if bytes > 0 {
            shared.tell_policy(|policy, now| policy.note_leftovers(index, bytes, now));
        }
    }
}

/// Drives passes while there is something to do, over one connection. Nothing is opened before the first request.
fn drive(shared: &Shared) {
    let mut connection: Option<Connection> = None;
    loop {
        match shared.step() {
            Step::Idle => return,
            Step::Wait(until) => shared.sleep_until(until),
            Step::Send { task, outgoing, mut cancelled } => {
                let open = connection.take().map_or_else(|| Connection::new(&shared.config), Ok);
                let Connection { line, runtime } = match open {
                    Ok(open) => connection.insert(open),
                    Err(error) => {
                        shared.fail(error);
                        continue;
                    }
                };
                let answer = runtime.as_ref().map(|runtime| {
                    runtime.block_on(async {
                        tokio::select! {
                            biased;
                            _ = cancelled.wait_for(|&cancelled| cancelled) => None,
                            answer = line.send(&outgoing) => Some(answer),
                        }
                    })
                });
                if let Some(answer) = answer.flatten() {
                    // Only this thread has the task; it is under way unless the pass has just failed.
                    let _ = shared.complete(task, answer);
                }
            }
        }
    }
}

/// An HTTP client and the runtime that it needs.
struct Connection {
    line: Line,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

impl Connection {
    fn new(config: &UploadConfig) -> Result<Self, String> {
        // One blocking thread: only name resolution uses it, one connection at a time.
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .thread_name("tuntrail-resolve")
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { line: Line::new(config)?, runtime: Some(runtime) })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A name resolution may hang for a minute; nobody waits for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Sees to it that everybody who waits for a pass gets a report, even if the thread panics.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.thread_ended();
    }
}
