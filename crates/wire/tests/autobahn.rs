//! The cases of the Autobahn test suite, as rows: what a client sends to an echo server, and what it
//! gets back. The echo server is a few lines on the public decoder, the client another decoder.
//!
//! Case numbers are Autobahn's. Cases that differ only in how the bytes are cut share a row, since
//! every row is run in one read, frame by frame, and in small pieces.

use anser_wire::input::Input;
use anser_wire::websocket::{
    Decoder, Message, Opcode, Role, Violation, close_code, write_close, write_frame,
};

const KEY: [u8; 4] = [0x9a, 0x01, 0xfe, 0x47];

/// Largest message of the suite in this file, and the limit of the echo server.
const MAX: usize = 4 << 20;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// First fragment of a text, of a binary message.
const TEXT_START: u8 = 0x01;
const BINARY_START: u8 = 0x02;
/// Further fragments.
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;

/// A frame as the client sends it: any first byte, any payload, always masked.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, Opcode::Binary, payload.as_ref(), Some(KEY));
    bytes[0] = first;
    bytes
}

/// A close frame with any code, be it allowed or not.
fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// A message, not empty, in fragments of `size` bytes.
fn fragmented(start: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = payload.chunks(size).map(|part| frame(MORE, part)).collect();
    frames[0][0] = start;
    frames.last_mut().unwrap()[0] |= 0x80;
    frames
}

/// What the client sees, except for the end.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

fn pong(payload: &[u8]) -> Seen {
    Seen::Pong(payload.to_vec())
}

/// Echoes what arrives until the peer closes or breaks a rule: what it sent, and the rule.
fn echo_server(reads: Vec<Vec<u8>>) -> (Vec<u8>, Option<Violation>) {
    let mut decoder = Decoder::new(Role::Server);
    let mut out = Vec::new();
    for mut read in reads {
        let mut input = Input::new(&mut read);
        loop {
            match decoder.poll(&mut input, MAX, false) {
                Ok(None) => break,
                Ok(Some(Message::Text(text))) => write_frame(&mut out, Opcode::Text, text.as_bytes(), None),
                Ok(Some(Message::Binary(bytes))) => write_frame(&mut out, Opcode::Binary, bytes, None),
                Ok(Some(Message::Ping(payload))) => write_frame(&mut out, Opcode::Pong, payload, None),
                Ok(Some(Message::Pong(_))) => {}
                Ok(Some(Message::Close(None))) => {
                    write_frame(&mut out, Opcode::Close, b"", None);
                    return (out, None);
                }
                Ok(Some(Message::Close(Some((code, reason))))) => {
                    write_close(&mut out, code, reason, None);
                    return (out, None);
                }
                Err(violation) => {
                    write_close(&mut out, violation.close_code(), violation.name(), None);
                    return (out, Some(violation));
                }
            }
        }
    }
    (out, None)
}

/// How a case ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The server answers our close with the same code, or with none.
    Closed(Option<u16>),
    /// The server closes with the code that belongs to the violation.
    Failed(Violation, u16),
}

/// What the client has seen in the end, and how it ended; panics when the server sends anything else
/// than frames that end with one close.
fn client(mut bytes: Vec<u8>, violation: Option<Violation>) -> (Vec<Seen>, End) {
    let mut decoder = Decoder::new(Role::Client);
    let mut input = Input::new(&mut bytes);
    let mut seen = Vec::new();
    loop {
        match decoder.poll(&mut input, MAX, false).expect("the server speaks RFC 6455") {
            Some(Message::Text(text)) => seen.push(Seen::Text(text.to_owned())),
            Some(Message::Binary(bytes)) => seen.push(Seen::Binary(bytes.to_vec())),
            Some(Message::Pong(payload)) => seen.push(Seen::Pong(payload.to_vec())),
            Some(Message::Close(close)) => {
                assert!(input.is_empty(), "a close is the last frame");
                let code = close.map(|(code, _)| code);
                let end = match violation {
                    None => End::Closed(code),
                    Some(violation) => End::Failed(violation, code.expect("a violation has a code")),
                };
                return (seen, end);
            }
            other => panic!("an echo server does not send {other:?}"),
        }
    }
}

