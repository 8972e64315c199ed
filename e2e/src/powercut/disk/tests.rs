//! Operations in, disks out.

use std::collections::BTreeSet;
use std::fs;

use tempfile::TempDir;

use super::*;

/// Stands for the inode of the root, which is not known before.
const BASE: u64 = u64::MAX - 3;

/// Inodes that no file has.
const FOLDER: u64 = u64::MAX;
const FILE: u64 = u64::MAX - 1;
const OTHER: u64 = u64::MAX - 2;

fn create(inode: u64, path: &str) -> Event {
    Event::Create { inode, path: path.to_owned(), mode: 0o600, folder: false }
}

fn mkdir(inode: u64, path: &str) -> Event {
    Event::Create { inode, path: path.to_owned(), mode: 0o700, folder: true }
}

fn write(inode: u64, data: &str) -> Event {
    Event::Write { inode, offset: 0, data: data.as_bytes().to_vec() }
}

fn rename(from: &str, to: &str) -> Event {
    Event::Rename { from: from.to_owned(), to: to.to_owned() }
}

fn unlink(path: &str) -> Event {
    Event::Unlink { path: path.to_owned() }
}

/// A sync that nothing comes between; of everything if the inode is 0.
fn sync(inode: u64) -> [Event; 2] {
    [Event::Sync { number: inode, inode }, Event::Synced { number: inode, done: true }]
}

struct Fixture {
    promise: Promise,
    lie: Option<Lie>,
    events: Vec<Event>,
}

impl Fixture {
    fn new(events: impl IntoIterator<Item = Event>) -> Self {
        Self { promise: Promise::Strict, lie: None, events: events.into_iter().collect() }
    }

    /// What may be there after a cut: the files with their contents, and the folders.
    fn possible(&self) -> BTreeSet<String> {
        (0..200).map(|seed| self.cut(seed)).collect()
    }

    fn cut(&self, seed: u64) -> String {
        let real = tempfile::tempdir().expect("a temporary folder can be made");
        let mut disk = Disk::scan(real.path(), self.promise, self.lie);
        let root = disk.inodes.keys().copied().next().expect("there is a root");
        for event in &self.events {
            let event = match event.clone() {
                Event::Sync { number, inode: BASE } => Event::Sync { number, inode: root },
                event => event,
            };
            disk.replay(&Record { at: 0, place: 0, event }, false);
        }
        disk.cut(real.path(), &mut Rng::with_seed(seed));
        describe(&real)
    }

    #[track_caller]
    fn check(&self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(self.possible(), expected);
    }
}

fn describe(real: &TempDir) -> String {
    let mut found = Vec::new();
    let mut open = vec![real.path().to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("it is there").path();
            let name = path.strip_prefix(real.path()).expect("it is below").display().to_string();
            if path.is_dir() {
                found.push(format!("{name}/"));
                open.push(path);
            } else {
                found.push(format!("{name}={}", fs::read_to_string(path).expect("tests write texts")));
            }
        }
    }
    found.sort_unstable();
    found.join(" ").replace('\0', "0")
}

#[test]
fn a_name_needs_the_sync_of_its_folder() {
    let file = [create(FILE, "a"), write(FILE, "x")].into_iter().chain(sync(FILE));
    let mut fixture = Fixture::new(file.clone());
    fixture.check(&["", "a=x"]);
    fixture.promise = Promise::Ext4;
    fixture.check(&["a=x"]);
    Fixture::new(file.chain(sync(BASE))).check(&["a=x"]);
}

#[test]
fn what_comes_during_a_sync_is_not_covered() {
    let [begin, end] = sync(FILE);
    let during = [create(FILE, "a"), begin, write(FILE, "x"), end].into_iter().chain(sync(BASE));
    Fixture::new(during).check(&["a=", "a=0", "a=x"]);
    let [begin, end] = sync(BASE);
    Fixture::new([begin, create(FILE, "a"), end]).check(&["", "a="]);
}

#[test]
fn a_folder_without_a_name_takes_all_with_it() {
    let made = [mkdir(FOLDER, "d"), create(FILE, "d/a")].into_iter().chain(sync(FOLDER));
    Fixture::new(made.clone()).check(&["", "d/ d/a="]);
    Fixture::new(made.chain(sync(BASE))).check(&["d/ d/a="]);
}

#[test]
fn a_rename_loses_neither_file() {
    let first = [create(OTHER, "log"), write(OTHER, "old"), create(FILE, "tmp"), write(FILE, "new")];
    let first = first.into_iter().chain(sync(OTHER)).chain(sync(FILE)).chain(sync(BASE));
    Fixture::new(first.chain([rename("tmp", "log")])).check(&["log=old tmp=new", "log=new"]);
}

#[test]
fn a_rename_between_folders_needs_both() {
    let moved = |syncs: Vec<Event>| {
        let first = [mkdir(FOLDER, "d"), create(FILE, "a")].into_iter().chain(sync(BASE));
        Fixture::new(first.chain([rename("a", "d/a")]).chain(syncs))
    };
    moved(vec![]).check(&["a= d/", "d/ d/a="]);
    moved(sync(FOLDER).into()).check(&["a= d/", "d/ d/a="]);
    moved(sync(FOLDER).into_iter().chain(sync(BASE)).collect()).check(&["d/ d/a="]);
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    let first = [create(FILE, "a"), write(FILE, "x"), unlink("a"), create(FILE, "b"), write(FILE, "y")];
    let events = first.into_iter().chain(sync(FILE)).chain(sync(BASE));
    Fixture::new(events).check(&["b=y"]);
}

#[test]
fn lies_are_told() {
    let named = [create(FILE, "a")].into_iter().chain(sync(BASE));
    let written = named.chain([write(FILE, "x")]).chain(sync(FILE));
    let mut fixture = Fixture::new(written.clone());
    fixture.check(&["a=x"]);
    fixture.lie = Some(Lie::NoSync);
    fixture.check(&["a=", "a=0", "a=x"]);
    fixture.lie = Some(Lie::NoFolderSync);
    fixture.check(&["", "a=x"]);
    fixture.lie = Some(Lie::NoStartSync);
    fixture.check(&["", "a=", "a=0", "a=x"]);
    fixture.lie = Some(Lie::LateSync);
    fixture.check(&["a=", "a=0", "a=x"]);
    fixture.events.push(Event::Sync { number: 9, inode: FILE });
    fixture.check(&["a=x"]);
}

#[test]
fn a_sync_of_everything_is_one() {
    let begun = [create(FILE, "a"), write(FILE, "x")];
    let mut fixture = Fixture::new(begun.into_iter().chain(sync(BASE)));
    fixture.check(&["a=", "a=0", "a=x"]);
    fixture.events.splice(2.., sync(0));
    fixture.check(&["a=x"]);
}
