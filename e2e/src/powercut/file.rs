//! One file: what it holds now, and what of it a disk may hold after a cut.

use std::collections::BTreeMap;
use std::ops::Range;

use fastrand::Rng;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;

/// A file. Times are places in the order of all operations.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// What a reader sees.
    current: Vec<u8>,
    /// What is certainly on disk; what lies past its end there is zeros.
    durable: Vec<u8>,
    /// The length that is certainly on disk.
    size: usize,
    /// The lengths since, each with its time.
    sizes: Vec<(u64, usize)>,
    /// The sectors of which something else may be on disk.
    loose: BTreeMap<usize, Sector>,
}

/// A sector that was written since it was last synced. A disk may hold any of its versions, as each is
/// what memory held at some moment: never a later write without the earlier ones to the same sector.
#[derive(Clone, Debug)]
struct Sector {
    /// What it held after each write.
    versions: Vec<(u64, Vec<u8>)>,
    /// Whether the next sync writes it. A sync that failed has taken the mark away: the kernel believes
    /// that the sector is written, and a second sync says that all is well and writes nothing.
    dirty: bool,
}

/// How likely it is, in percent, that what may be on disk is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    /// A sector.
    pub sectors: u32,
    /// A length.
    pub sizes: u32,
}

impl File {
    /// A file that is on disk.
    pub(super) fn durable(content: Vec<u8>) -> Self {
        let size = content.len();
        Self { current: content.clone(), durable: content, size, ..Self::default() }
    }

    /// What a reader sees.
    pub(super) fn current(&self) -> &[u8] {
        &self.current
    }

    /// Writes bytes.
    pub(super) fn write(&mut self, now: u64, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if end > self.current.len() {
            self.current.resize(end, 0);
            self.sizes.push((now, end));
        }
        self.current[offset..end].copy_from_slice(data);
        self.touch(now, offset..end);
    }

    /// Changes the length.
    pub(super) fn set_size(&mut self, now: u64, size: usize) {
        let old = self.current.len();
        if size == old {
            return;
        }
        // What is zero already does not change when it is cut off.
        let used = self.current.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.current.resize(size, 0);
        self.sizes.push((now, size));
        self.touch(now, size..used);
    }

    /// A sync that began at `start` has succeeded: what was written before is on disk.
    pub(super) fn synced(&mut self, start: u64) {
        let Self { durable, loose, .. } = self;
        loose.retain(|number, sector| {
            let covered = sector.versions.partition_point(|(at, _)| *at < start);
            if sector.dirty && covered > 0 {
                let (_, bytes) = &sector.versions[covered - 1];
                let begin = number * SECTOR;
                durable.resize(durable.len().max(begin + SECTOR), 0);
                durable[begin..begin + SECTOR].copy_from_slice(bytes);
                sector.versions.drain(..covered);
            }
            !sector.versions.is_empty()
        });
        let covered = self.sizes.partition_point(|(at, _)| *at < start);
        if let Some((_, size)) = self.sizes.drain(..covered).next_back() {
            self.size = size;
        }
    }

    /// A sync that began at `start` has failed.
    pub(super) fn failed(&mut self, start: u64) {
        for sector in self.loose.values_mut() {
            sector.dirty &= sector.versions.iter().any(|(at, _)| *at >= start);
        }
    }

    /// What the disk holds after a cut, and how much of what it might hold it does not.
    pub(super) fn cut(&self, rng: &mut Rng, chance: Chance) -> (Vec<u8>, Lost) {
        let mut lost = Lost { of_sectors: self.loose.len(), ..Lost::default() };
        let mut content = self.durable.clone();
        for (number, sector) in &self.loose {
            let newest = sector.versions.len() - 1;
            let Some(version) = pick(rng, chance.sectors, newest) else {
                lost.sectors += 1;
                continue;
            };
            lost.sectors += usize::from(version < newest);
            let begin = number * SECTOR;
            content.resize(content.len().max(begin + SECTOR), 0);
            content[begin..begin + SECTOR].copy_from_slice(&sector.versions[version].1);
        }
        let newest = self.sizes.len().checked_sub(1);
        let version = newest.and_then(|newest| pick(rng, chance.sizes, newest));
        let size = version.map_or(self.size, |version| self.sizes[version].1);
        lost.size = (size != self.current.len()).then_some((size, self.current.len()));
        content.resize(size, 0);
        (content, lost)
    }

    /// What of a sector is certainly on disk, without the zeros that follow.
    fn on_disk(&self, number: usize) -> &[u8] {
        let begin = (number * SECTOR).min(self.durable.len());
        let end = (begin + SECTOR).min(self.durable.len());
        &self.durable[begin..end]
    }

