//! What went wrong on the way to comets, and what was sent again: kept for operators who ask, within a bound.

use std::collections::VecDeque;
use std::time::SystemTime;

use anser_api::comet::Target;
use anser_api::id::{CometName, Key, Position};
use anser_api::job::Ended;

/// Most that are kept, of some 100 bytes each. A job to which more happens has others to ask than this one.
const MOST: usize = 4096;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It goes no further.
    Ended(Ended),
    /// It goes to another comet, behind its key.
    Followed,
    /// It goes again to a key that may have got it before.
    Resent,
}

#[derive(Debug)]
pub(crate) struct Remark {
    pub(crate) position: Position,
    /// To or on which comet, if that is known.
    pub(crate) comet: Option<CometName>,
    /// For which key; none for all whom it was for on that comet.
    pub(crate) key: Option<Key>,
    pub(crate) what: What,
    pub(crate) at: SystemTime,
}

/// Remarks, the oldest first.
#[derive(Debug)]
pub(crate) struct Remarks {
    remarks: VecDeque<Remark>,
    /// None that was made since then has been forgotten.
    pub(crate) since: SystemTime,
}

impl Remarks {
    pub(crate) fn new() -> Self {
        Self { remarks: VecDeque::new(), since: SystemTime::now() }
    }

    /// Something happened to what was for `to`.
    pub(crate) fn add(&mut self, position: Position, comet: Option<CometName>, to: &Target, what: What) {
        if self.remarks.len() >= MOST
            && let Some(oldest) = self.remarks.pop_front()
        {
            self.since = oldest.at;
        }
        // A push to many keys may be lost, but its keys are in the log, and need no second place.
        let key = match to {
            Target::Keys(keys) if keys.len() == 1 => keys.first().cloned(),
            _ => None,
        };
        self.remarks.push_back(Remark { position, comet, key, what, at: SystemTime::now() });
    }

    /// What happened to a push.
    pub(crate) fn of(&self, position: Position) -> impl Iterator<Item = &Remark> {
        self.remarks.iter().filter(move |remark| remark.position == position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_that_is_said() {
        let mut remarks = Remarks::new();
        let start = remarks.since;
        let ended = What::Ended(Ended::Lost);
        let keys =
            |names: &[&str]| Target::Keys(names.iter().map(|name| Key::parse(name, 9).unwrap()).collect());
        remarks.add(Position(1), None, &keys(&["a"]), ended);
        remarks.add(Position(1), None, &keys(&["a", "b"]), What::Resent);
        let told: Vec<_> =
            remarks.of(Position(1)).map(|remark| (remark.key.is_some(), remark.what)).collect();
        assert_eq!(told, [(true, ended), (false, What::Resent)]);
        for position in 2..MOST as u64 {
            remarks.add(Position(position), None, &keys(&["a"]), ended);
        }
        assert_eq!(remarks.since, start);
        let first = remarks.remarks[0].at;
        remarks.add(Position(9999), None, &keys(&["a"]), ended);
        assert_eq!((remarks.of(Position(1)).count(), remarks.since), (1, first));
    }
}
