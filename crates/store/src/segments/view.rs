//! A log that is only looked at, as it lies in a folder that nobody writes to.

use super::consumer::Consumers;
use super::open::{Finder, Look};
use super::{Catalog, Segment, reader};
use crate::disk::Disk;
use crate::log::{OpenError, Page, ReadError};

/// What a start on this folder would find. Nothing has been changed for it.
pub struct View {
    name: String,
    catalog: Catalog,
    id: Option<u64>,
    cut: u64,
    consumers: Vec<(String, u64)>,
}

/// Looks at the log in a folder, which nobody may have open.
pub fn read_only(disk: &dyn Disk) -> Result<View, OpenError> {
    let finder = Finder { disk };
    let entries = finder.io("the list of files", disk.list())?;
    let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    let consumers = finder.io("the positions of consumers", Consumers::look(disk, &names))?;
    let mut view = View { name: disk.name(), catalog: Catalog::default(), id: None, cut: 0, consumers };
    let segments = Finder::segments(entries);
    let newest = segments.last().map(|(base, _)| *base);
    for (base, entry) in segments {
        let file = finder.io(&entry.name, disk.open(&entry.name))?;
        let Look { id, scan } = finder.look(&*file, base, &entry, Some(base) == newest)?;
        if let Some(own) = id
            && *view.id.get_or_insert(own) != own
        {
            return Err(OpenError::Mixed { file: entry.name });
        }
        let mut len = entry.len;
        if let Some(scan) = scan {
            view.cut += scan.cut;
            if scan.is_empty() {
                continue;
            }
            len = scan.end as u64;
        }
        view.catalog.by_base.insert(base, Segment { file: file.into(), len, last: entry.modified });
    }
    Ok(view)
}

impl View {
    /// Which log it is; nothing if it has no segment that says so.
    pub fn id(&self) -> Option<u64> {
        self.id
    }

    /// Bytes of records, and the number of segments.
    pub fn size(&self) -> (u64, usize) {
        (self.catalog.bytes(), self.catalog.by_base.len())
    }

    /// Bytes of a torn tail, which a start will cut; nobody was told that they were taken.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Each consumer with its position: it is done with all below.
    pub fn consumers(&self) -> &[(String, u64)] {
        &self.consumers
    }

    /// Records from `from` on, about `max_bytes` of them, at least one if there is one.
    pub fn read(&self, from: u64, max_bytes: usize) -> Result<Page, ReadError> {
        reader::page(|position| self.catalog.segment_at(position), u64::MAX, from, max_bytes, &self.name)
    }
}
