//! What the job counts, as Prometheus sees it.

use std::fmt;
use std::sync::Weak;
use std::time::{Duration, Instant};

use anser_api::job::Ended;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::Shared;

/// What became of a parcel: a push on its way to one comet, or to one key that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The comet says that it is written, or has counted why not.
    Reported,
    /// Nobody there was to get it.
    Absent,
    /// The comet could never take it.
    Refused,
    /// Its time had come before its turn.
    Expired,
    /// The lane had no room.
    Full,
    /// The comet was away, or took nothing, for longer than it may.
    Away,
    /// The comet has died with it.
    Lost,
    /// Its key did not come back.
    NotBack,
    /// Its comet is none of this job's.
    NoLane,
}

impl Done {
    /// Why it came to nothing, if it did on this side of the comets.
    pub(crate) fn ended(self) -> Option<Ended> {
        match self {
            Self::Reported | Self::Absent => None,
            Self::Refused => Some(Ended::Refused),
            Self::Expired => Some(Ended::Expired),
            Self::Full => Some(Ended::Full),
            Self::Away => Some(Ended::Away),
            Self::Lost => Some(Ended::Lost),
            Self::NotBack => Some(Ended::NotBack),
            Self::NoLane => Some(Ended::NoLane),
        }
    }
}

const DONE_NAMES: [&str; 9] =
    ["reported", "absent", "refused", "expired", "full", "away", "lost", "not_back", "no_lane"];

/// Counters, under the lock of the state.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) accepted: u64,
    pub(crate) repeated: u64,
    pub(crate) replayed: u64,
    pub(crate) fed: u64,
    pub(crate) resent: u64,
    pub(crate) done: [u64; DONE_NAMES.len()],
    spoken: Option<Instant>,
}

impl Stats {
    /// Whether a line may be written that callers cause: one a second.
    pub(crate) fn speak(&mut self) -> bool {
        let quiet = self.spoken.is_some_and(|spoken| spoken.elapsed() < Duration::from_secs(1));
        if !quiet {
            self.spoken = Some(Instant::now());
        }
        !quiet
    }
}

anser_api::metrics! {
    ACCEPTED = "accepted", "Pushes that the log took";
    REPEATED = "repeated", "Requests that were repetitions by their idempotency key";
    REPLAYED = "replayed", "Pushes read back from the log at a start, as they were not known to be done";
    FED = "fed", "Parcels: pushes on their way to one comet, or to one key that was looked for; done + open";
    DONE = "done", "Parcels that are done, by state: reported by the comet as written or dropped there, or why not";
    OPEN = "open", "Parcels that are not done";
    RESENT = "resent", "Parcels sent again to keys that came back, which may have got them before";
    RETURNING = "returning", "Parcels that wait for their keys to come back";
    DEPTH = "lane_depth", "Parcels in a lane that are not done, by comet";
    BYTES = "lane_bytes", "Bytes of those, by comet";
    UP = "lane_up", "Whether the comet can be spoken to, by comet";
}

#[derive(Debug)]
struct Export(Weak<Shared>);

impl Collector for Export {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let state = shared.state();
        let stats = &state.stats;
        for (metric, value) in [
            (ACCEPTED, stats.accepted),
            (REPEATED, stats.repeated),
            (REPLAYED, stats.replayed),
            (FED, stats.fed),
            (RESENT, stats.resent),
        ] {
            let row = encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(row)?;
        }
        let mut done = encoder.encode_descriptor(DONE.name, DONE.help, None, MetricType::Counter)?;
        for (name, count) in DONE_NAMES.iter().zip(stats.done) {
            ConstCounter::new(count).encode(done.encode_family(&[("state", *name)])?)?;
        }
        for (metric, value) in [(OPEN, state.open()), (RETURNING, state.returning.len())] {
            let row = encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Gauge)?;
            ConstGauge::new(value as i64).encode(row)?;
        }
        for (metric, value) in [
            (DEPTH, (|lane| lane.len()) as fn(&crate::lane::Lane) -> usize),
            (BYTES, |lane| lane.bytes()),
            (UP, |lane| usize::from(lane.is_open())),
        ] {
            let mut rows = encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Gauge)?;
            for lane in &state.lanes {
                let labels = [("comet", lane.name.as_str())];
                ConstGauge::new(value(lane) as i64).encode(rows.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn register(shared: Weak<Shared>, registry: &mut Registry) {
    registry.sub_registry_with_prefix("anser_job").register_collector(Box::new(Export(shared)));
}
