//! What the client tells the app by itself, and the thread that does it.
//!
//! Everything that happens goes into a bounded queue; the one thread `tuntrail-events` takes it out and calls the listener.
//! Whoever reports something never waits: if the listener is behind, progress is replaced by newer progress, and beyond
//! [`MAX_WAITING`] the oldest events are dropped and counted. The thread sleeps while there is nothing to tell, begins
//! with the first listener, and ends with the client.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tuntrail::{tunnel::TunnelEvent, upload::UploadEvent};

use crate::{
    CallbackError, TuntrailError,
    stats::EventStats,
    uploads::{UploadProgress, UploadReport},
};

/// Events that wait at most. A listener that is so far behind sees a gap, and is told of it.
const MAX_WAITING: usize = 256;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum Event {
    /// An upload has come further. A later one replaces it if it waits.
    UploadProgress {
        /// Which upload, as `Upload.id` has it.
        upload: u64,
        /// How far.
        progress: UploadProgress,
    },
    /// An upload has ended, whoever asked for it, also one of an earlier run that went on by itself. Who waits for an upload gets the same report.
    UploadEnded {
        /// How.
        report: UploadReport,
    },
    /// With [`UploadSettings::host_transport`](crate::UploadSettings::host_transport): ask `Client.nextUploadTask`.
    UploadWorkWaiting,
    /// The tunnel reaches a peer: for the first time, or again after [`Self::PeerSilent`].
    PeerConnected {
        /// Its public key.
        public_key: String,
    },
    /// A peer has not answered handshakes for 90 s. The next packet for it tries again.
    PeerSilent {
        /// Its public key.
        public_key: String,
    },
    /// The TUN device has ended or was closed by the system: the tunnel carries nothing any more. Stop it, and start a new one if
    /// the user still wants it.
    TunnelDeviceEnded,
    /// The tunnel has ended by itself, by a failure of the system or a fault of the SDK; its log says which. Stop it, and start a
    /// new one.
    TunnelFailed,
    /// The listener was too slow; this many events before this one were dropped.
    EventsDropped {
        /// How many.
        count: u64,
    },
}

/// Is told what happens.
#[uniffi::export(foreign)]
pub trait EventListener: Send + Sync {
    /// Called once per event, one at a time, always on the thread `tuntrail-events`, never before `Client.setListener` was called.
    /// It may call the client, also to shut it down. While it takes its time, events wait (up to 256). What it throws is
    /// counted in the statistics and otherwise ignored.
    fn on_event(&self, event: Event) -> Result<(), CallbackError>;
}

type Listener = Arc<dyn EventListener>;

/// The queue. Shared by everything that reports, and the thread.
#[derive(Default)]
pub(crate) struct Events {
    queue: Mutex<Queue>,
    changed: Condvar,
    uploads: AtomicU64,
}

#[derive(Default)]
struct Queue {
    listener: Option<Listener>,
    waiting: VecDeque<Event>,
    /// Dropped since the listener was told of it.
    gap: u64,
    stats: EventStats,
    has_thread: bool,
    closed: bool,
}

impl Events {
    /// Replaces the listener; without one, nothing waits.
    pub(crate) fn set_listener(self: &Arc<Self>, listener: Option<Listener>) -> Result<(), TuntrailError> {
        let mut queue = self.queue();
        if queue.closed {
            return Ok(());
        }
        if listener.is_none() {
            queue.waiting.clear();
            queue.gap = 0;
        } else if !queue.has_thread {
            let events = Arc::clone(self);
            let thread =
                thread::Builder::new().name("tuntrail-events".to_owned()).spawn(move || events.run());
            thread.map_err(|error| TuntrailError::Internal {
                reason: format!("can't start the thread for events: {error}"),
            })?;
            queue.has_thread = true;
        }
        let before = std::mem::replace(&mut queue.listener, listener);
        drop(queue);
        // Runs foreign code.
        drop(before);
        Ok(())
    }

