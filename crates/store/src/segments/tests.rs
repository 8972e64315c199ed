//! The log over a disk that fails, tears and forgets.

mod sim;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::record::SegmentHeader;
use super::*;
use crate::log::{Damage, OpenError};
use sim::{Lie, SimDisk};

const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> Config {
    Config {
        segment_bytes: 4096,
        pending_bytes: 64 << 10,
        retention: Duration::from_secs(3600),
        retention_bytes: 16 << 10,
        max_bytes: 64 << 10,
    }
}

/// Waits for something, at most for so long as a busy machine needs.
#[track_caller]
fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < limit, "{what} did not come");
        std::thread::park_timeout(Duration::from_micros(100));
    }
}

/// A log, and whether its disk has failed.
struct Live {
    opened: Opened,
    failed: Arc<AtomicBool>,
}

impl Live {
    fn open(disk: &SimDisk, config: &Config) -> Result<Self, OpenError> {
        let failed = Arc::new(AtomicBool::new(false));
        let flag = failed.clone();
        let on_failure: OnFailure = Box::new(move |_| flag.store(true, Ordering::SeqCst));
        SegmentLog::open(Arc::new(disk.clone()), config, disk.fresh_id(), on_failure)
            .map(|opened| Self { opened, failed })
    }

    fn log(&self) -> &SegmentLog {
        &self.opened.log
    }

    fn append(&self, record: &[u8]) -> Result<Appended, AppendError> {
        self.log().append(record, &mut |_| true).map(|appended| appended.expect("it was not refused"))
    }

    /// Appends, and waits until it is durable; `None` if the disk failed before.
    fn put(&self, record: &[u8]) -> Option<u64> {
        let appended = self.append(record).ok()?;
        self.durable(&appended).then_some(appended.position)
    }

    fn durable(&self, appended: &Appended) -> bool {
        eventually("the disk", || appended.durable.is_done() || self.failed.load(Ordering::SeqCst));
        appended.durable.is_done()
    }

    fn all_from(&self, from: u64) -> (Vec<(u64, Bytes)>, Vec<Damage>) {
        let (mut records, mut damage, mut next) = (Vec::new(), Vec::new(), from);
        loop {
            let page = self.log().read(next, 1000).unwrap();
            if page.is_empty() {
                return (records, damage);
            }
            assert!(page.next > next, "a read goes on");
            next = page.next;
            records.extend(page.records);
            damage.extend(page.damage);
        }
    }
}

#[test]
fn what_is_appended_is_read_in_order_now_and_later() {
    let disk = SimDisk::new(1);
    let live = Live::open(&disk, &config()).unwrap();
    assert_eq!(live.log().consumer("job").unwrap(), 64);
    let id = live.log().id();
    let records: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; 10 + n as usize * 7]).collect();
    let positions: Vec<u64> = records.iter().map(|record| live.put(record).unwrap()).collect();
    assert!(positions.is_sorted() && positions[0] == 64);
    let expected: Vec<(u64, Bytes)> =
        positions.iter().copied().zip(records.iter().map(|record| Bytes::copy_from_slice(record))).collect();
    assert_eq!(live.all_from(0), (expected.clone(), vec![]));
    assert_eq!(live.all_from(positions[20]).0, expected[20..]);
    for (position, record) in &expected {
        assert_eq!(live.log().get(*position).unwrap().as_ref(), Some(record));
        assert_eq!(live.log().get(position + 1).unwrap(), None);
    }
    drop(live);

    let live = Live::open(&disk, &config()).unwrap();
    assert_eq!((live.log().id(), live.opened.cut), (id, 0));
    assert_eq!(live.all_from(0), (expected.clone(), vec![]));
    assert_eq!(live.log().consumer("job").unwrap(), 64);
    live.log().commit("job", positions[30]).unwrap();
    live.log().commit("job", positions[10]).unwrap();
    let next = live.put(b"later").unwrap();
    assert!(next > positions[49] + GAP);
    drop(live);
    let live = Live::open(&disk, &config()).unwrap();
    assert_eq!(live.log().consumer("job").unwrap(), positions[30]);
    assert!(live.log().consumer("other").unwrap() > next);
    assert_eq!(live.all_from(positions[49]).0, [expected[49].clone(), (next, Bytes::from_static(b"later"))]);
}

