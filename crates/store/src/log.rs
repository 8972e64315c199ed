//! The log, whatever keeps it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::Notify;

/// Records in one order. A record's position is a number that rises, with gaps, and is never given twice,
/// whatever a power cut took.
pub trait Log: Send + Sync {
    /// Names this log, by chance: positions in two logs have nothing to do with each other.
    fn id(&self) -> u64;

    /// Appends a record. `deliver` is told its position first, while no other append can come between: what
    /// it hands on is in the order of the log. If it says no, nothing is appended. Never waits for the disk.
    fn append(
        &self,
        record: &[u8],
        deliver: &mut dyn FnMut(&Appended) -> bool,
    ) -> Result<Option<Appended>, AppendError>;

    /// The position that no record has yet: all that come lie there or above. `look` is called while no
    /// append can come between.
    fn end(&self, look: &mut dyn FnMut(u64));

    /// Durable records from `from` on, or from the first that is kept, about `max_bytes` of them, at least
    /// one if there is one.
    fn read(&self, from: u64, max_bytes: usize) -> Result<Page, ReadError>;

    /// The record at exactly this position, if there is one and it is durable.
    fn get(&self, position: u64) -> Result<Option<Bytes>, ReadError>;

    /// Where a consumer goes on. One that is new begins with what is appended from now on. From now on
    /// nothing at or above its position is removed.
    fn consumer(&self, name: &str) -> Result<u64, ReadError>;

    /// A consumer is done with all below `position`. Survives the end of the process at once, a power cut
    /// soon: then some records are read again.
    fn commit(&self, name: &str, position: u64) -> Result<(), ReadError>;
}

/// A record that is on its way to the disk.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Its position.
    pub position: u64,
    /// Becomes true when it is on disk.
    pub durable: Durable,
}

/// Whether a group of records is on disk. Should the disk fail, it never becomes true, and the process ends.
#[derive(Clone, Debug, Default)]
pub struct Durable(Arc<Group>);

#[derive(Debug, Default)]
struct Group {
    done: AtomicBool,
    waiting: Notify,
}

impl Durable {
    /// Waits until it is.
    pub async fn wait(&self) {
        loop {
            let mut word = std::pin::pin!(self.0.waiting.notified());
            word.as_mut().enable();
            if self.is_done() {
                return;
            }
            word.await;
        }
    }

    /// Whether it is.
    pub fn is_done(&self) -> bool {
        self.0.done.load(Ordering::Acquire)
    }

    /// Makes it true, and tells everyone who waits. For whoever keeps the log.
    pub fn settle(&self) {
        self.0.done.store(true, Ordering::Release);
        self.0.waiting.notify_waiters();
    }
}

/// A record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// It can never fit: send less, or set larger segments.
    #[error("a record of {len} bytes is larger than {max}")]
    TooLarge {
        /// Its bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// More waits for the disk than may. Try again soon.
    #[error("the disk is behind: {waiting} bytes wait for it")]
    Behind {
        /// Bytes that wait.
        waiting: usize,
    },
    /// The disk is full. Make room on it; appends then go on by themselves.
    #[error("the disk of the log has no room left")]
    NoSpace,
    /// The log is as large as it may be, because a consumer is far behind.
    #[error("the log has reached {bytes} bytes, because `{consumer}` is behind")]
    Full {
        /// The log's size.
        bytes: u64,
        /// Who holds it back.
        consumer: String,
    },
    /// The log is closed, or its disk has failed.
    #[error("the log is closed")]
    Closed,
}

/// The log could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A newer version has written it: run that one.
    #[error("{file} has format {found}; this version knows up to {known}")]
    Newer {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// Its segments are of different logs: somebody has mixed two folders.
    #[error("{file} belongs to another log than the others: keep the segments of two logs apart")]
    Mixed {
        /// One of the files.
        file: String,
    },
    /// The system refused.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        #[source]
        cause: io::Error,
    },
}

/// A read or a commit failed.
#[derive(Debug, Error)]
#[error("{what}: {cause}")]
pub struct ReadError {
    /// What was tried.
    pub what: String,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

/// Bytes of a log that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where they begin.
    pub from: u64,
    /// Where records go on.
    pub to: u64,
}

/// Some records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Their positions and contents, in order.
    pub records: Vec<(u64, Bytes)>,
    /// From where to read on.
    pub next: u64,
    /// What lies between them and cannot be read.
    pub damage: Vec<Damage>,
}

impl Page {
    /// Whether the end was reached.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.damage.is_empty()
    }
}
