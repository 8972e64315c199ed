//! Saying a thing once, and not again with each call.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about the same matter.
const PAUSE: Duration = Duration::from_secs(10);

/// When a matter was last spoken of.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<Option<Instant>>);

impl Quiet {
    /// Whether it may be said now; it then counts as said.
    pub(super) fn may_speak(&self, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = said.is_none_or(|said| now.saturating_duration_since(said) >= PAUSE);
        if may {
            *said = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_once_in_a_while() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        assert!(quiet.may_speak(start));
        assert!(!quiet.may_speak(start + PAUSE / 2));
        assert!(quiet.may_speak(start + PAUSE));
    }
}
