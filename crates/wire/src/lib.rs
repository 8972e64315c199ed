//! Anser's public protocol as a sans-io core: bytes and time go in, bytes and events come out.
//!
//! The crate is `no_std` with `alloc`, so it cannot name a socket, a clock or a thread. Whoever
//! holds the socket (a worker on epoll, a TLS session, a long-polling task, a test) drives it.
//!
//! One packet, on every transport (all integers big-endian, two's complement):
//!
//! ```text
//!  0        4          6     8      12     16
//!  +--------+----------+-----+------+------+----------------+
//!  | length | header=16| ver |  op  | seq  | body           |
//!  |  i32   |   i16    | i16 | i32  | i32  | length-16 bytes|
//!  +--------+----------+-----+------+------+----------------+
//! ```
//!
//! A push is encoded once, and both transports send from the same bytes:
//!
//! ```text
//!  [WebSocket header 2|4|10][outer packet, op 9][inner packet, ver 1, the push's op, seq 0, body]
//!  ^ WebSocket sends from here                  ^ TCP sends from here
//! ```
//!
//! The modules, in reading order: [`packet`] and [`operation`] (what is said), [`websocket`]
//! (RFC 6455, both halves), [`server`] and [`client`] (the two ends of a connection as state
//! machines), [`push`] (the buffer of a push), [`anser`] (bodies of Anser's own operations),
//! [`limits`], [`time`] and [`input`].

#![no_std]

extern crate alloc;

pub mod anser;
pub mod client;
pub mod input;
pub mod limits;
pub mod operation;
pub mod packet;
pub mod push;
pub mod server;
pub mod time;
pub mod websocket;
