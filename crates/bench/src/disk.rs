//! The floor of durable pushes: a bare loop of one thread that appends as many bytes to a file that was
//! written out before, and calls `fdatasync`.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::clock;
use crate::latency::Latency;

/// Bytes of the file, as a segment of the push log has. At its end the loop begins anew, over bytes that are
/// there already.
const FILE: usize = 16 << 20;

/// What the log adds to the body of a push to one key: a header of 24 bytes, the time, the operation, the
/// key of 36 bytes and the name of its comet.
const ENVELOPE: usize = 88;

/// A file to append to.
#[derive(Debug)]
pub(crate) struct DiskFloor {
    file: File,
    at: usize,
    record: Vec<u8>,
}

/// What a loop has done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Synced {
    pub(crate) records: u64,
    pub(crate) syncs: u64,
    /// From when the records were due until they were durable.
    pub(crate) took: Latency,
    /// In seconds.
    pub(crate) span: f64,
}

impl DiskFloor {
    /// For records of pushes with `body` bytes, on the disk of `folder`.
    pub(crate) fn new(folder: &Path, body: usize) -> anyhow::Result<Self> {
        let mut file = tempfile::tempfile_in(folder)?;
        let block = vec![0; 1 << 20];
        for _ in 0..FILE / block.len() {
            file.write_all(&block)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0, record: vec![b'.'; body + ENVELOPE] })
    }

    /// Appends `records` for each sync, one sync after the other.
    pub(crate) fn full(&mut self, records: usize, time: Duration) -> anyhow::Result<Synced> {
        let group = self.record.repeat(records);
        let mut synced = Synced::default();
        let from = clock::now();
        let ends = from + clock::nanos(time);
        loop {
            let due = clock::now();
            if due >= ends {
                synced.span = (due - from) as f64 / 1e9;
                return Ok(synced);
            }
            self.append(&group)?;
            synced.count(records as u64, due);
        }
    }

    /// Appends one record and syncs it, `rate` times a second.
    pub(crate) fn pace(&mut self, rate: f64, time: Duration) -> anyhow::Result<Synced> {
        let record = self.record.clone();
        let mut synced = Synced::default();
        let from = clock::now();
        let ends = from + clock::nanos(time);
        for turn in 0u64.. {
            let due = from + (turn as f64 / rate * 1e9) as u64;
            if due >= ends {
                break;
            }
            clock::sleep_until(due);
            self.append(&record)?;
            synced.count(1, due);
        }
        synced.span = (clock::now() - from) as f64 / 1e9;
        Ok(synced)
    }

    fn append(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.at + bytes.len() > FILE {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at as u64)?;
        self.file.sync_data()?;
        self.at += bytes.len();
        Ok(())
    }
}

impl Synced {
    fn count(&mut self, records: u64, due: u64) {
        self.records += records;
        self.syncs += 1;
        self.took.record(clock::now() - due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_does_not_grow() {
        let mut floor = DiskFloor::new(&std::env::temp_dir(), 1 << 20).unwrap();
        for _ in 0..20 {
            floor.append(&vec![1; 1 << 20]).unwrap();
        }
        assert_eq!(floor.file.metadata().unwrap().len(), FILE as u64);
        assert_eq!(floor.at, 4 << 20);
    }

    #[test]
    fn a_sync_for_each_group() {
        let mut floor = DiskFloor::new(&std::env::temp_dir(), 200).unwrap();
        let synced = floor.full(64, Duration::from_millis(50)).unwrap();
        assert_eq!(synced.records, synced.syncs * 64);
        assert_eq!(synced.took.total().len(), synced.syncs);
        let paced = floor.pace(100.0, Duration::from_millis(100)).unwrap();
        assert_eq!((paced.records, paced.syncs), (10, 10));
    }
}
