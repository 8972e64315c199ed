//! Power cuts: what a process has made durable is kept, what it has only written is at stake.
//!
//! `kill -9` says nothing about fsync, because the page cache survives it. So a process runs under a
//! small preloaded library (`e2e/powercut/shim.c`), which notes every change below the data folder in a
//! log and kills the process at a chosen operation. [`Power`] replays the log and puts in place of the
//! data folder one that a disk might hold after the power went at that moment; the next life starts on
//! it. Neither the binary nor a privilege is needed for that.
//!
//! ```no_run
//! use anser_e2e::{Cluster, Coverage, Cut, Power};
//!
//! let mut coverage = Coverage::default();
//! let Some(mut power) = Power::new(7) else { return };
//! let mut life = power.start(Cluster::builder(), &[Cut::at("segment.sync", 3).before()]);
//! if let Some(cluster) = life.cluster() {
//!     while cluster.api().try_request("POST", "/goim/push/all?operation=1000", &[], b"x").is_some() {}
//! }
//! life.wait_killed();
//! let report = power.cut(life);
//! coverage.add(&report);
//! let life = power.start(Cluster::builder(), &[]);
//! assert!(life.cluster().is_some(), "it does not start after {report}");
//! ```
//!
//! # What a cut leaves
//!
//! - A write is certain once a sync of its file, by whatever descriptor, has begun after it and has
//!   succeeded. One that ran beside the sync is not.
//! - Of other writes, each sector of 512 bytes is there or not, by itself, in any version that memory
//!   had since the last sync. A length is there or not, whether or not the bytes are, which are zeros
//!   then.
//! - After a sync that failed, what it was to write is never certain, until it is written and synced
//!   again: the kernel forgets that it is dirty (of Linux' file systems, most do so).
//! - A name (created, renamed, removed, linked) is certain once its folder has been synced. Others are
//!   there or not, each by itself, but those of one name in order, and a rename as a whole: the old name
//!   or the new one. The sync of a file does not save its name; [`Promise::Ext4`] is kinder.
//! - Everything that a life finds at its start is certain after a cut; after [`Power::survive`], a mere
//!   kill, what was uncertain still is. So a process that takes for durable what it only reads is found.
//!
//! [`Lie`]s are disks that do less than they say, to see that a test would notice. They are told when the
//! log is replayed; the process is served by the real disk and cannot know.
//!
//! # What it does not see
//!
//! The shim stands before functions of libc. Changes by other ways (raw system calls, as rustix makes
//! them; memory maps; `copy_file_range`; chmod; symbolic links) are found at the end of each life, when
//! the replayed folder is compared with the real one, and fail the test. A raw fsync leaves no trace:
//! what it saves will be missing. What a process does when it exits in the middle of an operation of
//! another thread may look like such a change; servers drain first. A folder belongs to one process.
//!
//! The seed of a test decides on all chances, though not on how threads interleave: the report of a cut
//! names both it and what was lost.

mod cut;
mod disk;
mod file;
mod life;
mod places;
mod record;
mod report;
mod shim;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use fastrand::Rng;
use tempfile::TempDir;

use crate::cluster::Builder;
use crate::process::{Process, tell};
pub use cut::{Cut, When};
use disk::Disk;
pub use disk::{Lie, Promise};
pub use life::Life;
pub use report::{Coverage, Report};

/// A data folder, and the power that its processes depend on.
#[derive(Debug)]
pub struct Power {
    folder: TempDir,
    library: &'static Path,
    disk: Disk,
    promise: Promise,
    lie: Option<Lie>,
    /// Where servers keep their data in the folder.
    below: PathBuf,
    seed: u64,
    rng: Rng,
    /// Lives so far.
    lives: u32,
    /// The last of them is not over.
    alive: bool,
    /// What happened, for a test that fails.
    story: Vec<String>,
}

impl Power {
    /// An empty folder. Nothing, and `skipped` with the reason in the test's output, where preloading
    /// does not work.
    pub fn new(seed: u64) -> Option<Self> {
        let library = match shim::library() {
            Ok(library) => library,
            Err(why) => {
                tell(&format!("skipped: no power cuts: {why}"));
                return None;
            }
        };
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a temporary folder can be used");
        let (promise, lie) = (Promise::default(), None);
        let disk = Disk::scan(&data, promise, lie);
        let rng = Rng::with_seed(seed);
        Some(Self {
            folder,
            library,
            disk,
            promise,
            lie,
            below: PathBuf::new(),
            seed,
            rng,
            lives: 0,
            alive: false,
            story: Vec::new(),
        })
    }

    /// On a file system with this promise.
    #[must_use]
    pub fn promise(mut self, promise: Promise) -> Self {
        self.promise = promise;
        self.rescan()
    }

    /// On a disk with this lie.
    #[must_use]
    pub fn lie(mut self, lie: Lie) -> Self {
        self.lie = Some(lie);
        self.rescan()
    }

    /// Has servers keep their data in a folder below, which the first of them has to make.
    #[must_use]
    pub fn below(mut self, folder: &str) -> Self {
        self.below = PathBuf::from(folder);
        self
    }

