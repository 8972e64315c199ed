//! The power-cut tool itself, tried on `src/bin/scribe.rs`: correct code loses nothing that it promised,
//! and every mistake and every lie of a disk is found.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anser_e2e::{Cluster, Coverage, Cut, Lie, Life, Power, Promise, Report, When};

/// Records that a life appends.
const RECORDS: &str = "40";

/// Seeds in which a mistake must show itself. Most do in the first few.
const SEEDS: u64 = 60;

/// What the scribe has promised so far.
#[derive(Debug, Default)]
struct Promised {
    acked: u64,
    position: u64,
}

impl Promised {
    /// Listens to what a life has said. What it found must be at least what was promised before.
    fn hear(&mut self, said: &str) -> Result<(), String> {
        for line in said.lines() {
            let mut words = line.split(' ');
            let word = words.next().unwrap_or_default();
            let numbers: Vec<u64> = words.map(|word| word.parse().expect("numbers follow")).collect();
            match (word, &*numbers) {
                ("acked", [number]) => self.acked = self.acked.max(*number),
                ("position", [number]) => self.position = self.position.max(*number),
                ("state", [first, last, position]) => {
                    if *last < self.acked || *position < self.position || *first > position + 1 {
                        return Err(format!("{self:?}, and then: {line}"));
                    }
                    *self = Self { acked: *last, position: *position };
                }
                _ => panic!("the scribe says {line}"),
            }
        }
        Ok(())
    }
}

/// A series of lives with cuts.
struct Series {
    power: Power,
    mistake: &'static str,
    promised: Promised,
}

impl Series {
    fn new(power: Power, mistake: &'static str) -> Self {
        Self { power, mistake, promised: Promised::default() }
    }

    fn start(&mut self, count: &str, cuts: &[Cut]) -> Life {
        self.power.run(Path::new(env!("CARGO_BIN_EXE_scribe")), &[count, self.mistake], cuts)
    }

    /// A life to its end. It may be killed and may meet a failing disk; otherwise it must end well.
    fn live(&mut self, count: &str, cuts: &[Cut]) -> Result<Life, String> {
        let mut life = self.start(count, cuts);
        let ended = life.process().wait();
        self.promised.hear(&ended.stdout)?;
        let well = ended.code == Some(0) || (!cuts.is_empty() && ended.code.is_none());
        let fails = cuts.iter().any(|cut| cut.moment() == When::Fail);
        if well || fails { Ok(life) } else { Err(ended.stderr) }
    }

    /// A life, then the power goes.
    fn cut(&mut self, count: &str, cuts: &[Cut]) -> Result<Report, String> {
        let life = self.live(count, cuts)?;
        Ok(self.power.cut(life))
    }

    /// A life, then only the process goes.
    fn survive(&mut self, count: &str, cuts: &[Cut]) -> Result<Report, String> {
        let life = self.live(count, cuts)?;
        Ok(self.power.survive(life))
    }

    /// A last life looks at what is there.
    fn verify(&mut self) -> Result<(), String> {
        let life = self.live("0", &[])?;
        self.power.survive(life);
        Ok(())
    }
}

/// What a whole life does, to aim at.
fn whole_life() -> Option<Report> {
    let mut series = Series::new(Power::new(0)?, "");
    Some(series.cut(RECORDS, &[]).expect("nothing goes wrong"))
}

/// What only a life does that comes after a cut.
const RECOVERY: [&str; 4] = ["segment.cut", "segment.discard", "segment.sync", "folder.sync"];

/// Cuts anywhere in a life, then in the next: with even seeds, while it recovers.
fn twice(seed: u64, series: &mut Series, whole: &Report, coverage: &mut Coverage) -> Result<(), String> {
    let first = series.power.aim(whole, "");
    coverage.add(&series.cut(RECORDS, &[first])?);
    let second = series.power.aim(whole, "");
    let early = Cut::at(RECOVERY[seed as usize / 2 % RECOVERY.len()], 1).when(second.moment());
    let second = if seed.is_multiple_of(2) { early } else { second };
    coverage.add(&series.cut(RECORDS, &[second])?);
    series.verify()
}

