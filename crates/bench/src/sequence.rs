//! Whether one connection gets the messages of one stream once each, and in order.

use serde::{Deserialize, Serialize};

/// What one connection has got of one stream, in 16 bytes: a fleet holds thousands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Track {
    /// The number that should come next.
    next: u64,
    /// Bit n: the number `next - 2 - n` has not come. (`next - 1` always has.)
    missing: u64,
}

/// What a number says about the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one.
    InOrder,
    /// So many before it have not come, yet.
    Ahead(u64),
    /// One that was missing, after its successor.
    Late,
    /// One that was here before (or was skipped more than 64 numbers ago).
    Again,
}

impl Track {
    /// Takes the number of the message that has just come.
    pub(crate) fn take(&mut self, seq: u64) -> Verdict {
        if seq == self.next {
            self.next += 1;
            self.missing <<= 1;
            return Verdict::InOrder;
        }
        if seq > self.next {
            let skipped = seq - self.next;
            self.missing = match skipped {
                0..63 => self.missing << (skipped + 1) | ((1 << skipped) - 1),
                63 => u64::MAX >> 1,
                _ => u64::MAX,
            };
            self.next = seq + 1;
            return Verdict::Ahead(skipped);
        }
        let bit = match self.next - seq {
            age @ 2..66 => 1 << (age - 2),
            _ => 0,
        };
        if self.missing & bit == 0 {
            return Verdict::Again;
        }
        self.missing &= !bit;
        Verdict::Late
    }
}

/// The verdicts over all connections and streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Times that a connection skipped numbers.
    pub(crate) gaps: u64,
    /// Numbers skipped and not seen since.
    pub(crate) missing: u64,
    /// Numbers that came after their successor.
    pub(crate) late: u64,
    /// Numbers that came again.
    pub(crate) again: u64,
}

impl Order {
    /// Counts one verdict.
    pub(crate) fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::InOrder => {}
            Verdict::Ahead(skipped) => {
                self.gaps += 1;
                self.missing += skipped;
            }
            Verdict::Late => {
                self.late += 1;
                self.missing = self.missing.saturating_sub(1);
            }
            Verdict::Again => self.again += 1,
        }
    }

    /// The sum over fleets.
    pub(crate) fn add(&mut self, other: Self) {
        self.gaps += other.gaps;
        self.missing += other.missing;
        self.late += other.late;
        self.again += other.again;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use Verdict::{Again, Ahead, InOrder, Late};
        let check = |numbers: &[(u64, Verdict)]| {
            let mut track = Track::default();
            for (at, (seq, expected)) in numbers.iter().enumerate() {
                assert_eq!(track.take(*seq), *expected, "number {seq} at {at} of {numbers:?}");
            }
        };
        check(&[(0, InOrder), (1, InOrder), (2, InOrder)]);
        check(&[(0, InOrder), (0, Again), (1, InOrder)]);
        check(&[(3, Ahead(3)), (0, Late), (2, Late), (1, Late), (1, Again), (4, InOrder)]);
        check(&[(0, InOrder), (2, Ahead(1)), (4, Ahead(1)), (1, Late), (3, Late), (3, Again)]);
        check(&[(0, InOrder), (2, Ahead(1)), (3, InOrder), (1, Late), (1, Again)]);
        check(&[(62, Ahead(62)), (0, Late), (0, Again), (61, Late), (62, Again)]);
        check(&[(63, Ahead(63)), (0, Late), (64, InOrder)]);
        check(&[(64, Ahead(64)), (0, Late)]);
        check(&[(65, Ahead(65)), (0, Again), (1, Late)]);
        check(&[(1000, Ahead(1000)), (1001, InOrder), (10, Again), (999, Late)]);
    }

    #[test]
    fn what_comes_late_is_no_longer_missing() {
        let mut order = Order::default();
        for verdict in [Verdict::Ahead(3), Verdict::Late, Verdict::InOrder, Verdict::Again] {
            order.count(verdict);
        }
        assert_eq!(order, Order { gaps: 1, missing: 2, late: 1, again: 1 });
    }
}
