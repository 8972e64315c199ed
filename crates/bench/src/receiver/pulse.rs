//! Heartbeats of many connections, spread evenly, with one deadline for all of them.

/// Whose heartbeat is next, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    due: u64,
    /// Time between two connections, in ns.
    every: u64,
    turn: usize,
    connections: usize,
    /// How many are left; `None` without end.
    left: Option<usize>,
}

impl Pulse {
    /// One heartbeat of each connection within `over_ms`. `None` when there is no connection.
    pub(super) fn once(connections: usize, over_ms: u64, now: u64) -> Option<Self> {
        let pulse = Self::endless(connections, over_ms, now)?;
        Some(Self { left: Some(connections), ..pulse })
    }

    /// One heartbeat of each connection every `over_ms`.
    pub(super) fn endless(connections: usize, over_ms: u64, now: u64) -> Option<Self> {
        let every = (over_ms * 1_000_000).checked_div(connections as u64)?;
        Some(Self { due: now + every, every, turn: 0, connections, left: None })
    }

    /// When the next heartbeat is due.
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// The connection that sends it.
    pub(super) fn turn(&self) -> usize {
        self.turn
    }

    /// The one after it.
    pub(super) fn next(self) -> Option<Self> {
        let left = self.left.map(|left| left - 1);
        let turn = (self.turn + 1) % self.connections;
        (left != Some(0)).then(|| Self { due: self.due + self.every, turn, left, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_reaches_each_connection_once_and_evenly() {
        let mut beats = Vec::new();
        let mut pulse = Pulse::once(4, 2, 1000);
        while let Some(beat) = pulse {
            beats.push((beat.due(), beat.turn()));
            pulse = beat.next();
        }
        assert_eq!(beats, [(501_000, 0), (1_001_000, 1), (1_501_000, 2), (2_001_000, 3)]);
    }

    #[test]
    fn endless_ones_begin_again() {
        let mut pulse = Pulse::endless(2, 2, 0).unwrap();
        for expected in [0, 1, 0, 1, 0] {
            assert_eq!(pulse.turn(), expected);
            pulse = pulse.next().unwrap();
        }
        assert_eq!(pulse.due(), 6_000_000);
        assert!(Pulse::endless(0, 1000, 0).is_none());
    }
}