/// Runs one case with each way to cut it: whole, by frames, and in pieces of `sizes` bytes.
#[track_caller]
fn check_cut(case: &str, frames: &[Vec<u8>], sizes: &[usize], seen: &[Seen], end: End) {
    let bytes = frames.concat();
    let whole = vec![bytes.clone()];
    let cut = |size: &usize| bytes.chunks(*size).map(<[u8]>::to_vec).collect();
    for reads in [whole, frames.to_vec()].into_iter().chain(sizes.iter().map(cut)) {
        let count = reads.len();
        let (out, violation) = echo_server(reads);
        let got = client(out, violation);
        // Not assert_eq: payloads of megabytes would drown the case number.
        assert!(got.1 == end, "case {case} in {count} reads ends with {:?} instead of {end:?}", got.1);
        assert!(got.0 == seen, "case {case} in {count} reads is echoed wrongly: {} messages", got.0.len());
    }
}

#[track_caller]
fn check(case: &str, frames: &[Vec<u8>], seen: &[Seen], end: End) {
    let len = frames.concat().len();
    let sizes: &[usize] = if len < 4096 { &[1, 2, 3, 7] } else { &[997, 4096] };
    check_cut(case, frames, sizes, seen, end);
}

/// The frames are echoed as `seen`, and then the connection closes well.
#[track_caller]
fn passes(case: &str, frames: &[Vec<u8>], seen: &[Seen]) {
    check(case, &[frames, &[close(1000, "")]].concat(), seen, End::Closed(Some(1000)));
}

/// The server sees through the frames after having echoed `seen`.
#[track_caller]
fn fails(case: &str, frames: &[Vec<u8>], seen: &[Seen], violation: Violation) {
    let code = match violation {
        Violation::BadText => close_code::BAD_DATA,
        Violation::TooLarge => close_code::TOO_BIG,
        _ => close_code::PROTOCOL,
    };
    check(case, &[frames, &[close(1000, "")]].concat(), seen, End::Failed(violation, code));
}

#[test]
fn group_1_framing() {
    let check = |case: &str, len: usize| {
        let payload = "*".repeat(len);
        passes(&format!("1.1.{case}"), &[frame(TEXT, &payload)], &[Seen::Text(payload)]);
        let payload = vec![0xfe; len];
        passes(&format!("1.2.{case}"), &[frame(BINARY, &payload)], &[Seen::Binary(payload)]);
    };
    check("1", 0);
    check("2", 125);
    check("3", 126);
    check("4", 127);
    check("5", 128);
    check("6", 65535);
    check("7 and 8", 65536);
}

#[test]
fn group_2_pings_and_pongs() {
    let binary = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    passes("2.1", &[frame(PING, "")], &[pong(b"")]);
    passes("2.2", &[frame(PING, "Hello, world!")], &[pong(b"Hello, world!")]);
    passes("2.3", &[frame(PING, binary)], &[pong(&binary)]);
    passes("2.4 and 2.6", &[frame(PING, [0xfe; 125])], &[pong(&[0xfe; 125])]);
    fails("2.5", &[frame(PING, [0xfe; 126])], &[], Violation::ControlTooLong);
    passes("2.7", &[frame(PONG, "")], &[]);
    passes("2.8", &[frame(PONG, "unsolicited")], &[]);
    passes("2.9", &[frame(PONG, "unsolicited"), frame(PING, "ping")], &[pong(b"ping")]);
    let payloads: Vec<String> = (0..10).map(|i| format!("payload-{i}")).collect();
    let pings: Vec<_> = payloads.iter().map(|payload| frame(PING, payload)).collect();
    let seen: Vec<_> = payloads.iter().map(|payload| pong(payload.as_bytes())).collect();
    passes("2.10 and 2.11", &pings, &seen);
}

#[test]
fn group_3_reserved_bits() {
    let hello = || frame(TEXT, "Hello");
    let between = |case: &str, reserved: u8| {
        let frames = [hello(), frame(TEXT | reserved, "Hello"), frame(PING, "")];
        fails(case, &frames, &[text("Hello")], Violation::ReservedBits);
    };
    let alone = |case: &str, first: u8| {
        fails(case, &[frame(first, "payload")], &[], Violation::ReservedBits);
    };
    alone("3.1", TEXT | 0x10);
    between("3.2", 0x20);
    between("3.3", 0x30);
    between("3.4", 0x40);
    alone("3.5", BINARY | 0x50);
    alone("3.6", PING | 0x60);
    alone("3.7", CLOSE | 0x70);
}

