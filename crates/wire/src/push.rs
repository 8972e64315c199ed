//! A push: encoded once, for both transports, shared by every connection that it goes to.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::operation::RAW;
use crate::packet::{HEADER_LEN, Header, PUSH_VERSION};
use crate::websocket::{Opcode, write_header};

/// The bytes of one push. WebSocket sends all of them, TCP the part from [`Frame::tcp`] on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Box<[u8]>,
    tcp_from: u8,
}

impl Frame {
    /// A push as goim sends it: on TCP one packet (ver 1, seq 0), on WebSocket the same packet in a
    /// container of operation 9, in one binary frame.
    pub fn push(op: i32, body: &[u8]) -> Self {
        let header = Header { ver: PUSH_VERSION, op, seq: 0 };
        let inner = HEADER_LEN + body.len();
        let outer = Header { ver: PUSH_VERSION, op: RAW, seq: 0 }.encode(inner);
        Self::build(&outer, &header.encode(body.len()), body)
    }

    /// Whole packets as they are: bare on TCP, on WebSocket all of them in one container of operation 9.
    pub fn packets(packets: &[u8]) -> Self {
        let outer = Header { ver: PUSH_VERSION, op: RAW, seq: 0 }.encode(packets.len());
        Self::build(&outer, &[], packets)
    }

    /// A packet without a container: replies and notices, plain on both transports.
    pub fn plain(header: Header, body: &[u8]) -> Self {
        Self::build(&[], &header.encode(body.len()), body)
    }

    fn build(outer: &[u8], header: &[u8], body: &[u8]) -> Self {
        let payload = outer.len() + header.len() + body.len();
        let mut bytes = Vec::with_capacity(10 + payload);
        write_header(&mut bytes, Opcode::Binary, payload, None);
        bytes.extend_from_slice(outer);
        let tcp_from = bytes.len() as u8;
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(body);
        Self { bytes: bytes.into_boxed_slice(), tcp_from }
    }

    /// What a WebSocket connection sends.
    pub fn websocket(&self) -> &[u8] {
        &self.bytes
    }

    /// What a TCP connection sends.
    pub fn tcp(&self) -> &[u8] {
        &self.bytes[self.tcp_from as usize..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// goim's golden bytes for a push of operation 1000 with the body `{"test":1}`.
    #[test]
    fn golden_bytes() {
        let frame = Frame::push(1000, br#"{"test":1}"#);
        let inner =
            [&[0, 0, 0, 0x1a, 0, 16, 0, 1, 0, 0, 3, 0xe8, 0, 0, 0, 0], &br#"{"test":1}"#[..]].concat();
        assert_eq!(frame.tcp(), inner);
        let outer = [0x82, 0x2a, 0, 0, 0, 0x2a, 0, 16, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0];
        assert_eq!(frame.websocket(), [&outer[..], &inner].concat());
    }

    /// goim's golden bytes for two messages in one container.
    #[test]
    fn packets_stay_as_they_are() {
        let inner = Frame::push(1000, br#"{"test":1}"#).tcp().repeat(2);
        let frame = Frame::packets(&inner);
        assert_eq!(frame.tcp(), inner);
        let outer = [0x82, 0x44, 0, 0, 0, 0x44, 0, 16, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0];
        assert_eq!(frame.websocket(), [&outer[..], &inner].concat());
    }

    #[test]
    fn a_plain_packet_has_no_container() {
        let frame = Frame::plain(Header { ver: 1, op: 8, seq: 1 }, b"");
        assert_eq!(frame.websocket()[..2], [0x82, 16]);
        assert_eq!(frame.websocket()[2..], *frame.tcp());
    }
}
