//! Tells the host when a peer is reached, and when it is not.
//!
//! Sessions are renewed every two minutes and handshakes are given up again and again; the host hears only of changes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{TunnelEvent, TunnelObserver};
use crate::tunnel::key::PublicKey;

/// Lives on the tunnel's thread.
pub(super) struct Watch {
    observer: Option<TunnelObserver>,
    /// The peers that were told of, and whether they were connected then.
    told: Vec<(PublicKey, bool)>,
    /// The thread runs, and nobody has asked it to stop.
    is_wanted: bool,
}

impl Watch {
    pub(super) const fn new(observer: Option<TunnelObserver>) -> Self {
        Self { observer, told: Vec::new(), is_wanted: false }
    }

    /// The thread begins.
    pub(super) const fn begin(&mut self) {
        self.is_wanted = true;
    }

    /// The thread was asked to end.
    pub(super) const fn stop(&mut self) {
        self.is_wanted = false;
    }

    /// A session was made.
    pub(super) fn connected(&mut self, peer: &PublicKey) {
        self.change(peer, true, TunnelEvent::Connected(*peer));
    }

    /// A handshake was given up.
    pub(super) fn silent(&mut self, peer: &PublicKey) {
        self.change(peer, false, TunnelEvent::Silent(*peer));
    }

    /// Nothing comes from the device any more, and nothing ever will.
    pub(super) fn device_ended(&self) {
        self.tell(TunnelEvent::DeviceEnded);
    }

    fn change(&mut self, peer: &PublicKey, connected: bool, event: TunnelEvent) {
        if self.observer.is_none() {
            return;
        }
        match self.told.iter_mut().find(|(known, _)| known == peer) {
            Some((_, was)) if *was == connected => return,
            Some((_, was)) => *was = connected,
            None => self.told.push((*peer, connected)),
        }
        self.tell(event);
    }

    fn tell(&self, event: TunnelEvent) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_wanted {
            // Perhaps in a panic, in which a second one would end the process.
            let _ = catch_unwind(AssertUnwindSafe(|| self.tell(TunnelEvent::Failed)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn only_changes_are_told_for_each_peer() {
        let (sender, told) = channel();
        let mut watch = Watch::new(Some(Box::new(move |event| sender.send(event).unwrap())));
        let [a, b] = [1, 2].map(|byte| PublicKey::from_bytes([byte; 32]));
        watch.connected(&a);
        watch.connected(&a);
        watch.silent(&b);
        watch.silent(&b);
        watch.silent(&a);
        watch.connected(&a);
        watch.device_ended();
        use TunnelEvent::{Connected, DeviceEnded, Silent};
        let told: Vec<_> = told.try_iter().collect();
        assert_eq!(told, [Connected(a), Silent(b), Silent(a), Connected(a), DeviceEnded]);
    }

    #[test]
    fn a_thread_that_ends_unasked_is_told_of_also_after_a_panic() {
        let (sender, told) = channel();
        let watch = || {
            let sender = sender.clone();
            let mut watch = Watch::new(Some(Box::new(move |event| sender.send(event).unwrap())));
            watch.begin();
            watch
        };
        let mut stopped = watch();
        stopped.stop();
        drop(stopped);
        assert_eq!(told.try_iter().count(), 0);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _watch = watch();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [TunnelEvent::Failed]);
    }
}
