//! The keys of the push API, in the file `push.key` of the data folder.
//!
//! The first start makes one. Back ends send it, `anser push` reads it by itself, and to change it, a second
//! one stands beside it for a while.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::exit::Exit;
use crate::failure::{Failure, plain};
use crate::up::quote;

/// The file in the data folder.
const FILE: &str = "push.key";

/// What a key that is made here begins with, by which people and scanners of source code know it.
const PREFIX: &str = "anser_";

/// Random bytes in a key.
const RANDOM: usize = 32;

/// Shortest key that somebody may choose. Those that are made here have 49 characters.
const SHORTEST: usize = 20;

/// Most bytes in the file. Some hundred keys; it is no place for more.
const LARGEST: u64 = 64 << 10;

/// A key. It has no way into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The key itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A key as somebody gives it, on a line or in the environment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = text.trim();
        if key.len() < SHORTEST {
            return Err(format!("the key has {} characters, at least {SHORTEST} are needed", key.len()));
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the key has characters that are no visible ASCII".to_owned());
        }
        Ok(Self(key.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The file of a data folder.
pub fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// The keys of a data folder. Makes one if there is no file. The caller holds the folder against other
/// processes.
pub fn ensure(data: &Path) -> Result<Vec<Secret>, Failure> {
    ensure_file(data, FILE)
}

/// The same for another file of the folder.
pub(crate) fn ensure_file(data: &Path, file: &str) -> Result<Vec<Secret>, Failure> {
    let path = data.join(file);
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(data, &path).map_err(|error| Failure::create(&path, &error))?;
        }
        Ok(found) if found.is_file() => keep(data, &path)?,
        _ => {}
    }
    read(&path)
}

