//! The push log of this process: its settings, its folder, and what happens when its disk fails.

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anser_api::settings;
use anser_api::settings::Span;
use anser_store::OpenError;
use anser_store::disk::Folder;
use anser_store::segments::{self, SegmentLog};

use crate::exit::Exit;
use crate::failure::{Failure, plain};
use crate::out;

settings! {
    /// The push log's part of the configuration.
    pub struct Store {
        /// Bytes of one file of the push log; no push is larger. Two are there from the start. At least
        /// 65536, at most 268435456.
        segment_bytes: u64 = 16 << 20,
        /// Most bytes that wait for the disk; above it pushes are refused. At least 65536, at most 268435456.
        pending_bytes: usize = 64 << 20,
        /// How long pushes are kept after they are done, to recognise repetitions and to explain. At least
        /// 0ms, at most 8760h.
        retention: Span = Span::secs(24 * 3600),
        /// Above so many bytes the oldest go, however young.
        retention_bytes: u64 = 1 << 30,
        /// Above so many bytes pushes are refused, as what is not done cannot go. At least
        /// store.retention_bytes.
        max_bytes: u64 = 4 << 30,
    }
}

/// Where the log is in a data folder.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("log")
}

/// Opens the log in `log` below the data folder.
pub(crate) fn open(store: &Store, data: &Path) -> Result<SegmentLog, Failure> {
    let path = folder(data);
    let disk = Folder::open(&path).map_err(|error| Failure::create(&path, &error))?;
    let config = segments::Config {
        segment_bytes: store.segment_bytes,
        pending_bytes: store.pending_bytes,
        retention: store.retention.0,
        retention_bytes: store.retention_bytes,
        max_bytes: store.max_bytes,
    };
    // A number by chance, in case the log is new.
    let id = RandomState::new().hash_one(std::process::id());
    let opened = SegmentLog::open(Arc::new(disk), &config, id, Box::new(failed)).map_err(failure)?;
    opened.tell();
    Ok(opened.log)
}

/// What a failed sync has lost nobody can say, and the next one may pretend that all is well: what goes on
/// from here would break its word.
fn failed(cause: &str) {
    out::note(&format!(
        "anser: the disk of the push log has failed ({cause}): look at the disk, then start it again"
    ));
    std::process::exit(Exit::System as i32);
}

/// What a person is to do about a log that cannot be opened.
pub(crate) fn failure(error: OpenError) -> Failure {
    match error {
        OpenError::Newer { .. } => Failure::new(
            Exit::Config,
            format!("the push log was written by a newer anser ({error})"),
            "run that version, or name another folder with --data",
        ),
        OpenError::Mixed { .. } => Failure::new(Exit::Config, error, "or name another folder with --data"),
        OpenError::Io { what, cause } => Failure::new(
            Exit::System,
            format!("cannot open the push log: {what} ({})", plain(&cause)),
            "mend what the system names, then start again",
        ),
    }
}
