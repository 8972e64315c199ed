//! What a log counts, as Prometheus sees it.

use std::fmt;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::log::AppendError;

/// Upper bounds of the histogram of syncs, in microseconds: 50 µs to 3.3 s, doubling.
const BOUNDS_MICROS: [u64; 17] = {
    let mut bounds = [0; 17];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = 50 << at;
        at += 1;
    }
    bounds
};

const REFUSED_NAMES: [&str; 5] = ["too_large", "behind", "no_space", "full", "closed"];

/// Counters of one log.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) appended: AtomicU64,
    refused: [AtomicU64; REFUSED_NAMES.len()],
    syncs: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sync_micros: AtomicU64,
}

impl Stats {
    pub(crate) fn refused(&self, cause: &AppendError) {
        let at = match cause {
            AppendError::TooLarge { .. } => 0,
            AppendError::Behind { .. } => 1,
            AppendError::NoSpace => 2,
            AppendError::Full { .. } => 3,
            AppendError::Closed => 4,
        };
        self.refused[at].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a group that was written and synced in this time.
    pub(crate) fn synced(&self, time: Duration) {
        let micros = time.as_micros() as u64;
        let at = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.syncs[at].fetch_add(1, Ordering::Relaxed);
        self.sync_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Where the numbers come from.
pub(crate) trait Source: Send + Sync {
    fn stats(&self) -> &Stats;
    /// Bytes and number of segments.
    fn size(&self) -> (u64, usize);
    /// Bytes that wait for the disk.
    fn waiting(&self) -> usize;
    /// How many positions each consumer is behind.
    fn lags(&self) -> Vec<(String, u64)>;
}

/// One metric of the log: its name without `anser_store_`, and what it counts.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name after `anser_store_`, without a counter's `_total`.
    pub name: &'static str,
    /// What it counts, its unit and its labels.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($konst:ident = $name:literal, $help:literal;)*) => {
        $(const $konst: Metric = Metric { name: $name, help: $help };)*

        /// Every metric of the log.
        pub const METRICS: &[Metric] = &[$($konst),*];
    };
}

metrics! {
    APPENDED = "appended", "Records appended to the push log";
    REFUSED = "refused", "Records that the push log did not take, by reason";
    BYTES = "bytes", "Bytes of the push log's segments";
    SEGMENTS = "segments", "Segments of the push log";
    PENDING = "pending_bytes", "Bytes that wait for the disk";
    LAG = "consumer_lag_bytes", "Bytes of the push log that a consumer is behind, by consumer; a restart skips some and adds to it";
    SYNC = "sync_seconds", "How long writing and syncing a group of records took; its count is the number of syncs";
}

struct Export(Weak<dyn Source>);

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Export")
    }
}

impl Collector for Export {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(source) = self.0.upgrade() else { return Ok(()) };
        let stats = source.stats();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConstCounter::new(load(&stats.appended)).encode(encoder.encode_descriptor(
            APPENDED.name,
            APPENDED.help,
            None,
            MetricType::Counter,
        )?)?;
        let mut refused = encoder.encode_descriptor(REFUSED.name, REFUSED.help, None, MetricType::Counter)?;
        for (name, count) in REFUSED_NAMES.iter().zip(&stats.refused) {
            ConstCounter::new(load(count)).encode(refused.encode_family(&[("reason", *name)])?)?;
        }
        let (bytes, segments) = source.size();
        for (metric, value) in
            [(BYTES, bytes as i64), (SEGMENTS, segments as i64), (PENDING, source.waiting() as i64)]
        {
            let row = encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(row)?;
        }
        let mut lags = encoder.encode_descriptor(LAG.name, LAG.help, None, MetricType::Gauge)?;
        for (name, lag) in source.lags() {
            ConstGauge::new(lag as i64).encode(lags.encode_family(&[("consumer", name.as_str())])?)?;
        }
        let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(&stats.syncs).map(|(bound, n)| (bound, load(n))).collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        encoder
            .encode_descriptor(SYNC.name, SYNC.help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(load(&stats.sync_micros) as f64 / 1e6, count, &buckets, None)
    }
}

pub(crate) fn register(source: Weak<impl Source + 'static>, registry: &mut Registry) {
    registry.sub_registry_with_prefix("anser_store").register_collector(Box::new(Export(source)));
}