#[test]
fn a_lone_append_is_one_sync_and_many_share_one() {
    let disk = SimDisk::new(1);
    let live = Live::open(&disk, &config()).unwrap();
    live.put(b"first").unwrap();
    // The second segment has been made, too.
    eventually("all else that syncs", || disk.syncs() == 4);
    let before = disk.syncs();
    live.put(b"second").unwrap();
    assert_eq!(disk.syncs(), before + 1);
    let held = disk.hold_syncs();
    let first = live.append(b"in the first group").unwrap();
    eventually("a sync", || disk.is_held());
    let rest: Vec<_> = (0..10).map(|_| live.append(b"in the second group").unwrap()).collect();
    assert!(!first.durable.is_done());
    let before = disk.syncs();
    drop(held);
    assert!(live.durable(&first) && rest.iter().all(|appended| live.durable(appended)));
    assert!(disk.syncs() <= before + 2);
}

#[test]
fn a_deliverer_that_says_no_appends_nothing() {
    let disk = SimDisk::new(1);
    let live = Live::open(&disk, &config()).unwrap();
    let mut told = 0;
    let refused = live.log().append(b"no", &mut |appended| {
        told = appended.position;
        false
    });
    assert!(matches!(refused, Ok(None)));
    assert_eq!(live.put(b"yes"), Some(told));
    assert_eq!(live.all_from(0).0.len(), 1);
}

#[test]
fn what_cannot_be_taken_is_refused_and_told() {
    let disk = SimDisk::new(1);
    let live = Live::open(&disk, &Config { pending_bytes: 1000, ..config() }).unwrap();
    let max = 4096 - SEGMENT_HEADER - size(0);
    assert_eq!(live.append(&vec![1; max + 1]).unwrap_err(), AppendError::TooLarge { len: max + 1, max });
    live.put(&vec![1; max]).unwrap();
    let held = disk.hold_syncs();
    let first = live.append(&[1; 500]).unwrap();
    live.append(&[1; 450]).unwrap();
    assert_eq!(live.append(&[1; 450]).unwrap_err(), AppendError::Behind { waiting: size(500) + size(450) });
    drop(held);
    assert!(live.durable(&first));
    eventually("room", || live.append(&[1; 450]).is_ok());
}

#[test]
fn a_disk_without_room_refuses_and_goes_on_by_itself() {
    let disk = SimDisk::new(1);
    // One segment, the next one, and a consumer that holds everything.
    let live = Live::open(&disk, &config()).unwrap();
    live.log().consumer("job").unwrap();
    live.put(b"first").unwrap();
    disk.limit(disk.used() + 5000);
    let mut acked = vec![];
    eventually("a full disk", || match live.append(&[7; 400]) {
        Ok(appended) => {
            if live.durable(&appended) {
                acked.push(appended.position);
            }
            false
        }
        Err(cause) => cause == AppendError::NoSpace,
    });
    assert!(acked.len() > 8, "{}", acked.len());
    assert!(!live.failed.load(Ordering::SeqCst));
    disk.limit(u64::MAX);
    eventually("room", || live.put(b"goes on").is_some());
    let read = live.all_from(0).0;
    assert!(acked.iter().all(|position| read.iter().any(|(at, _)| at == position)));
}

#[test]
fn a_failed_sync_is_the_end() {
    let disk = SimDisk::new(1);
    let live = Live::open(&disk, &config()).unwrap();
    live.put(b"first").unwrap();
    eventually("all else that syncs", || disk.syncs() == 4);
    disk.fail_next_sync();
    let lost = live.append(b"second").unwrap();
    eventually("the failure", || live.failed.load(Ordering::SeqCst));
    assert!(!lost.durable.is_done());
    assert_eq!(live.append(b"third").unwrap_err(), AppendError::Closed);
}

