//! Where each consumer is, and where the log goes on at the next start.
//!
//! A file for each, with two places of 32 bytes, 512 bytes apart so that no write touches both: `crc u32 ·
//! version u32 · count u64 · value u64 · log u64`. Writes go to them in turn, and the one with the larger
//! count that can be read is valid.

use std::collections::BTreeMap;
use std::io;

use crate::disk::{Disk, DiskFile};
use crate::log::ReadError;

const SLOT: usize = 32;
const SLOTS: [u64; 2] = [0, 512];
const VERSION: u32 = 1;

/// A number that is kept in a file of its own.
pub(super) struct Kept {
    file: Box<dyn DiskFile>,
    count: u64,
    pub(super) value: u64,
    /// The log that it is about.
    pub(super) log: u64,
}

fn encode(count: u64, value: u64, log: u64) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[4..8].copy_from_slice(&VERSION.to_le_bytes());
    slot[8..16].copy_from_slice(&count.to_le_bytes());
    slot[16..24].copy_from_slice(&value.to_le_bytes());
    slot[24..].copy_from_slice(&log.to_le_bytes());
    let crc = crc32c::crc32c(&slot[4..]);
    slot[..4].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<[u64; 3]> {
    let slot = slot.first_chunk::<SLOT>()?;
    let number = |at: usize| slot[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let crc = u32::from_le_bytes(*slot.first_chunk()?);
    let whole = crc == crc32c::crc32c(&slot[4..]) && slot[4..8] == VERSION.to_le_bytes();
    whole.then_some([number(8)?, number(16)?, number(24)?])
}

impl Kept {
    /// Opens one that has a file. One that cannot be read is 0: for a consumer that repeats, and loses
    /// nothing.
    pub(super) fn open(disk: &dyn Disk, name: &str) -> io::Result<Self> {
        let file = disk.open(name)?;
        // What a killed process left is made durable before it is believed.
        file.sync()?;
        Self::read(file)
    }

    fn read(file: Box<dyn DiskFile>) -> io::Result<Self> {
        let mut bytes = [0; 512 + SLOT];
        let read = file.read_at(&mut bytes, 0)?;
        let slots = SLOTS.iter().filter_map(|at| decode(bytes[..read].get(*at as usize..)?));
        let [count, value, log] = slots.max().unwrap_or_default();
        Ok(Self { file, count, value, log })
    }

    /// Makes one. It gets its name when it can be read.
    pub(super) fn create(disk: &dyn Disk, name: &str, value: u64, log: u64) -> io::Result<Self> {
        let temporary = format!("{name}.tmp");
        let file = disk.create(&temporary)?;
        file.write_all_at(&encode(1, value, log), SLOTS[1])?;
        file.sync()?;
        disk.rename(&temporary, name)?;
        disk.sync()?;
        Ok(Self { file, count: 1, value, log })
    }

    /// Changes it; durable only after a [`Self::sync`].
    pub(super) fn set(&mut self, value: u64, log: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(self.count + 1, value, log), SLOTS[(self.count + 1) as usize % 2])?;
        (self.count, self.value, self.log) = (self.count + 1, value, log);
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Every consumer that has a file. Positions are not synced: a power cut may take a consumer back some
/// records, never forward.
#[derive(Default)]
pub(super) struct Consumers(BTreeMap<String, Kept>);

fn file_name(name: &str) -> String {
    format!("consumer-{name}")
}

/// The consumer whose file this is.
fn name_of(file: &str) -> Option<&str> {
    file.strip_prefix("consumer-").filter(|name| name.strip_suffix(".tmp").is_none())
}

impl Consumers {
    /// Opens those that have files.
    pub(super) fn load(disk: &dyn Disk, files: &[String]) -> io::Result<Self> {
        let own = files.iter().filter_map(|file| Some((name_of(file)?, file)));
        let open = |(name, file): (&str, &String)| Ok((name.to_owned(), Kept::open(disk, file)?));
        own.map(open).collect::<io::Result<_>>().map(Self)
    }

    /// The position of each that has a file, which is only read.
    pub(super) fn look(disk: &dyn Disk, files: &[String]) -> io::Result<Vec<(String, u64)>> {
        let own = files.iter().filter_map(|file| Some((name_of(file)?, file)));
        own.map(|(name, file)| Ok((name.to_owned(), Kept::read(disk.open(file)?)?.value))).collect()
    }

    /// The position of a consumer; a new one is at `end`.
    pub(super) fn open(&mut self, disk: &dyn Disk, name: &str, end: u64) -> Result<u64, ReadError> {
        if let Some(consumer) = self.0.get(name) {
            return Ok(consumer.value);
        }
        let made = Kept::create(disk, &file_name(name), end, 0);
        self.0.insert(name.to_owned(), made.map_err(|cause| error(disk, name, cause))?);
        Ok(end)
    }

    /// Moves a consumer; where it was.
    pub(super) fn commit(&mut self, disk: &dyn Disk, name: &str, position: u64) -> Result<u64, ReadError> {
        let Some(consumer) = self.0.get_mut(name) else {
            return Err(error(disk, name, io::ErrorKind::NotFound.into()));
        };
        let before = consumer.value;
        if position > before {
            consumer.set(position, 0).map_err(|cause| error(disk, name, cause))?;
        }
        Ok(before)
    }

    /// The consumer that is furthest behind.
    pub(super) fn last(&self) -> Option<(&str, u64)> {
        let positions = self.0.iter().map(|(name, consumer)| (name.as_str(), consumer.value));
        positions.min_by_key(|(_, position)| *position)
    }

    /// The position of the one that is furthest ahead.
    pub(super) fn first(&self) -> u64 {
        self.0.values().map(|consumer| consumer.value).max().unwrap_or(0)
    }

    /// How far each is behind.
    pub(super) fn lags(&self, end: u64) -> Vec<(String, u64)> {
        let lag = |consumer: &Kept| end.saturating_sub(consumer.value);
        self.0.iter().map(|(name, consumer)| (name.clone(), lag(consumer))).collect()
    }
}

fn error(disk: &dyn Disk, name: &str, cause: io::Error) -> ReadError {
    ReadError { what: format!("the position of `{name}` in {}", disk.name()), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_what_was_written() {
        let slot = encode(7, 1 << 40, 3);
        assert_eq!(decode(&slot), Some([7, 1 << 40, 3]));
        for bit in 0..8 * SLOT {
            let mut flipped = slot;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(decode(&[0; SLOT]), None);
        assert_eq!(decode(&slot[..31]), None);
    }
}
