//! How long the disk takes to make something durable, measured as the log writes: appends to a file that
//! has been written out before, each with a system call that waits for the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::finding::Finding;
use super::units::time;
use crate::exit::Exit;
use crate::failure::plain;

const CHECK: &str = "disk";

/// The name is always the same, so that one which a killed doctor left behind goes with the next.
const FILE: &str = ".anser-doctor";

/// Appends that are measured, at most.
const APPENDS: usize = 200;

/// How long that may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Bytes of an append: a push of some hundred bytes with its head.
const BYTES: usize = 256;

/// No disk gets a write through its bus and onto something that lasts in less than this.
const TOO_FAST: Duration = Duration::from_micros(20);

/// With more than this, whoever pushes waits longer for the disk than for the network.
const SLOW: Duration = Duration::from_millis(20);

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    appends: usize,
    p50: Duration,
    p99: Duration,
    /// What the kernel says of the device's cache; none if there is no device to ask.
    cache: Option<Cache>,
}

/// `/sys/block/DEVICE/queue/write_cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cache {
    file: PathBuf,
    says: String,
}

/// Removes the file, whatever happens.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Disk {
    /// Measures in this folder.
    pub(super) fn measure(folder: &Path) -> io::Result<Self> {
        let scratch = Scratch::create(folder)?;
        let mut file = &scratch.file;
        file.write_all(&vec![0; APPENDS * BYTES])?;
        file.sync_all()?;
        let mut times = Vec::with_capacity(APPENDS);
        let began = Instant::now();
        while times.len() < APPENDS && began.elapsed() < LIMIT {
            let append = Instant::now();
            file.write_all_at(&[times.len() as u8 | 1; BYTES], (times.len() * BYTES) as u64)?;
            file.sync_data()?;
            times.push(append.elapsed());
        }
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        let cache = Cache::of(file.metadata()?.dev());
        Ok(Self { appends: times.len(), p50: at(50), p99: at(99), cache })
    }

    pub(super) fn judge(measured: &io::Result<Self>, folder: &Path) -> Finding {
        match measured {
            Ok(disk) => disk.judge_times(),
            Err(error) => Finding::problem(
                CHECK,
                Exit::System,
                format!("nothing can be written in {} ({})", folder.display(), plain(error)),
                "make space, or give the folder to the user that the server runs as; dmesg tells of a failing disk",
            ),
        }
    }

    fn judge_times(&self) -> Finding {
        let Self { appends, p50, p99, cache } = self;
        let one_by_one = 1.0 / p50.as_secs_f64().max(1e-9);
        let found = format!(
            "an append is durable after {} (p50), {} (p99) of {appends}: about {} stored pushes a second for a \
             caller that waits for each, more for many at once",
            time(*p50),
            time(*p99),
            rounded(one_by_one as u64),
        );
        let says = match cache {
            Some(Cache { file, says }) => format!("{} says `{says}`", file.display()),
            None => "the device below, and with it its cache, cannot be seen from here".to_owned(),
        };
        if *p50 < TOO_FAST {
            Finding::warning(
                CHECK,
                format!("{found}; that is faster than a disk can be"),
                format!(
                    "expect that a power failure loses what was accepted, unless the cache has a battery: {says}; \
                     ask who runs the hypervisor or the storage whether a flush is passed on"
                ),
            )
        } else if *p50 > SLOW {
            Finding::warning(
                CHECK,
                format!("{found}; that is slow"),
                "put the data folder on an SSD, or on a disk that nothing else writes to",
            )
        } else {
            Finding::ok(CHECK, format!("{found}; {says}"))
        }
    }
}

impl Scratch {
    fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // There is nobody to tell, and the next doctor tries again.
        let _ = fs::remove_file(&self.path);
    }
}

impl Cache {
    /// Of a device by its number. A partition has no queue; its disk has.
    fn of(device: u64) -> Option<Self> {
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let link = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        let disk =
            [Some(&*link), link.parent()].into_iter().flatten().find(|disk| disk.join("queue").is_dir())?;
        let says = fs::read_to_string(disk.join("queue/write_cache")).ok()?;
        let file = Path::new("/sys/block").join(disk.file_name()?).join("queue/write_cache");
        Some(Self { file, says: says.trim().to_owned() })
    }
}

/// Two digits are as good as it gets.
fn rounded(number: u64) -> u64 {
    let scale = 10_u64.pow(number.max(1).ilog10().saturating_sub(1));
    number / scale * scale
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_measurement_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "left behind").unwrap();
        let disk = Disk::measure(folder.path()).unwrap();
        assert!((1..=APPENDS).contains(&disk.appends) && disk.p50 <= disk.p99, "{disk:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Disk::measure(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn a_file_goes_on_an_error_too() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(folder.path()).unwrap();
        assert!(scratch.path.exists());
        drop(scratch);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn judgement() {
        let cache =
            || Some(Cache { file: "/sys/block/sda/queue/write_cache".into(), says: "write back".into() });
        for (p50, cache, level, said) in [
            (131, cache(), Level::Ok, "after 131 µs (p50), 4.0 ms (p99) of 200: about"),
            (131, cache(), Level::Ok, "about 7600 stored"),
            (131, cache(), Level::Ok, "/sys/block/sda/queue/write_cache says `write back`"),
            (7, None, Level::Warning, "faster than a disk can be"),
            (20, None, Level::Ok, "cannot be seen from here"),
            (20_000, None, Level::Ok, "about 50 stored"),
            (20_001, None, Level::Warning, "that is slow"),
        ] {
            let disk =
                Disk { appends: 200, p50: Duration::from_micros(p50), p99: Duration::from_millis(4), cache };
            let finding = Disk::judge(&Ok(disk), Path::new("/data"));
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(said), "{finding:?}");
        }
        let full = Disk::judge(&Err(io::ErrorKind::StorageFull.into()), Path::new("/data"));
        assert_eq!(full.level, Level::Problem);
        assert!(full.found.starts_with("nothing can be written in /data ("), "{full:?}");
    }
}
