//! What logic counts, as Prometheus sees it.

use std::fmt;
use std::sync::Weak;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::Shared;

/// One metric of logic: its name without `anser_logic_`, and what it counts.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name after `anser_logic_`.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
}

const SESSIONS: Metric = Metric { name: "sessions", help: "Sessions, one for each authenticated connection" };
const USERS: Metric = Metric { name: "users", help: "Users with at least one session" };

/// Every metric of logic.
pub const METRICS: &[Metric] = &[SESSIONS, USERS];

#[derive(Debug)]
struct Export(Weak<Shared>);

impl Collector for Export {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let online = shared.sessions().online();
        for (metric, value) in [(SESSIONS, online.connections), (USERS, online.users)] {
            let row = encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Gauge)?;
            ConstGauge::new(value as i64).encode(row)?;
        }
        Ok(())
    }
}

pub(crate) fn register(shared: Weak<Shared>, registry: &mut Registry) {
    registry.sub_registry_with_prefix("anser_logic").register_collector(Box::new(Export(shared)));
}