#[test]
fn group_4_opcodes() {
    let alone = |case: &str, opcode: u8, payload: &str| {
        fails(case, &[frame(0x80 | opcode, payload)], &[], Violation::ReservedOpcode);
    };
    let between = |case: &str, opcode: u8, payload: &str| {
        let frames = [frame(TEXT, "Hello"), frame(0x80 | opcode, payload), frame(PING, "")];
        fails(case, &frames, &[text("Hello")], Violation::ReservedOpcode);
    };
    alone("4.1.1", 3, "");
    alone("4.1.2", 4, "reserved");
    between("4.1.3", 5, "");
    between("4.1.4", 6, "reserved");
    between("4.1.5", 7, "reserved");
    alone("4.2.1", 11, "");
    alone("4.2.2", 12, "reserved");
    between("4.2.3", 13, "");
    between("4.2.4", 14, "reserved");
    between("4.2.5", 15, "reserved");
}

#[test]
fn group_5_fragmentation() {
    use Violation::{ControlFragmented, UnexpectedContinuation, UnfinishedMessage};
    let (start, more, last) = (
        |payload: &str| frame(TEXT_START, payload),
        |payload: &str| frame(MORE, payload),
        |payload: &str| frame(LAST, payload),
    );
    let ping = || frame(PING, "ping");
    let hello = || frame(TEXT, "Hello");
    fails("5.1", &[frame(PING & 0x0f, "1"), last("2")], &[], ControlFragmented);
    fails("5.2", &[frame(PONG & 0x0f, "1"), last("2")], &[], ControlFragmented);
    passes("5.3 to 5.5", &[start("one "), last("two")], &[text("one two")]);
    passes("5.6 to 5.8", &[start("one "), ping(), last("two")], &[pong(b"ping"), text("one two")]);
    fails("5.9 to 5.11", &[last("nothing to continue"), hello()], &[], UnexpectedContinuation);
    fails("5.12 to 5.14", &[more("nothing to continue"), hello()], &[], UnexpectedContinuation);
    fails(
        "5.15",
        &[start("one "), last("two"), more("nothing to continue"), hello()],
        &[text("one two")],
        UnexpectedContinuation,
    );
    let round = |first: fn(&str) -> Vec<u8>| [first("nothing to continue"), start("one "), last("two")];
    fails("5.16", &[round(more), round(more)].concat(), &[], UnexpectedContinuation);
    fails("5.17", &[round(last), round(last)].concat(), &[], UnexpectedContinuation);
    fails("5.18", &[start("one "), hello()], &[], UnfinishedMessage);
    fails("5.18, binary", &[frame(BINARY_START, "1"), frame(BINARY, "2")], &[], UnfinishedMessage);
    passes(
        "5.19 and 5.20",
        &[
            start("fragment1"),
            more("fragment2"),
            frame(PING, "ping 1"),
            more("fragment3"),
            more("fragment4"),
            frame(PING, "ping 2"),
            last("fragment5"),
        ],
        &[pong(b"ping 1"), pong(b"ping 2"), text("fragment1fragment2fragment3fragment4fragment5")],
    );
}

/// κόσμε, the word that Markus Kuhn's table of UTF-8 sequences starts with.
const KOSME: &str = "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}";

#[test]
fn group_6_text_in_fragments() {
    let start = |payload: &[u8]| frame(TEXT_START, payload);
    let more = |payload: &[u8]| frame(MORE, payload);
    let last = |payload: &[u8]| frame(LAST, payload);
    passes("6.1.1", &[frame(TEXT, "")], &[text("")]);
    passes("6.1.2", &[start(b""), more(b""), last(b"")], &[text("")]);
    passes("6.1.3", &[start(b""), more(b"middle"), last(b"")], &[text("middle")]);
    let mixed = "Hello-\u{b5}@\u{df}\u{f6}\u{e4}\u{fc}\u{e0}\u{e1}-UTF-8!!";
    let (left, right) = mixed.as_bytes().split_at(12);
    passes("6.2.1", &[frame(TEXT, mixed)], &[text(mixed)]);
    passes("6.2.2", &[start(left), last(right)], &[text(mixed)]);
    passes("6.2.3", &fragmented(TEXT_START, mixed.as_bytes(), 1), &[text(mixed)]);
    passes("6.2.4", &fragmented(TEXT_START, KOSME.as_bytes(), 1), &[text(KOSME)]);
    let broken = [KOSME.as_bytes(), b"\xed\xa0\x80edited"].concat();
    fails("6.3.1", &[frame(TEXT, &broken)], &[], Violation::BadText);
    fails("6.3.2", &fragmented(TEXT_START, &broken, 1), &[], Violation::BadText);
    // Hopeless at the second fragment: what comes behind it is not waited for.
    fails("6.4.1", &[start(KOSME.as_bytes()), more(b"\xf4\x90\x80\x80")], &[], Violation::BadText);
    fails("6.4.2", &[start(&[KOSME.as_bytes(), b"\xf4"].concat()), more(b"\x90")], &[], Violation::BadText);
}

