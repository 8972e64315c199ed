//! What the HTTP API counts, as Prometheus sees it.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

anser_api::metrics! {
    REQUESTS = "requests", "Requests that were answered, by route and class of status";
    SECONDS = "request_seconds", "From the head of a request to its answer, by route";
    REFUSED = "refused", "Requests that were turned away before any route looked at them, by reason";
}

/// The route of what matches none.
const OTHER: &str = "other";

/// Upper bounds of the histogram. A push waits for the disk, so most of them lie around a millisecond; the
/// last one is the default of `http.request_timeout`.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    MissingKey,
    WrongKey,
    TooManyWrongKeys,
    Origin,
    Timeout,
}

impl Refused {
    const ALL: [Self; 5] =
        [Self::MissingKey, Self::WrongKey, Self::TooManyWrongKeys, Self::Origin, Self::Timeout];

    fn name(self) -> &'static str {
        match self {
            Self::MissingKey => "missing_key",
            Self::WrongKey => "wrong_key",
            Self::TooManyWrongKeys => "too_many_wrong_keys",
            Self::Origin => "origin",
            Self::Timeout => "timeout",
        }
    }
}

impl EncodeLabelValue for Refused {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: Refused,
}

/// A route as it was declared, never what stood in a URL: there are as many as there are routes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    status: &'static str,
}

/// The counters; clones count into the same.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    refused: Family<Reason, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let refused = Family::<Reason, Counter>::default();
        // An alert on a reason works before it has happened once.
        for reason in Refused::ALL {
            let _ = refused.get_or_create(&Reason { reason });
        }
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            refused,
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("anser_http");
        registry.register(REQUESTS.name, REQUESTS.help, self.requests.clone());
        registry.register(SECONDS.name, SECONDS.help, self.seconds.clone());
        registry.register(REFUSED.name, REFUSED.help, self.refused.clone());
    }

    pub(crate) fn refused(&self, reason: Refused) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }
}

fn class(status: u16) -> &'static str {
    match status {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    }
}

/// Counts a request, and how long its answer took.
pub(crate) async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get().map_or(OTHER, MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let status = class(response.status().as_u16());
    metrics.requests.get_or_create(&Answered { route: route.clone(), status }).inc();
    metrics.seconds.get_or_create(&Route { route }).observe(began.elapsed().as_secs_f64());
    response
}