    fn rescan(mut self) -> Self {
        assert_eq!(self.lives, 0, "choose the disk before the first life");
        self.disk = Disk::scan(&self.data(), self.promise, self.lie);
        self
    }

    /// The data folder. A test may look at it between lives, and fill it before the first.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where servers keep their data: the data folder, or one below it.
    pub fn home(&self) -> PathBuf {
        let data = self.data();
        if self.below.as_os_str().is_empty() { data } else { data.join(&self.below) }
    }

    /// Says that the test has changed the data folder between two lives. All that is there is durable then.
    #[track_caller]
    pub fn changed(&mut self) {
        assert!(!self.alive, "a life goes on");
        self.disk = Disk::scan(&self.data(), self.promise, self.lie);
        self.story.push("changed by the test".to_owned());
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn full(&self) -> PathBuf {
        self.folder.path().join("full")
    }

    /// From now on nothing grows in the data folder: ENOSPC.
    pub fn fill(&self) {
        fs::write(self.full(), "").expect("a temporary folder can be used");
    }

    /// There is space again.
    pub fn free(&self) {
        fs::remove_file(self.full()).expect("the disk was full");
    }

    /// Starts a server in the data folder and waits until it is ready, or has ended.
    #[track_caller]
    pub fn start(&mut self, builder: Builder, cuts: &[Cut]) -> Life {
        self.begin(cuts);
        let builder = builder.data(&self.home()).environment(self.environment(cuts));
        Life::server(self.log(), builder.start_or_end())
    }

    /// Starts another program, which gets the data folder as its first argument.
    #[track_caller]
    pub fn run(&mut self, program: &Path, arguments: &[&str], cuts: &[Cut]) -> Life {
        self.begin(cuts);
        let mut command = Command::new(program);
        command.arg(self.data()).envs(self.environment(cuts));
        Life::program(self.log(), Process::start(command, self.folder.path(), arguments))
    }

    #[track_caller]
    fn begin(&mut self, cuts: &[Cut]) {
        assert!(!self.alive, "the life before is not over: `cut` or `survive` ends it");
        if self.lives == 0 {
            self.disk = Disk::scan(&self.data(), self.promise, self.lie);
        }
        self.alive = true;
        self.lives += 1;
        let planned: Vec<_> = cuts.iter().map(ToString::to_string).collect();
        self.story.push(format!("life {} with {planned:?}", self.lives));
    }

    fn environment(&self, cuts: &[Cut]) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.display().to_string();
        let cuts: Vec<_> = cuts.iter().map(Cut::code).collect();
        vec![
            ("LD_PRELOAD", path(self.library)),
            ("POWERCUT_DIR", path(&self.data())),
            ("POWERCUT_LOG", path(&self.log())),
            ("POWERCUT_PLACES", places::lines()),
            ("POWERCUT_AT", cuts.join(",")),
            ("POWERCUT_ENOSPC", path(&self.full())),
        ]
    }

    /// The power goes: the process is killed if it still lives, and the data folder becomes what a disk
    /// may hold then.
    #[track_caller]
    pub fn cut(&mut self, life: Life) -> Report {
        let mut report = self.end(life);
        report.lose(self.disk.cut(&self.data(), &mut self.rng));
        self.story.push(format!("cut: {report}"));
        report
    }

    /// Only the process goes, and is killed if it still lives. The next one finds all that it wrote,
    /// but what was not synced is as uncertain as before.
    #[track_caller]
    pub fn survive(&mut self, life: Life) -> Report {
        let report = self.end(life);
        self.story.push(format!("survived: {report}"));
        report
    }

    #[track_caller]
    fn end(&mut self, mut life: Life) -> Report {
        life.kill();
        let log = fs::read(self.log()).unwrap_or_default();
        let records = record::parse(&log);
        let hello = records.iter().any(|record| record.event == record::Event::Hello);
        assert!(hello, "the program has not loaded the shim: is it linked statically?");
        for record in &records {
            self.disk.replay(record, life.was_up(record.at));
        }
        self.disk.ended();
        let differences = self.disk.differences(&self.data());
        assert!(
            differences.is_empty(),
            "files were changed in ways that cannot be seen (raw system calls, maps?):\n{}",
            differences.join("\n")
        );
        fs::remove_file(self.log()).expect("it was just read");
        self.alive = false;
        Report::new(self.seed, self.lives, &records)
    }

    /// A cut at any of the operations that a life had, at places whose names begin so.
    #[track_caller]
    pub fn aim(&mut self, report: &Report, prefix: &str) -> Cut {
        let places = report.operations().iter().filter(|(place, _)| place.starts_with(prefix));
        let places: Vec<_> = places.collect();
        let Some((place, count)) = self.rng.choice(places) else {
            panic!("there was no operation at {prefix}*");
        };
        let when = self.rng.choice(When::CUTS).expect("there are some");
        Cut::at(place, self.rng.u64(1..=*count)).when(when)
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&format!("power of seed {}:\n{}", self.seed, self.story.join("\n")));
        }
    }
}
