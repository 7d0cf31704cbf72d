//! Time: a monotonic clock that counts suspend, and the wall clock.
//!
//! Deadlines live on the monotonic clock. It must go on while the phone sleeps, or every timer would be late by
//! the length of the sleep; std's `Instant` stops in suspend on Linux, Android and Apple systems. Wall time
//! appears only in records: a step of the wall clock never moves a deadline.
//!
//! Only drivers (the threads that own sockets, files or queues) read a clock. Everything else is told the time.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

/// A point in time on the suspend-aware monotonic clock, in nanoseconds since an arbitrary origin
/// (usually the boot of the machine). Values of different clocks must not be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The instant `nanos` nanoseconds after the clock's origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of time, 584 years after the origin.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Saturates at the clock's origin.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

/// Where drivers read the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The monotonic time, including time spent in suspend.
    fn now(&self) -> Instant;

    /// The wall-clock time, for records only. May step in both directions.
    fn wall(&self) -> Timestamp;
}

/// A clock that threads share.
pub type SharedClock = Arc<dyn Clock>;

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        system::now()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is moved: for tests and simulations.
#[derive(Debug, Clone)]
pub struct ManualClock {
    state: Arc<Mutex<(Instant, Timestamp)>>,
}

impl ManualClock {
    /// A clock that shows `wall`, one hour after its monotonic origin.
    #[must_use]
    pub fn new(wall: Timestamp) -> Self {
        Self { state: Arc::new(Mutex::new((Instant::from_nanos(3_600_000_000_000), wall))) }
    }

    /// Lets `duration` pass on both clocks.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.lock();
        state.0 = state.0 + duration;
        state.1 = state.1.saturating_add(duration).unwrap_or(Timestamp::MAX);
    }

    /// Steps the wall clock alone, as a user or NTP does.
    pub fn set_wall(&self, wall: Timestamp) {
        self.lock().1 = wall;
    }

    fn lock(&self) -> MutexGuard<'_, (Instant, Timestamp)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.lock().0
    }

    fn wall(&self) -> Timestamp {
        self.lock().1
    }
}

#[cfg(unix)]
mod system {
    use rustix::time::{ClockId, clock_gettime};

    use super::Instant;

    // Linux and Android have BOOTTIME for this. Apple's CLOCK_MONOTONIC counts sleep by itself.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic;

    pub(super) fn now() -> Instant {
        let time = clock_gettime(CLOCK);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

#[cfg(windows)]
mod system {
    use windows_sys::Win32::System::WindowsProgramming::QueryInterruptTimePrecise;

    use super::Instant;

    /// The interrupt-time count goes on in sleep and hibernation; its unit is 100 ns.
    pub(super) fn now() -> Instant {
        let mut ticks = 0_u64;
        // SAFETY: the function writes one u64 through a pointer that is valid for the call, and can't fail.
        unsafe { QueryInterruptTimePrecise(&raw mut ticks) };
        Instant::from_nanos(ticks.saturating_mul(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = SystemClock;
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(first.as_nanos() > 0);
    }

    #[test]
    fn arithmetic_saturates_at_both_ends_of_time() {
        let origin = Instant::from_nanos(0);
        let end = Instant::from_nanos(u64::MAX);
        assert_eq!(origin - Duration::from_secs(1), origin);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(origin.saturating_duration_since(end), Duration::ZERO);
    }

    #[test]
    fn a_wall_clock_step_leaves_the_monotonic_clock_alone() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let before = clock.now();
        clock.set_wall(Timestamp::MAX);
        assert_eq!(clock.now(), before);
        clock.set_wall(Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), before + Duration::from_secs(5));
        assert_eq!(clock.wall().as_second(), 5);
    }
}
