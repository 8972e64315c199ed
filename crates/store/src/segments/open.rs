//! What a start finds: it makes durable what a killed process left, cuts a torn tail, and tells damage.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use tracing::{error, info, warn};

use super::consumer::{Consumers, Kept};
use super::record::{Found, Head, RECORD_HEADER, SEGMENT_HEADER, SEGMENT_VERSION, SegmentHeader, decode};
use super::{
    Catalog, Config, GAP, MOST, OnFailure, Ready, Segment, SegmentLog, Shared, Tail, base_of, file_name,
    is_prepared, lock,
};
use crate::disk::{Disk, DiskFile, Entry};
use crate::log::{Damage, Durable, OpenError};
use crate::metrics::Stats;

/// The file that says where the next life begins, and which log this is.
const NEXT: &str = "next";

/// A log, and what its start found.
pub struct Opened {
    /// The log.
    pub log: SegmentLog,
    /// Bytes that a torn tail had; nobody was told that they were taken.
    pub cut: u64,
    /// What cannot be read although it was durable.
    pub damage: Vec<Damage>,
}

impl SegmentLog {
    /// Opens the log in a folder, which nobody else may have open. `id` names it if it is new.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: &Config,
        id: u64,
        on_failure: OnFailure,
    ) -> Result<Opened, OpenError> {
        let config = Config {
            segment_bytes: config.segment_bytes.clamp(4096, MOST),
            pending_bytes: config.pending_bytes.min(MOST as usize),
            ..config.clone()
        };
        let found = Finder { disk: &*disk }.find(id)?;
        let base = found.base;
        let shared = Arc::new(Shared {
            disk,
            id: found.id,
            tail: Mutex::new(Tail {
                next: base + SEGMENT_HEADER as u64,
                base,
                made: u64::MAX,
                chunks: Vec::new(),
                waiting: 0,
                group: Durable::default(),
                no_space: false,
                full: None,
                closed: false,
            }),
            bell: Condvar::new(),
            catalog: Mutex::new(found.catalog),
            ready: Mutex::new(Ready { tidy: true, ..Ready::default() }),
            keeper_bell: Condvar::new(),
            durable: AtomicU64::new(base),
            consumers: Mutex::new(found.consumers),
            stats: Stats::default(),
            on_failure,
            config,
        });
        let mut log = Self { shared: shared.clone(), threads: Vec::new() };
        for (name, run) in
            [("store-sync", Shared::sync_all as fn(&Shared)), ("store-keep", Shared::keep as fn(&Shared))]
        {
            let shared = shared.clone();
            let thread = thread::Builder::new().name(name.into()).spawn(move || run(&shared));
            log.threads.push(thread.map_err(|cause| OpenError::Io { what: "a thread".into(), cause })?);
        }
        Ok(Opened { log, cut: found.cut, damage: found.damage })
    }
}

pub(super) struct Finder<'a> {
    pub(super) disk: &'a dyn Disk,
}

/// What a segment is, before anything is done about it.
pub(super) struct Look {
    /// The log that it is of; none if its head cannot be read.
    pub(super) id: Option<u64>,
    /// What is in it, if all of it was read.
    pub(super) scan: Option<Scan>,
}

struct Finding {
    id: u64,
    /// Where the next segment begins.
    base: u64,
    catalog: Catalog,
    consumers: Consumers,
    cut: u64,
    damage: Vec<Damage>,
}

