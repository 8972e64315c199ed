//! The real folder: read before a life, compared after it, rebuilt after a cut.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::super::file::{Chance, File, Lost, SECTOR};
use super::folder::{Folder, Names, Resolved};
use super::{Body, Disk, Lie, Node, Promise, ROOT};

/// Something that a cut has taken.
#[derive(Clone, Debug)]
pub(in super::super) enum Loss {
    /// A change of names, in words.
    Names(String),
    /// Parts of a file.
    Content(PathBuf, Lost),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(change) => f.write_str(change),
            Self::Content(path, Lost { sectors, of_sectors, size }) => {
                write!(f, "{}: {sectors} of {of_sectors} loose sectors lost", path.display())?;
                if let Some((size, was)) = size {
                    write!(f, ", {size} bytes long and not {was}")?;
                }
                Ok(())
            }
        }
    }
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries.map(|entry| name(entry.expect("a folder can be read"))).collect();
    names.sort_unstable();
    names
}

impl Disk {
    /// Takes a folder as it is, as durable.
    pub(in super::super) fn scan(real: &Path, promise: Promise, lie: Option<Lie>) -> Self {
        let mut disk = Self {
            promise,
            lie,
            nodes: Vec::new(),
            inodes: BTreeMap::new(),
            moves: Vec::new(),
            syncs: BTreeMap::new(),
            late: BTreeMap::new(),
            now: 0,
        };
        disk.scan_node(real);
        disk
    }

    fn scan_node(&mut self, path: &Path) -> usize {
        let metadata = fs::symlink_metadata(path).expect("what is in a folder can be looked at");
        let (inode, mode) = (metadata.ino(), metadata.mode() & 0o7777);
        if let Some(node) = self.inodes.get(&inode) {
            return *node;
        }
        if metadata.is_file() {
            let content = fs::read(path).expect("files of the data folder can be read");
            return self.add(inode, mode, Body::File(File::durable(content)));
        }
        assert!(metadata.is_dir(), "{} is neither a file nor a folder", path.display());
        let node = self.add(inode, mode, Body::Folder(Folder::default()));
        let names: Names = names(path)
            .into_iter()
            .map(|name| {
                let node = self.scan_node(&path.join(&name));
                (name, node)
            })
            .collect();
        *self.folder(node) = Folder::durable_with(names);
        node
    }

    /// Where the real folder is not what has been seen of it. Something has then gone past the shim.
    pub(in super::super) fn differences(&self, real: &Path) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(ROOT, real, &mut found);
        found
    }

    fn compare(&self, node: usize, path: &Path, found: &mut Vec<String>) {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            found.push(format!("{} is gone", path.display()));
            return;
        };
        let node = &self.nodes[node];
        let mode = metadata.mode() & 0o7777;
        if mode != node.mode {
            found.push(format!("{} has mode {mode:o} and not {:o}", path.display(), node.mode));
        }
        match &node.body {
            Body::Folder(folder) if metadata.is_dir() => {
                for name in names(path).iter().filter(|name| !folder.current().contains_key(*name)) {
                    found.push(format!("{} was made unseen", path.join(name).display()));
                }
                for (name, node) in folder.current() {
                    self.compare(*node, &path.join(name), found);
                }
            }
            Body::File(file) if metadata.is_file() => {
                let content = fs::read(path).expect("files of the data folder can be read");
                if content != file.current() {
                    found.push(format!("{} was written unseen", path.display()));
                }
            }
            _ => found.push(format!("{} is something else", path.display())),
        }
    }

    /// Replaces what is in the real folder.
    pub(super) fn rebuild(
        &self,
        real: &Path,
        resolved: &Resolved,
        rng: &mut Rng,
        chance: Chance,
        losses: &mut Vec<Loss>,
    ) {
        for name in names(real) {
            let path = real.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.unwrap_or_else(|error| panic!("{} cannot be removed: {error}", path.display()));
        }
        Rebuild { disk: self, real, resolved, rng, chance, losses, written: BTreeMap::new() }
            .folder(ROOT, Path::new(""));
    }
}

struct Rebuild<'a> {
    disk: &'a Disk,
    real: &'a Path,
    resolved: &'a Resolved,
    rng: &'a mut Rng,
    chance: Chance,
    losses: &'a mut Vec<Loss>,
    /// Files that have a name already.
    written: BTreeMap<usize, PathBuf>,
}

impl Rebuild<'_> {
    fn folder(&mut self, folder: usize, path: &Path) {
        for (name, node) in &self.resolved[&folder] {
            let path = path.join(name);
            let target = self.real.join(&path);
            let Node { mode, body } = &self.disk.nodes[*node];
            match body {
                Body::Folder(_) => {
                    fs::create_dir(&target).expect("a name is there once");
                    self.folder(*node, &path);
                }
                Body::File(_) if self.written.contains_key(node) => {
                    fs::hard_link(&self.written[node], &target).expect("a name is there once");
                }
                Body::File(file) => {
                    let (content, lost) = file.cut(self.rng, self.chance);
                    if lost.sectors > 0 || lost.size.is_some() {
                        self.losses.push(Loss::Content(path, lost));
                    }
                    write(&target, &content);
                    self.written.insert(*node, target.clone());
                }
            }
            fs::set_permissions(&target, Permissions::from_mode(*mode)).expect("it is ours");
        }
    }
}

/// Writes a file without the zeros, of which a preallocated one has many.
fn write(path: &Path, content: &[u8]) {
    let file = fs::File::create_new(path).expect("a name is there once");
    file.set_len(content.len() as u64).expect("there is space");
    for (number, sector) in content.chunks(SECTOR).enumerate() {
        if sector.iter().any(|byte| *byte != 0) {
            file.write_all_at(sector, (number * SECTOR) as u64).expect("there is space");
        }
    }
}
