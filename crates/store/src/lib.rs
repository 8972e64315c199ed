//! What Anser keeps on disk: bytes under positions. What they mean is not known here.
//!
//! - [`Log`]: records appended at one end, durable in groups, read by consumers that each have a position
//!   of their own.
//! - [`segments`]: its embedded engine, a folder of segment files.
//! - [`disk`]: the one seam through which files are touched, so that tests can fail, tear and lose writes.

pub mod disk;
mod log;
mod metrics;
pub mod segments;

pub use log::{AppendError, Appended, Damage, Durable, Log, OpenError, Page, ReadError};
pub use metrics::{METRICS, Metric};
