//! The library that is preloaded: built when a test first needs it.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::record::{self, Event};

const SOURCE: &str = include_str!("../../powercut/shim.c");

/// Where the library is, or why there is none.
pub(super) fn library() -> Result<&'static Path, &'static str> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let library = build()?;
        try_out(&library)?;
        Ok(library)
    });
    library.as_deref().map_err(|why| &**why)
}

/// Compiles it beside the tests, unless this very source is there already.
fn build() -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let test = env::current_exe().map_err(|error| format!("who am I? {error}"))?;
    let folder = test.parent().ok_or("a test lies in a folder")?;
    let library = folder.join(format!("powercut-{:016x}.so", hasher.finish()));
    if library.exists() {
        return Ok(library);
    }
    // Another test may build at the same time: the file appears whole.
    let place = tempfile::Builder::new().prefix("powercut-").suffix(".so.tmp").tempfile_in(folder);
    let output = place.map_err(|error| format!("{}: {error}", folder.display()))?.into_temp_path();
    let mut cc = Command::new("cc")
        .args(["-std=gnu11", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"])
        .args(["-x", "c", "-", "-pthread", "-o"])
        .arg(&output)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cc cannot be started: {error}"))?;
    // It says itself why it does not read.
    let _ = cc.stdin.take().expect("stdin is a pipe").write_all(SOURCE.as_bytes());
    let done = cc.wait_with_output().map_err(|error| format!("cc: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        return Err(format!("cc cannot compile e2e/powercut/shim.c: {said}"));
    }
    fs::rename(&output, &library).map_err(|error| format!("{}: {error}", library.display()))?;
    Ok(library)
}

/// Whether a program loads it.
fn try_out(library: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let log = folder.path().join("log");
    let status = Command::new("true")
        .env("LD_PRELOAD", library)
        .env("POWERCUT_DIR", folder.path())
        .env("POWERCUT_LOG", &log)
        .stderr(Stdio::null())
        .status();
    let loaded = fs::read(&log)
        .is_ok_and(|log| matches!(&*record::parse(&log), [first] if first.event == Event::Hello));
    match status {
        Ok(status) if status.success() && loaded => Ok(()),
        Ok(_) => Err("LD_PRELOAD is not heeded here".to_owned()),
        Err(error) => Err(format!("`true` cannot be started: {error}")),
    }
}