/// Within one frame, too, the first byte that makes the text hopeless is the last one needed.
#[test]
fn group_6_text_fails_fast_within_a_frame() {
    let payload = [KOSME.as_bytes(), b"\xf4\x90\x80\x80edited"].concat();
    let hopeless = KOSME.len() + 2;
    let mut bytes = frame(TEXT, &payload);
    bytes.truncate(bytes.len() - payload.len() + hopeless);
    let end = End::Failed(Violation::BadText, 1007);
    for size in [1, bytes.len()] {
        let (out, violation) = echo_server(bytes.chunks(size).map(<[u8]>::to_vec).collect());
        assert_eq!(client(out, violation), (vec![], end), "cases 6.4.3 and 6.4.4, reads of {size}");
    }
    bytes.pop();
    assert_eq!(echo_server(vec![bytes]), (vec![], None), "F4 alone may become U+100000");
}

/// A text message in one frame, and in fragments of one and of three bytes.
fn texts(payload: &[u8]) -> [Vec<Vec<u8>>; 3] {
    [payload.len(), 1, 3].map(|size| fragmented(TEXT_START, payload, size))
}

#[track_caller]
fn valid(case: &str, payload: &[u8]) {
    let seen = [text(std::str::from_utf8(payload).unwrap())];
    for frames in texts(payload) {
        passes(case, &frames, &seen);
    }
}

#[track_caller]
fn invalid(case: &str, payload: &[u8]) {
    for frames in texts(payload) {
        fails(case, &frames, &[], Violation::BadText);
    }
}

