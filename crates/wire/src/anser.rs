//! Bodies of Anser's own operations, as protobuf messages (proto3; docs/protocol.md shows them as
//! `.proto` text). Unknown fields are skipped, so that they can grow.

use alloc::string::String;

/// The code of an [`Error`] that answers no request (its seq is 0): another connection has this one's key
/// now, and the server closes this one. Whoever comes back with the same key throws the other out.
pub const REPLACED: &str = "replaced";

/// Body of [`crate::operation::ERROR`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Error {
    /// The operation that was refused.
    #[prost(int32, tag = "1")]
    pub op: i32,
    /// A stable name for the cause, such as `room_limit`.
    #[prost(string, tag = "2")]
    pub code: String,
    /// Whether the same request can succeed later.
    #[prost(bool, tag = "3")]
    pub retry: bool,
    /// Milliseconds to wait before that.
    #[prost(uint32, tag = "4")]
    pub retry_after_ms: u32,
    /// For people: the cause, and what to do.
    #[prost(string, tag = "5")]
    pub message: String,
}

/// Body of [`crate::operation::DROPPED`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Dropped {
    /// Pushes lost on this connection since the last such packet.
    #[prost(uint64, tag = "1")]
    pub count: u64,
}

/// Body of [`crate::operation::DRAINING`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Draining {
    /// Milliseconds to wait before connecting again; drawn for each connection, so that not all
    /// come back at once.
    #[prost(uint32, tag = "1")]
    pub retry_after_ms: u32,
}
