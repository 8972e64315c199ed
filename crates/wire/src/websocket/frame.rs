//! Frame headers and the mask (RFC 6455 §5.2, §5.3).

use alloc::vec::Vec;

use super::Violation;

/// Bytes of the longest header: 2, a length of 8, a mask of 4.
pub(super) const MAX_HEADER: usize = 14;

/// Bytes of the longest payload of a control frame (§5.5).
const MAX_CONTROL: usize = 125;

/// What a frame is (RFC 6455 §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// The next fragment of the message that is open.
    Continuation = 0,
    /// UTF-8 text, or its first fragment.
    Text = 1,
    /// Bytes, or their first fragment.
    Binary = 2,
    /// The last frame that the peer sends.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    /// Whether the frame may come between the fragments of a message.
    pub(super) fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// A header as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the message ends with this frame.
    pub(super) fin: bool,
    /// What the frame is.
    pub(super) opcode: Opcode,
    /// The key that the payload is masked with.
    pub(super) mask: Option<[u8; 4]>,
    /// Bytes of the payload, at most 125 in a control frame, below 2^63 in others.
    pub(super) len: u64,
}

impl Header {
    /// The header that `bytes` starts with, and its own length; `None` when more bytes are needed.
    /// Lengths that are not encoded minimally are taken: no harm comes from them.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let fin = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(Violation::ReservedOpcode)?;
        let short = second & 0x7f;
        if opcode.is_control() && !fin {
            return Err(Violation::ControlFragmented);
        }
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(Violation::ControlTooLong);
        }
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((extended, rest)) = rest.split_at_checked(extended) else { return Ok(None) };
        let len = match extended {
            [] => u64::from(short),
            bytes => bytes.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
        };
        if len >> 63 != 0 {
            return Err(Violation::TooLarge);
        }
        let (mask, rest) = match second & 0x80 {
            0 => (None, rest),
            _ => match rest.split_first_chunk() {
                Some((mask, rest)) => (Some(*mask), rest),
                None => return Ok(None),
            },
        };
        Ok(Some((Self { fin, opcode, mask, len }, bytes.len() - rest.len())))
    }
}

/// Masks or unmasks (§5.3), the first byte with the first byte of `key`.
pub(super) fn apply_mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = bytes.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends the header of an unfragmented frame: FIN set, reserved bits clear, the shortest encoding
/// of the length. A client passes a mask, and must then mask the payload with it.
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode as u8);
    match payload_len {
        0..=125 => out.push(masked | payload_len as u8),
        126..=0xffff => {
            out.push(masked | 0x7e);
            out.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 0x7f);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
}

/// Appends an unfragmented frame, masked when there is a mask. The payload of a control frame has at
/// most 125 bytes.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    debug_assert!(!opcode.is_control() || payload.len() <= MAX_CONTROL, "§5.5 limits control frames");
    out.reserve(MAX_HEADER + payload.len());
    write_header(out, opcode, payload.len(), mask);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut out[start..], key);
    }
}

/// Appends a close frame. A reason of more than 123 bytes is cut between two characters.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str, mask: Option<[u8; 4]>) {
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = [0; MAX_CONTROL];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
    write_frame(out, Opcode::Close, &payload[..2 + end], mask);
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// The unfragmented examples of RFC 6455 §5.7, written and parsed.
    #[test]
    fn golden_bytes() {
        let check = |opcode, payload: &[u8], mask, expected: &[u8]| {
            let mut out = Vec::new();
            write_frame(&mut out, opcode, payload, mask);
            assert!(out.starts_with(expected), "{out:x?}");
            let header = Header { fin: true, opcode, mask, len: payload.len() as u64 };
            assert_eq!(Header::parse(&out), Ok(Some((header, out.len() - payload.len()))));
        };
        check(Opcode::Text, b"Hello", None, b"\x81\x05Hello");
        check(Opcode::Text, b"Hello", Some(KEY), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        check(Opcode::Ping, b"Hello", None, b"\x89\x05Hello");
        check(Opcode::Pong, b"Hello", Some(KEY), b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        check(Opcode::Binary, &[7; 256], None, b"\x82\x7e\x01\x00\x07");
        check(Opcode::Binary, &vec![7; 65536], None, b"\x82\x7f\0\0\0\0\0\x01\0\0\x07");
    }

    #[test]
    fn lengths_are_minimal() {
        let check = |len: usize, expected: &[u8]| {
            let mut out = Vec::new();
            write_header(&mut out, Opcode::Binary, len, None);
            assert_eq!(out[1..], *expected, "length {len}");
        };
        check(0, &[0]);
        check(125, &[125]);
        check(126, &[126, 0, 126]);
        check(65535, &[126, 0xff, 0xff]);
        check(65536, &[127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    /// What two bytes, and the length behind them, decide.
    #[test]
    fn headers() {
        let ok =
            |fin, opcode, len, header_len| Ok(Some((Header { fin, opcode, mask: None, len }, header_len)));
        let check = |bytes: &[u8], expected| assert_eq!(Header::parse(bytes), expected, "{bytes:x?}");
        check(b"", Ok(None));
        check(b"\x82", Ok(None));
        check(b"\x02\x01", ok(false, Opcode::Binary, 1, 2));
        check(b"\x80\x01rest", ok(true, Opcode::Continuation, 1, 2));
        check(b"\x82\x7e\0", Ok(None));
        check(b"\x82\x7e\0\x05", ok(true, Opcode::Binary, 5, 4));
        check(b"\x82\x7f\0\0\0\0\0\0\0", Ok(None));
        check(b"\x82\x7f\0\0\0\0\0\0\0\x05", ok(true, Opcode::Binary, 5, 10));
        check(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", ok(true, Opcode::Binary, i64::MAX as u64, 10));
        check(b"\x82\x7f\x80\0\0\0\0\0\0\0", Err(Violation::TooLarge));
        check(b"\x81\x81\x01\x02\x03", Ok(None));
        for bit in [0x10, 0x20, 0x40] {
            check(&[0x81 | bit, 0], Err(Violation::ReservedBits));
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            check(&[0x80 | opcode, 0], Err(Violation::ReservedOpcode));
        }
        for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
            check(&[opcode as u8, 0], Err(Violation::ControlFragmented));
            check(&[0x80 | opcode as u8, 125], ok(true, opcode, 125, 2));
            check(&[0x80 | opcode as u8, 126], Err(Violation::ControlTooLong));
            check(&[0x80 | opcode as u8, 127], Err(Violation::ControlTooLong));
        }
    }

    #[test]
    fn close_reasons_are_cut_between_characters() {
        let check = |reason: &str, kept: usize| {
            let mut out = vec![];
            write_close(&mut out, 1001, reason, None);
            assert_eq!(out[..4], [0x88, 2 + kept as u8, 0x03, 0xe9]);
            assert_eq!(out[4..], reason.as_bytes()[..kept]);
        };
        check("", 0);
        check("server is restarting", 20);
        check(&"x".repeat(123), 123);
        check(&"x".repeat(124), 123);
        check(&"\u{e9}".repeat(62), 122);
        check(&(String::from("x") + &"\u{1f600}".repeat(31)), 121);
    }

    proptest! {
        /// Eight bytes at a time is the same as the definition in §5.3, one byte at a time.
        #[test]
        fn mask_is_that_of_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..70), key: [u8; 4]) {
            let mut masked = bytes.clone();
            apply_mask(&mut masked, key);
            let expected: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            prop_assert_eq!(masked, expected);
        }
    }
}
