//! Keeps a log of numbered records, so that the power-cut tests have somebody to test: correct, or with
//! one of the mistakes that people make.
//!
//! `scribe FOLDER COUNT [MISTAKE]` reads what is there, says `state FIRST LAST POSITION`, and appends so
//! many records. It says `acked N` when record N is durable, and `position P` when it is durable that all
//! up to P are of no use any more. Each of these words is a promise over any power cut.
//!
//! One thread writes, another syncs and acknowledges what was written before. A segment `FIRST.log`
//! begins as a `.tmp` with a head; when it is full, the position moves to its end, and older segments go.
#![expect(clippy::print_stdout, reason = "what it says is what the tests look at")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{env, io, thread};

/// Bytes of a record, and of the head of a segment. No divisor of a sector, so that records are torn.
const RECORD: usize = 100;

/// Records in a segment.
const SEGMENT: u64 = 8;

/// Records that may be written and not yet durable.
const WINDOW: u64 = 4;

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next =
        |what: &str| arguments.next().ok_or_else(|| io::Error::other(format!("{what} is missing")));
    let folder = PathBuf::from(next("the folder")?);
    let count: u64 = next("the number of records")?.parse().map_err(io::Error::other)?;
    let disk = Disk { folder, mistake: next("a mistake").unwrap_or_default() };
    let (first, last, position) = disk.recover()?;
    println!("state {first} {last} {position}");
    let shared = Arc::new(Shared {
        progress: Mutex::new(Progress { written: last, acked: last, file: None, failed: false }),
        changed: Condvar::new(),
    });
    let writer = Writer { disk: disk.clone(), shared: shared.clone() };
    if count == 0 {
        return Ok(());
    }
    let syncer = thread::spawn(move || sync_all(&disk, &shared, last + count));
    let written = writer.append(last, count);
    let synced = syncer.join().map_err(|_| io::Error::other("the syncer has panicked"))?;
    written.and(synced)
}

/// The folder, and the mistake to make in it.
#[derive(Clone)]
struct Disk {
    folder: PathBuf,
    mistake: String,
}

impl Disk {
    fn errs(&self, mistake: &str) -> bool {
        self.mistake == mistake
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.errs("never-sync") {
            return Ok(());
        }
        file.sync_data()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if self.errs("never-sync") || self.errs("no-folder-sync") {
            return Ok(());
        }
        File::open(folder)?.sync_all()
    }

    /// Makes a file appear whole or not at all.
    fn publish(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let draft = path.with_extension("tmp");
        let file = File::create(&draft)?;
        file.write_all_at(content, 0)?;
        if !self.errs("rename-unsynced") {
            self.sync(&file)?;
        }
        fs::rename(&draft, path)?;
        self.sync_folder(path.parent().expect("files lie in folders"))
    }

    fn segment(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:08}.log"))
    }

    /// The first records of the segments. Drafts are removed.
    fn segments(&self) -> io::Result<Vec<u64>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("tmp") => fs::remove_file(path)?,
                Some("log") => {
                    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    segments.push(name.parse().map_err(io::Error::other)?);
                }
                _ => {}
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    /// Removes the segments that have nothing behind a position.
    fn trim(&self, position: u64) -> io::Result<()> {
        let segments = self.segments()?;
        for pair in segments.windows(2).filter(|pair| pair[1] <= position + 1) {
            fs::remove_file(self.segment(pair[0]))?;
        }
        Ok(())
    }

    /// The first and the last record that there are, and the position.
    fn recover(&self) -> io::Result<(u64, u64, u64)> {
        let consumers = self.folder.join("consumers");
        if !consumers.exists() {
            fs::create_dir(&consumers)?;
        }
        // It may be there and not be durable.
        self.sync_folder(&self.folder)?;
        let position = match fs::read_to_string(consumers.join("position")) {
            Ok(text) => text.trim().parse().map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        self.sync_folder(&consumers)?;

        // Any of those that were removed may be back, with gaps between them.
        self.trim(position)?;
        let segments = self.segments()?;
        let Some(newest) = segments.last() else { return Ok((1, 0, position)) };
        let (first, mut last) = (segments[0], segments[0] - 1);
        for segment in &segments {
            if *segment != last + 1 {
                return Err(io::Error::other(format!("records {} to {segment} are missing", last + 1)));
            }
            let file = File::options().read(true).write(true).open(self.segment(*segment))?;
            let whole = whole_records(&file, *segment)?;
            last += whole;
            if segment == newest {
                file.set_len((1 + whole) * RECORD as u64)?;
                if !self.errs("lazy-start") {
                    self.sync(&file)?;
                }
            }
        }
        Ok((first, last, position))
    }
}

