//! The `tracing` layer that turns events into lines.

#![cfg_attr(
    not(target_os = "linux"),
    allow(
        clippy::missing_const_for_thread_local,
        reason = "it is const; the lint misreads what is made of it where thread-locals belong to the system"
    )
)]

use std::{cell::Cell, sync::Arc};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{Layer, layer::Context};

use super::{line, writer::Shared};

thread_local! {
    /// Whether this thread is formatting a line: values that log while they are printed must not come back here.
    static FORMATTING: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug)]
pub(super) struct LineLayer {
    shared: Arc<Shared>,
}

impl LineLayer {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A thread that ends has no thread-locals any more; what its destructors log is lost, and counted.
        let busy = FORMATTING.try_with(|formatting| formatting.replace(true)).unwrap_or(true);
        if busy {
            self.shared.lose();
            return;
        }
        let _reset = Reset;
        let line = line::encode(event, self.shared.wall());
        let urgent = *event.metadata().level() <= Level::WARN;
        self.shared.push(&line, urgent);
    }
}

/// Also when a value's formatting panics.
struct Reset;

impl Drop for Reset {
    fn drop(&mut self) {
        // The thread was there a moment ago.
        let _ = FORMATTING.try_with(|formatting| formatting.set(false));
    }
}