impl Finder<'_> {
    pub(super) fn io<T>(&self, what: &str, result: io::Result<T>) -> Result<T, OpenError> {
        result.map_err(|cause| OpenError::Io { what: format!("{what} in {}", self.disk.name()), cause })
    }

    fn find(&self, fresh: u64) -> Result<Finding, OpenError> {
        let entries = self.io("the list of files", self.disk.list())?;
        let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        for name in names.iter().filter(|name| is_prepared(name)) {
            self.io(name, self.disk.remove(name))?;
        }
        let consumers = self.io("the positions of consumers", Consumers::load(self.disk, &names))?;
        let segments = Self::segments(entries);
        let mut finding = Finding {
            id: fresh,
            base: 0,
            catalog: Catalog::default(),
            consumers,
            cut: 0,
            damage: Vec::new(),
        };
        let mut id = None;
        let last = segments.last().map(|(base, _)| *base);
        for (base, entry) in segments {
            if let Some(own) = self.segment(base, &entry, Some(base) == last, &mut finding)?
                && *id.get_or_insert(own) != own
            {
                return Err(OpenError::Mixed { file: entry.name });
            }
            // Even one that is empty, and whose name is all that is left, had positions.
            finding.base = (base + entry.len + GAP).next_multiple_of(1 << 20);
        }
        self.io("the names of files", self.disk.sync())?;
        self.begin(id, fresh, names.iter().any(|name| name == NEXT), &mut finding)?;
        Ok(finding)
    }

    /// Chooses where this life of the log begins, and makes durable that it has: a later one begins behind
    /// all positions that this one may give, even if nothing of it comes to the disk.
    fn begin(
        &self,
        id: Option<u64>,
        fresh: u64,
        known: bool,
        finding: &mut Finding,
    ) -> Result<(), OpenError> {
        let kept = known.then(|| self.io(NEXT, Kept::open(self.disk, NEXT))).transpose()?;
        // A consumer may be ahead of every segment that is left.
        let ahead = finding.consumers.first().next_multiple_of(1 << 20);
        let next = kept.as_ref().map_or(0, |kept| kept.value);
        finding.base = finding.base.max(ahead).max(next);
        finding.id = id.or(kept.as_ref().map(|kept| kept.log).filter(|log| *log != 0)).unwrap_or(fresh);
        let (next, log) = (finding.base + GAP, finding.id);
        let done = match kept {
            Some(mut kept) => kept.set(next, log).and_then(|()| kept.sync()),
            None => Kept::create(self.disk, NEXT, next, log).map(drop),
        };
        self.io(NEXT, done)
    }

    /// The segments in a list of files, in order.
    pub(super) fn segments(entries: Vec<Entry>) -> Vec<(u64, Entry)> {
        let mut segments: Vec<_> =
            entries.into_iter().filter_map(|entry| Some((base_of(&entry.name)?, entry))).collect();
        segments.sort_unstable_by_key(|(base, _)| *base);
        segments
    }

    /// What a segment is. The last one is read as a whole, and one without a head.
    pub(super) fn look(
        &self,
        file: &dyn DiskFile,
        base: u64,
        Entry { name, len, .. }: &Entry,
        last: bool,
    ) -> Result<Look, OpenError> {
        let mut head = [0; SEGMENT_HEADER];
        let read = self.io(name, file.read_at(&mut head, 0))?;
        let id = match SegmentHeader::decode(&head[..read]) {
            Head::Segment(header) => Some(header.log),
            Head::Newer(found) => {
                return Err(OpenError::Newer { file: name.clone(), found, known: SEGMENT_VERSION });
            }
            Head::Nothing => None,
        };
        if !last && id.is_some() {
            return Ok(Look { id, scan: None });
        }
        let mut bytes = vec![0; *len as usize];
        let read = self.io(name, file.read_at(&mut bytes, 0))?;
        bytes.truncate(read);
        Ok(Look { id, scan: Some(scan(base, &bytes)) })
    }

    /// Takes a segment into the catalog; the log that it is of.
    fn segment(
        &self,
        base: u64,
        entry: &Entry,
        last: bool,
        finding: &mut Finding,
    ) -> Result<Option<u64>, OpenError> {
        let name = &entry.name;
        let file = self.io(name, self.disk.open(name))?;
        // Nothing that follows from a record may be earlier than its being durable.
        self.io(name, file.sync())?;
        let Look { id, scan } = self.look(&*file, base, entry, last)?;
        let mut len = entry.len;
        if let Some(scan) = scan {
            if scan.is_empty() {
                // Nothing in it was durable.
                self.io(name, self.disk.remove(name))?;
                finding.cut += scan.cut;
                return Ok(id);
            }
            if id.is_none() {
                error!(segment = name, "the head of a segment is damaged; its records are read all the same");
            }
            if scan.cut > 0 {
                info!(segment = name, bytes = scan.cut, "cut a torn tail, which nobody was told was taken");
            }
            for damage in &scan.damage {
                error!(segment = name, from = damage.from, to = damage.to, "the log is damaged here");
            }
            finding.cut += scan.cut;
            finding.damage.extend(scan.damage);
            len = scan.end as u64;
            if last && len < entry.len {
                self.io(name, file.set_len(len).and_then(|()| file.sync()))?;
            }
        }
        let segment = Segment { file: file.into(), len, last: entry.modified };
        finding.catalog.by_base.insert(base, segment);
        Ok(id)
    }
}

/// What is in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where its last record ends, in the file.
    pub(super) end: usize,
    /// Bytes behind it that are not zero, up to the last of them.
    pub(super) cut: u64,
    pub(super) damage: Vec<Damage>,
}

