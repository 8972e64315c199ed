//! Medians, ranges, and ratios of pairs.

use serde::Serialize;

/// A median and the range around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The middle one; the mean of the two middle ones when their number is even.
    pub(crate) median: f64,
    /// The least.
    pub(crate) low: f64,
    /// The greatest.
    pub(crate) high: f64,
}

impl Spread {
    /// Of some figures; `None` when there are none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (low, high) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = match figures.len() % 2 {
            0 => f64::midpoint(figures[middle - 1], figures[middle]),
            _ => figures[middle],
        };
        Some(Self { median, low, high })
    }
}

/// Two things measured in turn: A B A B ...
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Pairs {
    /// One (A, B) for each turn.
    pub(crate) pairs: Vec<(f64, f64)>,
}

impl Pairs {
    /// Adds a turn.
    pub(crate) fn push(&mut self, a: f64, b: f64) {
        self.pairs.push((a, b));
    }

    /// Of all A.
    pub(crate) fn a(&self) -> Option<Spread> {
        Spread::of(self.pairs.iter().map(|pair| pair.0))
    }

    /// Of all B.
    pub(crate) fn b(&self) -> Option<Spread> {
        Spread::of(self.pairs.iter().map(|pair| pair.1))
    }

    /// Of B - A in each turn.
    pub(crate) fn difference(&self) -> Option<Spread> {
        Spread::of(self.pairs.iter().map(|pair| pair.1 - pair.0))
    }

    /// Of B / A in each turn, which cancels what a neighbour on the machine did to both.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        Spread::of(self.pairs.iter().filter(|pair| pair.0 > 0.0).map(|pair| pair.1 / pair.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let check = |figures: &[f64], expected: Option<(f64, f64, f64)>| {
            let spread = Spread::of(figures.iter().copied());
            assert_eq!(spread.map(|s| (s.median, s.low, s.high)), expected, "{figures:?}");
        };
        check(&[], None);
        check(&[2.0], Some((2.0, 2.0, 2.0)));
        check(&[9.0, 1.0, 3.0], Some((3.0, 1.0, 9.0)));
        check(&[4.0, 1.0, 3.0, 2.0], Some((2.5, 1.0, 4.0)));
    }

    #[test]
    fn the_ratio_is_taken_within_a_turn() {
        let mut pairs = Pairs::default();
        for (a, b) in [(1.0, 2.0), (10.0, 20.0), (100.0, 300.0), (0.0, 5.0)] {
            pairs.push(a, b);
        }
        assert_eq!(pairs.ratio(), Some(Spread { median: 2.0, low: 2.0, high: 3.0 }));
        assert_eq!(pairs.difference().map(|d| (d.low, d.high)), Some((1.0, 200.0)));
        assert_eq!(pairs.a().map(|a| a.median), Some(5.5));
        assert_eq!(pairs.b().map(|b| b.high), Some(300.0));
    }
}
