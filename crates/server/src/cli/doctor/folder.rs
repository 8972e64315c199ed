//! The data folder: whether it is there, whose it is, what it lies on, and who uses it.

use std::fs::{self, File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs, statvfs};
use rustix::process::geteuid;

use super::finding::Finding;
use super::units::size;
use crate::exit::Exit;
use crate::failure::plain;
use crate::up::LOCK;

const CHECK: &str = "data folder";

/// With less space than this nothing can be appended: a segment of the log is 64 MiB.
const FULL: u64 = 128 << 20;

/// With less space than this it will soon be so.
const SCARCE: u64 = 1 << 30;

/// With fewer free inodes than this files can soon not be made.
const FEW_INODES: u64 = 1000;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    data: PathBuf,
    state: State,
    /// The user that this command runs as.
    user: u32,
    space: Option<Space>,
    system: Option<FileSystem>,
    pub(super) lock: Lock,
}

/// What is at the path of the data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing, and whether the folder above it lets it be made.
    Missing {
        above: PathBuf,
        may_create: bool,
    },
    /// It cannot be looked at.
    Hidden(String),
    /// No folder.
    Other,
    Folder {
        owner: u32,
        mode: u32,
        writable: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    free: u64,
    total: u64,
    /// None: the file system makes them as it needs them.
    free_inodes: Option<u64>,
}

/// Who uses the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// Nobody.
    Free,
    /// A server.
    Held(Holder),
    /// Only the folder's owner can tell.
    Unknown,
}

/// The process that holds the lock, if the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder(pub(super) Option<u32>);

impl Holder {
    pub(super) fn name(self) -> String {
        match self.0 {
            Some(pid) => format!("process {pid}"),
            None => "a process".to_owned(),
        }
    }
}

/// What a file system is, as far as data on it are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Disk,
    /// Gone with the power.
    Memory,
    /// Gone with the container.
    Overlay,
    /// As durable, and as locked, as the other end makes it.
    Network,
    Unknown,
}

/// A file system by the number that the kernel has for it (`statfs(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    pub(super) name: &'static str,
    pub(super) medium: Medium,
}

impl FileSystem {
    fn of(magic: u32) -> Self {
        let (name, medium) = match magic {
            0xEF53 => ("ext4", Medium::Disk),
            0x5846_5342 => ("xfs", Medium::Disk),
            0x9123_683E => ("btrfs", Medium::Disk),
            0xF2F5_2010 => ("f2fs", Medium::Disk),
            0x2FC1_2FC1 => ("zfs", Medium::Disk),
            0xCA45_1A4E => ("bcachefs", Medium::Disk),
            0x0102_1994 => ("tmpfs", Medium::Memory),
            0x8584_58F6 => ("ramfs", Medium::Memory),
            0x794C_7630 => ("overlayfs", Medium::Overlay),
            0x6969 => ("nfs", Medium::Network),
            0xFF53_4D42 => ("cifs", Medium::Network),
            0xFE53_4D42 => ("smb", Medium::Network),
            0x00C3_6400 => ("ceph", Medium::Network),
            0x0102_1997 => ("9p", Medium::Network),
            0x6573_5546 => ("fuse", Medium::Network),
            0x0BD0_0BD0 => ("lustre", Medium::Network),
            0x5346_414F => ("afs", Medium::Network),
            _ => ("a file system that this command does not know", Medium::Unknown),
        };
        Self { name, medium }
    }
}

impl Folder {
    pub(super) fn look(data: &Path) -> Self {
        let state = State::look(data);
        let there = state.existing(data);
        let vfs = statvfs(there).ok();
        let space = vfs.map(|vfs| Space {
            free: vfs.f_bavail * vfs.f_frsize,
            total: vfs.f_blocks * vfs.f_frsize,
            free_inodes: (vfs.f_files > 0).then_some(vfs.f_favail),
        });
        let system = statfs(there).ok().map(|system| FileSystem::of(system.f_type as u32));
        let lock = Lock::look(&data.join(LOCK));
        Self { data: data.to_owned(), state, user: geteuid().as_raw(), space, system, lock }
    }

    /// The folder, or the one in which it would be made; none if nothing can be made there.
    pub(super) fn writable(&self) -> Option<&Path> {
        match &self.state {
            State::Missing { above, may_create: true } => Some(above),
            State::Folder { writable: true, .. } => Some(&self.data),
            _ => None,
        }
    }

    pub(super) fn system(&self) -> Option<FileSystem> {
        self.system
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![self.judge_state()];
        findings.extend(self.system.and_then(|system| self.judge_system(system)));
        findings.extend(self.space.map(Space::judge));
        findings
    }

