//! What the process measures of itself, as Prometheus sees it.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::files::Plan;

anser_api::metrics! {
    BUILD = "anser_build_info", "Always 1, with the version";
    START = "anser_process_start_seconds", "When the process started, in seconds since 1970";
    RESIDENT = "anser_process_resident_bytes", "Memory that the process has in use";
    FILES = "anser_process_open_files_limit", "How many files the process may open";
    CONNECTIONS = "anser_process_connections_limit", "How many connections of clients are allowed, by comet.max_connections and the limit on open files";
}

#[derive(Debug)]
struct Export {
    started: SystemTime,
    files: u64,
    connections: usize,
}

impl Collector for Export {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut build = encoder.encode_descriptor(BUILD.name, BUILD.help, None, MetricType::Gauge)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1_i64).encode(build.encode_family(&version)?)?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let start = encoder.encode_descriptor(START.name, START.help, None, MetricType::Gauge)?;
        ConstGauge::new(started).encode(start)?;
        for (metric, value) in
            [(RESIDENT, resident().unwrap_or(0)), (FILES, self.files), (CONNECTIONS, self.connections as u64)]
        {
            let row = encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(row)?;
        }
        Ok(())
    }
}

/// Puts the metrics into a registry.
pub(crate) fn register(registry: &mut Registry, plan: &Plan) {
    let export = Export { started: SystemTime::now(), files: plan.limit, connections: plan.clients };
    registry.register_collector(Box::new(export));
}

/// Memory in use, in bytes.
fn resident() -> Option<u64> {
    let pages = of_statm(&fs::read_to_string("/proc/self/statm").ok()?)?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The second number is what is resident, in pages.
fn of_statm(text: &str) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory() {
        assert_eq!(of_statm("57083 2531 1811 4600 0 9001 0\n"), Some(2531));
        assert_eq!(of_statm(""), None);
        assert!(resident().unwrap() > 1 << 20, "a process needs a megabyte");
    }
}
