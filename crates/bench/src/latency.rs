//! Latencies: recorded second by second in the fleets, merged by the parent.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Least and greatest latency that is told apart, in ns. What is greater counts as the greatest: a
/// run that gets there has other troubles.
const BOUNDS: (u64, u64) = (100, 120_000_000_000);

/// Significant decimal digits: 0.1 % of a value. With them a histogram takes 90 kB of 4-byte counts.
const DIGITS: u8 = 3;

const SECOND: u64 = 1_000_000_000;

/// The window of which the worst is reported, in seconds.
pub(crate) const WINDOW: u64 = 10;

fn histogram<T: hdrhistogram::Counter>() -> Histogram<T> {
    Histogram::new_with_bounds(BOUNDS.0, BOUNDS.1, DIGITS).expect("the bounds are constants in order")
}

/// What arrives, a histogram for each second. One record for a message, no allocation but once a second.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// The seconds, by the common clock, in which something arrived.
    seconds: Vec<(u64, Histogram<u32>)>,
    /// When the last histogram ends, in ns: a comparison in place of a division for each message.
    ends: u64,
}

impl Recorder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { seconds: Vec::new(), ends: 0 }
    }

    /// Records a message that arrived at `now` and was due at `at`. `now` never goes back.
    pub(crate) fn record(&mut self, now: u64, at: u64) {
        if now >= self.ends {
            let second = now / SECOND;
            self.seconds.push((second, histogram()));
            self.ends = (second + 1) * SECOND;
        }
        if let Some((_, last)) = self.seconds.last_mut() {
            last.saturating_record(now.saturating_sub(at));
        }
    }

    /// What was recorded, to be sent to the parent.
    pub(crate) fn take(&mut self) -> Recorded {
        let seconds = self
            .seconds
            .drain(..)
            .map(|(second, histogram)| {
                let pairs = histogram.iter_recorded();
                (second, pairs.map(|v| (v.value_iterated_to(), v.count_at_value() as u64)).collect())
            })
            .collect();
        self.ends = 0;
        Recorded { seconds }
    }
}

/// Latencies on the way between processes: for each second the values that occurred, and how often.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recorded {
    seconds: Vec<(u64, Vec<(u64, u64)>)>,
}

/// Latencies of all fleets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency {
    seconds: BTreeMap<u64, Histogram<u64>>,
}

/// The worst ten seconds of a run: the worst of each figure, which need not be the same ten.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Worst {
    /// The greatest p99 of any ten seconds, in ns.
    pub(crate) p99: u64,
    /// The fewest messages of any ten seconds.
    pub(crate) count: u64,
}

impl Latency {
    /// Adds what one fleet recorded.
    pub(crate) fn add(&mut self, recorded: &Recorded) {
        for (second, pairs) in &recorded.seconds {
            let histogram = self.seconds.entry(*second).or_insert_with(histogram);
            for (value, count) in pairs {
                histogram.saturating_record_n(*value, *count);
            }
        }
    }

    /// Adds another run's.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (second, histogram) in &other.seconds {
            self.seconds.entry(*second).or_insert_with(self::histogram).add(histogram).expect("same bounds");
        }
    }

    /// Adds one value, at a time that no window is taken of.
    pub(crate) fn record(&mut self, value: u64) {
        self.seconds.entry(0).or_insert_with(histogram).saturating_record(value);
    }

    /// All seconds in one.
    pub(crate) fn total(&self) -> Histogram<u64> {
        let mut total = histogram();
        for second in self.seconds.values() {
            total.add(second).expect("same bounds");
        }
        total
    }

    /// The worst ten seconds; `None` when the run has no ten whole seconds. The first and the last
    /// second are left out: the run did not fill them.
    pub(crate) fn worst(&self) -> Option<Worst> {
        let (first, last) = (self.seconds.keys().next()? + 1, self.seconds.keys().next_back()? - 1);
        let windows = (first..).take_while(|start| start + WINDOW - 1 <= last).map(|start| {
            let mut window: Histogram<u64> = histogram();
            for (_, second) in self.seconds.range(start..start + WINDOW) {
                window.add(second).expect("same bounds");
            }
            Worst { p99: window.value_at_quantile(0.99), count: window.len() }
        });
        windows.reduce(|a, b| Worst { p99: a.p99.max(b.p99), count: a.count.min(b.count) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(rows: &[(u64, u64, u64)]) -> Recorded {
        let mut recorder = Recorder::new();
        for (second, latency, count) in rows {
            for _ in 0..*count {
                recorder.record(second * SECOND + latency, second * SECOND);
            }
        }
        recorder.take()
    }

    #[test]
    fn fleets_are_merged_second_by_second() {
        let mut latency = Latency::default();
        latency.add(&recorded(&[(5, 1000, 2), (7, 9000, 1)]));
        latency.add(&recorded(&[(5, 2000, 1), (6, 3000, 1)]));
        let total = latency.total();
        assert_eq!(total.len(), 5);
        assert!(total.max().abs_diff(9000) < 100, "{}", total.max());
        assert!(total.value_at_quantile(0.5).abs_diff(2000) < 100);
        assert_eq!(latency.seconds.keys().copied().collect::<Vec<_>>(), [5, 6, 7]);
    }

    #[test]
    fn a_recorder_starts_anew_after_each_report() {
        let mut recorder = Recorder::new();
        recorder.record(3 * SECOND, 3 * SECOND - 500);
        assert_eq!(recorder.take().seconds.len(), 1);
        recorder.record(9 * SECOND, 9 * SECOND - 500);
        let again = recorder.take();
        assert_eq!(again.seconds.iter().map(|(second, _)| *second).collect::<Vec<_>>(), [9]);
    }

    /// Second 0 and second 13 are the ends, so seconds 1 to 10, 2 to 11 and 3 to 12 are windows.
    #[test]
    fn the_worst_window_slides() {
        let mut rows: Vec<(u64, u64, u64)> = (0..14).map(|second| (second, 1000, 100)).collect();
        rows[0] = (0, 900_000, 100);
        rows[12] = (12, 50_000, 20);
        let mut latency = Latency::default();
        latency.add(&recorded(&rows));
        let worst = latency.worst().unwrap();
        assert_eq!(worst.count, 920);
        assert!(worst.p99.abs_diff(50_000) < 100, "{worst:?}");
        latency.seconds.retain(|second, _| *second < 11);
        assert_eq!(latency.worst(), None);
    }

    #[test]
    fn a_message_from_the_future_counts_as_immediate() {
        let mut recorder = Recorder::new();
        recorder.record(SECOND, 2 * SECOND);
        let mut latency = Latency::default();
        latency.add(&recorder.take());
        assert_eq!(latency.total().len(), 1);
    }
}
