//! The time of this thread, for boringtun and for tuntrail alike.

use std::time::Duration;

use mock_instant::MockClock;
use tuntrail::clock::Instant;

/// Where tests begin. Not zero, so that ages can be longer than the clock's own.
pub const START: Instant = Instant::from_nanos(10_000_000_000_000);

/// Makes it `now`. Time must not go back while nodes exist that have seen a later one.
pub fn set(now: Instant) {
    MockClock::set_time(Duration::from_nanos(now.as_nanos()));
}
