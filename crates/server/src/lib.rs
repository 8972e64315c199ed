//! Anser's one binary: configuration, command line, and the composition of the roles.
//!
//! - [`cli`]: the arguments, and one module for each command.
//! - [`config`]: what an operator can set, and how the layers become one.
//! - [`up`]: every role in one process.
//! - [`push_key`]: the keys of the push API, in the data folder.
//! - [`log`]: what the process says while it runs.
//! - [`process`]: what it measures of itself.
//! - `files`: how many it may open, and what that allows.
//! - [`exit`], [`failure`]: how it ends, and what is said then.
//! - [`out`]: the only place that prints.

pub mod cli;
pub mod config;
pub mod exit;
pub mod failure;
pub mod log;
pub mod out;
pub mod process;
pub mod push_key;
mod push_log;
pub mod roles;
pub mod up;

mod cluster;
mod files;
mod greeting;

pub use config::Config;
pub use exit::Exit;
pub use failure::Failure;
