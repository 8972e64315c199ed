//! How long to wait before the next attempt: exponential, with full jitter.

use std::time::Duration;

/// How the waits between attempts grow.
///
/// The n-th wait is drawn evenly from zero to `base * factor^n`, but at most `max`. Drawing from zero
/// ("full jitter") spreads the clients of a server that went away over the whole time.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// Upper end of the first wait. Default 500 ms.
    pub base: Duration,
    /// Upper end of every wait. Default 30 s: someone who looks at the screen waits so long at most.
    pub max: Duration,
    /// How much the upper end grows from one wait to the next; less than 1 counts as 1. Default 2.
    pub factor: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(500), max: Duration::from_secs(30), factor: 2.0 }
    }
}

/// Where a client is in its sequence of waits.
#[derive(Debug)]
pub(crate) struct Delays {
    settings: Backoff,
    attempt: i32,
}

impl Delays {
    pub(crate) fn new(settings: Backoff) -> Self {
        Self { settings, attempt: 0 }
    }

    /// The next wait; `random` is one draw from all of `u64`.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let Backoff { base, max, factor } = self.settings;
        // Finite, because a base of zero times infinity would be no number.
        let growth = factor.max(1.0).powi(self.attempt).min(f64::MAX);
        let ceiling = (base.as_secs_f64() * growth).min(max.as_secs_f64());
        self.attempt = self.attempt.saturating_add(1);
        // In whole milliseconds, because people read it.
        Duration::from_millis((ceiling * 1000.0 * (random as f64 / u64::MAX as f64)) as u64)
    }

    /// Starts again after a connection that lasted so long. One that was lost sooner than the longest
    /// wait does not count: a server that takes clients and drops them is not to be hurried.
    pub(crate) fn connection_lasted(&mut self, time: Duration) {
        if time >= self.settings.max {
            self.attempt = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delays(base: u64, max: u64, factor: f64) -> Delays {
        let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
        Delays::new(Backoff { base, max, factor })
    }

    #[test]
    fn upper_ends_grow_to_the_maximum() {
        let check = |(base, max, factor), expected: [u128; 5]| {
            let mut delays = delays(base, max, factor);
            assert_eq!(
                expected.map(|_| delays.next(u64::MAX).as_millis()),
                expected,
                "{base} {max} {factor}"
            );
        };
        check((500, 3000, 2.0), [500, 1000, 2000, 3000, 3000]);
        check((100, 10_000, 3.0), [100, 300, 900, 2700, 8100]);
        check((100, 10_000, 0.5), [100; 5]);
        check((100, 10_000, f64::NAN), [100; 5]);
        check((100, 50, 2.0), [50; 5]);
        check((0, 50, 2.0), [0; 5]);
    }

    #[test]
    fn waits_are_drawn_from_zero_on() {
        let mut delays = delays(1000, 1000, 2.0);
        assert_eq!(delays.next(0), Duration::ZERO);
        assert_eq!(delays.next(u64::MAX / 2).as_millis(), 500);
        assert_eq!(delays.next(u64::MAX).as_millis(), 1000);
    }

    #[test]
    fn only_a_connection_that_lasted_starts_again() {
        let mut delays = delays(100, 1000, 2.0);
        delays.next(0);
        delays.connection_lasted(Duration::from_millis(999));
        assert_eq!(delays.next(u64::MAX).as_millis(), 200);
        delays.connection_lasted(Duration::from_secs(1));
        assert_eq!(delays.next(u64::MAX).as_millis(), 100);
    }

    proptest! {
        /// No settings and no number of attempts overflow, or lead past the maximum.
        #[test]
        fn never_past_the_maximum(base: u64, max: u64, factor: f64, attempt: i32, random: u64) {
            let mut delays = delays(base, max, factor);
            delays.attempt = attempt.max(0);
            // As precise as a f64 is.
            prop_assert!(delays.next(random).as_millis() as f64 <= max as f64);
        }
    }
}
