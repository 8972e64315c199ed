//! The goim packet: a header of 16 bytes and an opaque body.

use alloc::vec::Vec;

use thiserror::Error;

use crate::input::Input;
use crate::limits::Limits;

/// Bytes of a header, and the only value that its header-length field may have.
pub const HEADER_LEN: usize = 16;

/// The version that pushes carry. The field is never checked, only echoed in replies.
pub const PUSH_VERSION: i16 = 1;

/// A header without its two length fields, which follow from the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Protocol version. Replies echo it.
    pub ver: i16,
    /// Operation, see [`crate::operation`].
    pub op: i32,
    /// Number chosen by the client. Replies echo it; pushes carry 0.
    pub seq: i32,
}

impl Header {
    /// The same version and sequence under another operation: the header of a reply.
    #[must_use]
    pub fn reply(self, op: i32) -> Self {
        Self { op, ..self }
    }

    /// The 16 bytes for a body of `body_len` bytes.
    pub fn encode(self, body_len: usize) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&((HEADER_LEN + body_len) as i32).to_be_bytes());
        bytes[4..6].copy_from_slice(&(HEADER_LEN as i16).to_be_bytes());
        bytes[6..8].copy_from_slice(&self.ver.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.op.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }
}

/// A packet whose body lies in a buffer of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Version, operation, sequence.
    pub header: Header,
    /// Opaque to the protocol.
    pub body: &'a [u8],
}

impl Packet<'_> {
    /// Appends the packet's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header.encode(self.body.len()));
        out.extend_from_slice(self.body);
    }
}

/// Why bytes are no packet. All of these end the connection: after a wrong length nobody knows
/// where the next packet starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The length field is larger than the limit allows, or so negative that goim's own arithmetic
    /// overflows. The client must send a smaller body.
    #[error("packet length {0} is out of range")]
    Length(i32),
    /// The header length is not 16: these are not goim packets (an HTTP request, a TLS hello).
    #[error("header length {0} is not 16")]
    HeaderLength(i16),
    /// A WebSocket message that is shorter than a header, or than the length in its header.
    #[error("message of {got} bytes cannot hold a packet of {need}")]
    Short {
        /// Bytes in the message.
        got: usize,
        /// Bytes that a packet would need.
        need: usize,
    },
}

impl Malformed {
    /// A short fixed name, for counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Length(_) => "packet_length",
            Self::HeaderLength(_) => "header_length",
            Self::Short { .. } => "packet_short",
        }
    }
}

/// Reads a header. The body's length is what the length field says, or nothing when that is less
/// than a header (goim takes those as packets without a body, negative ones included).
fn decode_header(bytes: &[u8; HEADER_LEN], max_body: usize) -> Result<(Header, usize), Malformed> {
    let int = |at: usize| i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let short = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let length = int(0);
    let body = length.checked_sub(HEADER_LEN as i32).ok_or(Malformed::Length(length))?;
    let body = usize::try_from(body).unwrap_or(0);
    if body > max_body {
        return Err(Malformed::Length(length));
    }
    if short(4) != HEADER_LEN as i16 {
        return Err(Malformed::HeaderLength(short(4)));
    }
    Ok((Header { ver: short(6), op: int(8), seq: int(12) }, body))
}

/// Reads the one packet that a WebSocket message holds. Bytes behind it are ignored, as goim does.
pub fn decode_message(message: &[u8], max_body: usize) -> Result<Packet<'_>, Malformed> {
    let short = |need| Malformed::Short { got: message.len(), need };
    let (head, rest) = message.split_first_chunk().ok_or(short(HEADER_LEN))?;
    if head[0] & 0x80 != 0 {
        return Err(Malformed::Length(i32::from_be_bytes([head[0], head[1], head[2], head[3]])));
    }
    let (header, body) = decode_header(head, max_body)?;
    let body = rest.get(..body).ok_or(short(HEADER_LEN + body))?;
    Ok(Packet { header, body })
}

/// Walks the packets that lie one after another in the body of an operation-9 container. Ends at
/// the first bytes that are no packet.
pub fn decode_all(bytes: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, Malformed>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let packet = decode_message(rest, usize::MAX);
        rest = packet.map_or(&[], |packet| &rest[HEADER_LEN + packet.body.len()..]);
        Some(packet)
    })
}

