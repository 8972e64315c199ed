//! A disk in memory, with a cache that is lost when the power goes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::SystemTime;

use crate::disk::{Disk, DiskFile, Entry};

const SECTOR: usize = 512;

/// What a disk, or the code over it, may get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// Syncs of files do nothing.
    NoSync,
    /// They are done when the next one comes.
    LateSync,
    /// Those do nothing that come before the first file is made.
    NoSyncAtOpen,
    /// Syncs of the folder do nothing.
    NoFolderSync,
}

#[derive(Clone, Default)]
struct SimFile {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What is not durable yet, in order.
    pending: Vec<Change>,
    /// How many of those a late sync was told to make durable.
    late: usize,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, mut takes: impl FnMut() -> bool) {
        match self {
            Self::Write(at, data) => {
                let mut from = *at;
                while from < at + data.len() {
                    let to = ((from / SECTOR + 1) * SECTOR).min(at + data.len());
                    if takes() {
                        if bytes.len() < to {
                            bytes.resize(to, 0);
                        }
                        bytes[from..to].copy_from_slice(&data[from - at..to - at]);
                    }
                    from = to;
                }
            }
            Self::Len(len) => {
                if takes() {
                    bytes.resize(*len, 0);
                }
            }
        }
    }
}

#[derive(Clone)]
enum Rename {
    Set(String, u64),
    Move(String, String),
    Remove(String),
}

impl Rename {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Move(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, SimFile>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending: Vec<Rename>,
    next: u64,
    ops: u64,
    stop_at: u64,
    syncs: u64,
    fail_sync: bool,
    /// Syncs stop here.
    hold: bool,
    held: bool,
    limit: u64,
    lie: Option<Lie>,
    made: bool,
    dice: fastrand::Rng,
}

/// The disk; clones are the same one.
#[derive(Clone)]
pub(super) struct SimDisk(Arc<(Mutex<State>, Condvar)>);

/// As long as this lives, syncs do not end.
pub(super) struct Held(SimDisk);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.0.lock().unwrap().hold = false;
        self.0.0.1.notify_all();
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.ops += 1;
        if self.ops >= self.stop_at {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        self.files.values().map(|file| file.now.len() as u64).sum()
    }

    fn grow(&self, file: u64, len: usize) -> io::Result<()> {
        let more = (len as u64).saturating_sub(self.files[&file].now.len() as u64);
        if more > 0 && self.used() + more > self.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            stop_at: u64::MAX,
            limit: u64::MAX,
            dice: fastrand::Rng::with_seed(seed),
            ..State::default()
        };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.0.lock().unwrap())
    }

    /// A number for a log that is new.
    pub(super) fn fresh_id(&self) -> u64 {
        self.with(|state| state.dice.u64(..))
    }

    pub(super) fn stop_at(&self, ops: u64) {
        self.with(|state| (state.ops, state.stop_at) = (0, ops));
    }

    pub(super) fn lie(&self, lie: Option<Lie>) {
        self.with(|state| state.lie = lie);
    }

    pub(super) fn limit(&self, bytes: u64) {
        self.with(|state| state.limit = bytes);
    }

    pub(super) fn used(&self) -> u64 {
        self.with(|state| state.used())
    }

    pub(super) fn syncs(&self) -> u64 {
        self.with(|state| state.syncs)
    }

    pub(super) fn fail_next_sync(&self) {
        self.with(|state| state.fail_sync = true);
    }

    pub(super) fn hold_syncs(&self) -> Held {
        self.with(|state| state.hold = true);
        Held(self.clone())
    }

    pub(super) fn is_held(&self) -> bool {
        self.with(|state| state.held)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.with(|state| state.names.keys().cloned().collect())
    }

    pub(super) fn flip(&self, name: &str, at: u64) {
        self.with(|state| {
            let file = state.names[name];
            let file = state.files.get_mut(&file).unwrap();
            file.now[at as usize] ^= 4;
            file.durable = file.now.clone();
        });
    }

    pub(super) fn take_file(&self, other: &Self, from: &str, to: &str) {
        let file = other.with(|state| state.files[&state.names[from]].clone());
        self.with(|state| {
            state.next += 1;
            let id = state.next;
            state.files.insert(id, file);
            state.names.insert(to.to_owned(), id);
        });
    }

    /// The process is killed: the cache stays.
    pub(super) fn kill(&self) -> Self {
        self.with(|state| {
            let fresh = Self::new(state.dice.u64(..));
            fresh.with(|new| {
                new.files = state.files.clone();
                new.names = state.names.clone();
                new.durable_names = state.durable_names.clone();
                new.pending = state.pending.clone();
                new.next = state.next;
            });
            fresh
        })
    }

    /// The power goes: of what was not made durable, chance decides.
    pub(super) fn cut(&self) -> Self {
        self.with(|state| {
            let fresh = Self::new(state.dice.u64(..));
            let mut names = state.durable_names.clone();
            for change in &state.pending {
                if state.dice.bool() {
                    change.apply(&mut names);
                }
            }
            let mut files = BTreeMap::new();
            for (id, file) in &state.files {
                let mut bytes = file.durable.clone();
                for change in &file.pending {
                    change.apply(&mut bytes, || state.dice.bool());
                }
                files.insert(*id, SimFile { now: bytes.clone(), durable: bytes, ..SimFile::default() });
            }
            fresh.with(|new| {
                new.files = files;
                new.names = names.clone();
                new.durable_names = names;
                new.next = state.next;
            });
            fresh
        })
    }
}

