//! The edge: holds the connections, and writes to them at a cost near the kernel's own.
//!
//! An acceptor thread deals sockets out to workers, one thread for each processor. A worker
//! authenticates a client through logic and then hands it to the worker of its key, which owns it,
//! its rooms and everything that waits for it, without a lock. Pushes reach workers through bounded
//! queues ([`Comet`]); a push to a room is written in rounds over its members, each round with all
//! that waited when it began, so that load makes batches and idleness makes none.
//!
//! Where to read: `worker` (the loop, and under it clients, deliveries, comings and goings), `inbox`
//! (what reaches it), `channel` and `outbound` (one connection), `directory` (rooms as all workers see
//! them), `acceptor` and `admission` (who gets in), `lanes` (pushes from a log), `foreign` (connections
//! without a socket), `renewal` (what logic is told of all this).

mod acceptor;
mod admission;
mod channel;
mod comet;
mod config;
mod directory;
mod foreign;
mod frame;
mod inbox;
mod lanes;
mod login;
mod notes;
mod outbound;
mod push;
mod quiet;
mod renewal;
mod shared;
mod slab;
mod socket;
mod stats;
mod trace;
mod transport;
mod wheel;
mod worker;

pub use comet::{AttachError, Bound, Comet, StartError};
pub use config::Config;
pub use foreign::Foreign;
pub use stats::{METRICS, Snapshot};