    fn judge_state(&self) -> Finding {
        let data = self.data.display();
        let remedy = "give it to the user that the server runs as (`chown`), or name another with --data";
        match &self.state {
            State::Missing { may_create: true, .. } => Finding::note(
                CHECK,
                format!("{data} does not exist, and can be made"),
                "`anser up` makes it; if it should exist, name it with --data or ANSER_DATA",
            ),
            State::Missing { above, may_create: false } => Finding::problem(
                CHECK,
                Exit::CannotCreate,
                format!(
                    "{data} does not exist, and user {} may not make it in {}",
                    self.user,
                    above.display()
                ),
                "make it for the user that the server runs as, or name another with --data",
            ),
            State::Hidden(cause) => Finding::problem(
                CHECK,
                Exit::System,
                format!("{data} cannot be looked at ({cause})"),
                "run this command as the user that the server runs as, or as root",
            ),
            State::Other => Finding::problem(
                CHECK,
                Exit::CannotCreate,
                format!("{data} is not a folder"),
                "move it away, or name another with --data",
            ),
            State::Folder { owner, mode, writable: false } => Finding::problem(
                CHECK,
                Exit::System,
                format!(
                    "{data} (owner {owner}, mode {mode:04o}) cannot be written by user {}, or lies on a file \
                     system that is read-only",
                    self.user
                ),
                remedy,
            ),
            State::Folder { owner, mode, writable: true } => {
                let used = match &self.lock {
                    Lock::Free => "not in use".to_owned(),
                    Lock::Held(holder) => format!("in use by {}", holder.name()),
                    Lock::Unknown => "whether it is in use cannot be seen".to_owned(),
                };
                let found = format!("{data} exists (owner {owner}, mode {mode:04o}), {used}");
                if mode & 0o077 != 0 {
                    Finding::warning(
                        CHECK,
                        format!("{found}; other users may look into it"),
                        format!("`chmod 700 {data}`"),
                    )
                } else if *owner != self.user {
                    Finding::note(
                        CHECK,
                        format!("{found}; this command runs as user {}", self.user),
                        "run the server as the folder's owner, or it leaves files that the owner cannot read",
                    )
                } else {
                    Finding::ok(CHECK, found)
                }
            }
        }
    }

    fn judge_system(&self, system: FileSystem) -> Option<Finding> {
        let FileSystem { name, medium } = system;
        let (what, remedy) = match medium {
            Medium::Disk => return None,
            Medium::Unknown => {
                let found = format!("{} lies on {name}", self.data.display());
                return Some(Finding::note(
                    CHECK,
                    found,
                    "see in its manual whether fdatasync reaches a disk",
                ));
            }
            Medium::Memory => {
                ("in memory: nothing in it survives a reboot", "name a folder on a disk with --data")
            }
            Medium::Overlay => (
                "the container's own layer: nothing in it survives the container",
                "mount a volume there, such as `-v anser:/var/lib/anser`",
            ),
            Medium::Network => (
                "not a disk of this machine: what is synced is as safe as its other end, and locks may not \
                 hold between machines",
                "use a local disk; if it must be this one, let one machine alone mount it",
            ),
        };
        Some(Finding::warning(CHECK, format!("{} lies on {name}, {what}", self.data.display()), remedy))
    }
}

impl State {
    fn look(data: &Path) -> Self {
        match fs::metadata(data) {
            Ok(folder) if folder.is_dir() => Self::of(&folder, data),
            Ok(_) => Self::Other,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let above = above(data);
                let may_create = above.is_dir() && access(&above, Access::WRITE_OK | Access::EXEC_OK).is_ok();
                Self::Missing { above, may_create }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Self::Other,
            Err(error) => Self::Hidden(plain(&error)),
        }
    }

    fn of(folder: &Metadata, data: &Path) -> Self {
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        let writable = access(data, all).is_ok();
        Self::Folder { owner: folder.uid(), mode: folder.mode() & 0o7777, writable }
    }

    /// What there is of the path.
    fn existing<'a>(&'a self, data: &'a Path) -> &'a Path {
        match self {
            Self::Missing { above, .. } => above,
            _ => data,
        }
    }
}

/// The nearest folder above that exists.
fn above(data: &Path) -> PathBuf {
    let folders = data.ancestors().skip(1);
    let named = folders.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    named.into_iter().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

impl Space {
    fn judge(self) -> Finding {
        const CHECK: &str = "space";
        let Self { free, total, free_inodes } = self;
        let inodes = free_inodes.map(|n| format!(", {n} inodes")).unwrap_or_default();
        let found = format!("{} of {} free{inodes}", size(free), size(total));
        let remedy = "make space or move the folder: a full disk refuses every push that is to be stored";
        if free < FULL || free_inodes == Some(0) {
            Finding::problem(CHECK, Exit::System, found, remedy)
        } else if free < SCARCE || free < total / 20 || free_inodes.is_some_and(|n| n < FEW_INODES) {
            Finding::warning(CHECK, found, remedy)
        } else {
            Finding::ok(CHECK, found)
        }
    }
}

impl Lock {
    /// A server holds the file locked as long as it lives. To look, it is locked for a moment for sharing.
    fn look(path: &Path) -> Self {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Self::Unknown,
            Err(_) => return Self::Free,
        };
        match file.try_lock_shared() {
            Ok(()) => Self::Free,
            Err(TryLockError::WouldBlock) => {
                let inode = file.metadata().map_or(0, |file| file.ino());
                let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
                Self::Held(Holder(holder(&locks, inode)))
            }
            Err(TryLockError::Error(_)) => Self::Unknown,
        }
    }

    /// The process that holds it.
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Held(Holder(pid)) => *pid,
            _ => None,
        }
    }
}