    /// A number for a new upload.
    pub(crate) fn next_upload(&self) -> u64 {
        self.uploads.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn progress(&self, upload: u64, progress: UploadProgress) {
        self.push(Event::UploadProgress { upload, progress });
    }

    pub(crate) fn upload(&self, event: UploadEvent) {
        match event {
            UploadEvent::WorkWaiting => self.push(Event::UploadWorkWaiting),
            UploadEvent::Ended(report) => self.push(Event::UploadEnded { report: report.into() }),
            _ => {}
        }
    }

    pub(crate) fn tunnel(&self, event: TunnelEvent) {
        match event {
            TunnelEvent::Connected(peer) => self.push(Event::PeerConnected { public_key: peer.to_string() }),
            TunnelEvent::Silent(peer) => self.push(Event::PeerSilent { public_key: peer.to_string() }),
            TunnelEvent::DeviceEnded => self.push(Event::TunnelDeviceEnded),
            TunnelEvent::Failed => self.push(Event::TunnelFailed),
            _ => {}
        }
    }

    pub(crate) fn stats(&self) -> EventStats {
        self.queue().stats.clone()
    }

    /// No call begins after this. Does not wait for one that is under way, which may be what called us.
    pub(crate) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.waiting.clear();
        let listener = queue.listener.take();
        drop(queue);
        self.changed.notify_all();
        drop(listener);
    }

    fn push(&self, event: Event) {
        let mut queue = self.queue();
        if queue.listener.is_none() || queue.closed {
            return;
        }
        if let Some(older) = queue.waiting.iter_mut().find(|older| is_older_progress(older, &event)) {
            *older = event;
            return;
        }
        if queue.waiting.len() >= MAX_WAITING {
            queue.waiting.pop_front();
            queue.gap += 1;
            queue.stats.dropped += 1;
        }
        queue.waiting.push_back(event);
        drop(queue);
        self.changed.notify_all();
    }

    fn run(&self) {
        while let Some((listener, event)) = self.next() {
            let outcome = catch_unwind(AssertUnwindSafe(|| listener.on_event(event)));
            // It may be the last owner: dropping it runs foreign code, too.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(listener)));
            let mut queue = self.queue();
            match (outcome, dropped) {
                (Ok(Ok(())), Ok(())) => queue.stats.delivered += 1,
                (Ok(Err(error)), _) => {
                    queue.stats.failed += 1;
                    drop(queue);
                    tracing::debug!(%error, "the event listener failed");
                }
                _ => {
                    queue.stats.failed += 1;
                    drop(queue);
                    tracing::error!("calling the event listener panicked");
                }
            }
        }
    }

