//! What a test changes on disk, as crates/store has it.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of the log's segments, the oldest first.
pub(super) fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("log")).expect("there is a log");
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    let mut segments: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    segments.sort_unstable();
    segments
}

/// Moves the job to a position, as if it were done with all below.
pub(super) fn move_consumer(data: &Path, position: u64) {
    let mut slot = [0; 32];
    slot[4..8].copy_from_slice(&1u32.to_le_bytes());
    slot[8..16].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    slot[16..24].copy_from_slice(&position.to_le_bytes());
    let crc = crc32c::crc32c(&slot[4..]);
    slot[..4].copy_from_slice(&crc.to_le_bytes());
    change(&data.join("log/consumer-job"), |bytes| bytes[..32].copy_from_slice(&slot));
}

/// Makes a segment one of a version that is to come.
pub(super) fn age(segment: &Path) {
    change(segment, |bytes| {
        bytes[8] = 2;
        bytes[12..16].fill(0);
        let crc = crc32c::crc32c(&bytes[..64]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    });
}

/// Changes what is in a file.
pub(super) fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes.resize(bytes.len().max(544), 0);
    change(&mut bytes);
    fs::write(path, bytes).expect("it can be written");
}
