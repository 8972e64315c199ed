//! Any bytes, cut anywhere: the packet decoder gives the same packets as in one piece, and never
//! panics.

#![no_main]

use anser_wire::input::Input;
use anser_wire::limits::Limits;
use anser_wire::packet::{Decoder, decode_all, decode_message};
use libfuzzer_sys::fuzz_target;

fn packets(pieces: &mut [Vec<u8>]) -> Vec<String> {
    let limits = Limits::default();
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for piece in pieces {
        let mut input = Input::new(piece);
        loop {
            match decoder.poll(&mut input, &limits) {
                Ok(None) => break,
                Ok(Some(packet)) => seen.push(format!("{packet:?}")),
                Err(cause) => {
                    seen.push(cause.to_string());
                    return seen;
                }
            }
        }
    }
    seen
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let step = usize::from(*cut).max(1);
    let mut pieces: Vec<Vec<u8>> = bytes.chunks(step).map(<[u8]>::to_vec).collect();
    assert_eq!(packets(&mut pieces), packets(&mut [bytes.to_vec()]));
    let _ = decode_message(bytes, 4096);
    assert!(decode_all(bytes).count() <= bytes.len() / 16 + 1);
});
