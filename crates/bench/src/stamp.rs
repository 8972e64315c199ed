//! What a benchmark's message says: its place in a stream, and when it should have been sent.
//!
//! ```text
//!  0              8              16
//!  +--------+-----+--------------+----------
//!  |stream 2|seq 6| sent at, u64 | padding
//!  +--------+-----+--------------+----------
//! ```

/// Bytes of a stamp, and so the least that a body may have.
pub(crate) const LEN: usize = 16;

/// How many streams there are. The first byte of a stamp is below 32, and so no text begins like one.
pub(crate) const STREAMS: usize = 32 << 8;

/// How many streams a connection has room for from the start, at 16 bytes each.
pub(crate) const FEW_STREAMS: usize = 8;

/// The stream of pushes to one key. The others are those of the room's posters: each poster waits for
/// its answer before it goes on, so the order is defined within a poster and not between two.
pub(crate) const KEY_STREAM: u16 = 7;

/// The stream of the `poster`-th of a room's posters.
pub(crate) fn of_room(poster: u16) -> u16 {
    poster + u16::from(poster >= KEY_STREAM)
}

/// The start of a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Who posts, below [`STREAMS`].
    pub(crate) stream: u16,
    /// 0, 1, 2, ... in this stream, for each room or key.
    pub(crate) seq: u64,
    /// When the message should have been sent, by [`crate::clock::now`].
    pub(crate) at: u64,
}

impl Stamp {
    /// Writes the stamp over the first 16 bytes of `body`.
    pub(crate) fn write(self, body: &mut [u8]) {
        let first = u64::from(self.stream) << 48 | self.seq;
        body[..8].copy_from_slice(&first.to_be_bytes());
        body[8..LEN].copy_from_slice(&self.at.to_be_bytes());
    }

    /// The stamp of a body; `None` when it is no benchmark's.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (first, rest) = body.split_first_chunk()?;
        let (at, _) = rest.split_first_chunk()?;
        let first = u64::from_be_bytes(*first);
        let stream = (first >> 48) as u16;
        let seq = first & (u64::MAX >> 16);
        (usize::from(stream) < STREAMS).then(|| Self { stream, seq, at: u64::from_be_bytes(*at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_way() {
        for stream in [0, KEY_STREAM, of_room(7), of_room(STREAMS as u16 - 2)] {
            let stamp = Stamp { stream, seq: 0x1234_5678_9abc, at: u64::MAX - 1 };
            let mut body = [b'.'; 20];
            stamp.write(&mut body);
            assert_eq!(Stamp::read(&body), Some(stamp));
            assert_eq!(body[16..], *b"....");
        }
    }

    #[test]
    fn no_poster_of_a_room_has_the_stream_of_keys() {
        let streams: Vec<u16> = (0..10).map(of_room).collect();
        assert_eq!(streams, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]);
    }

    #[test]
    fn other_bodies_have_none() {
        assert_eq!(Stamp::read(b"fifteen bytes.."), None);
        assert_eq!(Stamp::read(br#"{"test":"a body of somebody else"}"#), None);
    }
}
