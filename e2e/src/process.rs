//! The binary as a process: its arguments, its words, its end.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::patience::eventually;

/// Sets the limit on open files, then becomes the program.
const LIMITED: &str = "ulimit -n \"$0\" && exec \"$@\"";

/// Sends stderr elsewhere, then becomes the program.
const REDIRECTED: &str = "exec \"$@\" 2>\"$0\"";

/// A running `anser`. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Reader,
    stderr: Reader,
    ended: bool,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; none if a signal killed it.
    pub code: Option<i32>,
    /// All that it wrote on stdout.
    pub stdout: String,
    /// All that it wrote on stderr.
    pub stderr: String,
}

impl Process {
    /// Starts `anser` with these arguments in this folder, without any `ANSER_` variable.
    pub fn spawn(folder: &Path, arguments: &[impl AsRef<str>]) -> Self {
        Self::start(Self::plain(), folder, arguments)
    }

    /// The same with a limit on open files, soft and hard.
    pub fn spawn_with_files(files: u64, folder: &Path, arguments: &[impl AsRef<str>]) -> Self {
        Self::start(Self::limited(files), folder, arguments)
    }

    /// The same with stderr going to this file and not to us.
    pub fn spawn_with_stderr(stderr: &Path, folder: &Path, arguments: &[impl AsRef<str>]) -> Self {
        Self::start(Self::redirected(stderr), folder, arguments)
    }

    /// The binary.
    pub(crate) fn plain() -> Command {
        Command::new(binary())
    }

    /// The binary with a limit on open files.
    pub(crate) fn limited(files: u64) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", LIMITED, &files.to_string()]).arg(binary());
        command
    }

    /// The binary with stderr going to this file.
    pub(crate) fn redirected(stderr: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", REDIRECTED]).arg(stderr).arg(binary());
        command
    }

    /// Lowers its limit on open files while it runs.
    pub fn limit_files(&self, files: u64) {
        let limit = Rlimit { current: Some(files), maximum: Some(files) };
        prlimit(Pid::from_raw(self.id().cast_signed()), Resource::Nofile, limit)
            .expect("limits of a child may be lowered");
    }

    /// Runs `anser` in a folder of its own until it ends.
    pub fn run(arguments: &[impl AsRef<str>]) -> Ended {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self::spawn(folder.path(), arguments).wait()
    }

    /// The same as another user, in a folder that this one may look into. None if that user may not look
    /// into the folder of the binary. Only root can do this.
    pub fn run_as(user: u32, folder: &Path, arguments: &[impl AsRef<str>]) -> Option<Ended> {
        let mut probe = Command::new(binary());
        probe.uid(user).gid(user).arg("--version").current_dir(folder).stdout(Stdio::null());
        probe.status().is_ok_and(|status| status.success()).then(|| {
            let mut command = Command::new(binary());
            command.uid(user).gid(user);
            Self::start(command, folder, arguments).wait()
        })
    }

    /// Starts a command with these arguments in this folder, without any `ANSER_` variable.
    pub(crate) fn start(mut command: Command, folder: &Path, arguments: &[impl AsRef<str>]) -> Self {
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ANSER_")) {
            command.env_remove(name);
        }
        command.args(arguments.iter().map(AsRef::as_ref)).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("anser can be started");
        let stdout = Reader::start(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Reader::start(child.stderr.take().expect("stderr is a pipe"));
        Self { child, stdout, stderr, ended: false }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written on stdout.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written on stderr.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until `find` finds something on stdout. Fails when the process ends before.
    #[track_caller]
    pub fn on_stdout<T>(&mut self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        eventually(what, || {
            // In this order, or what it said last would be missed.
            let ended = self.try_wait();
            let found = find(&self.stdout());
            assert!(found.is_some() || ended.is_none(), "anser ended before {what}: {}", self.stderr());
            found
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id().cast_signed()).expect("a process has a number");
        kill_process(id, signal).expect("the process has not been waited for");
    }

    /// Whether it has ended by now.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("a child can be waited for");
        if status.is_some() {
            self.ended = true;
            self.stdout.finish();
            self.stderr.finish();
        }
        status
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        let status = eventually("the end of anser", || self.try_wait());
        Ended { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            // It may be gone already; then there is nothing to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            self.stderr.finish();
            tell(&format!("stderr of anser ({}):\n{}", self.id(), self.stderr()));
        }
    }
}

/// Collects what comes out of a pipe, so that the process never waits for us.
#[derive(Debug)]
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = bytes.clone();
        let thread = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..n]);
            }
        });
        Self { bytes, thread: Some(thread) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits for the end of the pipe, which the end of the process is.
    fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

/// Adds to the output of the test, which cargo shows when the test fails.
#[expect(clippy::print_stderr, reason = "only this goes through the capture of the test harness")]
pub fn tell(text: &str) {
    eprintln!("{text}");
}

/// The binary that cargo built beside this test.
fn binary() -> PathBuf {
    let test = env::current_exe().expect("a process has an executable");
    let path =
        test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps").join("anser");
    assert!(path.exists(), "{} does not exist: run `cargo build --workspace` first", path.display());
    if let Some(source) = outdated(&path, &test) {
        panic!("{} is older than {source}: run `cargo build --workspace` first", path.display());
    }
    path
}

/// A source of the binary that is newer than the binary, if the test has been built since. A source
/// that somebody edits while tests run is none.
fn outdated(binary: &Path, test: &Path) -> Option<String> {
    let changed = |path: &Path| -> io::Result<SystemTime> { fs::metadata(path)?.modified() };
    let (built, test_built) = (changed(binary).ok()?, changed(test).ok()?);
    let rule = fs::read_to_string(binary.with_extension("d")).ok()?;
    let (_, sources) = rule.lines().next()?.split_once(": ")?;
    let mut sources = sources.split(' ');
    let newer = |source: &&str| {
        changed(Path::new(source)).is_ok_and(|changed| built < changed && changed <= test_built)
    };
    sources.find(newer).map(str::to_owned)
}
