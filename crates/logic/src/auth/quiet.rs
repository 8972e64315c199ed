//! A log line that outages cause: at most one a minute.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const PERIOD: Duration = Duration::from_secs(60);

/// One kind of line.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    /// The trouble was told, and not yet its end.
    told: bool,
}

impl Quiet {
    /// Whether the line may be written.
    pub(super) fn may_speak(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may = state.last.is_none_or(|last| now.saturating_duration_since(last) >= PERIOD);
        if may {
            *state = State { last: Some(now), told: true };
        }
        may
    }

    /// The trouble is over: whether its beginning was told, so that its end is worth a line.
    pub(super) fn over(&self) -> bool {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_minute() {
        let quiet = Quiet::default();
        assert!(!quiet.over());
        assert!(quiet.may_speak());
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!quiet.may_speak());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(quiet.may_speak());
        assert!(quiet.over());
        assert!(!quiet.over());
        assert!(!quiet.may_speak());
    }
}
