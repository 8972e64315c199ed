//! The configuration: seven sections of plain values, each declared beside the code that it configures.
//!
//! - [`table`]: every section and key that there is, by name, and the nearest one to a wrong name.
//! - [`layers`]: defaults, file, environment, flags; later ones win.
//! - [`value`]: how a value is written in each of them, and what a wrong one is told.
//! - [`check`]: what no single value can know: bounds, addresses that clash, doors left open.
//! - [`problem`]: where a value stands, and what is wrong with it.
//! - [`mod@print`]: the configuration as a commented file.

use anser_api::settings;
use serde::{Deserialize, Serialize};

pub use crate::cluster::Cluster;
pub use crate::push_log::Store;

pub mod check;
pub mod layers;
pub mod print;
pub mod problem;
pub mod table;
pub mod value;

mod file;

#[cfg(test)]
mod tests;

/// All that an operator can set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The edge.
    pub comet: anser_comet::Config,
    /// Who is where, and may they.
    pub logic: anser_logic::Config,
    /// The HTTP API.
    pub http: anser_http::Config,
    /// From the push log to the comets.
    pub job: anser_job::Config,
    /// The push log on disk.
    pub store: Store,
    /// Roles in processes of their own.
    pub cluster: Cluster,
    /// What the process says about itself.
    pub log: Log,
}

settings! {
    /// The log's part of the configuration.
    pub struct Log {
        /// What is logged: a level (error, warn, info, debug, trace, off), or a list of them by module,
        /// such as "info,anser_comet=debug".
        filter: String = "info".to_owned(),
        /// How a line is written on stderr: "text" for people or "json" for machines.
        format: Format = Format::Text,
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One readable line.
    Text,
    /// One JSON object on a line.
    Json,
}
