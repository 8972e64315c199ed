//! What the parent and its helper processes say to each other: lines of JSON, commands on the
//! helper's standard input, replies on its standard output.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::latency::Recorded;
use crate::sequence::Order;

/// How clients reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// Bare packets.
    Tcp,
    /// Packets in WebSocket frames, at /sub.
    Websocket,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Websocket => "websocket",
        })
    }
}

/// What a connection does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Appetite {
    /// Reads all, at once.
    All,
    /// Reads a byte a second.
    Byte,
    /// Reads nothing after its authentication.
    Nothing,
}

/// Connections to be opened by one process of a fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Connections {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    /// Number of the first; key, user and source address follow from it.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Over how many rooms they are spread; 0: they are in no room.
    pub(crate) rooms: u64,
    /// One user for all of them; otherwise each has its own.
    pub(crate) user: Option<u64>,
    pub(crate) appetite: Appetite,
    /// How many may be on their way at once.
    pub(crate) window: usize,
    /// Time between two heartbeats of a connection. Those of the fleet are spread over it evenly.
    pub(crate) heartbeat_ms: u64,
}

/// Connections that come and go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Churn {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    /// Number of the first.
    pub(crate) first: u64,
    /// How many may be on their way at once, silent ones not counted.
    pub(crate) window: usize,
    /// Most that begin in a second; without it as many as the window lets in.
    pub(crate) rate: Option<f64>,
    /// Every how many-th says nothing until the server cuts it; 0: none.
    pub(crate) silent_every: u64,
    /// Most silent ones at once.
    pub(crate) silent_limit: usize,
    pub(crate) millis: u64,
    /// Whether to close with RST, which leaves no `TIME_WAIT`, in place of FIN.
    pub(crate) reset: bool,
}

/// From the parent to a process of a fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Answered by [`Reply::Progress`] now and then, and one [`Reply::Connected`].
    Connect(Connections),
    /// Answered by [`Reply::Complete`] whenever every connection has got a message that was sent
    /// alone; `false` ends it.
    Watch(bool),
    /// Each connection sends a heartbeat, spread over so many milliseconds. No reply.
    Beat { spread_ms: u64 },
    /// Answered by [`Reply::Count`].
    Count,
    /// Answered by [`Reply::Report`], after which all counters are zero.
    Report,
    /// Answered by one [`Reply::Churned`] when the time is over.
    Churn(Churn),
}

/// From the parent to the floor.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FloorCommand {
    /// Sends one message to every socket, now. Answered by [`Reply::Sent`].
    Send { body: usize, stream: u16, seq: u64 },
    /// Sends messages to every socket at a pace. Answered by one [`Reply::Sent`].
    Pace { body: usize, stream: u16, seq: u64, rate: f64, millis: u64 },
}

/// From a helper to the parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// So many connections are authenticated.
    Progress(u64),
    Connected(Connected),
    /// The last connection got message `seq` at `at`.
    Complete {
        seq: u64,
        at: u64,
    },
    Count(Count),
    Report(Box<Received>),
    Churned(Box<Churned>),
    /// The floor listens here.
    Listening(SocketAddr),
    /// The floor began at `from` and has sent `messages`.
    Sent {
        from: u64,
        messages: u64,
    },
    /// The helper cannot go on.
    Failed(String),
}

/// How opening connections went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Connected {
    pub(crate) live: u64,
    /// Attempts that failed, by reason. Each was repeated, up to a limit.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// The counters that a wait looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) received: u64,
    pub(crate) heartbeats: u64,
    /// Connections that the server has closed.
    pub(crate) closed: u64,
}

/// What one process received since its last report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) count: Count,
    /// Calls of recv that brought something.
    pub(crate) reads: u64,
    /// Of `count.received`, those to a key.
    pub(crate) to_keys: u64,
    pub(crate) order: Order,
    /// For each room how many connections saw its messages in which order, named by a hash.
    pub(crate) orders: Vec<(u64, u64, u64)>,
    /// When the first and the last message came.
    pub(crate) first_at: u64,
    pub(crate) last_at: u64,
    pub(crate) room: Recorded,
    pub(crate) key: Recorded,
}

/// What became of connections that came and went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Churned {
    /// Authenticated, and closed by us.
    pub(crate) completed: u64,
    /// Silent ones that were opened, and those that the server cut.
    pub(crate) silent: u64,
    pub(crate) silent_cut: u64,
    /// Silent ones that were not opened because too many were.
    pub(crate) silent_skipped: u64,
    /// From accept (our connect) to the server's cut.
    pub(crate) cut_after: Recorded,
    /// Attempts that failed, by reason.
    pub(crate) errors: BTreeMap<String, u64>,
    /// From connect to the reply.
    pub(crate) handshake: Recorded,
    pub(crate) millis: u64,
}