/// Who holds a lock on the file with this inode, in `/proc/locks`. Another file system may have the same
/// number; then the process has a lock all the same, and a name of ours only if it is a server.
fn holder(locks: &str, inode: u64) -> Option<u32> {
    let mut rows = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| {
        let file = row.get(5).and_then(|file| file.rsplit(':').next());
        row.get(1) == Some(&"FLOCK") && file.and_then(|inode| inode.parse().ok()) == Some(inode)
    })?;
    row[4].parse().ok().filter(|pid| *pid != 0)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn folder(state: State, lock: Lock) -> Folder {
        Folder { data: "/data".into(), state, user: 7, space: None, system: None, lock }
    }

    #[test]
    fn states() {
        let there = |owner, mode, writable| State::Folder { owner, mode, writable };
        let missing = |may_create| State::Missing { above: "/".into(), may_create };
        let held = Lock::Held(Holder(Some(9)));
        for (state, lock, level, said) in [
            (there(7, 0o700, true), Lock::Free, Level::Ok, "owner 7, mode 0700), not in use"),
            (there(7, 0o700, true), held, Level::Ok, "in use by process 9"),
            (there(7, 0o755, true), Lock::Free, Level::Warning, "other users may look into it"),
            (there(0, 0o700, true), Lock::Unknown, Level::Note, "this command runs as user 7"),
            (there(0, 0o555, false), Lock::Free, Level::Problem, "cannot be written by user 7"),
            (missing(true), Lock::Free, Level::Note, "can be made"),
            (missing(false), Lock::Free, Level::Problem, "user 7 may not make it in /"),
            (State::Other, Lock::Free, Level::Problem, "is not a folder"),
            (State::Hidden("Permission denied".into()), Lock::Unknown, Level::Problem, "(Permission denied)"),
        ] {
            let finding = folder(state, lock).judge_state();
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(said), "{finding:?}");
        }
    }

    #[test]
    fn file_systems() {
        let folder = folder(State::Other, Lock::Free);
        for (magic, name, level) in [
            (0xEF53, "ext4", None),
            (0x5846_5342, "xfs", None),
            (0x0102_1994, "tmpfs", Some(Level::Warning)),
            (0x794C_7630, "overlayfs", Some(Level::Warning)),
            (0x6969, "nfs", Some(Level::Warning)),
            (1, "does not know", Some(Level::Note)),
        ] {
            let system = FileSystem::of(magic);
            assert!(system.name.contains(name), "{system:?}");
            assert_eq!(folder.judge_system(system).map(|finding| finding.level), level, "{name}");
        }
    }

    #[test]
    fn space() {
        const GB: u64 = 1 << 30;
        for (free, total, free_inodes, level) in [
            (50 * GB, 100 * GB, Some(1 << 20), Level::Ok),
            (50 * GB, 100 * GB, None, Level::Ok),
            (4 * GB, 100 * GB, None, Level::Warning),
            (GB - 1, 2 * GB, None, Level::Warning),
            (FULL - 1, 2 * GB, None, Level::Problem),
            (50 * GB, 100 * GB, Some(999), Level::Warning),
            (50 * GB, 100 * GB, Some(0), Level::Problem),
        ] {
            let finding = Space { free, total, free_inodes }.judge();
            assert_eq!(finding.level, level, "{finding:?}");
        }
    }

    #[test]
    fn the_kernels_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fe:00:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 fe:00:43 0 EOF\n";
        assert_eq!([42, 43, 44].map(|inode| holder(locks, inode)), [Some(12), None, None]);
    }

    #[test]
    fn a_lock_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK);
        assert_eq!(Lock::look(&path), Lock::Free);
        let file = File::create(&path).unwrap();
        assert_eq!(Lock::look(&path), Lock::Free);
        file.try_lock().unwrap();
        assert!(matches!(Lock::look(&path), Lock::Held(_)));
        drop(file);
        assert_eq!(Lock::look(&path), Lock::Free);
    }

    #[test]
    fn where_a_folder_would_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/b");
        let looked = Folder::look(&data);
        assert_eq!(looked.writable(), Some(folder.path()));
        assert!(looked.space.is_some() && looked.system.is_some());
        assert_eq!(above(Path::new("anser-data")), Path::new("."));
        assert!(!data.exists(), "looking makes nothing");
    }
}