#[test]
fn segments_go_by_size_and_age_but_not_before_every_consumer() {
    let disk = SimDisk::new(1);
    let live = Live::open(&disk, &config()).unwrap();
    let log = live.log();
    log.consumer("slow").unwrap();
    log.consumer("quick").unwrap();
    let mut positions = vec![];
    for _ in 0..80 {
        positions.push(live.put(&[1; 400]).unwrap());
    }
    log.commit("quick", positions[79]).unwrap();
    assert_eq!(live.all_from(0).0.len(), 80);
    eventually("fullness", || match live.append(&[1; 400]) {
        Ok(appended) => !live.durable(&appended),
        Err(cause) => matches!(cause, AppendError::Full { consumer, .. } if consumer == "slow"),
    });
    log.commit("slow", positions[40]).unwrap();
    eventually("room", || live.put(b"on").is_some());
    eventually("the end of old segments", || live.all_from(0).0[0].0 > positions[10]);
    assert!(live.all_from(0).0[0].0 <= positions[40]);
    log.end(&mut |end| {
        log.commit("slow", end).unwrap();
        log.commit("quick", end).unwrap();
    });
    eventually("the bound", || {
        let kept = log.shared.catalog.lock().unwrap().bytes();
        kept <= config().retention_bytes
    });
    drop(live);

    let live = Live::open(&disk, &Config { retention: Duration::ZERO, ..config() }).unwrap();
    live.log().commit("slow", u64::MAX / 2).unwrap();
    live.log().commit("quick", u64::MAX / 2).unwrap();
    live.put(b"new").unwrap();
    eventually("the end of all old segments", || live.all_from(0).0.len() == 1);
}

