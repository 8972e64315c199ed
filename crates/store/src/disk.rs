//! The seam: all that a store does to files.
//!
//! A write is durable after [`DiskFile::sync`], a name after [`Disk::sync`]. Tests put their own disk in
//! here, which fails, tears and forgets.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One folder of files.
pub trait Disk: Send + Sync {
    /// The files that are there.
    fn list(&self) -> io::Result<Vec<Entry>>;

    /// Makes a file, or empties it.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in place of whatever has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;

    /// What the folder is called, for messages.
    fn name(&self) -> String;
}

/// A file of a [`Disk`].
pub trait DiskFile: Send + Sync {
    /// Writes all of it there.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Reads what is there, up to the length of `bytes`; how much that was.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes what was written durable, the length included.
    fn sync(&self) -> io::Result<()>;

    /// Cuts it, or fills it up with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A file in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub len: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// A folder of the file system. Files in it are this user's alone.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Opens a folder, and makes it if it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        make_folder(path)?;
        Ok(Self(path.to_owned()))
    }
}

/// Makes a folder, for this user alone, and what is missing above it; its name is durable then. One that is
/// there may be of a start that was killed before it had seen to that.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let (parent, root) = match path.parent() {
        None => return Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => (Path::new("."), true),
        Some(parent) => (parent, parent.parent().is_none()),
    };
    if !path.is_dir() {
        if !root {
            make_folder(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made?,
        }
    }
    match File::open(parent).and_then(|parent| parent.sync_all()) {
        // Who may not look into a folder cannot sync it either, and has not made this one.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// A folder that is only looked at: nothing in it is changed, nothing is made.
#[derive(Clone, Debug)]
pub struct ReadOnly(PathBuf);

impl ReadOnly {
    /// Names a folder.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Disk for ReadOnly {
    fn list(&self) -> io::Result<Vec<Entry>> {
        list(&self.0)
    }

    fn create(&self, _name: &str) -> io::Result<Box<dyn DiskFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(self.0.join(name))?))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

/// The files of a folder.
fn list(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            entries.push(Entry { name, len: metadata.len(), modified: metadata.modified()? });
        }
    }
    Ok(entries)
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<Entry>> {
        list(&self.0)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Box::new(options.open(self.0.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

impl DiskFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match std::os::unix::fs::FileExt::read_at(self, &mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}
