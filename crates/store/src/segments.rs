//! The embedded log: a folder of segment files.
//!
//! Appends go into memory, under a short lock, and get their positions there. One thread takes all that
//! waits, writes it, syncs once, and tells everyone in that group; what comes meanwhile is the next group.
//! There is no timer: a lone append is synced at once. A second thread makes the next segment ready, written
//! out with zeros, so that an append never makes a file longer; and removes old ones.
//!
//! - `record`: what a file looks like.
//! - `open`: what is found at start, and what is cut.
//! - `writer`: the thread that syncs.
//! - `keeper`: the thread that makes segments and removes them.
//! - `reader`: pages of records.
//! - `view`: a log that is only looked at.
//! - `consumer`: positions of consumers.
//!
//! A position is the base of its segment plus the place in the file. Each start begins a segment, at a base
//! that leaves out more positions than could have been given and lost: none is ever given twice.

mod consumer;
mod keeper;
mod open;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prometheus_client::registry::Registry;

use crate::disk::{Disk, DiskFile};
use crate::log::{AppendError, Appended, Durable, Log, Page, ReadError};
use crate::metrics::{self, Stats};
use consumer::Consumers;
pub use open::Opened;
use record::{SEGMENT_HEADER, size};
pub use view::{View, read_only};

/// Positions that a start leaves out: more than can have been given without being durable, which is
/// `pending_bytes` and the two segments into which they may reach.
const GAP: u64 = 1 << 30;

/// Largest segment and most pending bytes that keep within [`GAP`].
const MOST: u64 = 256 << 20;

/// How much of the disk a log takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of a segment; no record is larger. At most 256 MiB.
    pub segment_bytes: u64,
    /// Most bytes that wait for the disk. At most 256 MiB.
    pub pending_bytes: usize,
    /// How long a segment is kept after its last record.
    pub retention: Duration,
    /// Above so many bytes the oldest segments go, however young.
    pub retention_bytes: u64,
    /// Above so many bytes nothing is appended: some consumer holds back what could go.
    pub max_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            pending_bytes: 64 << 20,
            retention: Duration::from_secs(24 * 3600),
            retention_bytes: 1 << 30,
            max_bytes: 4 << 30,
        }
    }
}

/// Told when the disk has failed, with what it said. What was not durable then is lost, and nobody can say
/// what of it the disk has: the process had better end at once.
pub type OnFailure = Box<dyn Fn(&str) + Send + Sync>;

/// A log in a folder of segment files.
pub struct SegmentLog {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    config: Config,
    disk: Arc<dyn Disk>,
    id: u64,
    tail: Mutex<Tail>,
    /// Rung when something waits for the disk, or the log closes.
    bell: Condvar,
    catalog: Mutex<Catalog>,
    ready: Mutex<Ready>,
    /// Rung when the next segment is ready or is wanted, old ones may go, or the log closes.
    keeper_bell: Condvar,
    /// The end of what is durable.
    durable: AtomicU64,
    consumers: Mutex<Consumers>,
    stats: Stats,
    on_failure: OnFailure,
}

/// Where records are appended.
struct Tail {
    /// The position of the next record, unless it begins a new segment.
    next: u64,
    /// The base of the segment that `next` lies in.
    base: u64,
    /// The base of the newest segment that has a file.
    made: u64,
    chunks: Vec<Chunk>,
    /// Bytes in `chunks` and on their way to the disk.
    waiting: usize,
    group: Durable,
    /// The disk has no room for another segment.
    no_space: bool,
    /// The log's size and who holds it back, when that is too much.
    full: Option<(u64, String)>,
    closed: bool,
}

/// Records of one segment that wait, end to end.
struct Chunk {
    base: u64,
    from: u64,
    bytes: Vec<u8>,
}

/// The segments that have files.
#[derive(Default)]
struct Catalog {
    by_base: BTreeMap<u64, Segment>,
}

#[derive(Clone)]
struct Segment {
    file: Arc<dyn DiskFile>,
    /// Bytes of the file.
    len: u64,
    /// When the last record came, as far as is known.
    last: SystemTime,
}

/// The next segment.
#[derive(Default)]
struct Ready {
    file: Option<Prepared>,
    /// It is being made.
    making: bool,
    /// How many have been made.
    count: u64,
    /// Segments may have become old.
    tidy: bool,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tail {
    /// Where a record of so many bytes goes: its base and its position.
    fn place(&self, bytes: usize, segment: u64) -> (u64, u64) {
        if self.next - self.base + bytes as u64 <= segment {
            (self.base, self.next)
        } else {
            let base = self.base + segment;
            (base, base + SEGMENT_HEADER as u64)
        }
    }

    fn push(&mut self, base: u64, position: u64, durable: u64, content: &[u8]) {
        if self.chunks.last().is_none_or(|chunk| chunk.base != base) {
            self.chunks.push(Chunk { base, from: position, bytes: Vec::new() });
        }
        if let Some(chunk) = self.chunks.last_mut() {
            record::encode(position, durable, content, &mut chunk.bytes);
        }
        self.base = base;
        self.next = position + size(content.len()) as u64;
        self.waiting += size(content.len());
    }
}

impl Shared {
    fn check(&self, tail: &Tail, bytes: usize, base: u64) -> Result<(), AppendError> {
        let max = self.config.segment_bytes as usize - SEGMENT_HEADER;
        if tail.closed {
            return Err(AppendError::Closed);
        }
        if bytes > max {
            return Err(AppendError::TooLarge { len: bytes - size(0), max: max - size(0) });
        }
        if tail.no_space && base != tail.made {
            return Err(AppendError::NoSpace);
        }
        if let Some((bytes, consumer)) = &tail.full {
            return Err(AppendError::Full { bytes: *bytes, consumer: consumer.clone() });
        }
        if tail.waiting > 0 && tail.waiting + bytes > self.config.pending_bytes {
            return Err(AppendError::Behind { waiting: tail.waiting });
        }
        Ok(())
    }
}

impl Log for SegmentLog {
    fn id(&self) -> u64 {
        self.shared.id
    }

