//! A whole connection on a virtual clock, driven by any bytes, cuts and pauses: it never panics, never
//! holds more than its limits, and is over once its last deadline has passed.

#![no_main]

use std::time::Duration;

use anser_wire::input::Input;
use anser_wire::limits::Limits;
use anser_wire::operation::Dialect;
use anser_wire::server::{Connection, Event};
use anser_wire::time::Instant;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [flags, bytes @ ..] = data else { return };
    let limits = Limits { unmasked: flags & 2 != 0, ..Limits::default() };
    let mut now = Instant::ZERO;
    let mut connection =
        if flags & 1 == 0 { Connection::tcp(now, &limits) } else { Connection::websocket(now, &limits) };
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((step, tail)) = rest.split_first() {
        // The low bits say how many bytes come now, the high ones how long the next pause is.
        let n = usize::from(step & 0x3f).min(tail.len());
        let (piece, tail) = tail.split_at(n);
        rest = tail;
        now = now + Duration::from_millis(u64::from(step >> 6) * 700);
        let mut piece = piece.to_vec();
        let mut input = Input::new(&mut piece);
        while let Ok(Some(event)) = connection.poll(now, &mut input, &limits, &mut out) {
            match event {
                Event::Nothing => {}
                Event::Authenticate { packet, .. } => {
                    let auth = packet.header;
                    let dialect = if auth.seq & 1 == 0 { Dialect::Goim } else { Dialect::Anser };
                    connection.authenticated(now, auth, Duration::from_secs(480), dialect, &mut out);
                }
                Event::Packet(packet) => {
                    let header = packet.header;
                    assert!(packet.body.len() <= limits.body);
                    connection.write(header, b"", &mut out);
                }
            }
        }
        assert!(connection.held() <= 2 * (limits.upgrade + limits.body), "{} bytes held", connection.held());
        if now >= connection.deadline() {
            connection.handle_timeout(now, &mut out);
        }
        if connection.is_closed() {
            return;
        }
    }
    if flags & 4 != 0 {
        connection.drain(now, 17, &limits, &mut out);
    }
    for _ in 0..2 {
        if !connection.is_closed() {
            now = now.max(connection.deadline());
            connection.handle_timeout(now, &mut out);
        }
    }
    assert!(connection.is_closed());
});
