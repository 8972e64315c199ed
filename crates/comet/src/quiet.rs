//! Log lines that strangers cause: at most one a second of each kind and thread, so that who makes errors
//! by the thousand fills no disk.

use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(1);

/// One kind of line.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: Option<Instant>,
    unsaid: u64,
}

impl Quiet {
    /// Whether the line may be written; if so, how many have not been since the last one.
    pub(crate) fn may_speak(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PERIOD) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second() {
        let mut quiet = Quiet::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(quiet.may_speak(at(0)), Some(0));
        assert_eq!(quiet.may_speak(at(1)), None);
        assert_eq!(quiet.may_speak(at(999)), None);
        assert_eq!(quiet.may_speak(at(1000)), Some(2));
        assert_eq!(quiet.may_speak(at(1500)), None);
        assert_eq!(quiet.may_speak(at(9000)), Some(1));
    }
}
