//! What `/metrics` says.

use std::collections::BTreeMap;

/// Every sample of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
    /// By name without `anser_` and `_total`, then by the value of the one label that there is, or "".
    samples: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Metrics {
    /// Reads the text format. Parts of histograms are samples of their own names.
    pub(crate) fn parse(text: &str) -> Self {
        let mut samples: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let name = family.split(' ').next().expect("a type belongs to a name");
                samples.entry(short(name).to_owned()).or_default();
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
                let (name, label) = name.split_once('{').unwrap_or((name, ""));
                let label = label.split('"').nth(1).unwrap_or_default();
                // Only sums of histograms are no whole numbers.
                let value = value.parse::<f64>().expect("values are numbers") as i64;
                samples.entry(short(name).to_owned()).or_default().insert(label.to_owned(), value);
            }
        }
        Self { text: text.to_owned(), samples }
    }

    /// The sum over all labels of a metric, such as `comet_connections`. One that does not exist is an
    /// error of the test; one without samples is 0.
    #[track_caller]
    pub fn get(&self, name: &str) -> i64 {
        self.family(name).values().sum()
    }

    /// The sample with this value of its label; 0 if there is none.
    #[track_caller]
    pub fn labelled(&self, name: &str, label: &str) -> i64 {
        self.family(name).get(label).copied().unwrap_or(0)
    }

    /// The labels that have counted something, with their counts.
    #[track_caller]
    pub fn labels(&self, name: &str) -> Vec<(&str, i64)> {
        let counted = self.family(name).iter().filter(|(_, count)| **count != 0);
        counted.map(|(label, count)| (&**label, *count)).collect()
    }

    /// Whether all that a job had to do is done, and adds up: what was fed is the sum of what was done by
    /// state, and nothing is open. If not, how it stands.
    pub fn job_balance(&self) -> Result<(), String> {
        let (fed, done, open) = (self.get("job_fed"), self.get("job_done"), self.get("job_open"));
        let returning = self.get("job_returning");
        let states = self.labels("job_done");
        balance(open == 0 && returning == 0 && fed == done, || {
            format!("fed {fed}, done {done} ({states:?}), open {open}, returning {returning}")
        })
    }

    /// Whether every delivery that a comet was to make is accounted for, and none waits. If not, how it
    /// stands.
    pub fn comet_balance(&self) -> Result<(), String> {
        let due = self.get("comet_due");
        let parts = ["delivered", "filtered", "absent", "lost", "pulled", "waiting"]
            .map(|name| (name, self.get(&format!("comet_{name}"))));
        let waiting = self.get("comet_waiting");
        let sum: i64 = parts.iter().map(|(_, count)| count).sum();
        balance(due == sum && waiting == 0, || format!("due {due}, and not {sum}: {parts:?}"))
    }

    /// The scrape itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    #[track_caller]
    fn family(&self, name: &str) -> &BTreeMap<String, i64> {
        self.samples.get(name).unwrap_or_else(|| panic!("there is no metric anser_{name}:\n{}", self.text))
    }
}

fn balance(holds: bool, how: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(how()) }
}

fn short(name: &str) -> &str {
    name.trim_start_matches("anser_").trim_end_matches("_total")
}
