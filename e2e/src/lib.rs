//! End to end: the binary `anser` as a process, and what people, clients and back ends do with it.
//!
//! A test starts a [`Cluster`] (today one process with every role), and speaks to it through a
//! [`Client`] (packets and bytes, over TCP or WebSocket), through [`Http`] (the push API), or through
//! `anser-sdk` where the library is what is tested:
//!
//! ```no_run
//! use anser_e2e::{Cluster, Transport};
//!
//! let cluster = Cluster::start(&["comet.queue=8"]);
//! let mut client = cluster.login(Transport::WebSocket, r#"{"room_id":"live://1"}"#);
//! cluster.push_room("live://1", 1000, "hello");
//! assert_eq!(client.push(), (1000, "hello".to_owned()));
//! assert_eq!(cluster.metrics().get("comet_delivered"), 1);
//! ```
//!
//! [`Apart`] is the same with each role in a process of its own, which can be killed, stopped and started.
//!
//! Every wait has a limit, [`PATIENCE`], and fails the test when it is over; there is no sleep. What
//! the server wrote on stderr is part of a test's output, which cargo shows when it fails.
//!
//! How a server stands a power cut is tested with [`Power`].
//!
//! The binary is the one that cargo built beside the test: `cargo test --workspace` builds it,
//! `cargo test -p anser-e2e` alone does not, and the fixture says so.

mod apart;
mod client;
mod cluster;
mod http;
mod metrics;
mod patience;
mod powercut;
mod process;
mod running;

pub use apart::{Apart, Role};
pub use client::{Client, Dial, Incoming, Packet, Transport};
pub use cluster::{Builder, Cluster};
pub use http::{Answer, Http};
pub use metrics::Metrics;
pub use patience::{PATIENCE, eventually, eventually_eq};
pub use powercut::{Coverage, Cut, Lie, Life, Power, Promise, Report, When};
pub use process::{Ended, Process, tell};