#[test]
fn group_6_sequences() {
    valid("6.5.1", b"hello$world");
    valid("6.5.2", b"hello\xc2\xa2world");
    valid("6.5.3", b"hello\xe2\x82\xacworld");
    valid("6.5.4", b"hello\xf0\xa4\xad\xa2world");
    valid("6.5.5", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5");
    for len in 1..=KOSME.len() {
        let check = if [2, 5, 7, 9, 11].contains(&len) { valid } else { invalid };
        check(&format!("6.6.{len}"), &KOSME.as_bytes()[..len]);
    }

    // First and last sequence of each length.
    valid("6.7.1", b"\x00");
    valid("6.7.2", b"\xc2\x80");
    valid("6.7.3", b"\xe0\xa0\x80");
    valid("6.7.4", b"\xf0\x90\x80\x80");
    invalid("6.8.1", b"\xf8\x88\x80\x80\x80");
    invalid("6.8.2", b"\xfc\x84\x80\x80\x80\x80");
    valid("6.9.1", b"\x7f");
    valid("6.9.2", b"\xdf\xbf");
    valid("6.9.3", b"\xef\xbf\xbf");
    valid("6.9.4", b"\xf4\x8f\xbf\xbf");
    invalid("6.10.1", b"\xf7\xbf\xbf\xbf");
    invalid("6.10.2", b"\xfb\xbf\xbf\xbf\xbf");
    invalid("6.10.3", b"\xfd\xbf\xbf\xbf\xbf\xbf");
    valid("6.11.1", b"\xed\x9f\xbf");
    valid("6.11.2", b"\xee\x80\x80");
    valid("6.11.3", b"\xef\xbf\xbd");
    valid("6.11.4", b"\xf4\x8f\xbf\xbf");
    invalid("6.11.5", b"\xf4\x90\x80\x80");

    // Continuation bytes without a start, starts without continuation.
    invalid("6.12.1", b"\x80");
    invalid("6.12.2", b"\xbf");
    for len in 2..=6 {
        invalid(&format!("6.12.{}", len + 1), &b"\x80\xbf\x80\xbf\x80\xbf"[..len]);
    }
    invalid("6.12.8", &(0x80..=0xbf).collect::<Vec<u8>>());
    for (i, starts) in
        [0xc0..=0xdf, 0xe0..=0xef, 0xf0..=0xf7, 0xf8..=0xfb, 0xfc..=0xfd].into_iter().enumerate()
    {
        let lonely: Vec<u8> = starts.flat_map(|start| [start, b' ']).collect();
        invalid(&format!("6.13.{}", i + 1), &lonely);
    }
    let truncated: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    for (i, payload) in truncated.iter().enumerate() {
        invalid(&format!("6.14.{}", i + 1), payload);
    }
    invalid("6.15.1", &truncated.concat());
    invalid("6.16.1", b"\xfe");
    invalid("6.16.2", b"\xff");
    invalid("6.16.3", b"\xfe\xfe\xff\xff");

    // Longer than necessary: a slash, the largest such value of each length, NUL.
    invalid("6.17.1", b"\xc0\xaf");
    invalid("6.17.2", b"\xe0\x80\xaf");
    invalid("6.17.3", b"\xf0\x80\x80\xaf");
    invalid("6.17.4", b"\xf8\x80\x80\x80\xaf");
    invalid("6.17.5", b"\xfc\x80\x80\x80\x80\xaf");
    invalid("6.18.1", b"\xc1\xbf");
    invalid("6.18.2", b"\xe0\x9f\xbf");
    invalid("6.18.3", b"\xf0\x8f\xbf\xbf");
    invalid("6.18.4", b"\xf8\x87\xbf\xbf\xbf");
    invalid("6.18.5", b"\xfc\x83\xbf\xbf\xbf\xbf");
    invalid("6.19.1", b"\xc0\x80");
    invalid("6.19.2", b"\xe0\x80\x80");
    invalid("6.19.3", b"\xf0\x80\x80\x80");
    invalid("6.19.4", b"\xf8\x80\x80\x80\x80");
    invalid("6.19.5", b"\xfc\x80\x80\x80\x80\x80");

    // Surrogates, alone and in pairs.
    let high: [&[u8]; 4] = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"];
    let low: [&[u8]; 3] = [b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf"];
    for (i, surrogate) in high.iter().chain(&low).enumerate() {
        invalid(&format!("6.20.{}", i + 1), surrogate);
    }
    let pairs = high.iter().flat_map(|high| [low[0], low[2]].map(|low| [high, low].concat()));
    for (i, pair) in pairs.enumerate() {
        invalid(&format!("6.21.{}", i + 1), &pair);
    }

    // Noncharacters and specials are valid UTF-8.
    for i in 0..34_u32 {
        let noncharacter = char::from_u32(0x1_0000 * (i / 2) + 0xfffe + i % 2).unwrap();
        valid(&format!("6.22.{}", i + 1), noncharacter.to_string().as_bytes());
    }
    for i in 0..7 {
        let special = char::from_u32(0xfff9 + i).unwrap();
        valid(&format!("6.23.{}", i + 1), special.to_string().as_bytes());
    }
}

#[test]
fn group_7_closing() {
    let hello = || frame(TEXT, "Hello");
    let normal = || close(1000, "");
    let closed = End::Closed(Some(1000));
    check("7.1.1", &[hello(), normal()], &[text("Hello")], closed);
    check("7.1.2", &[normal(), normal()], &[], closed);
    check("7.1.3", &[normal(), frame(PING, "")], &[], closed);
    check("7.1.4", &[normal(), hello()], &[], closed);
    check("7.1.5", &[frame(TEXT_START, "one "), normal(), frame(LAST, "two")], &[], closed);
    let large = "BAsd7&jh23".repeat(26_215);
    check(
        "7.1.6",
        &[frame(TEXT, &large), hello(), normal(), frame(PING, "")],
        &[Seen::Text(large), text("Hello")],
        closed,
    );
    check("7.3.1", &[frame(CLOSE, "")], &[], End::Closed(None));
    fails("7.3.2", &[frame(CLOSE, "a")], &[], Violation::BadClosePayload);
    check("7.3.3", &[normal()], &[], closed);
    check("7.3.4", &[close(1000, "Hello World!")], &[], closed);
    check("7.3.5", &[close(1000, "*".repeat(123))], &[], closed);
    fails("7.3.6", &[close(1000, "*".repeat(124))], &[], Violation::ControlTooLong);
    let broken = [KOSME.as_bytes(), b"\xed\xa0\x80edited"].concat();
    fails("7.5.1", &[close(1000, broken)], &[], Violation::BadText);
}

#[test]
fn group_7_close_codes() {
    // 1012 to 1014 came later than the suite, which has no opinion on them.
    let valid =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999, 1012, 1013, 1014];
    for (i, code) in valid.into_iter().enumerate() {
        check(&format!("7.7.{} ({code})", i + 1), &[close(code, "reason")], &[], End::Closed(Some(code)));
    }
    // 7.13 leaves open what becomes of 5000 and more; here they are refused like the others.
    let invalid = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 1015, 5000, 65535];
    for (i, code) in invalid.into_iter().enumerate() {
        let case = format!("7.9.{} and 7.13 ({code})", i + 1);
        fails(&case, &[close(code, "")], &[], Violation::BadCloseCode);
        fails(&case, &[close(code, "reason")], &[], Violation::BadCloseCode);
    }
}

