//! What the edge counts, and how Prometheus sees it.
//!
//! Workers add to these numbers once a turn, not once a delivery.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anser_api::metrics::Metric;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::shared::Shared;

/// Upper bounds of the latency histogram, in microseconds: 50 µs to 13 s, doubling.
const BOUNDS_MICROS: [u64; 19] = {
    let mut bounds = [0; 19];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = 50 << at;
        at += 1;
    }
    bounds
};

/// How long deliveries took, as counts between bounds.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts `n` deliveries that took `time` each.
    pub(crate) fn record(&self, time: Duration, n: u64) {
        let micros = time.as_micros() as u64;
        let at = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.counts[at].fetch_add(n, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros * n, Ordering::Relaxed);
    }
}

/// Why a push did not reach a connection that it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The connection's queue was full.
    Overflow,
    /// The connection was closed for the budget of all outbound bytes.
    Budget,
    /// The connection closed while the push waited for it.
    Closed,
    /// The server ended before the push had its turn.
    Draining,
    /// Its time had come before its turn.
    Expired,
}

const LOST_NAMES: [&str; 5] = ["overflow", "budget", "closed", "draining", "expired"];

/// Counters of one comet.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Sockets taken from the kernel, and not refused at once.
    pub(crate) accepted: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    /// Authenticated connections, by transport: tcp, websocket, foreign.
    pub(crate) online: [AtomicU64; 3],
    /// Authentications that were refused.
    pub(crate) logins_refused: AtomicU64,
    /// Pushes taken from the API.
    pub(crate) pushes: AtomicU64,
    /// Pushes refused because a queue was full.
    pub(crate) pushes_refused: AtomicU64,
    /// Deliveries that were to be made: the sum of those made, passed over, absent, lost, pulled and waiting.
    pub(crate) due: AtomicU64,
    /// Pushes wholly written, once for each connection.
    pub(crate) delivered: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    /// System calls that wrote.
    pub(crate) writes: AtomicU64,
    /// Packets from clients.
    pub(crate) packets: AtomicU64,
    /// Packets for the application for which it had no place.
    pub(crate) receive_lost: AtomicU64,
    /// Pushes passed over because a connection does not take their operation.
    pub(crate) filtered: AtomicU64,
    /// Keys of pushes that were not here.
    pub(crate) absent: AtomicU64,
    /// Pushes left to be pulled, as their receiver was behind.
    pub(crate) pulled: AtomicU64,
    /// Pushes that wait for a connection, once for each.
    pub(crate) waiting: AtomicU64,
    lost: [AtomicU64; LOST_NAMES.len()],
    /// Connections that were put behind.
    pub(crate) behind: AtomicU64,
    pub(crate) latency: Histogram,
    closed: Mutex<BTreeMap<&'static str, u64>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Stats {
    pub(crate) fn lost(&self, why: Lost, n: u64) {
        if n > 0 {
            self.lost[why as usize].fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Authenticated connections.
    pub(crate) fn online(&self) -> u64 {
        self.online.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// Counts a connection that ended.
    pub(crate) fn closed(&self, why: &'static str) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    /// Counts a connection that was not let in.
    pub(crate) fn refused(&self, limit: &'static str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(limit).or_default() += 1;
    }
}

anser_api::metrics! {
    CONNECTIONS = "connections", "Authenticated connections, by transport (foreign: one that a task serves)";
    OPEN = "sockets_open", "Connections that are open, authenticated or not";
    ACCEPTED = "accepted", "Connections that were let in, to authenticate";
    ACCEPT_ERRORS = "accept_errors", "Errors of accept, such as no free descriptor";
    REFUSED = "refused", "Connections closed as soon as they came, by the limit that did it";
    LOGINS_REFUSED = "logins_refused", "Authentications that were refused";
    CLOSED = "closed", "Connections that ended, by reason";
    ROOMS = "rooms", "Rooms with members";
    PACKETS = "packets", "Packets from authenticated clients";
    RECEIVE_LOST = "receive_lost", "Packets with an operation of the application that it had no place for";
    PUSHES = "pushes", "Pushes taken from the API";
    PUSHES_REFUSED = "pushes_refused", "Pushes refused because a queue was full";
    DUE = "due", "Deliveries that were to be made, one for each push and connection or key: delivered + filtered + absent + lost + pulled + waiting";
    DELIVERED = "delivered", "Pushes wholly written to a connection, once for each connection";
    LOST = "lost", "Pushes that did not reach a connection they were for, by reason";
    FILTERED = "filtered", "Pushes to a key, a user or everyone that a connection does not take the operation of";
    ABSENT = "absent", "Keys of pushes that had no connection here";
    PULLED = "pulled", "Pushes that their receivers were left to pull, being behind";
    WAITING = "waiting", "Pushes that wait for a connection, once for each";
    OPEN_POSITIONS = "lane_open", "Pushes from push logs that wait for some receiver";
    BEHIND = "behind", "Times that a connection was put behind, to pull what it missed";
    WRITTEN_BYTES = "written_bytes", "Bytes written to connections";
    WRITES = "writes", "System calls that wrote to connections";
    OUTBOUND_BYTES = "outbound_bytes", "Bytes that wait for connections, shared pushes counted for each";
    QUEUE = "queue_depth", "Commands that wait for a worker, by worker";
    BACKLOG = "backlog_deliveries", "Deliveries to rooms that wait on a worker, by worker";
    LATENCY = "delivery_seconds", "From the API's taking a push to its last byte in the socket";
}

/// Hands the numbers to a registry. Holds the comet weakly, so that a registry keeps no comet alive.
#[derive(Debug)]
pub(crate) struct Export(pub(crate) Weak<Shared>);

impl Collector for Export {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let stats = &shared.stats;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut counter = |metric: Metric, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Counter)?)
        };
        counter(ACCEPTED, load(&stats.accepted))?;
        counter(ACCEPT_ERRORS, load(&stats.accept_errors))?;
        counter(LOGINS_REFUSED, load(&stats.logins_refused))?;
        counter(PACKETS, load(&stats.packets))?;
        counter(RECEIVE_LOST, load(&stats.receive_lost))?;
        counter(PUSHES, load(&stats.pushes))?;
        counter(PUSHES_REFUSED, load(&stats.pushes_refused))?;
        counter(DUE, load(&stats.due))?;
        counter(DELIVERED, load(&stats.delivered))?;
        counter(FILTERED, load(&stats.filtered))?;
        counter(ABSENT, load(&stats.absent))?;
        counter(PULLED, load(&stats.pulled))?;
        counter(BEHIND, load(&stats.behind))?;
        counter(WRITTEN_BYTES, load(&stats.written_bytes))?;
        counter(WRITES, load(&stats.writes))?;

        let mut gauge = |metric: Metric, value: usize| {
            let gauge = ConstGauge::new(value as i64);
            gauge.encode(encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Gauge)?)
        };
        gauge(OPEN, shared.admission.open())?;
        gauge(ROOMS, shared.directory.len())?;
        gauge(WAITING, load(&stats.waiting) as usize)?;
        gauge(OPEN_POSITIONS, shared.open_positions())?;
        gauge(OUTBOUND_BYTES, shared.outbound_bytes.load(Ordering::Relaxed))?;

        let mut by = |metric: Metric, kind, label: &'static str, rows: Vec<(String, u64)>| {
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (value, count) in rows {
                let labels = [(label, value.as_str())];
                let row: MetricEncoder<'_> = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(count).encode(row)?,
                    _ => ConstGauge::new(count as i64).encode(row)?,
                }
            }
            Ok::<(), fmt::Error>(())
        };
        let named = |map: &Mutex<BTreeMap<&'static str, u64>>| {
            let map = map.lock().unwrap_or_else(PoisonError::into_inner);
            map.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>()
        };
        by(REFUSED, MetricType::Counter, "limit", named(&stats.refused))?;
        by(CLOSED, MetricType::Counter, "reason", named(&stats.closed))?;
        let lost = LOST_NAMES.iter().zip(&stats.lost).map(|(name, n)| ((*name).to_owned(), load(n)));
        by(LOST, MetricType::Counter, "reason", lost.collect())?;
        let online = ["tcp", "websocket", "foreign"].into_iter().zip(&stats.online);
        let online = online.map(|(name, n)| (name.to_owned(), load(n)));
        by(CONNECTIONS, MetricType::Gauge, "transport", online.collect())?;
        let inboxes = shared.inboxes.iter().enumerate();
        let depths = inboxes.clone().map(|(at, inbox)| (at.to_string(), inbox.depth() as u64));
        by(QUEUE, MetricType::Gauge, "worker", depths.collect())?;
        let backlogs = inboxes.map(|(at, inbox)| (at.to_string(), load(&inbox.backlog)));
        by(BACKLOG, MetricType::Gauge, "worker", backlogs.collect())?;

        let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(&stats.latency.counts).map(|(bound, n)| (bound, load(n))).collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        let sum = load(&stats.latency.sum_micros) as f64 / 1e6;
        encoder
            .encode_descriptor(LATENCY.name, LATENCY.help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// The same numbers for code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Authenticated connections.
    pub connections: u64,
    /// Connections that are open, authenticated or not.
    pub open: u64,
    /// Pushes wholly written to a connection.
    pub delivered: u64,
    /// Pushes that did not reach a connection they were for.
    pub lost: u64,
    /// Times that a connection was put behind.
    pub behind: u64,
}

impl Snapshot {
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        let stats = &shared.stats;
        Self {
            connections: stats.online(),
            open: shared.admission.open() as u64,
            delivered: stats.delivered.load(Ordering::Relaxed),
            lost: stats.lost.iter().map(|n| n.load(Ordering::Relaxed)).sum(),
            behind: stats.behind.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for (micros, at) in [(0, 0), (50, 0), (51, 1), (100, 1), (13_107_200, 18), (13_107_201, 19)] {
            let before = histogram.counts[at].load(Ordering::Relaxed);
            histogram.record(Duration::from_micros(micros), 3);
            assert_eq!(histogram.counts[at].load(Ordering::Relaxed), before + 3, "{micros}");
        }
    }
}
