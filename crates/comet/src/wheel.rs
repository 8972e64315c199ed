//! Deadlines without a timer object for each connection.
//!
//! A connection has at most one entry in the wheel. Moving its deadline later costs nothing: the
//! entry is looked at when its old time comes, and goes to where the deadline is by then.

use std::collections::VecDeque;
use std::time::Duration;

use anser_wire::time::Instant;

use crate::slab::Handle;

/// Slots of the wheel. Deadlines further away than that wait in the furthest slot and move on.
const SLOTS: usize = 512;

/// Granularity of idle deadlines.
const TICK_MS: u64 = 1000;

/// A timer wheel of one second for idle deadlines.
#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Vec<Vec<Handle>>,
    /// Ticks up to and including this one have been taken.
    now: u64,
}

impl Wheel {
    pub(crate) fn new(now: Instant) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], now: now.0 / TICK_MS }
    }

    /// Arms the one entry of a connection.
    pub(crate) fn arm(&mut self, handle: Handle, deadline: Instant) {
        let tick = deadline.0.div_ceil(TICK_MS).clamp(self.now + 1, self.now + SLOTS as u64 - 1);
        self.slots[tick as usize % SLOTS].push(handle);
    }

    /// Takes the entries whose time has come. The caller arms again those that live on.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Handle> {
        let mut expired = Vec::new();
        while self.now < now.0 / TICK_MS {
            self.now += 1;
            expired.append(&mut std::mem::take(&mut self.slots[self.now as usize % SLOTS]));
        }
        expired
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Instant {
        Instant((self.now + 1) * TICK_MS)
    }
}

/// Deadlines that all lie the same time ahead when they are set, such as those of handshakes: a
/// queue is in order by itself. Granularity as fine as the owner looks.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    entries: VecDeque<(Instant, Handle)>,
}

impl Fifo {
    pub(crate) fn push(&mut self, handle: Handle, deadline: Instant) {
        self.entries.push_back((deadline, handle));
    }

    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<Handle> {
        let (deadline, handle) = *self.entries.front()?;
        if deadline > now {
            return None;
        }
        self.entries.pop_front();
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
        Some(handle)
    }

    /// When to look again: not more often than every 100 ms.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let (deadline, _) = self.entries.front()?;
        Some((*deadline).max(now + Duration::from_millis(100)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn handle(slot: u32) -> Handle {
        Handle { slot, generation: 0 }
    }

    proptest! {
        /// No entry comes before its deadline, none is later than one tick, however far away it is
        /// and however the clock jumps.
        #[test]
        fn entries_come_in_their_second(
            start in 0u64..5000,
            delays in prop::collection::vec(0u64..2_000_000, 1..50),
            step in 1u64..5000,
        ) {
            let mut wheel = Wheel::new(Instant(start));
            let deadlines: Vec<u64> = delays.iter().map(|delay| start + delay).collect();
            for (slot, deadline) in deadlines.iter().enumerate() {
                wheel.arm(handle(slot as u32), Instant(*deadline));
            }
            let mut seen = vec![false; deadlines.len()];
            let mut now = start;
            while now < start + 2_010_000 {
                now += step;
                for handle in wheel.expired(Instant(now)) {
                    let deadline = deadlines[handle.slot as usize];
                    if deadline > now {
                        wheel.arm(handle, Instant(deadline));
                    } else {
                        prop_assert!(now < deadline + TICK_MS + step);
                        seen[handle.slot as usize] = true;
                    }
                }
            }
            prop_assert!(seen.iter().all(|seen| *seen));
        }
    }

    #[test]
    fn a_queue_gives_only_what_is_due() {
        let mut fifo = Fifo::default();
        fifo.push(handle(1), Instant(100));
        fifo.push(handle(2), Instant(200));
        assert_eq!(fifo.pop_expired(Instant(99)), None);
        assert_eq!(fifo.pop_expired(Instant(100)), Some(handle(1)));
        assert_eq!(fifo.pop_expired(Instant(100)), None);
        assert_eq!(fifo.next(Instant(100)), Some(Instant(200)));
        assert_eq!(fifo.next(Instant(150)), Some(Instant(250)));
    }
}