/// Makes durable what is there: a start that was killed may not have come so far, and what is used now must
/// be the same after a power cut.
fn keep(data: &Path, path: &Path) -> Result<(), Failure> {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    for place in [path, data] {
        match File::open(place).and_then(|file| file.sync_all()) {
            // Nothing was made by us then. Who may not read it is told so by `read`.
            Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => {}
            Err(error) => {
                let what = format!("cannot make {} durable", place.display());
                return Err(Failure::system(what, &error, "look at the disk"));
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The command of a shell that prints the first key of a data folder.
pub fn shown_by(data: &Path, keys: &[Secret]) -> String {
    let path = path(data);
    let alone = fs::read_to_string(&path)
        .is_ok_and(|text| keys.first().is_some_and(|key| text.trim_end_matches('\n') == key.expose()));
    let command = if alone { "cat" } else { "grep -m 1 '^[^#]'" };
    format!("{command} {}", quote(&path))
}

/// Writes a new key, whole or not at all.
fn make(data: &Path, path: &Path) -> io::Result<()> {
    let mut random = [0; RANDOM];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let key = format!("{PREFIX}{}\n", URL_SAFE_NO_PAD.encode(random));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // Of a start that did not get to the end.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(key.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(data)?.sync_all()
}

/// The keys of a file: one a line, `#` begins a comment. At least one.
pub fn read(path: &Path) -> Result<Vec<Secret>, Failure> {
    let shown = path.display();
    let unreadable = |error: &io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "run as the user of the server, or give a key in ANSER_KEY",
            io::ErrorKind::NotFound => {
                "`anser up` makes it in its data folder; name that folder, or the file"
            }
            _ => "put a file with a key there",
        };
        Failure::new(Exit::Config, format!("the secret {shown} cannot be read ({})", plain(error)), remedy)
    };
    let wrong =
        |what: String, remedy: &str| Err(Failure::new(Exit::Config, format!("{shown} {what}"), remedy));
    let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return wrong("is no file".to_owned(), "put a file with a key there, or remove it and start again");
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mode = file.metadata().map_err(|error| unreadable(&error))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let what = format!("can be read or written by others (its mode is {mode:04o})");
        return wrong(what, &format!("`chmod 600 {shown}`, and change the key if others may have seen it"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > LARGEST {
        return wrong(format!("is larger than {LARGEST} bytes"), "keep keys in it, and nothing else");
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return wrong("is no text".to_owned(), "write one key a line, in visible ASCII");
    };
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    let mut keys = Vec::new();
    for (n, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        match Secret::parse(line) {
            Ok(key) => keys.push(key),
            Err(what) => {
                let remedy =
                    "write a longer one of visible ASCII, or remove the file, and `anser up` makes one";
                return wrong(format!("line {n}: {what}"), remedy);
            }
        }
    }
    if keys.is_empty() {
        return wrong(
            "has no key in it".to_owned(),
            "write one a line, or remove the file, and `anser up` makes one",
        );
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(folder: &Path, text: &[u8], mode: u32) -> PathBuf {
        let path = path(folder);
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("push.key.new"), "of a start that was killed").unwrap();
        let made = ensure(folder.path()).unwrap();
        let text = fs::read_to_string(path(folder.path())).unwrap();
        assert_eq!(text, format!("{}\n", made[0].expose()));
        let random = text.trim().strip_prefix(PREFIX).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(random).unwrap().len(), RANDOM);
        assert_eq!(fs::metadata(path(folder.path())).unwrap().mode() & 0o777, 0o600);
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [FILE], "nothing else is left");
        assert_eq!(ensure(folder.path()).unwrap(), made);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(ensure(other.path()).unwrap(), made);
    }

    #[test]
    fn keys_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let text = b"# the old one, until june\nold-key-of-20-letter\n\n  new-key-of-21-letters \r\n";
        let keys = read(&write(folder.path(), text, 0o400)).unwrap();
        let keys: Vec<_> = keys.iter().map(Secret::expose).collect();
        assert_eq!(keys, ["old-key-of-20-letter", "new-key-of-21-letters"]);
    }

    #[test]
    fn how_a_shell_shows_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("it's here");
        fs::create_dir(&data).unwrap();
        for (text, key) in [
            ("a-key-of-22-characters\n", "a-key-of-22-characters"),
            ("# old\na-key-of-22-characters\nb-key-of-22-characters\n", "a-key-of-22-characters"),
        ] {
            let keys = read(&write(&data, text.as_bytes(), 0o600)).unwrap();
            let command = shown_by(&data, &keys);
            let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), key, "{command}");
        }
        let keys = read(&write(folder.path(), b"a-key-of-22-characters\n", 0o600)).unwrap();
        assert_eq!(shown_by(folder.path(), &keys), format!("cat {}/push.key", folder.path().display()));
    }

    #[test]
    fn files_that_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = b"a-key-of-22-characters\n";
        let long = vec![b'#'; LARGEST as usize + 1];
        for (text, mode, told) in [
            (&key[..], 0o640, "can be read or written by others (its mode is 0640): `chmod 600 "),
            (key, 0o604, "can be read or written by others (its mode is 0604): `chmod 600 "),
            (key, 0o620, "can be read or written by others (its mode is 0620): `chmod 600 "),
            (b"", 0o600, "has no key in it: write one a line, or remove the file, and `anser up` makes one"),
            (b"\n# none\n", 0o600, "has no key in it: "),
            (b"# one\nshort\n", 0o600, "line 2: the key has 5 characters, at least 20 are needed: "),
            (b"a-key-of-22 characters", 0o600, "line 1: the key has characters that are no visible ASCII: "),
            (b"a-key-of-22-characters\xff", 0o600, "is no text: "),
            (&long, 0o600, "is larger than 65536 bytes: "),
        ] {
            let path = write(folder.path(), text, mode);
            let failure = ensure(folder.path()).unwrap_err();
            assert_eq!(failure.exit, Exit::Config);
            let expected = format!("{} {told}", path.display());
            assert!(failure.to_string().starts_with(&expected), "{failure} is not {expected}");
            assert!(!failure.to_string().contains("a-key"), "a key is told: {failure}");
        }
        fs::remove_file(path(folder.path())).unwrap();
        let told = read(&path(folder.path())).unwrap_err().to_string();
        assert!(told.contains("cannot be read (No such file or directory): `anser up` makes it"), "{told}");
        fs::create_dir(path(folder.path())).unwrap();
        assert!(ensure(folder.path()).unwrap_err().to_string().contains("is no file"));
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::parse("a-key-of-22-characters").unwrap()), "Secret(..)");
    }
}
