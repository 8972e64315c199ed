//! Every HTTP surface, and what they stand on.
//!
//! - [`v1`]: Anser's own push API, with its document and page; [`problem`]: its errors.
//! - [`goim`]: goim's push API, for back ends that were written for it.
//! - [`health`]: health and metrics.
//! - [`access`]: who may push; [`origin`]: which web pages may.
//! - [`server`]: what is under them, and bounds what a stranger can cost.

mod access;
mod body;
mod config;
mod goim;
mod health;
mod long;
mod metrics;
mod origin;
mod problem;
mod query;
mod server;
mod surface;
mod v1;

pub use access::Keys;
pub use config::Config;
pub use health::{Alive, Ready};
pub use metrics::METRICS;
pub use server::{Bound, Http, Names, Roles};

#[cfg(test)]
mod tests;
