//! The thread that makes the next segment ready, and removes the old ones.

use std::io;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::writer::{RETRY, is_full};
use super::{Prepared, Shared, lock, prepared_name};

/// How often to look for segments that have become old, should nothing else happen.
const LOOK: Duration = Duration::from_secs(60);

/// Zeros are written in pieces of so many bytes.
const PIECE: usize = 1 << 20;

impl Shared {
    /// Runs until the log is closed.
    pub(super) fn keep(&self) {
        let mut told = false;
        loop {
            let ready = lock(&self.ready);
            let idle = |ready: &mut super::Ready| ready.file.is_some() && !ready.tidy && !ready.closed;
            let waited = self.keeper_bell.wait_timeout_while(ready, LOOK, idle);
            let mut ready = waited.unwrap_or_else(PoisonError::into_inner).0;
            if ready.closed {
                return;
            }
            ready.tidy = false;
            ready.making = ready.file.is_none();
            let wanted = ready.making;
            drop(ready);
            self.tidy();
            if !wanted {
                continue;
            }
            match self.prepare() {
                Ok(file) => {
                    lock(&self.tail).no_space = false;
                    self.made(Some(file));
                    if std::mem::take(&mut told) {
                        info!("the disk of the push log has room again");
                    }
                }
                Err(cause) if is_full(&cause) => {
                    lock(&self.tail).no_space = true;
                    if !std::mem::replace(&mut told, true) {
                        warn!(folder = self.disk.name(), bytes = self.config.segment_bytes, error = %cause,
                            "no room for the next segment of the push log: make room; pushes are refused \
                             when this one is full");
                    }
                    self.made(None);
                    let ready = lock(&self.ready);
                    // Whoever wants the file rings as well; that does not make room.
                    let _ = self.keeper_bell.wait_timeout_while(ready, RETRY, |ready| !ready.closed);
                }
                Err(cause) => {
                    self.fail(&cause);
                    self.made(None);
                    return;
                }
            }
        }
    }

    /// Hands over the next segment's file, or says that there is none.
    fn made(&self, file: Option<Prepared>) {
        let mut ready = lock(&self.ready);
        ready.making = false;
        ready.file = file;
        drop(ready);
        self.keeper_bell.notify_all();
    }

    /// Makes a file of zeros that are on disk, so that appending to it changes no length and no map of
    /// blocks: its sync is one write of the disk.
    fn prepare(&self) -> io::Result<Prepared> {
        let mut ready = lock(&self.ready);
        ready.count += 1;
        let name = prepared_name(ready.count);
        drop(ready);
        let file = self.disk.create(&name)?;
        let fill = || {
            let zeros = vec![0; PIECE];
            let mut at = 0;
            while at < self.config.segment_bytes {
                let piece = (self.config.segment_bytes - at).min(PIECE as u64) as usize;
                file.write_all_at(&zeros[..piece], at)?;
                at += piece as u64;
            }
            file.sync()
        };
        fill().inspect_err(|_| {
            // What there is of it is of use to others.
            let _ = file.set_len(0);
            let _ = self.disk.remove(&name);
        })?;
        Ok(Prepared { name, file })
    }

    /// Waits for the next segment's file. `None` if the log was closed first.
    pub(super) fn take_ready(&self) -> Option<Prepared> {
        let mut ready = lock(&self.ready);
        loop {
            if let Some(file) = ready.file.take() {
                drop(ready);
                self.keeper_bell.notify_all();
                return Some(file);
            }
            // The last file of a log that closes is made here, as the keeper has ended.
            if ready.closed && !ready.making {
                drop(ready);
                return self.prepare().ok();
            }
            ready = self.keeper_bell.wait(ready).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has old segments removed when there is time.
    pub(super) fn tidy_soon(&self) {
        lock(&self.ready).tidy = true;
        self.keeper_bell.notify_all();
    }

    /// Removes the segments that nobody needs: older than the last consumer, and above a bound of age or
    /// size.
    fn tidy(&self) {
        let floor = lock(&self.consumers).last().map(|(name, position)| (name.to_owned(), position));
        let kept = |base: u64| floor.as_ref().is_some_and(|(_, position)| *position < base);
        let mut catalog = lock(&self.catalog);
        let mut removed = 0;
        let mut full = None;
        loop {
            let bytes = catalog.bytes();
            let mut bases = catalog.by_base.iter();
            let (Some((base, segment)), Some((next, _))) = (bases.next(), bases.next()) else { break };
            let age = SystemTime::now().duration_since(segment.last).unwrap_or_default();
            if bytes <= self.config.retention_bytes && age <= self.config.retention {
                break;
            }
            if kept(*next) {
                full = (bytes > self.config.max_bytes).then_some(bytes);
                break;
            }
            let base = *base;
            if let Err(cause) = self.disk.remove(&Self::segment_name(base)) {
                warn!(segment = Self::segment_name(base), error = %cause, "cannot remove an old segment");
                break;
            }
            catalog.by_base.remove(&base);
            removed += 1;
        }
        drop(catalog);
        let full = full.zip(floor).map(|(bytes, (name, _))| (bytes, name));
        let mut tail = lock(&self.tail);
        if full.is_some() && tail.full.is_none() {
            warn!(?full, "the push log is full, as a consumer is behind: pushes are refused");
        }
        tail.full = full;
        drop(tail);
        if removed > 0 {
            info!(removed, "removed old segments of the push log");
        }
    }
}
