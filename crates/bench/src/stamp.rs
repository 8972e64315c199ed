//! What a benchmark's message says: its place in a stream, and when it should have been sent.
//!
//! ```text
//!  0           8                 16
//!  +--------+--+-----------------+----------
//!  |stream 1|seq 7| sent at, u64 | padding
//!  +--------+--+-----------------+----------
//! ```

/// Bytes of a stamp, and so the least that a body may have.
pub(crate) const LEN: usize = 16;

/// How many streams a connection tells apart. Each costs 16 bytes of every connection.
pub(crate) const STREAMS: usize = 8;

/// The stream of pushes to one key. The others are those of the room's posters: each poster waits for
/// its answer before it goes on, so the order is defined within a poster and not between two.
pub(crate) const KEY_STREAM: u8 = 7;

/// The start of a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Who posts, below [`STREAMS`].
    pub(crate) stream: u8,
    /// 0, 1, 2, ... in this stream, for each room or key.
    pub(crate) seq: u64,
    /// When the message should have been sent, by [`crate::clock::now`].
    pub(crate) at: u64,
}

impl Stamp {
    /// Writes the stamp over the first 16 bytes of `body`.
    pub(crate) fn write(self, body: &mut [u8]) {
        let first = u64::from(self.stream) << 56 | self.seq;
        body[..8].copy_from_slice(&first.to_be_bytes());
        body[8..LEN].copy_from_slice(&self.at.to_be_bytes());
    }

    /// The stamp of a body; `None` when it is no benchmark's.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (first, rest) = body.split_first_chunk()?;
        let (at, _) = rest.split_first_chunk()?;
        let first = u64::from_be_bytes(*first);
        let stream = (first >> 56) as u8;
        let seq = first & (u64::MAX >> 8);
        (usize::from(stream) < STREAMS).then(|| Self { stream, seq, at: u64::from_be_bytes(*at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_way() {
        let stamp = Stamp { stream: KEY_STREAM, seq: 0x1234_5678_9abc, at: u64::MAX - 1 };
        let mut body = [b'.'; 20];
        stamp.write(&mut body);
        assert_eq!(Stamp::read(&body), Some(stamp));
        assert_eq!(body[16..], *b"....");
    }

    #[test]
    fn other_bodies_have_none() {
        assert_eq!(Stamp::read(b"fifteen bytes.."), None);
        assert_eq!(Stamp::read(br#"{"test":"a body of somebody else"}"#), None);
    }
}