    /// Adds a version to each sector of a range.
    fn touch(&mut self, now: u64, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        for number in range.start / SECTOR..=(range.end - 1) / SECTOR {
            let begin = (number * SECTOR).min(self.current.len());
            let end = (begin + SECTOR).min(self.current.len());
            let mut bytes = self.current[begin..end].to_vec();
            bytes.resize(SECTOR, 0);
            // Zeros on zeros: whichever version is on disk, it is the same.
            if !self.loose.contains_key(&number) && is_zero(&bytes) && is_zero(self.on_disk(number)) {
                continue;
            }
            let sector =
                self.loose.entry(number).or_insert_with(|| Sector { versions: Vec::new(), dirty: true });
            sector.versions.push((now, bytes));
            sector.dirty = true;
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// One of the versions up to the newest, or none of them.
fn pick(rng: &mut Rng, percent: u32, newest: usize) -> Option<usize> {
    if rng.u32(..100) >= percent {
        return None;
    }
    // The newest is as likely as all others together.
    Some(if rng.bool() { newest } else { rng.usize(..=newest) })
}

/// What of a file a cut has taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    /// Sectors that are not as they were written last.
    pub sectors: usize,
    /// Of so many that might be.
    pub of_sectors: usize,
    /// The length and what it was, if that is another.
    pub size: Option<(usize, usize)>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NOTHING: Chance = Chance { sectors: 0, sizes: 0 };
    const HALF: Chance = Chance { sectors: 50, sizes: 50 };

    fn least(file: &File) -> Vec<u8> {
        file.cut(&mut Rng::with_seed(0), NOTHING).0
    }

    /// Everything that may be on disk, if there are few such things.
    fn possible(file: &File) -> BTreeSet<Vec<u8>> {
        (0..500).map(|seed| file.cut(&mut Rng::with_seed(seed), HALF).0).collect()
    }

    #[test]
    fn what_is_synced_stays() {
        let mut file = File::default();
        file.write(1, 0, b"one");
        file.write(2, 3, b"two");
        file.synced(3);
        file.write(4, 6, b"three");
        assert_eq!(least(&file), b"onetwo");
        assert_eq!(file.current(), b"onetwothree");
        let all = [&b"onetwo"[..], b"onetwo\0\0\0\0\0", b"onetwothree"].map(<[u8]>::to_vec);
        assert_eq!(possible(&file), all.into());
    }

    #[test]
    fn what_is_written_during_a_sync_is_not_covered() {
        let mut file = File::default();
        file.write(1, 0, b"before");
        file.write(3, 6, b"during");
        file.synced(2);
        assert_eq!(least(&file), b"before");
        file.synced(4);
        assert_eq!(least(&file), b"beforeduring");
    }

    #[test]
    fn a_sector_is_never_a_later_write_alone() {
        let mut file = File::durable(b"....".to_vec());
        file.write(1, 0, b"a");
        file.write(2, 1, b"b");
        assert_eq!(possible(&file), [b"....", b"a...", b"ab.."].map(|bytes| bytes.to_vec()).into());
    }

    #[test]
    fn a_write_is_torn_between_sectors() {
        let mut file = File::durable(vec![b'.'; 2 * SECTOR]);
        file.write(1, SECTOR - 1, b"xy");
        let seen: BTreeSet<(u8, u8)> =
            possible(&file).into_iter().map(|bytes| (bytes[SECTOR - 1], bytes[SECTOR])).collect();
        assert_eq!(seen, [(b'.', b'.'), (b'x', b'.'), (b'.', b'y'), (b'x', b'y')].into());
    }

    #[test]
    fn a_failed_sync_makes_later_ones_worthless() {
        let mut file = File::durable(b"....".to_vec());
        file.write(1, 0, b"lost");
        file.failed(2);
        file.synced(3);
        assert_eq!(least(&file), b"....");
        file.write(4, 0, b"L");
        file.synced(5);
        assert_eq!(least(&file), b"Lost");
    }

    #[test]
    fn what_is_cut_off_may_still_be_there() {
        let mut file = File::durable(b"abcd".to_vec());
        file.set_size(1, 2);
        let all = [&b"ab"[..], b"abcd", b"ab\0\0"].map(<[u8]>::to_vec);
        assert_eq!(possible(&file), all.into());
        file.synced(2);
        file.set_size(3, 4);
        file.synced(4);
        assert_eq!(least(&file), b"ab\0\0");
    }
}