/// Checks that bytes from somebody else are whole packets, one behind the other, and at least one, as
/// clients walk them by their lengths. Gives the length of the largest body.
pub fn check_all(bytes: &[u8]) -> Result<usize, Malformed> {
    if bytes.is_empty() {
        return Err(Malformed::Short { got: 0, need: HEADER_LEN });
    }
    let (mut rest, mut largest) = (bytes, 0);
    while !rest.is_empty() {
        let packet = decode_message(rest, usize::MAX)?;
        let len = HEADER_LEN + packet.body.len();
        // A client that adds a length below 16 reads the same packet again, or from its middle.
        if rest[..4] != (len as u32).to_be_bytes() {
            return Err(Malformed::Length(i32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]])));
        }
        largest = largest.max(packet.body.len());
        rest = &rest[len..];
    }
    Ok(largest)
}

/// Cuts a byte stream into packets. Holds memory only while a packet is incomplete.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The bytes so far of an incomplete packet; without capacity otherwise.
    partial: Vec<u8>,
    /// Whether `partial` holds the packet that was handed out last, and is free to be reused.
    handed_out: bool,
}

impl Decoder {
    /// The next packet, or `None` when `input` is used up. A packet that lies whole in `input` is
    /// not copied.
    pub fn poll<'s, 'i: 's>(
        &'s mut self,
        input: &mut Input<'i>,
        limits: &Limits,
    ) -> Result<Option<Packet<'s>>, Malformed> {
        if self.handed_out {
            self.handed_out = false;
            self.partial = Vec::new();
        }
        if self.partial.is_empty()
            && let Some(head) = input.rest().first_chunk()
        {
            let (header, body) = decode_header(head, limits.body)?;
            if input.len() >= HEADER_LEN + body {
                let bytes: &'i [u8] = input.take(HEADER_LEN + body);
                return Ok(Some(Packet { header, body: &bytes[HEADER_LEN..] }));
            }
        }
        self.fill(HEADER_LEN, input);
        let Some(head) = self.partial.first_chunk() else { return Ok(None) };
        let (header, body) = decode_header(head, limits.body)?;
        self.fill(HEADER_LEN + body, input);
        if self.partial.len() < HEADER_LEN + body {
            return Ok(None);
        }
        self.handed_out = true;
        Ok(Some(Packet { header, body: &self.partial[HEADER_LEN..] }))
    }

    /// Bytes that are held for an incomplete packet.
    pub fn held(&self) -> usize {
        self.partial.capacity()
    }

    fn fill(&mut self, upto: usize, input: &mut Input<'_>) {
        let missing = upto.saturating_sub(self.partial.len());
        if missing > 0 && !input.is_empty() {
            self.partial.extend_from_slice(input.take(missing));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// goim's golden bytes: header fields and body on the left, bytes on the right.
    #[test]
    fn golden_bytes() {
        let check = |ver, op, seq, body: &[u8], expected: &str| {
            let mut out = Vec::new();
            Packet { header: Header { ver, op, seq }, body }.encode(&mut out);
            let expected = hex(expected);
            assert_eq!(&out[..expected.len()], expected);
            let packet = decode_message(&out, 4096).unwrap();
            assert_eq!(packet, Packet { header: Header { ver, op, seq }, body });
        };
        check(1, 7, 1, &[b'x'; 82], "00000062 0010 0001 00000007 00000001");
        check(1, 8, 1, b"", "00000010 0010 0001 00000008 00000001");
        check(1, 2, 1, b"", "00000010 0010 0001 00000002 00000001");
        check(1, 3, 1, &[0, 0, 0, 5], "00000014 0010 0001 00000003 00000001 00000005");
        check(1, 1000, 0, br#"{"test":1}"#, "0000001a 0010 0001 000003e8 00000000 7b2274657374223a317d");
    }

    fn poll_all(chunks: &mut [Vec<u8>], limits: &Limits) -> Result<Vec<(Header, Vec<u8>)>, Malformed> {
        let mut decoder = Decoder::default();
        let mut packets = Vec::new();
        for chunk in chunks {
            let mut input = Input::new(chunk);
            while let Some(packet) = decoder.poll(&mut input, limits)? {
                packets.push((packet.header, packet.body.to_vec()));
            }
            assert!(input.is_empty());
        }
        Ok(packets)
    }

    /// What goim's TCP reader decides for each length field.
    #[test]
    fn lengths() {
        let limits = Limits::default();
        let check = |length: i32, header_len: i16, expected: Result<usize, Malformed>| {
            let mut bytes = vec![0; HEADER_LEN + 4096];
            bytes[0..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..6].copy_from_slice(&header_len.to_be_bytes());
            let mut decoder = Decoder::default();
            let got = decoder.poll(&mut Input::new(&mut bytes), &limits);
            assert_eq!(got.map(|packet| packet.unwrap().body.len()), expected, "length {length}");
        };
        check(16, 16, Ok(0));
        check(15, 16, Ok(0));
        check(0, 16, Ok(0));
        check(-1, 16, Ok(0));
        check(i32::MIN + 16, 16, Ok(0));
        check(i32::MIN + 15, 16, Err(Malformed::Length(i32::MIN + 15)));
        check(i32::MIN, 16, Err(Malformed::Length(i32::MIN)));
        check(4112, 16, Ok(4096));
        check(4113, 16, Err(Malformed::Length(4113)));
        check(i32::MAX, 16, Err(Malformed::Length(i32::MAX)));
        check(16, 17, Err(Malformed::HeaderLength(17)));
        check(16, -16, Err(Malformed::HeaderLength(-16)));
    }

    /// A message that lies about its length closes; one that is longer than its packet does not.
    #[test]
    fn messages() {
        let check = |message: &str, expected: Result<usize, Malformed>| {
            let message = hex(message);
            assert_eq!(decode_message(&message, 4096).map(|packet| packet.body.len()), expected);
        };
        check("", Err(Malformed::Short { got: 0, need: 16 }));
        check("00000010 0010 0001 00000002 000000", Err(Malformed::Short { got: 15, need: 16 }));
        check("00000011 0010 0001 00000002 00000001", Err(Malformed::Short { got: 16, need: 17 }));
        check("00000010 0010 0001 00000002 00000001 ff", Ok(0));
        check("00000000 0010 0001 00000002 00000001", Ok(0));
        check("ffffffff 0010 0001 00000002 00000001", Err(Malformed::Length(-1)));
    }

    #[test]
    fn packets_in_a_row() {
        let check = |bytes: &str, expected: Result<usize, Malformed>| {
            assert_eq!(check_all(&hex(bytes)), expected, "{bytes}");
        };
        let one = "00000012 0010 0001 000003e8 00000000 6869";
        check(one, Ok(2));
        check(&format!("{one} 00000010 0010 0007 00000002 00000003"), Ok(2));
        check("", Err(Malformed::Short { got: 0, need: 16 }));
        check(&format!("{one} 00"), Err(Malformed::Short { got: 1, need: 16 }));
        check(&one[..one.len() - 2], Err(Malformed::Short { got: 17, need: 18 }));
        check("00000000 0010 0001 000003e8 00000000", Err(Malformed::Length(0)));
        check("0000000f 0010 0001 000003e8 00000000", Err(Malformed::Length(15)));
        check("ffffffff 0010 0001 000003e8 00000000", Err(Malformed::Length(-1)));
        check("00000010 0011 0001 000003e8 00000000", Err(Malformed::HeaderLength(17)));
    }

    #[test]
    fn nothing_is_held_between_packets() {
        let mut bytes = Vec::new();
        Packet { header: Header::default(), body: &[7; 100] }.encode(&mut bytes);
        let (first, second) = bytes.split_at_mut(50);
        let mut decoder = Decoder::default();
        let limits = Limits::default();
        assert_eq!(decoder.poll(&mut Input::new(first), &limits), Ok(None));
        assert!(decoder.held() >= 50);
        assert!(decoder.poll(&mut Input::new(second), &limits).unwrap().is_some());
        assert_eq!(decoder.poll(&mut Input::new(&mut []), &limits), Ok(None));
        assert_eq!(decoder.held(), 0);
    }

    proptest! {
        /// However a stream is cut into reads, the packets are the same.
        #[test]
        fn any_split_gives_the_same_packets(
            packets in prop::collection::vec((any::<(i16, i32, i32)>(), prop::collection::vec(any::<u8>(), 0..80)), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for ((ver, op, seq), body) in packets {
                let header = Header { ver, op, seq };
                Packet { header, body: &body }.encode(&mut bytes);
                expected.push((header, body));
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                chunks.push(bytes[from..cut].to_vec());
                from = cut;
            }
            prop_assert_eq!(poll_all(&mut chunks, &Limits::default()), Ok(expected));
        }

        /// Any bytes at all are taken or refused, and never panic.
        #[test]
        fn garbage_is_refused_quietly(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = poll_all(&mut [bytes.clone()], &Limits::default());
            let _ = decode_all(&bytes).count();
        }
    }
}