    fn append(
        &self,
        record: &[u8],
        deliver: &mut dyn FnMut(&Appended) -> bool,
    ) -> Result<Option<Appended>, AppendError> {
        let shared = &self.shared;
        let mut tail = lock(&shared.tail);
        let (base, position) = tail.place(size(record.len()), shared.config.segment_bytes);
        shared.check(&tail, size(record.len()), base).inspect_err(|cause| shared.stats.refused(cause))?;
        let appended = Appended { position, durable: tail.group.clone() };
        if !deliver(&appended) {
            return Ok(None);
        }
        tail.push(base, position, shared.durable.load(Ordering::Acquire), record);
        drop(tail);
        shared.bell.notify_one();
        shared.stats.appended.fetch_add(1, Ordering::Relaxed);
        Ok(Some(appended))
    }

    fn end(&self, look: &mut dyn FnMut(u64)) {
        let tail = lock(&self.shared.tail);
        look(tail.next);
    }

    fn read(&self, from: u64, max_bytes: usize) -> Result<Page, ReadError> {
        self.shared.page(from, max_bytes)
    }

    fn get(&self, position: u64) -> Result<Option<Bytes>, ReadError> {
        self.shared.one(position)
    }

    fn consumer(&self, name: &str) -> Result<u64, ReadError> {
        let end = lock(&self.shared.tail).next;
        let first = lock(&self.shared.catalog).by_base.keys().next().copied().unwrap_or(end);
        let mut consumers = lock(&self.shared.consumers);
        consumers.open(&*self.shared.disk, name, end).map(|position| position.max(first))
    }

    fn commit(&self, name: &str, position: u64) -> Result<(), ReadError> {
        let crossed = lock(&self.shared.consumers).commit(&*self.shared.disk, name, position)?;
        // Within one segment nothing more may go than before.
        if crossed / self.shared.config.segment_bytes != position / self.shared.config.segment_bytes {
            self.shared.tidy_soon();
        }
        Ok(())
    }
}

impl SegmentLog {
    /// Puts the log's metrics into a registry, under `anser_store_`.
    pub fn register(&self, registry: &mut Registry) {
        metrics::register(Arc::downgrade(&self.shared), registry);
    }
}

impl Drop for SegmentLog {
    /// Writes and syncs what waits, then ends.
    fn drop(&mut self) {
        lock(&self.shared.tail).closed = true;
        lock(&self.shared.ready).closed = true;
        self.shared.bell.notify_all();
        self.shared.keeper_bell.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl metrics::Source for Shared {
    fn stats(&self) -> &Stats {
        &self.stats
    }

    fn size(&self) -> (u64, usize) {
        let catalog = lock(&self.catalog);
        (catalog.bytes(), catalog.by_base.len())
    }

    fn waiting(&self) -> usize {
        lock(&self.tail).waiting
    }

    fn lags(&self) -> Vec<(String, u64)> {
        let end = lock(&self.tail).next;
        lock(&self.consumers).lags(end)
    }
}

impl Catalog {
    fn bytes(&self) -> u64 {
        self.by_base.values().map(|segment| segment.len).sum()
    }

    /// The segment that a position lies in, or the next one, with its base.
    fn segment_at(&self, position: u64) -> Option<(u64, Segment)> {
        let below = self.by_base.range(..=position).next_back();
        let within = below.filter(|(base, segment)| position < **base + segment.len);
        let above = || self.by_base.range((Bound::Excluded(position), Bound::Unbounded)).next();
        within.or_else(above).map(|(base, segment)| (*base, segment.clone()))
    }
}

/// The file of the segment with this base.
fn file_name(base: u64) -> String {
    format!("{base:020}.log")
}

/// The base of a segment's file.
fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// A file that becomes a segment. Each has a name of its own, as the next one is made while this one is
/// being renamed.
struct Prepared {
    name: String,
    file: Box<dyn DiskFile>,
}

fn prepared_name(number: u64) -> String {
    format!("prepared-{number}.tmp")
}

/// Whether a file was to become a segment.
fn is_prepared(name: &str) -> bool {
    name.strip_prefix("prepared-").is_some_and(|rest| rest.strip_suffix(".tmp").is_some())
}
