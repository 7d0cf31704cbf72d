//! How the upload thread sleeps.
//!
//! Called by that thread only, under the control lock, which it gives up meanwhile.

use std::{
    sync::{Condvar, MutexGuard, PoisonError},
    time::Duration,
};

use super::control::Control;

/// A seam for tests, whose clock is moved by hand.
pub(super) trait Alarm: Send + Sync {
    /// Waits until `wake` is notified, or for `timeout` at most. May return early.
    fn wait<'g>(
        &self,
        wake: &Condvar,
        guard: MutexGuard<'g, Control>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'g, Control>;
}

/// Sleeps in real time. The system's timeouts stand still in suspend; who sleeps compares with the suspend-aware
/// [clock](crate::clock) whenever it wakes. So a wait that a suspend interrupts is late by at most what was left of it
/// before, and ends at once when anything happens, such as a network that comes back. It never wakes the device.
pub(super) struct RealAlarm;

impl Alarm for RealAlarm {
    fn wait<'g>(
        &self,
        wake: &Condvar,
        guard: MutexGuard<'g, Control>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'g, Control> {
        match timeout {
            None => wake.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => wake.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0,
        }
    }
}