/// How many seeds it takes until something is lost; none if it is never.
fn first_loss(mut lost: impl FnMut(u64) -> Option<bool>) -> Option<u64> {
    (0..SEEDS).find(|seed| lost(*seed) == Some(true))
}

#[test]
fn correct_code_loses_nothing() {
    let Some(whole) = whole_life() else { return };
    let mut coverage = Coverage::default();
    for seed in 0..30 {
        let Some(power) = Power::new(seed) else { return };
        let power = if seed % 5 == 0 { power.promise(Promise::Ext4) } else { power };
        let mut series = Series::new(power, "");
        if let Err(lost) = twice(seed, &mut series, &whole, &mut coverage) {
            panic!("seed {seed}: {lost}\n{coverage}");
        }
    }
    assert!(coverage.never_cut("").len() < 3, "\n{coverage}");
}

#[track_caller]
fn check_mistake(mistake: &'static str) {
    let Some(whole) = whole_life() else { return };
    let mut coverage = Coverage::default();
    let found = first_loss(|seed| {
        let mut series = Series::new(Power::new(seed)?, mistake);
        Some(twice(seed, &mut series, &whole, &mut coverage).is_err())
    });
    assert!(found.is_some(), "nothing is lost by {mistake}\n{coverage}");
}

#[test]
fn an_early_ack_is_found() {
    check_mistake("ack-early");
}

#[test]
fn no_sync_is_found() {
    check_mistake("never-sync");
}

#[test]
fn a_rename_without_sync_is_found() {
    check_mistake("rename-unsynced");
}

#[test]
fn no_sync_of_the_folder_is_found() {
    check_mistake("no-folder-sync");
}

#[test]
fn an_early_trim_is_found() {
    check_mistake("trim-early");
}

#[test]
fn an_ack_of_what_was_written_during_the_sync_is_found() {
    check_mistake("ack-late-writes");
}

#[track_caller]
fn check_lie(lie: Lie) {
    let Some(whole) = whole_life() else { return };
    let mut coverage = Coverage::default();
    let found = first_loss(|seed| {
        let mut series = Series::new(Power::new(seed)?.lie(lie), "");
        Some(twice(seed, &mut series, &whole, &mut coverage).is_err())
    });
    assert!(found.is_some(), "nothing is lost on a disk with {lie:?}\n{coverage}");
}

#[test]
fn a_disk_that_does_not_sync_is_found() {
    check_lie(Lie::NoSync);
}

#[test]
fn a_disk_that_syncs_late_is_found() {
    check_lie(Lie::LateSync);
}

#[test]
fn a_disk_that_does_not_sync_folders_is_found() {
    check_lie(Lie::NoFolderSync);
}

/// A process is killed, and the next takes what is in memory for what is on disk. Then the power goes.
fn start_after_kill(mut series: Series) -> Result<(), String> {
    series.survive(RECORDS, &[Cut::at("segment.write", 13)])?;
    series.cut("0", &[])?;
    series.verify()
}

#[test]
fn a_start_that_syncs_nothing_is_found() {
    let lost = |mistake, lie: Option<Lie>| {
        first_loss(|seed| {
            let power = Power::new(seed)?;
            let power = if let Some(lie) = lie { power.lie(lie) } else { power };
            Some(start_after_kill(Series::new(power, mistake)).is_err())
        })
    };
    if whole_life().is_some() {
        assert_eq!(lost("", None), None, "correct code loses something");
        assert_ne!(lost("lazy-start", None), None);
        assert_ne!(lost("", Some(Lie::NoStartSync)), None);
    }
}

#[test]
fn a_sync_that_fails_is_not_mended_by_another() {
    let lost = |mistake| {
        first_loss(|seed| {
            let mut series = Series::new(Power::new(seed)?, mistake);
            // Before what was lost is written once more.
            let cuts = [Cut::at("segment.sync", 5).fail(), Cut::at("segment.sync", 7).before()];
            let failed = series.cut(RECORDS, &cuts);
            Some(failed.and_then(|_| series.verify()).is_err())
        })
    };
    if whole_life().is_some() {
        assert_eq!(lost(""), None, "correct code loses something");
        assert_ne!(lost("retry-sync"), None);
    }
}

