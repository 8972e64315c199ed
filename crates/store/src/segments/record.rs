//! How a segment file looks.
//!
//! ```text
//! segment  64 bytes   "ANSERLOG" · version u32 · crc u32 · base u64 · log u64 · zeros
//!          records    one behind the other, then zeros
//!
//! record    4 bytes   crc: CRC-32C of all that follows
//!           4         len: bytes of the content
//!           8         position: base + where it lies in the file
//!           4         behind: position less the end of what was durable when it was appended
//!           4         version u8 · zeros
//!         len         content
//! ```
//!
//! All numbers are little-endian. `behind` tells a torn tail from damage: a record that cannot be read
//! although a later one says that it was durable has been damaged; otherwise nobody was told that it was
//! taken, and it is cut.

/// Bytes before the first record.
pub(super) const SEGMENT_HEADER: usize = 64;

/// Bytes before the content of a record.
pub(super) const RECORD_HEADER: usize = 24;

const MAGIC: &[u8; 8] = b"ANSERLOG";

/// The format of segments.
pub(super) const SEGMENT_VERSION: u32 = 1;

/// The format of records.
const RECORD_VERSION: u8 = 1;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) base: u64,
    pub(super) log: u64,
}

/// What the first bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Segment(SegmentHeader),
    /// Of a version that is not known here.
    Newer(u32),
    /// No segment, or one whose making was cut short.
    Nothing,
}

impl SegmentHeader {
    pub(super) fn encode(self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Head {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER>() else { return Head::Nothing };
        let mut covered = *bytes;
        covered[12..16].fill(0);
        if bytes[..8] != *MAGIC || u32_at(bytes, 12) != crc32c::crc32c(&covered) {
            return Head::Nothing;
        }
        match u32_at(bytes, 8) {
            SEGMENT_VERSION => Head::Segment(Self { base: u64_at(bytes, 16), log: u64_at(bytes, 24) }),
            newer => Head::Newer(newer),
        }
    }
}

/// Appends a record to `out`. `durable` is the end of what is durable now.
pub(super) fn encode(position: u64, durable: u64, content: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    let behind = u32::try_from(position.saturating_sub(durable)).unwrap_or(u32::MAX);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(&position.to_le_bytes());
    out.extend_from_slice(&behind.to_le_bytes());
    out.extend_from_slice(&[RECORD_VERSION, 0, 0, 0]);
    out.extend_from_slice(content);
    let crc = crc32c::crc32c(&out[at + 4..]);
    out[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// What lies at a place where a record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Record {
        content: &'a [u8],
        /// What was durable when it was appended.
        durable: u64,
    },
    /// Zeros: nothing has been appended here.
    Nothing,
    /// Not all bytes are there; with so many there may be a record.
    Cut(usize),
    /// No record.
    Bad,
}

/// Looks at the place of `position`. `bytes` are the file's from there on.
pub(super) fn decode(position: u64, bytes: &[u8]) -> Found<'_> {
    let Some(header) = bytes.first_chunk::<RECORD_HEADER>() else {
        return if bytes.iter().all(|byte| *byte == 0) { Found::Nothing } else { Found::Cut(RECORD_HEADER) };
    };
    if *header == [0; RECORD_HEADER] {
        return Found::Nothing;
    }
    if u64_at(header, 8) != position || header[20] != RECORD_VERSION {
        return Found::Bad;
    }
    let end = RECORD_HEADER + u32_at(header, 4) as usize;
    if bytes.len() < end {
        return Found::Cut(end);
    }
    if crc32c::crc32c(&bytes[4..end]) != u32_at(header, 0) {
        return Found::Bad;
    }
    let durable = position - u64::from(u32_at(header, 16)).min(position);
    Found::Record { content: &bytes[RECORD_HEADER..end], durable }
}

/// The bytes of a record with so much content.
pub(super) fn size(content: usize) -> usize {
    RECORD_HEADER + content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_what_was_written() {
        let mut bytes = Vec::new();
        encode(1000, 900, b"hello", &mut bytes);
        assert_eq!(bytes.len(), size(5));
        assert_eq!(decode(1000, &bytes), Found::Record { content: b"hello", durable: 900 });
        assert_eq!(decode(1001, &bytes), Found::Bad);
        assert_eq!(decode(1000, &bytes[..28]), Found::Cut(29));
        assert_eq!(decode(1000, &[0; 100]), Found::Nothing);
        assert_eq!(decode(1000, &[0; 3]), Found::Nothing);
        assert_eq!(decode(1000, &[0, 1, 0]), Found::Cut(RECORD_HEADER));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(1000, &flipped), Found::Record { .. }), "bit {bit}");
        }
    }

    #[test]
    fn heads_are_what_was_written() {
        let header = SegmentHeader { base: 1 << 40, log: 77 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Head::Segment(header));
        assert_eq!(SegmentHeader::decode(&bytes[..63]), Head::Nothing);
        assert_eq!(SegmentHeader::decode(&[0; 64]), Head::Nothing);
        let mut newer = bytes;
        newer[8] = 2;
        newer[12..16].fill(0);
        let crc = crc32c::crc32c(&newer);
        newer[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), Head::Newer(2));
        newer[30] ^= 1;
        assert_eq!(SegmentHeader::decode(&newer), Head::Nothing);
    }
}
