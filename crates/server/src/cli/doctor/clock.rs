//! The wall clock: expiry, idempotency and retention go by it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::finding::Finding;
use super::units::time;
use crate::exit::Exit;

const CHECK: &str = "clock";

/// How far a file may lie ahead: clocks of machines that share a disk differ by so much.
const AHEAD: Duration = Duration::from_secs(2);

/// A clock that is slewed drifts by a thousandth at most, and that over a second or two.
const STEP: Duration = Duration::from_millis(20);

/// Files of the data folder that are looked at.
const FILES: usize = 10_000;

/// systemd-timesyncd makes it when it has reached a server.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// Two clocks, read together, when this began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    monotonic: Instant,
    wall: SystemTime,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    now: SystemTime,
    /// When this program was written to disk: it cannot be earlier now.
    built: Option<SystemTime>,
    newest: Option<(PathBuf, SystemTime)>,
    /// How much longer than the monotonic clock the wall clock went, in nanoseconds.
    stepped: i128,
    /// systemd-timesyncd says so. Others, such as chrony, leave no word that can be read here.
    synchronized: bool,
}

impl Start {
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }
}

impl Clock {
    pub(super) fn look(start: Start, data: &Path) -> Self {
        let (now, monotonic) = (SystemTime::now(), start.monotonic.elapsed());
        let wall = match now.duration_since(start.wall) {
            Ok(forward) => forward.as_nanos() as i128,
            Err(backward) => -(backward.duration().as_nanos() as i128),
        };
        let built = || fs::metadata(env::current_exe().ok()?).ok()?.modified().ok();
        Self {
            now,
            built: built(),
            newest: newest(data),
            stepped: wall - monotonic.as_nanos() as i128,
            synchronized: Path::new(SYNCHRONIZED).exists(),
        }
    }

    pub(super) fn judge(&self) -> Finding {
        const SET: &str = "set the clock (`timedatectl`, `chronyc makestep`) before the server is started";
        let behind = |of: SystemTime| of.duration_since(self.now).unwrap_or_default();
        let built = self.built.map(behind).unwrap_or_default();
        if built > AHEAD {
            let found = format!("it is {} earlier than this program was installed", time(built));
            return Finding::problem(CHECK, Exit::System, found, SET);
        }
        if let Some((file, at)) = &self.newest
            && behind(*at) > AHEAD
        {
            let found =
                format!("it is {} behind {}, which was written by it", time(behind(*at)), file.display());
            return Finding::warning(CHECK, found, SET);
        }
        let step = Duration::from_nanos(self.stepped.unsigned_abs().min(u64::MAX as u128) as u64);
        if step > STEP {
            let found = format!("it was set by {} while this command ran", time(step));
            let remedy = "let one service alone set it, by slewing; a virtual machine may have been paused";
            return Finding::warning(CHECK, found, remedy);
        }
        if self.synchronized {
            return Finding::ok(CHECK, "it goes on evenly, and systemd-timesyncd has synchronized it");
        }
        Finding::note(
            CHECK,
            "it goes on evenly; whether it is synchronized cannot be read here",
            "`timedatectl` or `chronyc tracking` says; expiry and retention of pushes go by it",
        )
    }
}

/// The newest file of the folder and of those in it.
fn newest(data: &Path) -> Option<(PathBuf, SystemTime)> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let all = entries(data).flat_map(|entry| {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let below = is_folder.then(|| fs::read_dir(&path)).and_then(Result::ok);
        [path].into_iter().chain(below.into_iter().flatten().flatten().map(|entry| entry.path()))
    });
    let times = all.take(FILES).filter_map(|path| {
        let file = fs::symlink_metadata(&path).ok()?;
        Some((path, file.modified().ok()?))
    });
    times.max_by_key(|(_, time)| *time)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn judgement() {
        let now = SystemTime::now();
        let good = Clock { now, built: Some(now), newest: None, stepped: 0, synchronized: true };
        let later = |seconds| Some(now + Duration::from_secs(seconds));
        for (clock, level, said) in [
            (good.clone(), Level::Ok, "systemd-timesyncd has synchronized it"),
            (Clock { synchronized: false, ..good.clone() }, Level::Note, "cannot be read here"),
            (
                Clock { built: later(3600), ..good.clone() },
                Level::Problem,
                "60 min earlier than this program",
            ),
            (Clock { built: later(1), ..good.clone() }, Level::Ok, "evenly"),
            (Clock { built: None, ..good.clone() }, Level::Ok, "evenly"),
            (
                Clock { newest: later(60).map(|at| ("log/1".into(), at)), ..good.clone() },
                Level::Warning,
                "60.0 s behind log/1",
            ),
            (Clock { stepped: 30_000_000, ..good.clone() }, Level::Warning, "it was set by 30.0 ms"),
            (Clock { stepped: -30_000_000, ..good.clone() }, Level::Warning, "it was set by 30.0 ms"),
            (Clock { stepped: -1_000_000, ..good }, Level::Ok, "evenly"),
        ] {
            let finding = clock.judge();
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(said), "{finding:?}");
        }
    }

    #[test]
    fn the_newest_file_may_be_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest(folder.path()), None);
        fs::create_dir(folder.path().join("log")).unwrap();
        fs::write(folder.path().join("old"), "").unwrap();
        let new = folder.path().join("log/new");
        let ahead = SystemTime::now() + Duration::from_secs(3600);
        fs::File::create(&new).unwrap().set_modified(ahead).unwrap();
        assert_eq!(newest(folder.path()).unwrap().0, new);
        let clock = Clock::look(Start::now(), folder.path());
        assert_eq!(clock.judge().level, Level::Warning, "{clock:?}");
        assert!(clock.stepped.unsigned_abs() < 1_000_000_000, "{clock:?}");
    }
}
