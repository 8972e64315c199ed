//! Any bytes, cut anywhere, to both halves of the WebSocket codec: the same messages as in one piece,
//! nothing held at the end of a message, and never a panic.

#![no_main]

use anser_wire::input::Input;
use anser_wire::websocket::{Decoder, Role, parse_request, parse_response};
use libfuzzer_sys::fuzz_target;

const MAX: usize = 4112;

fn messages(role: Role, unmasked: bool, pieces: &mut [Vec<u8>]) -> Vec<String> {
    let mut decoder = Decoder::new(role);
    let mut seen = Vec::new();
    for piece in pieces {
        let mut input = Input::new(piece);
        loop {
            match decoder.poll(&mut input, MAX, unmasked) {
                Ok(None) => break,
                Ok(Some(message)) => seen.push(format!("{message:?}")),
                Err(cause) => {
                    // In which piece bad text shows depends on the cut; that it is bad does not.
                    seen.push(cause.name().to_owned());
                    return seen;
                }
            }
        }
        assert!(decoder.held() <= 4 * MAX, "{} bytes held", decoder.held());
    }
    seen
}

fuzz_target!(|data: &[u8]| {
    let [flags, cut, bytes @ ..] = data else { return };
    let step = usize::from(*cut).max(1);
    let role = || if flags & 1 == 0 { Role::Server } else { Role::Client };
    let unmasked = flags & 2 != 0;
    let mut pieces: Vec<Vec<u8>> = bytes.chunks(step).map(<[u8]>::to_vec).collect();
    assert_eq!(messages(role(), unmasked, &mut pieces), messages(role(), unmasked, &mut [bytes.to_vec()]));
    let _ = parse_request(bytes);
    let _ = parse_response(bytes, &[7; 16]);
});
