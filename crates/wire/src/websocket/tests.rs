//! Both halves against each other, and whole streams through the decoder.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::input::Input;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_string()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Message::Close(close) => Self::Close(close.map(|(code, reason)| (code, reason.to_string()))),
        }
    }
}

/// Everything that `reads` hold, and how it ended.
fn poll_all(role: Role, reads: &[&[u8]], max: usize) -> (Vec<Owned>, Result<(), Violation>) {
    let mut decoder = Decoder::new(role);
    let mut messages = Vec::new();
    for read in reads {
        let mut read = read.to_vec();
        let mut input = Input::new(&mut read);
        loop {
            match decoder.poll(&mut input, max, false) {
                Ok(Some(message)) => messages.push(message.into()),
                Ok(None) => break,
                Err(violation) => return (messages, Err(violation)),
            }
        }
        assert!(input.is_empty());
    }
    (messages, Ok(()))
}

/// Appends a frame with any first byte.
fn raw(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    let start = out.len();
    write_frame(out, Opcode::Binary, payload, mask);
    out[start] = first;
}

/// RFC 6455 §5.7, in one read and byte by byte.
#[test]
fn golden_frames() {
    let check = |role, bytes: &[u8], expected: Owned| {
        let expected = (vec![expected], Ok(()));
        assert_eq!(poll_all(role, &[bytes], 5), expected);
        assert_eq!(poll_all(role, &bytes.chunks(1).collect::<Vec<_>>(), 5), expected);
    };
    let hello = b"Hello".to_vec();
    check(Role::Client, b"\x81\x05Hello", Owned::Text("Hello".into()));
    check(Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", Owned::Text("Hello".into()));
    check(Role::Client, b"\x01\x03Hel\x80\x02lo", Owned::Text("Hello".into()));
    check(Role::Client, b"\x89\x05Hello", Owned::Ping(hello.clone()));
    check(Role::Server, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", Owned::Pong(hello));
}

/// Frames as first byte and payload, the limit being 10 bytes.
#[test]
fn fragments() {
    let check = |frames: &[(u8, &[u8])], expected: Result<Owned, Violation>| {
        let mut bytes = Vec::new();
        for (first, payload) in frames {
            raw(&mut bytes, *first, payload, Some(KEY));
        }
        let expected = match expected {
            Ok(message) => (vec![message], Ok(())),
            Err(violation) => (vec![], Err(violation)),
        };
        assert_eq!(poll_all(Role::Server, &[&bytes], 10), expected, "{frames:x?}");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(poll_all(Role::Server, &single, 10), expected, "{frames:x?} byte by byte");
    };
    check(&[(0x02, b"ab"), (0x00, b""), (0x80, b"c")], Ok(Owned::Binary(b"abc".to_vec())));
    check(&[(0x02, b"12345"), (0x80, b"67890")], Ok(Owned::Binary(b"1234567890".to_vec())));
    check(&[(0x02, b"12345"), (0x80, b"678901")], Err(Violation::TooLarge));
    check(&[(0x82, b"12345678901")], Err(Violation::TooLarge));
    check(&[(0x80, b"a")], Err(Violation::UnexpectedContinuation));
    check(&[(0x02, b"a"), (0x82, b"b")], Err(Violation::UnfinishedMessage));
    check(&[(0x01, b"a"), (0x01, b"b")], Err(Violation::UnfinishedMessage));
    // A character may be cut by a fragment, but not by the end of the message.
    check(&[(0x01, b"\xe2\x82"), (0x80, b"\xac")], Ok(Owned::Text("\u{20ac}".into())));
    check(&[(0x01, b"\xe2"), (0x80, b"\x82")], Err(Violation::BadText));
    check(&[(0x81, b"\xe2\x82")], Err(Violation::BadText));
    // Hopeless at the first fragment: the second one never comes.
    check(&[(0x01, b"\xf4\x90")], Err(Violation::BadText));
    check(&[(0x02, b"\xf4\x90"), (0x80, b"")], Ok(Owned::Binary(b"\xf4\x90".to_vec())));
}

/// A control frame overtakes the message that it interrupts, and leaves its bytes alone.
#[test]
fn control_frames_between_fragments() {
    let mut bytes = Vec::new();
    raw(&mut bytes, 0x01, b"a\xe2\x82", Some(KEY));
    write_frame(&mut bytes, Opcode::Ping, b"ping", Some([1, 2, 3, 4]));
    write_frame(&mut bytes, Opcode::Pong, b"", Some(KEY));
    raw(&mut bytes, 0x80, b"\xac", Some(KEY));
    write_close(&mut bytes, 1001, "bye", Some(KEY));
    let expected = vec![
        Owned::Ping(b"ping".to_vec()),
        Owned::Pong(vec![]),
        Owned::Text("a\u{20ac}".into()),
        Owned::Close(Some((1001, "bye".into()))),
    ];
    for size in 1..=bytes.len() {
        let reads: Vec<&[u8]> = bytes.chunks(size).collect();
        assert_eq!(poll_all(Role::Server, &reads, 10), (expected.clone(), Ok(())), "reads of {size}");
    }
}

/// RFC 6455 §1.3: request, response and the value that ties them together.
#[test]
fn golden_handshake() {
    let mut request = Vec::new();
    write_request(&mut request, "server.example.com", "/chat?x=%20", b"the sample nonce");
    assert_eq!(
        str::from_utf8(&request),
        Ok("GET /chat?x=%20 HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\n\r\n")
    );
    let accept = *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let expected = Request {
        len: request.len(),
        path: "/chat",
        query: Some("x=%20"),
        origin: None,
        cookie: None,
        accept,
    };
    let mut stream = request.clone();
    stream.extend_from_slice(b"\x81\x85");
    assert_eq!(parse_request(&stream), Ok(Some(expected)));

    let mut response = Vec::new();
    write_response(&mut response, &accept);
    assert_eq!(
        str::from_utf8(&response),
        Ok("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
    );
    let len = response.len();
    response.extend_from_slice(b"\x81\x05");
    assert_eq!(parse_response(&response, b"the sample nonce"), Ok(Some(len)));

    for cut in 0..request.len() {
        assert_eq!(parse_request(&request[..cut]), Ok(None), "cut at {cut}");
    }
    for cut in 0..len {
        assert_eq!(parse_response(&response[..cut], b"the sample nonce"), Ok(None), "cut at {cut}");
    }
}

#[test]
fn close_payloads() {
    let check = |payload: &[u8], expected: Result<Option<(u16, &str)>, Violation>| {
        assert_eq!(parse_close(payload), expected, "{payload:?}");
    };
    check(b"", Ok(None));
    check(b"\x03", Err(Violation::BadClosePayload));
    check(b"\x03\xe8", Ok(Some((1000, ""))));
    check("\u{3}\u{b}bye \u{20ac}".as_bytes(), Err(Violation::BadCloseCode));
    check(b"\x03\xe9bye", Ok(Some((1001, "bye"))));
    check(b"\x03\xe9bye \xe2\x82", Err(Violation::BadText));
}

/// Every code from 0 to 65535.
#[test]
fn close_codes() {
    let allowed: Vec<u16> = (0..=u16::MAX).filter(|code| parse_close(&code.to_be_bytes()).is_ok()).collect();
    let expected: Vec<u16> = [1000..=1003, 1007..=1014, 3000..=4999].into_iter().flatten().collect();
    assert_eq!(allowed, expected);
}

/// A frame as first byte and payload.
type Frame = (u8, Vec<u8>);

/// A text or binary message in fragments, control frames between them, and what is to come out.
fn data_message() -> impl Strategy<Value = (Vec<Frame>, Vec<Owned>)> {
    let control = prop::option::of((9u8..=10, prop::collection::vec(any::<u8>(), 0..=125)));
    let text = "\\PC{0,60}".prop_map(|text| (1u8, text.into_bytes()));
    let long = prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (2u8, bytes));
    (prop_oneof![text, long], prop::collection::vec((any::<Index>(), control), 0..4)).prop_map(
        |((opcode, payload), mut between)| {
            between.sort_by_key(|(cut, _)| cut.index(payload.len() + 1));
            let (mut frames, mut expected) = (Vec::new(), Vec::new());
            let (mut from, mut first) = (0, opcode);
            for (cut, control) in between {
                let cut = cut.index(payload.len() + 1);
                frames.push((first, payload[from..cut].to_vec()));
                (from, first) = (cut, 0);
                if let Some((opcode, bytes)) = control {
                    frames.push((0x80 | opcode, bytes.clone()));
                    expected.push(if opcode == 9 { Owned::Ping(bytes) } else { Owned::Pong(bytes) });
                }
            }
            frames.push((0x80 | first, payload[from..].to_vec()));
            expected.push(match opcode {
                1 => Owned::Text(String::from_utf8(payload).unwrap()),
                _ => Owned::Binary(payload),
            });
            (frames, expected)
        },
    )
}

proptest! {
    /// However a stream of messages is fragmented and cut into reads, the messages are the same.
    #[test]
    fn any_split_gives_the_same_messages(
        messages in prop::collection::vec(data_message(), 0..5),
        key in any::<Option<[u8; 4]>>(),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let role = if key.is_some() { Role::Server } else { Role::Client };
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (frames, messages) in messages {
            for (first, payload) in frames {
                raw(&mut bytes, first, &payload, key);
            }
            expected.extend(messages);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let reads: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(poll_all(role, &reads, 300), (expected, Ok(())));
    }

    /// Any bytes at all are taken or refused, never panic, and mean the same however they are cut.
    #[test]
    fn garbage_is_refused_quietly(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
        for role in [Role::Server, Role::Client] {
            let reads: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(poll_all(role, &[&bytes], 100), poll_all(role, &reads, 100));
        }
    }

    /// The same for frames that are nearly right: short payloads, first bytes of every kind.
    #[test]
    fn any_split_gives_the_same_violation(
        frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..4)), 0..6),
        size in 1usize..20,
    ) {
        let mut bytes = Vec::new();
        for (first, payload) in frames {
            raw(&mut bytes, first & 0x8b, &payload, Some(KEY));
        }
        let reads: Vec<&[u8]> = bytes.chunks(size).collect();
        prop_assert_eq!(poll_all(Role::Server, &[&bytes], 8), poll_all(Role::Server, &reads, 8));
    }
}