    /// Waits for an event. `None` when there will be none.
    fn next(&self) -> Option<(Listener, Event)> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(listener) = queue.listener.clone() {
                if queue.gap > 0 {
                    return Some((listener, Event::EventsDropped { count: std::mem::take(&mut queue.gap) }));
                }
                if let Some(event) = queue.waiting.pop_front() {
                    return Some((listener, event));
                }
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_older_progress(older: &Event, event: &Event) -> bool {
    matches!(
        (older, event),
        (Event::UploadProgress { upload: older, .. }, Event::UploadProgress { upload, .. }) if older == upload
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Passes events on, and waits after each until it may go on.
    struct Slow {
        seen: Sender<(Event, Option<String>)>,
        go_on: Mutex<Receiver<Result<(), CallbackError>>>,
    }

    impl EventListener for Slow {
        fn on_event(&self, event: Event) -> Result<(), CallbackError> {
            self.seen.send((event, thread::current().name().map(str::to_owned))).unwrap();
            self.go_on.lock().unwrap().recv().unwrap_or(Ok(()))
        }
    }

    struct Bench {
        events: Arc<Events>,
        seen: Receiver<(Event, Option<String>)>,
        go_on: Sender<Result<(), CallbackError>>,
    }

    fn bench() -> Bench {
        let (sender, seen) = channel();
        let (go_on, receiver) = channel();
        let events = Arc::new(Events::default());
        events.set_listener(Some(Arc::new(Slow { seen: sender, go_on: Mutex::new(receiver) }))).unwrap();
        Bench { events, seen, go_on }
    }

    fn progress(sent_records: u64) -> UploadProgress {
        UploadProgress { stream: "netlog".to_owned(), sent_records, total_records: 9, sent_bytes: 0 }
    }

    #[test]
    fn events_come_in_order_on_the_named_thread() {
        let Bench { events, seen, go_on } = bench();
        events.push(Event::UploadWorkWaiting);
        events.push(Event::TunnelDeviceEnded);
        for expected in [Event::UploadWorkWaiting, Event::TunnelDeviceEnded] {
            assert_eq!(seen.recv().unwrap(), (expected, Some("tuntrail-events".to_owned())));
            go_on.send(Ok(())).unwrap();
        }
    }

    #[test]
    fn progress_that_waits_is_replaced_and_only_that() {
        let Bench { events, seen, go_on } = bench();
        events.push(Event::UploadWorkWaiting);
        seen.recv().unwrap();
        for (upload, records) in [(1, 1), (2, 1), (1, 2), (1, 3)] {
            events.progress(upload, progress(records));
        }
        go_on.send(Ok(())).unwrap();
        for (upload, records) in [(1, 3), (2, 1)] {
            assert_eq!(seen.recv().unwrap().0, Event::UploadProgress { upload, progress: progress(records) });
            go_on.send(Ok(())).unwrap();
        }
    }

    #[test]
    fn a_listener_that_is_behind_loses_the_oldest_and_is_told() {
        let Bench { events, seen, go_on } = bench();
        events.push(Event::TunnelDeviceEnded);
        seen.recv().unwrap();
        for peer in 0..MAX_WAITING + 3 {
            events.push(Event::PeerSilent { public_key: peer.to_string() });
        }
        go_on.send(Ok(())).unwrap();
        assert_eq!(seen.recv().unwrap().0, Event::EventsDropped { count: 3 });
        go_on.send(Ok(())).unwrap();
        assert_eq!(seen.recv().unwrap().0, Event::PeerSilent { public_key: "3".to_owned() });
        assert_eq!(events.stats().dropped, 3);
    }

    #[test]
    fn failures_and_panics_are_counted_and_the_next_event_comes() {
        struct Broken(Sender<Event>);
        impl EventListener for Broken {
            fn on_event(&self, event: Event) -> Result<(), CallbackError> {
                self.0.send(event.clone()).unwrap();
                match event {
                    Event::UploadWorkWaiting => panic!("on purpose"),
                    _ => Err(CallbackError::Failed { reason: "no".to_owned() }),
                }
            }
        }
        let (sender, seen) = channel();
        let events = Arc::new(Events::default());
        events.set_listener(Some(Arc::new(Broken(sender)))).unwrap();
        events.push(Event::UploadWorkWaiting);
        events.push(Event::TunnelDeviceEnded);
        events.push(Event::EventsDropped { count: 0 });
        for _ in 0..3 {
            seen.recv().unwrap();
        }
        // The third call has begun, so the first two have been counted.
        assert!(events.stats().failed >= 2, "{:?}", events.stats());
    }

    #[test]
    fn nothing_is_told_after_closing_and_nothing_waits_without_a_listener() {
        let Bench { events, seen, go_on } = bench();
        events.push(Event::UploadWorkWaiting);
        seen.recv().unwrap();
        events.push(Event::TunnelDeviceEnded);
        events.close();
        go_on.send(Ok(())).unwrap();
        drop(go_on);
        // The sender is dropped with the listener, when the thread has ended.
        assert!(seen.recv().is_err());
        events.push(Event::TunnelDeviceEnded);
        assert!(events.queue().waiting.is_empty());
    }

    #[test]
    fn a_listener_may_close_what_calls_it() {
        struct Closing(Arc<Events>, Sender<()>);
        impl EventListener for Closing {
            fn on_event(&self, _event: Event) -> Result<(), CallbackError> {
                self.0.close();
                self.1.send(()).unwrap();
                Ok(())
            }
        }
        let (sender, closed) = channel();
        let events = Arc::new(Events::default());
        events.set_listener(Some(Arc::new(Closing(Arc::clone(&events), sender)))).unwrap();
        events.push(Event::UploadWorkWaiting);
        closed.recv().unwrap();
    }
}
