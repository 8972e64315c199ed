//! `anser log`: what the push log holds, read without changing it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anser_job::Logged;
use anser_store::disk::ReadOnly;
use anser_store::segments::{self, View};
use anser_store::{OpenError, Page, ReadError};
use clap::{Args, Subcommand};

use crate::exit::Exit;
use crate::failure::{Failure, plain};
use crate::out;
use crate::push_log;
use crate::up::{self, LOCK, quote};
use entry::Entry;

mod entry;

/// Bytes of the log that are read at once.
const PAGE: usize = 1 << 20;

/// The arguments.
#[derive(Debug, Args)]
#[command(
    after_help = "A line for each push, in the order of the log: position (the number that the push API answers), when \
it was accepted, operation, size of its body, for whom it is. It changes nothing, and works on a folder that \
no server runs on; a server does not start while this reads.

A push that is there may have been delivered already: `anser log verify` says how far the log is done. Keys \
were connected when it was accepted, to the comet behind the @."
)]
pub struct Log {
    #[command(subcommand)]
    action: Option<Action>,
    /// Folder of everything that the server keeps
    #[arg(long, value_name = "DIR", env = "ANSER_DATA", default_value = up::DATA, global = true)]
    data: PathBuf,
    /// Begin with this position, or the next one
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    from: u64,
    /// Print the bodies as well
    #[arg(long)]
    body: bool,
    /// Print a JSON object for each push instead of a line for people
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read all of the log, and say what of it is damaged
    Verify,
}

impl Log {
    /// Prints the log, or looks through it.
    pub fn run(self) -> Result<(), Failure> {
        let held = hold(&self.data)?;
        let view = open(&self.data)?;
        let done = match self.action {
            None => self.print(&view),
            Some(Action::Verify) => verify(&self.data, &view),
        };
        drop(held);
        done
    }

    fn print(&self, view: &View) -> Result<(), Failure> {
        let mut damaged = 0;
        for page in (Pages { view, next: self.from }) {
            let page = page?;
            let mut text = String::new();
            for (position, record) in page.records.into_iter().filter(|(at, _)| *at >= self.from) {
                let entry = Entry { position, size: record.len(), logged: Logged::decode(record) };
                damaged += usize::from(entry.logged.is_none());
                text += &if self.json { entry.json(self.body) } else { entry.line(self.body) };
                text.push('\n');
            }
            out::write(&text)?;
            for damage in page.damage {
                damaged += 1;
                out::note(&format!("anser: nothing can be read from {} to {}", damage.from, damage.to));
            }
        }
        judge(damaged, &self.data)
    }
}

/// Holds the folder against servers as long as this reads. Nobody can be there if nobody ever was.
fn hold(data: &Path) -> Result<Option<File>, Failure> {
    let path = data.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path, &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Unavailable,
            format!("a server uses the data folder {}", data.display()),
            "stop it first, or copy the folder and name the copy with --data",
        )),
        Err(TryLockError::Error(error)) => Err(unreadable(&path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot read {} ({})", path.display(), plain(error));
    Failure::new(Exit::System, what, "run it as the user of the server")
}

fn open(data: &Path) -> Result<View, Failure> {
    let folder = push_log::folder(data);
    segments::read_only(&ReadOnly::new(&folder)).map_err(|error| match error {
        OpenError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound && !folder.exists() => {
            Failure::new(
                Exit::Unavailable,
                format!("there is no push log in {}", data.display()),
                "name the data folder of a server that has run with --data",
            )
        }
        error => push_log::failure(error),
    })
}

/// All pages of a log.
struct Pages<'a> {
    view: &'a View,
    next: u64,
}

impl Iterator for Pages<'_> {
    type Item = Result<Page, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.view.read(self.next, PAGE) {
            Ok(page) if page.is_empty() => None,
            Ok(page) => {
                self.next = page.next;
                Some(Ok(page))
            }
            Err(ReadError { what, cause }) => {
                let what = format!("cannot read the push log: {what} ({})", plain(&cause));
                Some(Err(Failure::new(Exit::System, what, "look at the disk")))
            }
        }
    }
}

/// What a look through the whole log has found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    records: u64,
    bytes: u64,
    first: Option<(u64, SystemTime)>,
    last: Option<(u64, SystemTime)>,
    damaged: usize,
}

fn verify(data: &Path, view: &View) -> Result<(), Failure> {
    let mut found = Found::default();
    let mut open: Vec<(&str, u64, u64)> =
        view.consumers().iter().map(|(name, position)| (&**name, *position, 0)).collect();
    for page in (Pages { view, next: 0 }) {
        let page = page?;
        for (position, record) in page.records {
            found.records += 1;
            found.bytes += record.len() as u64;
            for (_, done, open) in &mut open {
                *open += u64::from(position >= *done);
            }
            if let Some(Logged { accepted, .. }) = Logged::decode(record) {
                found.first.get_or_insert((position, accepted));
                found.last = Some((position, accepted));
            } else {
                found.damaged += 1;
                out::note(&format!("anser: the record at {position} is no push"));
            }
        }
        for damage in page.damage {
            found.damaged += 1;
            out::note(&format!("anser: nothing can be read from {} to {}", damage.from, damage.to));
        }
    }
    out::write(&told(view, &found, &open))?;
    judge(found.damaged, data)
}

fn told(view: &View, found: &Found, open: &[(&str, u64, u64)]) -> String {
    let (_, segments) = view.size();
    let mut lines =
        vec![format!("segments  {segments}"), format!("pushes    {}, {} bytes", found.records, found.bytes)];
    let place = |(position, accepted)| format!("{position}, accepted {}", entry::time(accepted));
    lines.extend(found.first.map(|first| format!("first     {}", place(first))));
    lines.extend(found.last.map(|last| format!("last      {}", place(last))));
    for (name, done, open) in open {
        lines
            .push(format!("consumer  {name} is done with all below {done}; {open} go out at the next start"));
    }
    if view.cut() > 0 {
        lines.push(format!(
            "tail      {} bytes are torn, and will be cut; nobody was told that they were taken",
            view.cut()
        ));
    }
    lines.push(format!(
        "damage    {}",
        if found.damaged == 0 { "none".into() } else { found.damaged.to_string() }
    ));
    lines.join("\n") + "\n"
}

/// Damage is told where it is found; here it becomes the end of the command.
fn judge(damaged: usize, data: &Path) -> Result<(), Failure> {
    if damaged == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Damaged,
        format!(
            "{damaged} place{} in the push log cannot be read, and what was there is lost",
            if damaged == 1 { "" } else { "s" }
        ),
        format!("look at the disk below {}; a server runs on it all the same", quote(data)),
    ))
}
