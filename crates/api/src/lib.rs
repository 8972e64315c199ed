//! The contracts between Anser's roles: one trait and its requests per role.
//!
//! Inside one process a role calls another's trait directly; between processes a stub stands in for
//! it. Roles know these traits and never each other.
//!
//! - [`logic`]: who is where, and may they; the push API behind every HTTP and RPC surface.
//! - [`comet`]: the edge, as those see it who have something to deliver.
//! - [`job`]: the push log, and the lanes from it to the comets.
//! - [`trace`]: whose steps are told in the log for a while.
//! - [`owner`]: whoever owns the data that a client can also pull.
//! - [`id`]: the names that all of them use, checked once at the border.
//! - [`metrics`]: how a role declares what it counts.
//! - [`settings`]: how a role declares its part of the configuration.

use std::pin::Pin;

pub mod comet;
pub mod grpc;
pub mod id;
pub mod job;
pub mod logic;
pub mod metrics;
pub mod owner;
pub mod settings;
pub mod trace;

/// The answer of a role: local ones are ready at once, remote ones after a round trip. Callers that
/// must not wait poll it once, and hand it to a task if it is not ready.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An answer that is ready.
pub fn ready<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(value))
}