impl Scan {
    /// Nothing in it was durable.
    pub(super) fn is_empty(&self) -> bool {
        self.end == SEGMENT_HEADER && self.damage.is_empty()
    }
}

/// Reads a whole segment. What cannot be read is damage if a later record says that it was durable.
fn scan(base: u64, bytes: &[u8]) -> Scan {
    let mut scan = Scan { end: SEGMENT_HEADER, cut: 0, damage: Vec::new() };
    let mut at = SEGMENT_HEADER;
    // Gaps that may be damage, or the holes of a torn tail.
    let mut gaps: Vec<Damage> = Vec::new();
    let mut good: Vec<(usize, usize)> = Vec::new();
    let mut durable = 0;
    while at < bytes.len() {
        match decode(base + at as u64, &bytes[at..]) {
            Found::Record { content, durable: then } => {
                durable = durable.max(then);
                good.push((at, at + RECORD_HEADER + content.len()));
                at += RECORD_HEADER + content.len();
            }
            _ => match next_record(base, bytes, at + 1) {
                Some(next) => {
                    gaps.push(Damage { from: base + at as u64, to: base + next as u64 });
                    at = next;
                }
                None => break,
            },
        }
    }
    // The first hole that nobody said was durable is where the torn tail begins.
    let torn = gaps.iter().find(|gap| gap.from >= durable).map(|gap| (gap.from - base) as usize);
    let kept = good.iter().filter(|(from, _)| torn.is_none_or(|torn| *from < torn));
    scan.end = kept.map(|(_, end)| *end).max().unwrap_or(SEGMENT_HEADER);
    let limit = base + torn.unwrap_or(scan.end) as u64;
    scan.damage = gaps.into_iter().filter(|gap| gap.from < limit).collect();
    let rest = bytes.get(scan.end..).unwrap_or_default();
    scan.cut = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    scan
}

/// The first place from `at` on where a whole record lies.
pub(super) fn next_record(base: u64, bytes: &[u8], at: usize) -> Option<usize> {
    (at..bytes.len().saturating_sub(RECORD_HEADER))
        .find(|at| matches!(decode(base + *at as u64, &bytes[*at..]), Found::Record { .. }))
}

/// Says what a start found, for those who look only at the log.
impl Opened {
    /// Tells it.
    pub fn tell(&self) {
        let shared = &self.log.shared;
        let segments = lock(&shared.catalog).by_base.len();
        info!(folder = shared.disk.name(), segments, cut = self.cut, "push log opened");
        if !self.damage.is_empty() {
            warn!(places = self.damage.len(), "records of the push log cannot be read: look at the disk");
        }
    }
}

/// Removes what a start does not need.
impl Shared {
    /// The name of a segment, for messages.
    pub(super) fn segment_name(base: u64) -> String {
        file_name(base)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::encode;
    use super::*;

    fn segment(records: &[(u64, &[u8])]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = SegmentHeader { base: 1000, log: 1 }.encode().to_vec();
        let mut starts = Vec::new();
        for (durable, content) in records {
            starts.push(bytes.len());
            encode(1000 + bytes.len() as u64, 1000 + durable, content, &mut bytes);
        }
        (bytes, starts)
    }

    #[test]
    fn a_torn_tail_is_cut_and_a_flipped_bit_is_told() {
        let (mut bytes, starts) = segment(&[(0, b"one"), (64, b"two"), (64, b"three"), (64, b"four")]);
        let whole = bytes.len();
        bytes.resize(whole + 1000, 0);
        assert_eq!(scan(1000, &bytes), Scan { end: whole, cut: 0, damage: vec![] });

        // Nobody was told of the last three: the second is torn, and what is behind it goes too.
        let mut torn = bytes.clone();
        torn[starts[1] + 26] ^= 1;
        let expected = Scan { end: starts[1], cut: (whole - starts[1]) as u64, damage: vec![] };
        assert_eq!(scan(1000, &torn), expected);

        // A later record says that the first two were durable.
        let (mut bytes, starts) = segment(&[(0, b"one"), (64, b"two"), (120, b"three")]);
        bytes[starts[1] + 26] ^= 1;
        let damage = Damage { from: 1000 + starts[1] as u64, to: 1000 + starts[2] as u64 };
        assert_eq!(scan(1000, &bytes), Scan { end: bytes.len(), cut: 0, damage: vec![damage] });
    }
}