#[test]
fn folders_that_are_not_ours_are_refused() {
    let disk = SimDisk::new(1);
    let live = Live::open(&disk, &config()).unwrap();
    live.put(b"first").unwrap();
    drop(live);
    let other = SimDisk::new(2);
    let failed: OnFailure = Box::new(|_| {});
    let log = SegmentLog::open(Arc::new(other.clone()), &config(), 78, failed).unwrap().log;
    let appended = log.append(b"first", &mut |_| true).unwrap().unwrap();
    eventually("the disk", || appended.durable.is_done());
    drop(log);
    disk.take_file(&other, &file_name(0), &file_name(1 << 40));
    assert!(matches!(Live::open(&disk, &config()).err(), Some(OpenError::Mixed { .. })));

    let disk = SimDisk::new(3);
    let mut head = SegmentHeader { base: 0, log: 1 }.encode();
    head[8] = 9;
    head[12..16].fill(0);
    let crc = crc32c::crc32c(&head);
    head[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.create(&file_name(0)).unwrap().write_all_at(&head, 0).unwrap();
    let newer = Live::open(&disk, &config()).err();
    assert!(matches!(newer, Some(OpenError::Newer { found: 9, known: 1, .. })), "{newer:?}");
}

#[test]
fn a_flipped_bit_is_told_and_the_rest_is_read() {
    let disk = SimDisk::new(1);
    let live = Live::open(&disk, &config()).unwrap();
    let positions: Vec<u64> = (0..40).map(|_| live.put(&[5; 300]).unwrap()).collect();
    drop(live);
    // In an old segment, and in the last one.
    let last = base_of(disk.names().iter().filter(|name| base_of(name).is_some()).max().unwrap()).unwrap();
    let in_last: Vec<u64> = positions.iter().copied().filter(|position| *position > last).collect();
    disk.flip(&file_name(0), positions[3] + 100);
    disk.flip(&file_name(last), in_last[0] - last + 100);
    let live = Live::open(&disk, &config()).unwrap();
    let (records, damage) = live.all_from(0);
    assert_eq!(live.opened.damage, [Damage { from: in_last[0], to: in_last[1] }]);
    assert_eq!(damage, [Damage { from: positions[3], to: positions[4] }, live.opened.damage[0].clone()]);
    assert_eq!(records.len(), 38);
    assert_eq!(live.log().get(positions[3]).unwrap(), None);
}

/// What has been promised over all lives of a log.
#[derive(Default)]
struct Promises {
    /// Every record that was told to be taken.
    acked: BTreeMap<u64, Vec<u8>>,
    /// Every record that was given a position.
    given: BTreeMap<u64, Vec<u8>>,
    /// Up to where the consumer may have come.
    committed: u64,
    count: u32,
    /// The log that all of this is about. One of which nothing was durable is not there any more.
    log: u64,
}

impl Promises {
    /// One life: appends in groups, rolls over, commits, until the power goes.
    fn live(&mut self, live: &Live, dice: &mut fastrand::Rng) -> Result<(), String> {
        if live.log().consumer("job").is_err() {
            return Ok(());
        }
        if self.log != live.log().id() {
            self.given.clear();
            self.log = live.log().id();
        }
        for _ in 0..60 {
            let mut group = Vec::new();
            for _ in 0..dice.usize(1..5) {
                self.count += 1;
                let mut record = self.count.to_le_bytes().to_vec();
                record.resize(4 + dice.usize(0..400), dice.u8(..));
                let last = self.given.keys().next_back().copied();
                let Ok(appended) = live.append(&record) else { return Ok(()) };
                if last.is_some_and(|last| appended.position <= last) {
                    return Err(format!("{} was given after {last:?}", appended.position));
                }
                self.given.insert(appended.position, record);
                group.push(appended);
            }
            for appended in group {
                if !live.durable(&appended) {
                    return Ok(());
                }
                self.acked.insert(appended.position, self.given[&appended.position].clone());
            }
            if dice.u8(..4) == 0 {
                // It is done with some of what it was told.
                let upto = self.acked.keys().rev().nth(dice.usize(0..20)).copied().unwrap_or(0);
                // Even one that fails may have come to the disk.
                self.committed = self.committed.max(upto);
                if live.log().commit("job", upto).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether a log keeps what was promised.
    fn check(&self, live: &Live) -> Result<(), String> {
        let consumer = live.log().consumer("job").map_err(|cause| cause.to_string())?;
        if self.acked.range(self.committed..consumer.max(self.committed)).next().is_some() {
            return Err(format!("the consumer is at {consumer}, but was at {} at most", self.committed));
        }
        let (read, damage) = live.all_from(consumer);
        if !damage.is_empty() {
            return Err(format!("{damage:?}"));
        }
        if !read.is_sorted_by_key(|(position, _)| *position) {
            return Err("out of order".to_owned());
        }
        for (position, record) in &read {
            if self.given.get(position).map(Vec::as_slice) != Some(record) {
                return Err(format!("{position} is not what was appended"));
            }
        }
        let read: BTreeMap<u64, Bytes> = read.into_iter().collect();
        match self.acked.range(self.committed..).find(|(position, _)| !read.contains_key(position)) {
            Some((position, _)) => Err(format!("{position} was acknowledged and is lost")),
            None => Ok(()),
        }
    }
}

/// Lives that each end with a power cut, at an operation of the disk that chance chooses, some of them while
/// the log is being opened.
fn lives(seed: u64, lie: Option<Lie>, trim_early: bool) -> Result<(), String> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut promises = Promises::default();
    let mut disk = SimDisk::new(seed);
    let config = Config { retention_bytes: if trim_early { 0 } else { 8 << 10 }, ..config() };
    for _ in 0..4 {
        disk.lie(lie);
        let stop = if dice.u8(..4) == 0 { dice.u64(1..20) } else { dice.u64(20..400) };
        disk.stop_at(stop);
        if let Ok(live) = Live::open(&disk, &config) {
            promises.live(&live, &mut dice)?;
            if trim_early {
                live.log().shared.consumers.lock().unwrap().commit(&disk, "job", u64::MAX / 2).ok();
                live.log().shared.tidy_soon();
                eventually("a cut", || live.put(b"x").is_none());
            }
        }
        let killed = dice.bool();
        disk = if killed { disk.kill() } else { disk.cut() };
        disk.lie(lie);
        if killed {
            // What is read now was perhaps never durable; then the power goes.
            let first = Live::open(&disk, &config).map_err(|cause| cause.to_string())?;
            let (seen, _) = first.all_from(0);
            drop(first);
            disk = disk.cut();
            disk.lie(lie);
            let again = Live::open(&disk, &config).map_err(|cause| cause.to_string())?;
            let (kept, _) = again.all_from(0);
            if let Some((lost, _)) =
                seen.iter().find(|record| !kept.contains(record) && record.0 >= promises.committed)
            {
                return Err(format!("{lost} was read, and is lost"));
            }
            promises.check(&again)?;
            drop(again);
        } else {
            let live = Live::open(&disk, &config).map_err(|cause| cause.to_string())?;
            promises.check(&live)?;
            drop(live);
        }
        disk = disk.kill();
    }
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_in_power_cuts() {
    for seed in 0..150 {
        if let Err(cause) = lives(seed, None, false) {
            panic!("seed {seed}: {cause}");
        }
    }
}

/// The test above is worth something: it notices each of these.
#[test]
fn a_disk_that_lies_is_noticed() {
    for lie in [Lie::NoSync, Lie::LateSync, Lie::NoSyncAtOpen, Lie::NoFolderSync] {
        let noticed = (0..60).find_map(|seed| lives(seed, Some(lie), false).err());
        assert!(noticed.is_some(), "{lie:?} is not noticed");
    }
}

#[test]
fn trimming_too_early_is_noticed() {
    assert!((0..20).any(|seed| lives(seed, None, true).is_err()));
}

#[test]
fn the_real_folder_works_like_the_simulated_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let open = || {
        let disk = Arc::new(crate::disk::Folder::open(&path).unwrap());
        SegmentLog::open(disk, &config(), 5, Box::new(|cause| panic!("{cause}"))).unwrap()
    };
    let opened = open();
    opened.log.consumer("job").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut positions = Vec::new();
    for n in 0..30u8 {
        let appended = opened.log.append(&[n; 500], &mut |_| true).unwrap().unwrap();
        runtime.block_on(async { tokio::time::timeout(PATIENCE, appended.durable.wait()).await }).unwrap();
        positions.push(appended.position);
    }
    drop(opened);
    let opened = open();
    for (n, position) in positions.iter().enumerate() {
        assert_eq!(opened.log.get(*position).unwrap().unwrap(), vec![n as u8; 500]);
    }
}

/// Errors of a disk that is switched off are no panics.
#[test]
fn a_disk_that_is_off_opens_nothing() {
    let disk = SimDisk::new(1);
    disk.stop_at(1);
    let cause = Live::open(&disk, &config()).err().unwrap();
    assert!(matches!(&cause, OpenError::Io { cause, .. } if cause.kind() == io::ErrorKind::Other), "{cause}");
}

/// A look sees what a start would find, and leaves every file as it is.
#[test]
fn a_look_changes_nothing_and_sees_what_a_start_sees() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let look = || read_only(&crate::disk::ReadOnly::new(&path));
    assert!(matches!(look(), Err(OpenError::Io { .. })), "there is no folder");
    let open = || {
        let disk = Arc::new(crate::disk::Folder::open(&path).unwrap());
        // Everything is kept, so that no segment goes while the test damages it.
        let config = Config { retention_bytes: 64 << 10, ..config() };
        SegmentLog::open(disk, &config, 5, Box::new(|cause| panic!("{cause}"))).unwrap()
    };
    let opened = open();
    opened.log.consumer("job").unwrap();
    let put = |record: &[u8]| {
        let appended = opened.log.append(record, &mut |_| true).unwrap().unwrap();
        eventually("the disk", || appended.durable.is_done());
        appended.position
    };
    let positions: Vec<u64> = (0..30u8).map(|n| put(&[n; 500])).collect();
    opened.log.commit("job", positions[20]).unwrap();
    drop(opened);

    // A flipped bit in an old segment, and a torn tail in the last one.
    let last = path.join(file_name(positions[29] / 4096 * 4096));
    let flip = |file: &std::path::Path, at: u64| {
        let mut bytes = std::fs::read(file).unwrap();
        bytes[at as usize] ^= 1;
        std::fs::write(file, bytes).unwrap();
    };
    flip(&path.join(file_name(0)), positions[3] + 100);
    flip(&last, positions[29] % 4096 + size(500) as u64 + 300);
    let files = || -> BTreeMap<std::path::PathBuf, Vec<u8>> {
        let paths = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let before = files();
    let view = look().unwrap();
    assert_eq!((view.id(), view.cut()), (Some(5), 301));
    assert_eq!(view.consumers(), [("job".to_owned(), positions[20])]);
    let (mut records, mut damage, mut next) = (Vec::new(), Vec::new(), positions[2]);
    loop {
        let page = view.read(next, 1000).unwrap();
        if page.is_empty() {
            break;
        }
        next = page.next;
        records.extend(page.records.into_iter().map(|(position, _)| position));
        damage.extend(page.damage);
    }
    assert_eq!(records, [&positions[2..3], &positions[4..]].concat());
    assert_eq!(damage, [Damage { from: positions[3], to: positions[4] }]);
    assert_eq!(files(), before);

    flip(&last, 40);
    assert!(look().unwrap().read(positions[29], 1).unwrap().records.len() == 1, "a head is not needed");
}

#[test]
fn folders_are_made_one_below_the_other() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("a/b/c");
    crate::disk::make_folder(&deep).unwrap();
    crate::disk::make_folder(&deep).unwrap();
    assert!(deep.is_dir());
    crate::disk::make_folder(std::path::Path::new("/")).unwrap();
    crate::disk::make_folder(std::path::Path::new("src")).unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(crate::disk::make_folder(&file).is_err());
    assert!(crate::disk::make_folder(&file.join("below")).is_err());
}
