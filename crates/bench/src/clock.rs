//! One clock for all processes of a run, and sleeping on it.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::{clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`. Unlike [`std::time::Instant`] it may travel in a message: every
/// process on this machine reads the same clock.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until the clock reads `at`; returns at once when that is past. To an absolute time, so that
/// a schedule does not drift.
pub(crate) fn sleep_until(at: u64) {
    let request = Timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as i64 };
    // The only error that can occur is a signal, and then the sleep is repeated.
    while clock_nanosleep_absolute(ClockId::Monotonic, &request).is_err() {}
}

/// Sleeps for so long.
pub(crate) fn sleep(duration: Duration) {
    sleep_until(now() + nanos(duration));
}

/// A duration in the unit of this clock.
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// Asks the kernel to wake the calling thread on time. The default slack of 50 µs would be counted
/// as latency of the server, which is measured from when a message should have been sent.
pub(crate) fn wake_on_time() {
    // Without it the figures are a little worse, never better.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
}
