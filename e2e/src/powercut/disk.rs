//! A data folder: what it is now, and what of it a disk may hold after a cut.

mod folder;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use fastrand::Rng;

use super::file::{Chance, File};
use super::record::{Event, Record};
use folder::{Change, Folder, Move, Resolved};
pub(super) use tree::Loss;

/// How much a file system promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promise {
    /// What POSIX does: a name is durable once its folder is synced, and not before.
    #[default]
    Strict,
    /// As ext4: the sync of a file whose name is fresh commits all names until then.
    Ext4,
}

/// A disk that does not do what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The sync of a file does nothing.
    NoSync,
    /// The sync of a file is done when the next one of that file begins.
    LateSync,
    /// The sync of a folder does nothing.
    NoFolderSync,
    /// What is synced before the process is up (see [`Life::up`](super::Life::up)) is not.
    NoStartSync,
}

/// Where the root folder is in the list of nodes.
const ROOT: usize = 0;

/// All files and folders, with what is uncertain about them. Time is the number of operations so far.
#[derive(Debug)]
pub(super) struct Disk {
    promise: Promise,
    lie: Option<Lie>,
    /// Every file and folder that there was; the names lead to those that there are.
    nodes: Vec<Node>,
    /// Which of them has an inode now.
    inodes: BTreeMap<u64, usize>,
    /// What has happened to names, in order.
    moves: Vec<Move>,
    /// Syncs that run: when they began, and of what; of everything if that is nothing.
    syncs: BTreeMap<u64, (u64, Option<usize>)>,
    /// For a disk that lies: syncs that are said to be done, and when they began.
    late: BTreeMap<usize, u64>,
    now: u64,
}

#[derive(Debug)]
struct Node {
    mode: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    File(File),
    Folder(Folder),
}

impl Disk {
    /// Takes note of what a process did; `up` tells whether it had started by then.
    pub(super) fn replay(&mut self, record: &Record, up: bool) {
        self.now += 1;
        let now = self.now;
        match &record.event {
            Event::Hello | Event::Struck { .. } => {}
            Event::Create { inode, path, mode, folder } => {
                let body =
                    if *folder { Body::Folder(Folder::default()) } else { Body::File(File::default()) };
                let node = self.add(*inode, *mode, body);
                self.relink(&[(path, Some(node))]);
            }
            Event::Write { inode, offset, data } => self.file(*inode).write(now, *offset as usize, data),
            Event::Size { inode, size } => self.file(*inode).set_size(now, *size as usize),
            Event::Sync { number, inode } => {
                let node = (*inode != 0).then(|| self.known(*inode));
                self.syncs.insert(*number, (now, node));
                if let Some(begun) = node.and_then(|node| self.late.remove(&node)) {
                    self.cover(node, begun);
                }
            }
            Event::Synced { number, done } => self.synced(*number, *done, up),
            Event::Rename { from, to } => {
                let node = self.node(from).unwrap_or_else(|| panic!("{from} is renamed and not known"));
                // Two names of one file stay as they are.
                if self.node(to) != Some(node) {
                    self.relink(&[(from, None), (to, Some(node))]);
                }
            }
            Event::Unlink { path } => self.relink(&[(path, None)]),
            Event::Link { inode, path } => {
                let node = self.known(*inode);
                self.relink(&[(path, Some(node))]);
            }
            Event::Strange { what } => panic!("this test tool cannot follow what the process does: {what}"),
        }
    }

    /// The process has ended. Its syncs have not.
    pub(super) fn ended(&mut self) {
        self.syncs.clear();
    }

    fn synced(&mut self, number: u64, done: bool, up: bool) {
        let Some((begun, node)) = self.syncs.remove(&number) else {
            panic!("a sync ends that has not begun");
        };
        let file = node.filter(|node| matches!(self.nodes[*node].body, Body::File(_)));
        match self.lie {
            _ if !done => {
                if let Some(Body::File(file)) = file.map(|node| &mut self.nodes[node].body) {
                    file.failed(begun);
                }
            }
            Some(Lie::NoSync) if file.is_some() => {}
            Some(Lie::NoFolderSync) if file.is_none() => {}
            Some(Lie::NoStartSync) if !up => {}
            Some(Lie::LateSync) if file.is_some() => {
                self.late.extend(file.map(|node| (node, begun)));
            }
            _ => self.cover(node, begun),
        }
    }

