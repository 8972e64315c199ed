//! RFC 6455, both halves: the upgrade, frames, messages and closing. No extension, no subprotocol.
//!
//! A frame (§5.2). A length above 125 is 126 or 127 here and follows in 2 or 8 bytes, big-endian;
//! the mask is there exactly when M is set:
//!
//! ```text
//!  0               1                2
//!  +---------------+----------------+------------------+-------------+----------+
//!  | F RRR opcode  | M length       | length           | mask        | payload  |
//!  | 1   3      4  | 1      7 bits  | 0, 2 or 8 bytes  | 0 or 4      | length   |
//!  +---------------+----------------+------------------+-------------+----------+
//! ```
//!
//! A server first calls [`parse_request`] and [`write_response`], a client [`write_request`] and
//! [`parse_response`]; then both feed a [`Decoder`] and write with [`write_frame`]. What to answer
//! (a pong to a ping, a close to a close, [`Violation::close_code`] to a violation) is up to them.

mod client;
mod decoder;
mod frame;
mod handshake;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use self::client::{UpgradeError, parse_response, write_request};
pub use self::decoder::Decoder;
pub use self::frame::{Opcode, write_close, write_frame, write_header};
pub use self::handshake::{Refusal, Request, parse_request, write_response};

/// Status codes of close frames that this project sends (RFC 6455 §7.4.1).
pub mod close_code {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server goes down, or the user leaves the page.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke RFC 6455.
    pub const PROTOCOL: u16 = 1002;
    /// The content of a message contradicts its type, such as text that is not UTF-8.
    pub const BAD_DATA: u16 = 1007;
    /// The peer broke a rule of the application.
    pub const POLICY: u16 = 1008;
    /// A message is larger than the limit.
    pub const TOO_BIG: u16 = 1009;
    /// The server cannot serve now; try again later (registered at IANA after RFC 6455).
    pub const TRY_AGAIN: u16 = 1013;
}

/// Who we are. It decides whether the frames that we receive have to be masked (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Receives masked frames, sends unmasked ones.
    Server,
    /// Receives unmasked frames, sends masked ones.
    Client,
}

/// A whole message or control frame, its payload unmasked, in a buffer of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Valid UTF-8.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// An answer to a ping, or unsolicited; at most 125 bytes.
    Pong(&'a [u8]),
    /// Status code and reason, or `None` when the frame had no payload. Nothing that follows counts.
    Close(Option<(u16, &'a str)>),
}

impl<'a> Message<'a> {
    /// Gives a payload the type that its opcode promises. Only text and close can fail.
    fn new(opcode: Opcode, payload: &'a [u8]) -> Result<Self, Violation> {
        Ok(match opcode {
            Opcode::Text => Self::Text(str::from_utf8(payload).map_err(|_| Violation::BadText)?),
            Opcode::Continuation | Opcode::Binary => Self::Binary(payload),
            Opcode::Close => Self::Close(parse_close(payload)?),
            Opcode::Ping => Self::Ping(payload),
            Opcode::Pong => Self::Pong(payload),
        })
    }
}

/// The payload of a close frame: nothing, or a code that may be on the wire and a UTF-8 reason
/// (RFC 6455 §5.5.1, §7.4; 1012-1014 are in IANA's registry since).
fn parse_close(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::BadClosePayload) };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::BadCloseCode);
    }
    let reason = str::from_utf8(reason).map_err(|_| Violation::BadText)?;
    Ok(Some((code, reason)))
}

/// How the peer broke RFC 6455 or the limit on messages. All of these end the connection: send
/// [`Violation::close_code`], and feed the decoder no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A reserved bit is set, though no extension was agreed on (§5.2). The peer must not use one
    /// (compression, for example).
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode that RFC 6455 does not define (§5.2). The peer must use those of [`Opcode`].
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A client's frame has no mask (§5.1). The client must mask, or the server's limits allow it
    /// not to.
    #[error("frame of a client is not masked")]
    Unmasked,
    /// A server's frame has a mask (§5.1). The server must not mask.
    #[error("frame of a server is masked")]
    Masked,
    /// A control frame has more than 125 bytes (§5.5). The peer must shorten its payload.
    #[error("control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A control frame without FIN (§5.5). The peer must send it in one piece.
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// A continuation while no message is open (§5.4). The peer must start with text or binary.
    #[error("continuation of no message")]
    UnexpectedContinuation,
    /// A new text or binary frame inside a fragmented message (§5.4). The peer must finish the
    /// message first.
    #[error("new message inside a fragmented one")]
    UnfinishedMessage,
    /// The message would be larger than the limit, or the frame's length has its top bit set
    /// (§5.2). The peer must send smaller messages.
    #[error("message is too large")]
    TooLarge,
    /// A text message or a close reason is not UTF-8 (§8.1). The peer must send such bytes as binary.
    #[error("text is not UTF-8")]
    BadText,
    /// A close frame of one byte (§5.5.1). The peer must send a code of two bytes, or no payload.
    #[error("close frame of one byte")]
    BadClosePayload,
    /// A close code that must not be on the wire (§7.4). The peer must use 1000-1003, 1007-1014 or
    /// 3000-4999.
    #[error("close code is not allowed")]
    BadCloseCode,
}

impl Violation {
    /// The code to close the connection with.
    pub fn close_code(self) -> u16 {
        match self {
            Self::TooLarge => close_code::TOO_BIG,
            Self::BadText => close_code::BAD_DATA,
            _ => close_code::PROTOCOL,
        }
    }

    /// A short fixed name, for counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode => "reserved_opcode",
            Self::Unmasked => "unmasked",
            Self::Masked => "masked",
            Self::ControlTooLong => "control_too_long",
            Self::ControlFragmented => "control_fragmented",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::UnfinishedMessage => "unfinished_message",
            Self::TooLarge => "too_large",
            Self::BadText => "bad_text",
            Self::BadClosePayload => "bad_close_payload",
            Self::BadCloseCode => "bad_close_code",
        }
    }
}
