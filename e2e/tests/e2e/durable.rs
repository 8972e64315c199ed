//! What was answered with 200 is on disk: after every power cut it is in the log of the next life, once,
//! with its bytes, in the order of its caller. Its position is given to nothing else, a repeated request is
//! answered like the first, and whoever comes back gets what it has not got.
//!
//! - `world`: a data folder through several lives.
//! - `callers`: who pushes and listens meanwhile.
//! - `promises`: what must be true then; the one checker of all tests here.
//! - `failures`: disks that fail, fill up and rot; a process that is killed alone.
//! - `look`: `anser log`, by which a log is looked at.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use anser_e2e::{Coverage, Cut, Lie, Power, Report, When, tell};
use world::{End, World};

mod callers;
mod disk;
mod failures;
mod look;
mod promises;
mod world;

/// Keys that read what they get.
const KEYS: &[&str] = &["one", "two", "three"];

/// A key that reads nothing until the server is gone, and is away in every second life.
const DEAF: &str = "deaf";

/// A room of which the first key is a member.
const ROOM: &str = "live://1";

/// How many cuts there are at least, unless `ANSER_CUTS` says so.
const CUTS: u64 = 100;

/// Worlds at once.
const WORLDS: usize = 2;

/// What whole lives do, to aim at: one on a fresh folder, and one after a cut.
fn whole_lives() -> Option<&'static [Report; 2]> {
    static LIVES: OnceLock<Option<[Report; 2]>> = OnceLock::new();
    let lives = || {
        let mut world = World::new(Power::new(1)?, 1);
        let first = world.live(&[], End::Kill).expect("nothing goes wrong");
        let second = world.live(&[], End::Cut).expect("nothing goes wrong");
        Some([first, second])
    };
    LIVES.get_or_init(lives).as_ref()
}

/// Numbers of cuts: those of first lives, and the others.
type Numbers = [AtomicU64; 2];

/// The cut with this number: each place has its turn, and each moment there.
fn aim(power: &mut Power, number: u64, whole: &Report) -> Cut {
    let places: Vec<&str> = whole.operations().keys().copied().filter(|place| !place.is_empty()).collect();
    let count = places.len() as u64;
    let when = When::CUTS[((number + number / count) % 3) as usize];
    let cut = power.aim(whole, places[(number % count) as usize]).when(when);
    // Every second one early: while it starts, or in the first roll-over.
    let early = 1 + (number / count) % whole.operations()[cut.place()].min(3);
    if (number + number / count).is_multiple_of(2) { Cut::at(cut.place(), early).when(when) } else { cut }
}

/// Three lives that are cut, and one in which all come back.
fn lives(seed: u64, power: Power, numbers: &Numbers, coverage: &Mutex<Coverage>) -> Result<(), String> {
    let Some(whole) = whole_lives() else { return Ok(()) };
    let mut world = World::new(power, seed);
    for life in 0..3 {
        let kind = usize::from(life > 0);
        let number = numbers[kind].fetch_add(1, Ordering::Relaxed);
        // Segments go only where what is done is not kept, and nobody keeps it from being done.
        let cut = if life == 1 && world.drops_segments() {
            Cut::at("segment.trim", 1 + number % 2).when(When::CUTS[number as usize / 2 % 3])
        } else {
            aim(&mut world.power, number, &whole[kind])
        };
        let end = if (seed + life) % 4 == 3 { End::Kill } else { End::Cut };
        let report = world.live(&[cut], end)?;
        coverage.lock().unwrap_or_else(PoisonError::into_inner).add(&report);
    }
    world.come_back()
}

/// Some have to make their data folder first.
fn world_power(seed: u64) -> Option<Power> {
    let power = Power::new(seed)?;
    Some(if seed.is_multiple_of(2) { power.below("new/data") } else { power })
}

/// The heart of it. `ANSER_CUTS=1000` cuts more often; the table of places is printed.
#[test]
fn what_was_answered_is_there_after_every_cut() {
    let cuts = env::var("ANSER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(CUTS);
    if whole_lives().is_none() {
        return;
    }
    let (seeds, numbers, coverage) = (AtomicU64::new(0), Numbers::default(), Mutex::default());
    let count = || Coverage::cuts(&coverage.lock().unwrap_or_else(PoisonError::into_inner));
    thread::scope(|scope| {
        for _ in 0..WORLDS {
            scope.spawn(|| {
                while count() < cuts {
                    let seed = seeds.fetch_add(1, Ordering::Relaxed);
                    let power = world_power(seed).expect("there was one before");
                    if let Err(broken) = lives(seed, power, &numbers, &coverage) {
                        panic!("seed {seed}: {broken}");
                    }
                }
            });
        }
    });
    let coverage = coverage.into_inner().unwrap_or_else(PoisonError::into_inner);
    tell(&format!("{} cuts in {} worlds\n{coverage}", coverage.cuts(), seeds.into_inner()));
}

/// Seeds in which a lie or a mistake must show itself. Most do in the first.
const SEEDS: u64 = 12;

/// The first seed in which something is noticed, and what.
fn noticed(lost: impl Fn(u64, Power) -> Result<(), String>) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| Some((seed, lost(seed, Power::new(seed)?).err()?)))
}

/// The checks above are worth something: they notice each of these disks.
#[test]
fn a_disk_that_lies_is_noticed() {
    if whole_lives().is_none() {
        return;
    }
    for lie in [Lie::NoSync, Lie::LateSync, Lie::NoFolderSync] {
        // The last push of a group is the one that a late sync loses.
        let cut = |seed| Cut::at("segment.sync", 20 + 3 * seed).before();
        let lost = noticed(|seed, power| {
            let mut world = World::new(power.lie(lie), 3 * seed).keep_secrets();
            world.live(&[cut(seed)], End::Cut)?;
            world.live(&[cut(seed)], End::Cut)?;
            world.come_back()
        });
        let Some((seed, lost)) = lost else { panic!("nothing is lost on a disk with {lie:?}") };
        tell(&format!("{lie:?} is noticed with seed {seed}: {lost}"));
    }
}

/// A process is killed before it has synced what it has written; the next one finds that, delivers it and
/// answers with it. Then the power goes.
#[test]
fn a_start_that_syncs_nothing_is_noticed() {
    let start = |lie: Option<Lie>| {
        noticed(move |seed, power| {
            let power = if let Some(lie) = lie { power.lie(lie) } else { power };
            let mut world = World::new(power, 3 * seed).keep_secrets();
            world.live(&[Cut::at("segment.sync", 5 + seed).before()], End::Kill)?;
            world.live(&[Cut::at("segment.sync", 4).before()], End::Cut)?;
            Ok(())
        })
    };
    if whole_lives().is_some() {
        assert_eq!(start(None), None, "correct code loses something");
        let lost = start(Some(Lie::NoStartSync));
        tell(&format!("a start without syncs is noticed: {:?}", lost.expect("nothing is lost")));
    }
}

/// A server that trims too early: its position is moved to the end although a key has not got its pushes,
/// and it keeps nothing that is done.
#[test]
fn trimming_too_early_is_noticed() {
    let lost = noticed(|seed, power| {
        let mut world = World::new(power, 6 * seed + 4);
        world.live(&[], End::Cut)?;
        let end = world.records.last().map_or(0, |record| record.position + 1);
        disk::move_consumer(&world.power.home(), end);
        world.power.changed();
        world.live(&[], End::Cut)?;
        world.come_back()
    });
    if whole_lives().is_some() {
        tell(&format!("trimming too early is noticed: {:?}", lost.expect("nothing is lost")));
    }
}
