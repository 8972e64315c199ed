//! What a server says of itself at /metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::ensure;

use crate::http::Client;

/// The numbers of all processes of a server at one moment, each by its name with its labels. Those of the
/// same name and labels are added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Asks each process.
    pub(crate) fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> anyhow::Result<Self> {
        let mut scrape = Self::default();
        for address in addresses {
            let answer = Client::connect(address)?.get("/metrics")?;
            ensure!(answer.status == 200, "{address} has no /metrics: {answer}");
            scrape.add(&String::from_utf8_lossy(&answer.body));
        }
        Ok(scrape)
    }

    fn add(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse::<f64>()
            {
                *self.0.entry(name.to_owned()).or_default() += value;
            }
        }
    }

    /// The sum of a metric over its labels; `None` when the server has no such metric.
    pub(crate) fn sum(&self, name: &str) -> Option<f64> {
        self.rows(name).map(|(_, value)| value).reduce(|a, b| a + b)
    }

    fn rows(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().filter_map(move |(row, value)| {
            let labels = row.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }

    /// By how much a metric has grown since an earlier moment.
    pub(crate) fn since(&self, earlier: &Self, name: &str) -> Option<f64> {
        Some(self.sum(name)? - earlier.sum(name).unwrap_or(0.0))
    }

    /// The rows of a metric that have grown since, in words: `12 full, 3 away`.
    pub(crate) fn grown(&self, earlier: &Self, name: &str) -> String {
        let grown = self.rows(name).filter_map(|(labels, value)| {
            let more = value - earlier.0.get(&format!("{name}{labels}")).unwrap_or(&0.0);
            let label = labels.split('"').nth(1).unwrap_or(name);
            (more > 0.0).then(|| format!("{more} {label}"))
        });
        grown.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# HELP anser_job_done Parcels that are done.
# TYPE anser_job_done counter
anser_job_done_total{state=\"reported\"} 10
anser_job_done_total{state=\"full\"} 2
anser_job_open 3
anser_job_open_more 70
# EOF
";

    #[test]
    fn rows_are_added_over_labels_and_processes() {
        let mut scrape = Scrape::default();
        scrape.add(BEFORE);
        scrape.add(BEFORE);
        assert_eq!(scrape.sum("anser_job_open"), Some(6.0));
        assert_eq!(scrape.sum("anser_job_done_total"), Some(24.0));
        assert_eq!(scrape.sum("anser_job"), None);
    }

    #[test]
    fn what_has_grown() {
        let (mut before, mut after) = (Scrape::default(), Scrape::default());
        before.add(BEFORE);
        after.add(&BEFORE.replace(" 2\n", " 7\n"));
        assert_eq!(after.since(&before, "anser_job_done_total"), Some(5.0));
        assert_eq!(after.grown(&before, "anser_job_done_total"), "5 full");
        assert_eq!(after.since(&before, "anser_nothing"), None);
    }
}