struct Handle {
    disk: SimDisk,
    file: u64,
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<Entry>> {
        self.with(|state| {
            state.step()?;
            let entry = |(name, file): (&String, &u64)| Entry {
                name: name.clone(),
                len: state.files[file].now.len() as u64,
                modified: SystemTime::now(),
            };
            Ok(state.names.iter().map(entry).collect())
        })
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.with(|state| {
            state.step()?;
            state.made = true;
            state.next += 1;
            let file = state.next;
            state.files.insert(file, SimFile::default());
            state.names.insert(name.to_owned(), file);
            state.pending.push(Rename::Set(name.to_owned(), file));
            Ok(Box::new(Handle { disk: self.clone(), file }) as Box<dyn DiskFile>)
        })
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.with(|state| {
            state.step()?;
            let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(Handle { disk: self.clone(), file }) as Box<dyn DiskFile>)
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|state| {
            state.step()?;
            let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), file);
            state.pending.push(Rename::Move(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|state| {
            state.step()?;
            state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            state.pending.push(Rename::Remove(name.to_owned()));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| {
            state.step()?;
            if state.lie != Some(Lie::NoFolderSync) {
                state.pending.clear();
                state.durable_names = state.names.clone();
            }
            Ok(())
        })
    }

    fn name(&self) -> String {
        "simulated".to_owned()
    }
}

impl Handle {
    fn change(&self, change: Change) -> io::Result<()> {
        self.disk.with(|state| {
            // A write may be cut short by the end of power: some of it is in the cache.
            let stopped = state.step();
            let len = match &change {
                Change::Write(at, bytes) => at + bytes.len(),
                Change::Len(len) => *len,
            };
            state.grow(self.file, len)?;
            let file = state.files.get_mut(&self.file).unwrap();
            change.apply(&mut file.now, || true);
            file.pending.push(change);
            stopped
        })
    }
}

impl DiskFile for Handle {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(offset as usize, bytes.to_vec()))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.with(|state| {
            let file = &state.files[&self.file].now;
            let from = (offset as usize).min(file.len());
            let n = bytes.len().min(file.len() - from);
            bytes[..n].copy_from_slice(&file[from..from + n]);
            Ok(n)
        })
    }

    fn sync(&self) -> io::Result<()> {
        let (state, bell) = &*self.disk.0;
        let mut state = state.lock().unwrap();
        while state.hold {
            state.held = true;
            state = bell.wait(state).unwrap();
        }
        state.step()?;
        state.syncs += 1;
        if std::mem::take(&mut state.fail_sync) {
            return Err(io::Error::other("the disk is broken"));
        }
        let (lie, made) = (state.lie, state.made);
        let file = state.files.get_mut(&self.file).unwrap();
        match lie {
            Some(Lie::NoSync) => {}
            Some(Lie::NoSyncAtOpen) if !made => {}
            Some(Lie::LateSync) => {
                let upto = std::mem::replace(&mut file.late, 0);
                for change in file.pending.drain(..upto).collect::<Vec<_>>() {
                    change.apply(&mut file.durable, || true);
                }
                file.late = file.pending.len();
            }
            _ => {
                file.pending.clear();
                file.durable = file.now.clone();
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len as usize))
    }
}