/// The bytes of a record, or of a head, which is record 0.
fn record(number: u64) -> [u8; RECORD] {
    let text = format!("{number:<10}{:.<88}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    std::array::from_fn(|at| text.as_bytes().get(at).copied().unwrap_or(b'\n'))
}

/// How many records of a segment are there before the first that is not.
fn whole_records(file: &File, first: u64) -> io::Result<u64> {
    let mut bytes = [0; RECORD];
    let mut there = |place: u64, number: u64| match file.read_exact_at(&mut bytes, place * RECORD as u64) {
        Ok(()) => Ok(bytes == record(number)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    if !there(0, 0)? {
        return Err(io::Error::other(format!("segment {first} has no head")));
    }
    let mut whole = 0;
    while there(1 + whole, first + whole)? {
        whole += 1;
    }
    Ok(whole)
}

struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

struct Progress {
    written: u64,
    acked: u64,
    /// What is being written to.
    file: Option<Arc<File>>,
    /// One of the threads has given up.
    failed: bool,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until something is so, or the other thread has given up.
    fn wait(&self, so: impl Fn(&Progress) -> bool) -> io::Result<MutexGuard<'_, Progress>> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |progress: &mut Progress| !so(progress) && !progress.failed;
        let progress = self.changed.wait_while(progress, waits).unwrap_or_else(PoisonError::into_inner);
        if progress.failed { Err(io::Error::other("the other thread has failed")) } else { Ok(progress) }
    }
}

struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
}

impl Writer {
    fn append(&self, last: u64, count: u64) -> io::Result<()> {
        let done = self.try_append(last, count);
        self.shared.change(|progress| progress.failed |= done.is_err());
        done
    }

    fn try_append(&self, last: u64, count: u64) -> io::Result<()> {
        let mut segment = self.disk.segments()?.last().copied();
        for number in last + 1..=last + count {
            let first = match segment {
                Some(first) if number < first + SEGMENT => first,
                _ => self.roll(number)?,
            };
            if segment != Some(first) || number == last + 1 {
                let file = File::options().write(true).open(self.disk.segment(first))?;
                self.shared.change(|progress| progress.file = Some(Arc::new(file)));
            }
            segment = Some(first);
            self.write(number, (1 + number - first) * RECORD as u64)?;
        }
        Ok(())
    }

    fn write(&self, number: u64, offset: u64) -> io::Result<()> {
        let progress = self.shared.wait(|progress| progress.written < progress.acked + WINDOW)?;
        let file = progress.file.clone().expect("there is a segment");
        drop(progress);
        if self.disk.errs("raw-write") {
            rustix::io::pwrite(&*file, &record(number), offset)?;
        } else {
            file.write_all_at(&record(number), offset)?;
        }
        if self.disk.errs("ack-early") {
            println!("acked {number}");
        }
        self.shared.change(|progress| progress.written = number);
        Ok(())
    }

    /// Begins a segment, when all before it is durable.
    fn roll(&self, first: u64) -> io::Result<u64> {
        drop(self.shared.wait(|progress| progress.acked == progress.written)?);
        // The position first: segments must not go before it is known that they may.
        let early = self.disk.errs("trim-early");
        if !early {
            self.advance(first - 1)?;
        }
        self.disk.publish(&self.disk.segment(first), &record(0))?;
        self.disk.trim(first - 1)?;
        if early {
            self.advance(first - 1)?;
        }
        Ok(first)
    }

    fn advance(&self, position: u64) -> io::Result<()> {
        if position > 0 {
            self.disk
                .publish(&self.disk.folder.join("consumers/position"), position.to_string().as_bytes())?;
            println!("position {position}");
        }
        Ok(())
    }
}

/// Makes durable what is written, up to a last record.
fn sync_all(disk: &Disk, shared: &Shared, last: u64) -> io::Result<()> {
    let done = try_sync_all(disk, shared, last);
    shared.change(|progress| progress.failed |= done.is_err());
    done
}

fn try_sync_all(disk: &Disk, shared: &Shared, last: u64) -> io::Result<()> {
    loop {
        let progress = shared.wait(|progress| progress.acked < progress.written || progress.acked == last)?;
        if progress.acked == last {
            return Ok(());
        }
        let (mut goal, file) = (progress.written, progress.file.clone().expect("it was written to"));
        drop(progress);
        if let Err(error) = disk.sync(&file) {
            if !disk.errs("retry-sync") {
                return Err(error);
            }
            disk.sync(&file)?;
        }
        // Whoever makes this mistake has something to acknowledge, if more can be written before it.
        if disk.errs("ack-late-writes") && goal % SEGMENT != 0 && goal != last {
            let more =
                |progress: &Progress| progress.written > goal || progress.written == progress.acked + WINDOW;
            goal = shared.wait(more)?.written;
        }
        println!("acked {goal}");
        shared.change(|progress| progress.acked = goal);
    }
}
