//! The outcome of a run: a table for people (and for docs/benchmarks.md), JSON for programs.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::calibrate::Calibration;
use crate::statistics::{Pairs, Spread};

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured: which server, size and transport.
    section: String,
    /// Of that, what.
    name: String,
    /// The figure; `None` when it could not be had, and the note says why.
    value: Option<f64>,
    unit: &'static str,
    /// Least and greatest, when it was measured several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<(f64, f64)>,
    /// What it was measured in turn with.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
}

/// The other half of pairs.
#[derive(Clone, Debug, Serialize)]
struct Against {
    /// What it is: the floor, or the same run without what it is about.
    name: &'static str,
    /// Its own figure.
    value: Spread,
    /// The figure over this one, within each pair.
    ratio: Option<Spread>,
    #[serde(flatten)]
    pairs: Pairs,
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The command line.
    pub(crate) command: String,
    pub(crate) calibration: Calibration,
    pub(crate) rows: Vec<Row>,
    /// The section of each row that is added.
    #[serde(skip)]
    pub(crate) section: String,
}

impl Report {
    /// Adds a figure.
    pub(crate) fn row(&mut self, name: &str, value: impl Into<Option<f64>>, unit: &'static str) -> &mut Row {
        let row = Row {
            section: self.section.clone(),
            name: name.to_owned(),
            value: value.into().filter(|value| value.is_finite()),
            unit,
            range: None,
            against: None,
            note: String::new(),
        };
        self.rows.push(row);
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// Adds a figure that was measured several times.
    pub(crate) fn spread(&mut self, name: &str, spread: Option<Spread>, unit: &'static str) -> &mut Row {
        let row = self.row(name, spread.map(|spread| spread.median), unit);
        row.range = spread.map(|spread| (spread.low, spread.high));
        row
    }

    /// Adds a figure that was measured in turn with another, `against`: its own spread, that of the
    /// other, and the ratio of the two within each pair.
    pub(crate) fn pairs(&mut self, name: &str, pairs: &Pairs, unit: &'static str, against: &'static str) {
        let row = self.spread(name, pairs.b(), unit);
        row.against = pairs.a().map(|value| Against {
            name: against,
            value,
            ratio: pairs.ratio(),
            pairs: pairs.clone(),
        });
    }

    /// Adds the quantiles of latencies in ns.
    pub(crate) fn latency(&mut self, name: &str, latency: &Histogram<u64>) {
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            let value = (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64 / 1e6);
            self.row(&format!("{name}, {label}"), value, "ms");
        }
    }

    /// Writes the JSON.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Row {
    /// Says more about the figure.
    pub(crate) fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.note = note.into();
        self
    }

    fn cells(&self) -> [String; COLUMNS] {
        let range = |(low, high)| format!("{} to {}", digits(low), digits(high));
        let against = self.against.as_ref();
        let ratio = against.and_then(|against| against.ratio);
        [
            self.name.clone(),
            self.value.map_or("-".into(), digits),
            self.unit.into(),
            self.range.map(range).unwrap_or_default(),
            against
                .map(|against| format!("{} {}", against.name, digits(against.value.median)))
                .unwrap_or_default(),
            ratio.map(|r| format!("{} ({})", digits(r.median), range((r.low, r.high)))).unwrap_or_default(),
            self.note.clone(),
        ]
    }
}

/// A number with three significant digits, and no more digits than it needs.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v => (2.0 - v.log10().floor()).min(9.0) as usize,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if at > 0 && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    match fraction.map(|fraction| fraction.trim_end_matches('0')).filter(|fraction| !fraction.is_empty()) {
        Some(fraction) => format!("{grouped}.{fraction}"),
        None => grouped,
    }
}

const COLUMNS: usize = 7;

impl fmt::Display for Report {
    /// A table in Markdown for each section.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}\n{}", self.command, self.calibration)?;
        for rows in self.rows.chunk_by(|a, b| a.section == b.section) {
            let Some(first) = rows.first() else { continue };
            writeln!(f, "\n### {}\n", first.section)?;
            write_table(f, rows)?;
        }
        Ok(())
    }
}

/// One table, its columns aligned; those that are empty are left out.
fn write_table(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let header = ["figure", "value", "unit", "range", "against", "ratio (range)", "note"].map(String::from);
    let cells: Vec<[String; COLUMNS]> = rows.iter().map(Row::cells).collect();
    let used: Vec<usize> = (0..COLUMNS).filter(|at| cells.iter().any(|row| !row[*at].is_empty())).collect();
    let lines: Vec<&[String; COLUMNS]> = [&header].into_iter().chain(&cells).collect();
    let width = |at: usize| lines.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    for (line, row) in lines.iter().enumerate() {
        for at in &used {
            let (cell, width) = (&row[*at], width(*at));
            match at {
                1 => write!(f, "| {cell:>width$} ")?,
                _ => write!(f, "| {cell:<width$} ")?,
            }
        }
        writeln!(f, "|")?;
        if line == 0 {
            for at in &used {
                let dashes = "-".repeat(width(*at) + 1);
                let end = if *at == 1 { ':' } else { '-' };
                write!(f, "|{dashes}{end}")?;
            }
            writeln!(f, "|")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Report {
        let calibration = Calibration {
            cores: 2,
            kernel: "6.1".into(),
            send_us: 5.0,
            fdatasync_p50_ms: 0.1,
            fdatasync_p99_ms: 0.3,
            fnv1a_mb_per_s: 900.0,
        };
        Report { command: "anser-bench idle".into(), calibration, rows: Vec::new(), section: String::new() }
    }

    #[test]
    fn numbers() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (1_234_567.4, "1 234 567"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.01234, "0.0123"),
            (0.5, "0.5"),
            (-1234.0, "-1 234"),
        ] {
            assert_eq!(digits(value), text);
        }
    }

    #[test]
    fn the_table_is_aligned_and_says_what_is_missing() {
        let mut report = empty();
        report.section = "tcp".into();
        report.row("memory", 1000.0, "B");
        report.row("CPU", None, "µs").note("not known: name the processes with pid=");
        let mut pairs = Pairs::default();
        pairs.push(1.0, 1.5);
        pairs.push(2.0, 5.0);
        report.pairs("cost", &pairs, "µs", "floor");
        report.section = "websocket".into();
        report.row("memory", 2000.0, "B");
        let text = report.to_string();
        let table = |section: &str| {
            let (_, rest) = text.split_once(section).unwrap();
            rest.trim().lines().take_while(|line| line.starts_with('|')).collect::<Vec<_>>()
        };
        let tcp = table("### tcp");
        assert!(tcp.iter().all(|line| line.chars().count() == tcp[0].chars().count()), "{text}");
        assert_eq!(
            tcp[2].split('|').map(str::trim).take(4).collect::<Vec<_>>(),
            ["", "memory", "1 000", "B"]
        );
        assert!(tcp[3].contains("|     - | µs "), "{text}");
        assert!(tcp[4].contains("| 1.5 to 5 | floor 1.5 | 2 (1.5 to 2.5) |"), "{text}");
        assert_eq!(table("### websocket").len(), 3);
        assert!(!table("### websocket")[0].contains("note"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["rows"][2]["against"]["pairs"][1][1], 5.0);
        assert_eq!(json["rows"][1]["value"], serde_json::Value::Null);
    }

    #[test]
    fn what_nobody_measured_has_no_quantiles() {
        let mut report = empty();
        report.latency("post", &crate::latency::Latency::default().total());
        assert!(report.rows.iter().all(|row| row.value.is_none()));
    }
}
