//! The same contracts between processes: gRPC.
//!
//! Two families of services live on one port. goim's (`goim.comet.Comet`, `goim.logic.Logic`) let goim's
//! own jobs, comets and tools call an Anser role, to the byte. Ours (`anser.*.v1`) carry the traits of this
//! crate whole, typed errors included: [`Server`] puts roles on the network, and [`client`] has a
//! stand-in for each trait. The files in `proto` are the contracts; the code made from them is private,
//! and everybody else deals in the types of this crate.
//!
//! Who may call is decided by one secret of the cluster, see [`Secret`]. Nothing is encrypted here: the
//! port belongs on a private network.

use std::time::Duration;

pub mod client;
mod convert;
mod generated;
pub mod goim;
mod ours;
mod quiet;
mod secret;
mod server;
mod socket;

pub use secret::{BadSecret, Secret};
pub use server::{Counters, Limits, Options, Server};

/// Largest message either way. goim's clients allow the same.
const MESSAGE: usize = 16 << 20;

/// Longest name that a call may carry. Each role has a smaller limit of its own for what clients choose.
const NAME: usize = 4096;

/// How much of a message may be on its way before its receiver has taken the first part. At 1 ms of
/// distance it allows 1 GB/s, and it is what a peer that sends without end costs.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same for all messages of a connection together.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// When it is worth another try to reach a role that is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);
