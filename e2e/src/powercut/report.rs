//! What a life did, what a cut took, and where cuts were.

use std::collections::BTreeMap;
use std::fmt;

use super::cut::{Cut, When};
use super::disk::Loss;
use super::places;
use super::record::{Event, Record};

/// What is known after a life.
#[derive(Clone, Debug)]
pub struct Report {
    seed: u64,
    life: u32,
    struck: Vec<Cut>,
    operations: BTreeMap<&'static str, u64>,
    losses: Vec<Loss>,
}

impl Report {
    pub(super) fn new(seed: u64, life: u32, records: &[Record]) -> Self {
        let names = places::names();
        let mut report =
            Self { seed, life, struck: Vec::new(), operations: BTreeMap::new(), losses: Vec::new() };
        for record in records {
            let place = names.get(record.place).copied().unwrap_or_default();
            match record.event {
                Event::Struck { nth, action } => {
                    report.struck.push(Cut::at(place, nth).when(When::from_number(action)));
                }
                Event::Hello | Event::Synced { .. } | Event::Strange { .. } => {}
                _ => *report.operations.entry(place).or_default() += 1,
            }
        }
        report
    }

    pub(super) fn lose(&mut self, losses: Vec<Loss>) {
        self.losses = losses;
    }

    /// The cuts and failures that came about; none of those whose operation never came.
    pub fn struck(&self) -> &[Cut] {
        &self.struck
    }

    /// How many operations there were at each place.
    pub fn operations(&self) -> &BTreeMap<&'static str, u64> {
        &self.operations
    }

    /// What the disk has lost, in words. It need not matter: most of it nobody was promised.
    pub fn losses(&self) -> Vec<String> {
        self.losses.iter().map(ToString::to_string).collect()
    }
}

/// What one wants to know of a life when a test has failed.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, life {}", self.seed, self.life)?;
        for cut in &self.struck {
            write!(f, ", {cut}")?;
        }
        for loss in &self.losses {
            write!(f, "\n  {loss}")?;
        }
        Ok(())
    }
}

/// Counts cuts by place, over many lives. Printing it gives a table.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    struck: BTreeMap<(&'static str, When), u64>,
    operations: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Counts what a life has seen.
    pub fn add(&mut self, report: &Report) {
        for cut in &report.struck {
            *self.struck.entry((cut.place(), cut.moment())).or_default() += 1;
        }
        for (place, count) in &report.operations {
            *self.operations.entry(place).or_default() += count;
        }
    }

    /// Places whose names begin so, where there were operations and never a cut.
    pub fn never_cut(&self, prefix: &str) -> Vec<&'static str> {
        let places = self.operations.keys().copied().filter(|place| place.starts_with(prefix));
        places.filter(|place| When::CUTS.iter().all(|when| self.count(place, *when) == 0)).collect()
    }

    /// How many cuts there were.
    pub fn cuts(&self) -> u64 {
        let cuts = self.struck.iter().filter(|((_, when), _)| When::CUTS.contains(when));
        cuts.map(|(_, count)| count).sum()
    }

    fn count(&self, place: &'static str, when: When) -> u64 {
        self.struck.get(&(place, when)).copied().unwrap_or(0)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22}{:>10}", "place", "operations")?;
        for when in When::ALL {
            write!(f, "{when:>8}")?;
        }
        for place in places::names() {
            let operations = self.operations.get(place).copied().unwrap_or(0);
            let struck = When::ALL.map(|when| self.count(place, when));
            if operations == 0 && struck == [0; 4] {
                continue;
            }
            write!(f, "\n{place:<22}{operations:>10}")?;
            for count in struck {
                write!(f, "{count:>8}")?;
            }
        }
        Ok(())
    }
}
