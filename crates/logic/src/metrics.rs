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
use crate::auth::Stats;

anser_api::metrics! {
    SESSIONS = "sessions", "Sessions, one for each authenticated connection";
    USERS = "users", "Users with at least one session";
    COMETS = "comets", "Comets that have been heard of lately";
    DROPPED = "sessions_dropped", "Sessions that were dropped because their comet was silent, or started anew";
    RECEIVED = "received", "Packets with an operation of the application, from clients";
    RECEIVED_BYTES = "received_bytes", "Bytes in the bodies of those";
    AUTH_REFUSED = "auth_refused", "Clients that were not let in, by reason";
    JWKS_FETCHES = "jwks_fetches", "Times that logic.jwks_url was asked for its keys";
    JWKS_FAILURES = "jwks_failures", "Times that logic.jwks_url was asked and gave no keys";
    WEBHOOK_REQUESTS = "webhook_requests", "Times that logic.webhook_url was asked about a client";
    WEBHOOK_FAILURES = "webhook_failures", "Times that logic.webhook_url was asked and gave no decision";
}

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
        encode_auth(shared.auth.stats(), &mut encoder)
    }
}

fn encode_auth(stats: &Stats, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    for (metric, counter) in [
        (JWKS_FETCHES, &stats.jwks_fetches),
        (JWKS_FAILURES, &stats.jwks_failures),
        (WEBHOOK_REQUESTS, &stats.webhook_requests),
        (WEBHOOK_FAILURES, &stats.webhook_failures),
    ] {
        let row = encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Counter)?;
        ConstCounter::new(counter.load(Ordering::Relaxed)).encode(row)?;
    }
    let (name, help) = (AUTH_REFUSED.name, AUTH_REFUSED.help);
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, count) in stats.refused() {
        ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
    }
    Ok(())
}

pub(crate) fn register(shared: Weak<Shared>, registry: &mut Registry) {
    registry.sub_registry_with_prefix("anser_logic").register_collector(Box::new(Export(shared)));
}