    /// What was done to a node, or to everything, before `begun` is certain.
    fn cover(&mut self, node: Option<usize>, begun: u64) {
        let nodes = node.map_or(0..self.nodes.len(), |node| node..node + 1);
        for node in nodes {
            match &mut self.nodes[node].body {
                Body::File(file) => {
                    file.synced(begun);
                    let fresh =
                        |moved: &Move| moved.at < begun && !moved.is_certain() && moved.leads_to(node);
                    if self.promise == Promise::Ext4 && self.moves.iter().any(fresh) {
                        self.settle(begun, |_| true);
                    }
                }
                Body::Folder(_) => self.settle(begun, |change| change.folder == node),
            }
        }
    }

    /// Some changes of names before `begun` are certain.
    fn settle(&mut self, begun: u64, which: impl Fn(&Change) -> bool) {
        let moves = self.moves.iter_mut().take_while(|moved| moved.at < begun);
        for change in moves.flat_map(|moved| &mut moved.changes).filter(|change| which(change)) {
            change.certain = true;
        }
    }

    /// Changes names, all at once.
    fn relink(&mut self, changes: &[(&String, Option<usize>)]) {
        let changes = changes.iter().map(|(path, node)| {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let folder = self.node(parent).unwrap_or_else(|| panic!("the folder of {path} is not known"));
            Change { folder, name: name.to_owned(), node: *node, certain: false }
        });
        let moved = Move { at: self.now, changes: changes.collect() };
        for change in &moved.changes {
            self.folder(change.folder).apply(change);
        }
        self.moves.push(moved);
    }

    fn add(&mut self, inode: u64, mode: u32, body: Body) -> usize {
        self.nodes.push(Node { mode, body });
        self.inodes.insert(inode, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn known(&self, inode: u64) -> usize {
        let node = self.inodes.get(&inode);
        *node.unwrap_or_else(|| panic!("inode {inode} was made in a way that cannot be seen"))
    }

    fn file(&mut self, inode: u64) -> &mut File {
        let node = self.known(inode);
        match &mut self.nodes[node].body {
            Body::File(file) => file,
            Body::Folder(_) => panic!("inode {inode} is a folder"),
        }
    }

    fn folder(&mut self, node: usize) -> &mut Folder {
        match &mut self.nodes[node].body {
            Body::Folder(folder) => folder,
            Body::File(_) => panic!("a file is used as a folder"),
        }
    }

    /// What a path leads to now.
    fn node(&self, path: &str) -> Option<usize> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |node, name| {
            let Body::Folder(folder) = &self.nodes[node].body else { return None };
            folder.current().get(name).copied()
        })
    }

    /// Puts what the disk holds after a cut into the real folder, and goes on with that. What was lost.
    pub(super) fn cut(&mut self, real: &Path, rng: &mut Rng) -> Vec<Loss> {
        // Each kind of luck for itself, and often none at all or all of it: that is what mistakes need.
        let mut luck = || rng.choice([0, 0, 25, 50, 75, 100]).expect("there are some");
        let (chance, names) = (Chance { sectors: luck(), sizes: luck() }, luck());
        let mut losses = Vec::new();
        let resolved = self.resolve(rng, names, &mut losses);
        self.rebuild(real, &resolved, rng, chance, &mut losses);
        *self = Self::scan(real, self.promise, self.lie);
        losses
    }

    /// The names that the disk has after a cut.
    fn resolve(&self, rng: &mut Rng, percent: u32, losses: &mut Vec<Loss>) -> Resolved {
        let folders = self.nodes.iter().enumerate().filter_map(|(node, body)| match &body.body {
            Body::Folder(folder) => Some((node, folder.durable().clone())),
            Body::File(_) => None,
        });
        folder::resolve(folders.collect(), &self.moves, |moved| {
            let applied = rng.u32(..100) < percent;
            if !applied {
                losses.push(Loss::Names(moved.to_string()));
            }
            applied
        })
    }
}
