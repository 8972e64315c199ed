//! Files with keys and secrets.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Largest file, in bytes: a set of many keys has some ten thousand.
const LARGEST: u64 = 1 << 20;

/// Tells two states of a file apart. Also another file of the same name is another state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        Ok(Self { modified: (file.mtime(), file.mtime_nsec()), length: file.len(), inode: file.ino() })
    }
}

/// Reads a whole file of bounded length. An error says what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |cause: io::Error| {
        let text = cause.to_string();
        format!("it cannot be read ({})", text.split(" (os error").next().unwrap_or(&text))
    };
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it is larger than {LARGEST} bytes"));
    }
    Ok(bytes)
}

/// A secret, without the newline that editors put at the end.
pub(super) fn secret(path: &Path) -> Result<Vec<u8>, String> {
    let mut secret = read(path)?;
    if secret.pop_if(|last| *last == b'\n').is_some() {
        secret.pop_if(|last| *last == b'\r');
    }
    Ok(secret)
}
