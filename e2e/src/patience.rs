//! Waiting for what must come, without guessing how long it takes.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for anything. Long, because all of it passes only when something is broken,
/// and because two cores may be busy with all other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The time between two looks. Only slows a test down when the machine is idle.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until there is something to see.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::park_timeout(LOOK);
    }
}

/// Looks until the value is the expected one.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "reads as the other assertions do")]
pub fn eventually_eq<T: PartialEq + Debug>(what: &str, expected: T, mut look: impl FnMut() -> T) {
    let start = Instant::now();
    loop {
        let seen = look();
        if seen == expected {
            return;
        }
        let late = start.elapsed() >= PATIENCE;
        assert!(!late, "{what}: still {seen:?} and not {expected:?} after {PATIENCE:?}");
        thread::park_timeout(LOOK);
    }
}