#[test]
fn a_full_disk_takes_nothing() {
    let Some(power) = Power::new(1) else { return };
    let mut series = Series::new(power, "");
    series.cut(RECORDS, &[]).expect("nothing goes wrong");
    series.power.fill();
    let mut life = series.start(RECORDS, &[]);
    let ended = life.process().wait();
    assert_eq!(ended.code, Some(1), "it writes on a full disk: {}", ended.stdout);
    assert!(ended.stderr.contains("StorageFull"), "{}", ended.stderr);
    series.promised.hear(&ended.stdout).expect("it has lost nothing");
    series.power.cut(life);
    series.power.free();
    series.cut(RECORDS, &[]).expect("it goes on");
    assert_eq!(series.promised.acked, 80);
}

/// The third record, and what of it is in the file when the process is killed. A record has 100 bytes,
/// and there is a head.
#[test]
fn a_process_is_killed_at_the_moment_that_was_chosen() {
    for (when, length) in [(When::Before, 300), (When::Middle, 350), (When::After, 400)] {
        let Some(mut power) = Power::new(1) else { return };
        let scribe = Path::new(env!("CARGO_BIN_EXE_scribe"));
        let cut = Cut::at("segment.write", 3).when(when);
        let mut life = power.run(scribe, &[RECORDS], std::slice::from_ref(&cut));
        life.wait_killed();
        let report = power.survive(life);
        assert_eq!(report.struck(), [cut]);
        let found = fs::metadata(power.data().join("00000001.log")).map(|file| file.len());
        assert_eq!(found.expect("it is there"), length, "{report}");
    }
}

/// The reader of the log can kill at any moment, too, and misses nothing that was done.
#[test]
fn a_kill_comes_between_two_operations() {
    for seed in 0..10 {
        let Some(power) = Power::new(seed) else { return };
        let mut series = Series::new(power, "");
        let mut life = series.start("1000000", &[]);
        life.process().on_stdout("acks", |said| said.lines().nth(20 + 3 * seed as usize).map(|_| ()));
        life.kill();
        let said = life.process().stdout();
        let whole = &said[..=said.rfind('\n').expect("it has said lines")];
        series.promised.hear(whole).expect("it has lost nothing");
        let report = series.power.cut(life);
        if let Err(lost) = series.verify() {
            panic!("{lost}: {report}");
        }
    }
}

#[test]
fn writes_past_the_shim_are_found() {
    let Some(power) = Power::new(1) else { return };
    let mut series = Series::new(power, "raw-write");
    let seen = catch_unwind(AssertUnwindSafe(|| series.cut(RECORDS, &[])));
    let why = seen.expect_err("nothing was noticed");
    let why = why.downcast::<String>().expect("it says why");
    assert!(why.contains("written unseen"), "{why}");
}

#[test]
fn a_server_lives_and_dies_under_it() {
    let Some(mut power) = Power::new(1) else { return };
    let mut life = power.start(Cluster::builder(), &[Cut::at("other.create", 1).before()]);
    assert!(life.cluster().is_none());
    life.wait_killed();
    power.cut(life);
    assert_eq!(fs::read_dir(power.data()).expect("it is there").count(), 0);

    let life = power.start(Cluster::builder(), &[]);
    assert!(life.cluster().is_some(), "it does not start in an empty folder");
    let report = power.cut(life);
    assert!(report.operations()["other.create"] > 0, "{report}");
    assert!(report.struck().is_empty(), "{report}");

    let mut life = power.start(Cluster::builder(), &[]);
    let answer = life.cluster().expect("it starts again").api().try_request("GET", "/healthz", &[], b"");
    assert_eq!(answer.map(|answer| answer.status()), Some(200));
    let mut api = life.cluster().expect("it is up").api();
    life.kill();
    assert_eq!(api.try_request("GET", "/healthz", &[], b""), None);
    power.survive(life);
}
