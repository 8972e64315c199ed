//! What authentication counts.

use std::sync::atomic::{AtomicU64, Ordering};

use anser_api::logic::Refused;

use super::fault::{Fault, REASONS};

/// Counters of one authenticator.
#[derive(Debug)]
pub(crate) struct Stats {
    refused: [AtomicU64; REASONS.len()],
    /// Times that the key set was asked for.
    pub(crate) jwks_fetches: AtomicU64,
    /// Those of them that brought no keys.
    pub(crate) jwks_failures: AtomicU64,
    /// Questions to the back end.
    pub(crate) webhook_requests: AtomicU64,
    /// Those of them that brought no decision.
    pub(crate) webhook_failures: AtomicU64,
}

impl Stats {
    pub(super) fn new() -> Self {
        Self {
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            jwks_fetches: AtomicU64::new(0),
            jwks_failures: AtomicU64::new(0),
            webhook_requests: AtomicU64::new(0),
            webhook_failures: AtomicU64::new(0),
        }
    }

    /// Counts a refusal, and makes it one that the edge understands.
    pub(super) fn refuse(&self, fault: Fault) -> Refused {
        self.refused[fault.reason as usize].fetch_add(1, Ordering::Relaxed);
        fault.into()
    }

    /// Refusals by reason.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.iter().zip(&self.refused).map(|(reason, n)| (*reason, n.load(Ordering::Relaxed)))
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
