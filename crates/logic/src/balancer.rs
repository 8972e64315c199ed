//! To which comet the next client had better go: goim's formula, number by number.
//!
//! A comet's share of the weights is set against half of its share of the connections; what is left, in
//! connections, and its weight are its score. So comets of equal weight come to hold equally many, and a
//! comet of twice the weight attracts more. A comet in the client's region has its weight multiplied.

use std::cmp::Reverse;

/// Most comets that a client is told of.
const TOLD: usize = 5;

/// The region that clients are taken to be in. goim has a place for finding it out, which always says "":
/// only comets without a region are nearer than others.
pub(crate) const REGION: &str = "";

/// Lowest score of a comet with more than its share, and highest of one with less.
const BOUNDS: (i64, i64) = (1, 1 << 20);

/// A comet that takes clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) weight: u32,
    pub(crate) connections: u64,
    pub(crate) region: &'a str,
}

/// The candidates, best first, at most five, by their places. Those with equal scores come in any order.
pub(crate) fn best(candidates: &[Candidate<'_>], region: &str, gain: f64) -> Vec<usize> {
    let scores = scores(candidates, region, gain);
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    fastrand::shuffle(&mut order);
    order.sort_by_key(|at| Reverse(scores[*at]));
    order.truncate(TOLD);
    order
}

/// How much each candidate wants the next client. `gain` multiplies the weight of those in `region`.
fn scores(candidates: &[Candidate<'_>], region: &str, gain: f64) -> Vec<i64> {
    let weights: i64 = candidates.iter().map(|candidate| i64::from(candidate.weight)).sum();
    let connections: u64 = candidates.iter().map(|candidate| candidate.connections).sum();
    let connections = connections as f64;
    let score = |candidate: &Candidate<'_>| {
        if connections == 0.0 {
            return 0;
        }
        let weight = f64::from(candidate.weight) * if candidate.region == region { gain } else { 1.0 };
        let all = weights + weight as i64 - i64::from(candidate.weight);
        // Without any weight nobody has a share.
        let share = if all == 0 { 0.0 } else { weight / all as f64 };
        let difference = share - 0.5 * candidate.connections as f64 / connections;
        let missing = difference * connections;
        let (below, above) = (missing.floor(), missing.ceil());
        let score = (weight + if missing - below <= 0.5 { below } else { above }) as i64;
        if difference < 0.0 { score.max(BOUNDS.0) } else { score.min(BOUNDS.1) }
    };
    candidates.iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn candidates(rows: &[(u32, u64, &'static str)]) -> Vec<Candidate<'static>> {
        let candidate = |&(weight, connections, region)| Candidate { weight, connections, region };
        rows.iter().map(candidate).collect()
    }

    /// Computed by hand from goim's formula, and chosen so that no step needs rounding in binary.
    #[test]
    fn scores_are_goims() {
        for (rows, expected) in [
            // Nobody is connected.
            (&[(10, 0, "sh"), (20, 0, "sh")][..], &[0, 0][..]),
            // (20 of 40 weights - half of 120 of 160 connections) x 160 = 20, and 10 for the weight.
            (&[(10, 120, "sh"), (10, 40, "sh")], &[30, 70]),
            // 1.5 and 0.5 connections are missing: halves go down.
            (&[(1, 1, "sh"), (1, 3, "sh")], &[2, 1]),
            // 0.75 is missing: up. 0.25: down.
            (&[(3, 0, "sh"), (5, 2, "sh")], &[4, 5]),
            // 3.2 too many: -3, so -2 with the weight, but at least 1. 7.2 missing.
            (&[(1, 8, "sh"), (9, 0, "sh")], &[1, 16]),
            // As many as a comet may miss.
            (&[(1, 0, "sh"), (1, 8_000_000, "sh")], &[1 << 20, 1]),
            // 10 x 1.6 = 16 of 26, less half: 3 of 26. The other's share is of the weights as they are.
            (&[(10, 26, ""), (10, 0, "sh")], &[19, 23]),
            // 3 x 1.6 = 4.8, which counts as 4 in the sum of 10 - 3 + 4 = 11: 4.8 / 11 x 11 = 4.8, up to 5;
            // 4.8 + 5 is cut to 9. The other: 7 / 10 x 11 - 5.5 = 2.2, down to 2.
            (&[(3, 0, ""), (7, 11, "sh")], &[9, 9]),
            // Without weights, and without comets.
            (&[(0, 1, "sh"), (0, 1, "sh")], &[1, 1]),
            (&[], &[]),
        ] {
            assert_eq!(scores(&candidates(rows), REGION, 1.6), expected, "{rows:?}");
        }
    }

    #[test]
    fn five_are_told_and_equal_ones_in_any_order() {
        let rows = [(10, 8, "sh"), (10, 4, "sh"), (10, 0, "sh"), (10, 8, "sh"), (10, 4, "sh"), (10, 8, "sh")];
        let firsts = |_| {
            let best = best(&candidates(&rows), REGION, 1.6);
            assert_eq!(best[0], 2, "the emptiest is the first");
            assert_eq!(best.len(), TOLD);
            best
        };
        let orders: BTreeSet<Vec<usize>> = (0..200).map(firsts).collect();
        let seconds: BTreeSet<usize> = orders.iter().map(|order| order[1]).collect();
        assert_eq!(seconds, [1, 4].into());
        let last: BTreeSet<usize> = orders.iter().map(|order| order[4]).collect();
        assert_eq!(last, [0, 3, 5].into());
    }
}
