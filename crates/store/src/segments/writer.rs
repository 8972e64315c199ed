//! The thread that writes what was appended, and syncs for everyone who waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, warn};

use super::record::SegmentHeader;
use super::{Chunk, Prepared, Segment, Shared, file_name, lock};
use crate::disk::DiskFile;
use crate::log::Durable;

/// How long to wait before another try on a disk without room.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The segment that is written to.
struct Active {
    base: u64,
    file: Arc<dyn DiskFile>,
}

/// All that waited at one moment.
struct Work {
    chunks: Vec<Chunk>,
    bytes: usize,
    /// The end of it.
    end: u64,
    group: Durable,
}

impl Shared {
    /// Runs until the log is closed and all has been written, or the disk has failed.
    pub(super) fn sync_all(&self) {
        let mut active: Option<Active> = None;
        while let Some(work) = self.next_work() {
            let began = Instant::now();
            match self.write(&mut active, &work.chunks) {
                Ok(true) => {}
                // Closed while the disk had no room: nobody was told that this was taken.
                Ok(false) => return,
                Err(cause) => {
                    self.fail(&cause);
                    return;
                }
            }
            self.durable.store(work.end, Ordering::Release);
            work.group.settle();
            lock(&self.tail).waiting -= work.bytes;
            self.stats.synced(began.elapsed());
        }
    }

    /// Waits for something to write. `None` when the log is closed and nothing waits.
    fn next_work(&self) -> Option<Work> {
        let mut tail = lock(&self.tail);
        while tail.chunks.is_empty() {
            if tail.closed {
                return None;
            }
            tail = self.bell.wait(tail).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let chunks = std::mem::take(&mut tail.chunks);
        let bytes = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        Some(Work { chunks, bytes, end: tail.next, group: std::mem::take(&mut tail.group) })
    }

    /// Writes and syncs. False if the log was closed before there was room.
    fn write(&self, active: &mut Option<Active>, chunks: &[Chunk]) -> io::Result<bool> {
        let mut unsynced = false;
        for chunk in chunks {
            if active.as_ref().is_none_or(|active| active.base != chunk.base) {
                // A segment is whole on disk before there is a later one.
                if let Some(active) = active.as_ref().filter(|_| std::mem::take(&mut unsynced)) {
                    active.file.sync()?;
                }
                let Some(next) = self.roll(chunk.base)? else { return Ok(false) };
                *active = Some(next);
            }
            let Some(active) = active else { continue };
            let write = || active.file.write_all_at(&chunk.bytes, chunk.from - chunk.base);
            if !self.with_room(write)? {
                return Ok(false);
            }
            unsynced = true;
        }
        if let Some(active) = active.as_ref().filter(|_| unsynced) {
            active.file.sync()?;
            if let Some(segment) = lock(&self.catalog).by_base.get_mut(&active.base) {
                segment.last = SystemTime::now();
            }
        }
        Ok(true)
    }

    /// Begins a segment in the file that is ready, as soon as there is one.
    fn roll(&self, base: u64) -> io::Result<Option<Active>> {
        let Some(Prepared { name, file }) = self.take_ready() else { return Ok(None) };
        let header = SegmentHeader { base, log: self.id }.encode();
        let made = self.with_room(|| file.write_all_at(&header, 0))?
            && self.with_room(|| self.disk.rename(&name, &file_name(base)))?
            && self.with_room(|| self.disk.sync())?;
        if !made {
            return Ok(None);
        }
        let file: Arc<dyn DiskFile> = file.into();
        let segment = Segment { file: file.clone(), len: self.config.segment_bytes, last: SystemTime::now() };
        lock(&self.catalog).by_base.insert(base, segment);
        lock(&self.tail).made = base;
        self.tidy_soon();
        Ok(Some(Active { base, file }))
    }

    /// Does something again and again until the disk has room for it. False if the log was closed first.
    fn with_room(&self, attempt: impl Fn() -> io::Result<()>) -> io::Result<bool> {
        loop {
            match attempt() {
                Ok(()) => return Ok(true),
                Err(cause) if is_full(&cause) => {
                    warn!(error = %cause, "the disk of the push log is full: pushes wait for room");
                    let ready = lock(&self.ready);
                    let wait = self.keeper_bell.wait_timeout(ready, RETRY);
                    if wait.unwrap_or_else(std::sync::PoisonError::into_inner).0.closed {
                        return Ok(false);
                    }
                }
                Err(cause) => return Err(cause),
            }
        }
    }

    /// The disk has failed. A sync that failed once may say yes the next time and have lost what was before:
    /// there is no going on.
    pub(super) fn fail(&self, cause: &io::Error) {
        error!(folder = self.disk.name(), error = %cause, "the disk of the push log has failed");
        lock(&self.tail).closed = true;
        lock(&self.ready).closed = true;
        self.keeper_bell.notify_all();
        self.bell.notify_all();
        (self.on_failure)(&format!("{}: {cause}", self.disk.name()));
    }
}

/// Whether an operation failed for want of room.
pub(super) fn is_full(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
