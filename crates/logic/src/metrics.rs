//! What logic counts, as Prometheus sees it.

use std::fmt;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::Shared;

/// One metric of logic: its name without `anser_logic_`, and what it counts.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name after `anser_logic_`, without a counter's `_total`.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
}

const SESSIONS: Metric = Metric { name: "sessions", help: "Sessions, one for each authenticated connection" };
const USERS: Metric = Metric { name: "users", help: "Users with at least one session" };
const COMETS: Metric = Metric { name: "comets", help: "Comets that have been heard of lately" };
const DROPPED: Metric = Metric {
    name: "sessions_dropped",
    help: "Sessions that were dropped because their comet was silent, or started anew",
};
const RECEIVED: Metric =
    Metric { name: "received", help: "Packets with an operation of the application, from clients" };
const RECEIVED_BYTES: Metric = Metric { name: "received_bytes", help: "Bytes in the bodies of those" };

/// Every metric of logic.
pub const METRICS: &[Metric] = &[SESSIONS, USERS, COMETS, DROPPED, RECEIVED, RECEIVED_BYTES];

/// What only grows.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) dropped: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
}

#[derive(Debug)]
struct Export(Weak<Shared>);

impl Collector for Export {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        shared.bury();
        let ((sessions, users), comets) = {
            let state = shared.state();
            (state.sessions.count(), state.comets.len())
        };
        for (metric, value) in [(SESSIONS, sessions), (USERS, users), (COMETS, comets as u64)] {
            let row = encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Gauge)?;
            ConstGauge::new(value as i64).encode(row)?;
        }
        let Counts { dropped, received, received_bytes } = &shared.counts;
        for (metric, value) in [(DROPPED, dropped), (RECEIVED, received), (RECEIVED_BYTES, received_bytes)] {
            let row = encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Counter)?;
            ConstCounter::new(value.load(Ordering::Relaxed)).encode(row)?;
        }
        Ok(())
    }
}

pub(crate) fn register(shared: Weak<Shared>, registry: &mut Registry) {
    registry.sub_registry_with_prefix("anser_logic").register_collector(Box::new(Export(shared)));
}