/// A text and a binary message of `len` bytes, the text with a character of three bytes in it.
fn large(len: usize) -> (String, Vec<u8>) {
    let text = "\u{20ac}".to_owned() + &"BAsd7&jh23".repeat(len / 10 + 1);
    (text[..len].to_owned(), (0..len).map(|i| i as u8).collect())
}

#[test]
fn group_9_sizes() {
    for (i, len) in [64 << 10, 256 << 10, 1 << 20, 4 << 20].into_iter().enumerate() {
        let (text, bytes) = large(len);
        passes(&format!("9.1.{}", i + 1), &[frame(TEXT, &text)], &[Seen::Text(text)]);
        passes(&format!("9.2.{}", i + 1), &[frame(BINARY, &bytes)], &[Seen::Binary(bytes)]);
    }
    let too_large = vec![0; MAX + 1];
    fails("9.2, over the limit", &[frame(BINARY, &too_large)], &[], Violation::TooLarge);
}

#[test]
fn group_9_fragments() {
    let (text, bytes) = large(MAX);
    let sizes = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
    for (i, size) in sizes.into_iter().enumerate() {
        let frames =
            [fragmented(TEXT_START, text.as_bytes(), size), fragmented(BINARY_START, &bytes, size)].concat();
        let seen = [Seen::Text(text.clone()), Seen::Binary(bytes.clone())];
        passes(&format!("9.3.{0} and 9.4.{0}", i + 1), &frames, &seen);
    }
    let mut frames = fragmented(BINARY_START, &bytes, 1 << 20);
    frames.last_mut().unwrap()[0] = MORE;
    frames.push(frame(LAST, "x"));
    fails("9.4, over the limit", &frames, &[], Violation::TooLarge);
}

#[test]
fn group_9_chops() {
    let (text, bytes) = large(1 << 20);
    let frames = [frame(TEXT, &text), frame(BINARY, &bytes), close(1000, "")];
    let seen = [Seen::Text(text), Seen::Binary(bytes)];
    let sizes = [64, 128, 256, 512, 1024, 2048];
    check_cut("9.5 and 9.6", &frames, &sizes, &seen, End::Closed(Some(1000)));
}

#[test]
fn group_9_round_trips() {
    for (i, len) in [0, 16, 64, 256, 1024, 4096].into_iter().enumerate() {
        let payload = "*".repeat(len);
        let frames = vec![frame(TEXT, &payload); 1000];
        passes(&format!("9.7.{}", i + 1), &frames, &vec![text(&payload); 1000]);
        let frames = vec![frame(BINARY, &payload); 1000];
        passes(&format!("9.8.{}", i + 1), &frames, &vec![Seen::Binary(payload.into_bytes()); 1000]);
    }
}

#[test]
fn group_10_auto_fragmentation() {
    let payload = "*".repeat(64 << 10);
    passes("10.1.1", &fragmented(TEXT_START, payload.as_bytes(), 1300), &[Seen::Text(payload)]);
}
