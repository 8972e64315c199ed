//! The `[comet]` section of the configuration.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use anser_api::settings;
use anser_api::settings::Span;
use anser_wire::limits::Origins;

settings! {
    /// The edge's part of the configuration.
    pub struct Config {
        /// The name of this comet, by which others route to it. Empty: the name of the host.
        name: String = String::new(),
        /// Addresses at which clients reach this comet, without ports, as the node balancer tells them.
        public: Vec<String> = Vec::new(),
        /// The region that it is in, for the node balancer.
        region: String = "sh".to_owned(),
        /// The zone that it is in, for the node balancer.
        zone: String = "sh001".to_owned(),
        /// Its share of new clients against other comets, for the node balancer.
        weight: u32 = 10,
        /// Whether the node balancer sends no new clients here.
        offline: bool = false,
        /// How often it tells logic how many clients and rooms it has. A logic that was started again knows
        /// who is connected after that time. At least 100ms.
        renew: Span = Span::secs(2),
        /// Addresses for clients over TCP. An empty list switches TCP off.
        tcp: Vec<SocketAddr> = vec![([127, 0, 0, 1], 3101).into()],
        /// Addresses for clients over WebSocket, at the path /sub. An empty list switches it off.
        websocket: Vec<SocketAddr> = vec![([127, 0, 0, 1], 3102).into()],
        /// Worker threads that own the connections. 0: one for each processor. At most 1024.
        workers: usize = 0,
        /// Most connections in all. 0: as many files as the process may open, less a sixteenth of them, but
        /// at least 512, which are for the HTTP API and the process itself.
        max_connections: usize = 0,
        /// Most connections from one address. 0: no limit.
        max_connections_per_ip: usize = 10_000,
        /// New connections a second; above it, those waiting in the kernel's queue wait longer. 0: no limit.
        handshakes_per_second: u32 = 20_000,
        /// From accept until a client must be authenticated. At least 100ms.
        handshake_timeout: Span = Span::secs(8),
        /// Largest body of a packet from a client, in bytes. goim's clients know 4096.
        body: usize = 4096,
        /// Largest header block of a WebSocket upgrade, in bytes.
        upgrade_head: usize = 8192,
        /// Web pages that may connect over WebSocket, by origin, such as "https://app.example"; "*" for all.
        /// When empty and every WebSocket address is loopback, pages of this machine may; when empty
        /// otherwise, all. Clients that are no browsers have no origin, and may always.
        allowed_origins: Vec<String> = Vec::new(),
        /// Whether WebSocket clients may send frames without a mask. RFC 6455 forbids it, goim takes them.
        allow_unmasked: bool = true,
        /// Largest body of a push, in bytes.
        push_body: usize = 1_000_000,
        /// Longest name of a room, in bytes. At most 4096.
        room_name: usize = 256,
        /// Most rooms that have members, each of which costs about 1 KB. 0: eight for each connection that is
        /// allowed.
        max_rooms: usize = 0,
        /// Most rooms that one anser/1 connection may be in. goim's clients are in one at most. At least 1.
        rooms_per_connection: usize = 64,
        /// Most operations that one connection may take.
        operations_per_connection: usize = 256,
        /// Most pushes that wait for one connection; what comes above is dropped or pulled.
        queue: usize = 256,
        /// Most bytes that wait for one connection. One push is always taken, however large.
        queue_bytes: usize = 256 << 10,
        /// Most pullable pushes that are held for a connection while its owner syncs it.
        held: usize = 1000,
        /// Most bytes that are held for a connection while its owner syncs it.
        held_bytes: usize = 1 << 20,
        /// Most bytes that wait for all connections together, shared pushes counted for each; above it
        /// the connections with the most are closed.
        outbound_budget: usize = 256 << 20,
        /// Most pushes to one room that wait while the ones before them are being written; above it a
        /// push is refused, with the time after which to retry.
        room_queue: usize = 32,
        /// Most bytes of such pushes. One push is always taken, however large.
        room_queue_bytes: usize = 256 << 10,
        /// Most deliveries that may wait on one worker before pushes to rooms are refused.
        backlog: usize = 1_000_000,
        /// Most commands that wait for one worker before pushes are refused; 64 keys of a push, or 16 KiB of
        /// it, count as one. At least 64, at most 16777216.
        commands: usize = 16_384,
        /// Pushes that were not written to a connection, of which the reason is kept for `anser why`; some 100
        /// bytes each, once there are any. 0: none. At most 1048576.
        notes: usize = 4096,
        /// The kernel's send buffer of a connection, in bytes (the kernel doubles it). Small, so that a
        /// silent reader shows.
        send_buffer: usize = 16 << 10,
        /// The kernel's receive buffer of a connection, in bytes (the kernel doubles it).
        receive_buffer: usize = 8 << 10,
        /// How long sent bytes may stay unacknowledged by the peer's kernel before the connection is cut.
        /// At least 1s.
        user_timeout: Span = Span::secs(30),
        /// Those of the addresses in `tcp` and `websocket` whose clients get each packet by a system call
        /// of its own, for clients that take one read for one packet. Costs throughput.
        one_write_per_packet: Vec<SocketAddr> = Vec::new(),
        /// At shutdown, the time over which anser/1 clients are told to come back, each at a random point.
        drain_spread: Span = Span::secs(5),
        /// At shutdown, how long to go on writing what is queued. At least 1s.
        drain_limit: Span = Span::secs(10),
    }
}

impl Config {
    /// The number of workers.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            n => n,
        }
    }

    /// The limit on rooms.
    pub(crate) fn most_rooms(&self) -> usize {
        match (self.max_rooms, self.max_connections) {
            (0, 0) => usize::MAX,
            (0, connections) => connections.saturating_mul(8),
            (rooms, _) => rooms,
        }
    }

    /// Whose web pages may connect.
    pub(crate) fn origins(&self) -> Origins {
        let beyond = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        match &self.allowed_origins[..] {
            [] if self.websocket.iter().any(beyond) => Origins::All,
            [] => Origins::Loopback,
            list if list.iter().any(|origin| origin == "*") => Origins::All,
            list => Origins::Only(list.into()),
        }
    }
}
