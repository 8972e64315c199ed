//! What a server with these settings promises, and what it does not.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use toml::{Table, Value};

use super::finding::{Finding, Promise};
use super::folder::{FileSystem, Medium};
use crate::exit::Exit;

/// The key that back ends show, in the data folder.
const KEY_FILE: &str = "push.key";

/// What the promises depend on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Terms {
    /// Every setting, by section.
    pub(super) settings: Table,
    /// Every address, with the setting that names it.
    pub(super) addresses: Vec<(&'static str, SocketAddr)>,
    /// Whether back ends have to show a key.
    pub(super) key: PushKey,
    pub(super) system: Option<FileSystem>,
}

/// The file with the key of the push API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushKey {
    Absent,
    /// It is there, or may be.
    Hidden,
    Present {
        mode: u32,
    },
}

impl PushKey {
    pub(super) fn look(data: &Path) -> Self {
        match fs::metadata(data.join(KEY_FILE)) {
            Ok(file) => Self::Present { mode: file.mode() & 0o7777 },
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Hidden,
            Err(_) => Self::Absent,
        }
    }

    /// Whether it is a secret.
    pub(super) fn judge(self, data: &Path) -> Option<Finding> {
        const CHECK: &str = "push key";
        let file = data.join(KEY_FILE);
        let file = file.display();
        match self {
            Self::Present { mode } if mode & 0o077 != 0 => Some(Finding::problem(
                CHECK,
                Exit::Config,
                format!("{file} has mode {mode:04o}: other users may read it, and push to everyone"),
                format!("`chmod 600 {file}`; if others may have read it, make a new key"),
            )),
            Self::Present { mode } => Some(Finding::ok(CHECK, format!("{file} has mode {mode:04o}"))),
            Self::Absent | Self::Hidden => None,
        }
    }
}

impl Terms {
    /// A table of them, in the order in which people ask.
    pub(super) fn promises(&self) -> Vec<Promise> {
        vec![
            Promise { promise: "stored before the answer", answer: self.stored() },
            Promise { promise: "survives kill -9", answer: self.survives_kill() },
            Promise { promise: "survives a power failure", answer: self.survives_power() },
            Promise { promise: "kept", answer: self.kept() },
            Promise { promise: "clients are authenticated", answer: self.clients() },
            Promise { promise: "back ends are authenticated", answer: self.back_ends() },
            Promise { promise: "reached from", answer: self.reached() },
            Promise { promise: "TLS", answer: "no: put a proxy before it (docs/deploy.md)".to_owned() },
        ]
    }

    /// The section of the push log, where this version has one.
    fn store(&self) -> Option<&Table> {
        self.settings.get("store")?.as_table()
    }

    fn stored(&self) -> String {
        match (self.store(), self.system) {
            (None, _) => "no: a push reaches who is connected, and nobody later".to_owned(),
            (Some(_), system) => {
                let on = system.map(|system| format!(" on {}", system.name)).unwrap_or_default();
                format!("yes: a push is answered when it is synced to the log{on}")
            }
        }
    }

    fn survives_kill(&self) -> String {
        match self.store() {
            None => "no: what waits in queues is lost; clients come back by themselves",
            Some(_) => "yes: what was accepted is in the log",
        }
        .to_owned()
    }

    fn survives_power(&self) -> String {
        if self.store().is_none() {
            return "no: nothing is stored".to_owned();
        }
        match self.system.map(|system| system.medium) {
            Some(Medium::Disk) => "yes, if the disk keeps what it says is synced (see disk above)",
            Some(Medium::Memory) => "no: the data folder is in memory",
            Some(Medium::Overlay) => "yes, but not the end of the container",
            Some(Medium::Network) => "as the other end of the file system promises",
            Some(Medium::Unknown) | None => "unknown: see what the file system of the data folder promises",
        }
        .to_owned()
    }

    fn kept(&self) -> String {
        let Some(store) = self.store() else { return "not at all".to_owned() };
        let settings = store.iter().map(|(key, value)| format!("store.{key} = {value}"));
        let settings: Vec<String> = settings.collect();
        format!("as these say: {}", settings.join(", "))
    }

    fn clients(&self) -> String {
        let mode = self.settings.get("logic").and_then(|logic| logic.get("auth")).and_then(Value::as_str);
        match mode {
            None | Some("open") => "no: whoever reaches the address may connect as any user".to_owned(),
            Some("jwt") => "yes: by a signed token (logic.auth = \"jwt\")".to_owned(),
            Some(mode) => format!("yes: by logic.auth = \"{mode}\""),
        }
    }

    fn back_ends(&self) -> String {
        let required = self.settings.get("http").and_then(|http| http.get("require_key"));
        if required.and_then(Value::as_bool) == Some(false) {
            return "no: whoever reaches http.bind may push to everyone (http.require_key = false)"
                .to_owned();
        }
        match self.key {
            PushKey::Present { .. } => format!("yes: by the key in {KEY_FILE}"),
            PushKey::Hidden => "cannot be seen by this user".to_owned(),
            PushKey::Absent => format!("once `anser up` has made {KEY_FILE} in the data folder"),
        }
    }

    fn reached(&self) -> String {
        let beyond = self.addresses.iter().filter(|(_, address)| !address.ip().to_canonical().is_loopback());
        let beyond: Vec<String> = beyond.map(|(key, address)| format!("{key} = {address}")).collect();
        if beyond.is_empty() {
            "this machine only".to_owned()
        } else {
            format!("other machines, by {}", beyond.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn answers(settings: &str, key: PushKey, medium: Option<Medium>, address: [u8; 4]) -> Vec<String> {
        let terms = Terms {
            settings: settings.parse().unwrap(),
            addresses: vec![("http.bind", (address, 3111).into())],
            key,
            system: medium.map(|medium| FileSystem { name: "ext4", medium }),
        };
        terms.promises().into_iter().map(|promise| promise.answer).collect()
    }

    #[test]
    fn without_a_log() {
        let answers = answers(
            "[logic]\n[http]\nrequire_key = false",
            PushKey::Hidden,
            Some(Medium::Disk),
            [127, 0, 0, 1],
        );
        let starts = [
            "no: a push",
            "no: what waits",
            "no: nothing",
            "not at all",
            "no: who",
            "no: who",
            "this machine",
        ];
        for (answer, start) in answers.iter().zip(starts) {
            assert!(answer.starts_with(start), "{answer:?} is not {start:?}");
        }
    }

    #[test]
    fn with_everything() {
        let settings = "[logic]\nauth = \"jwt\"\n[store]\nretention = \"24h\"";
        let key = PushKey::Present { mode: 0o600 };
        let answers = answers(settings, key, Some(Medium::Disk), [0, 0, 0, 0]);
        assert_eq!(
            answers,
            [
                "yes: a push is answered when it is synced to the log on ext4",
                "yes: what was accepted is in the log",
                "yes, if the disk keeps what it says is synced (see disk above)",
                "as these say: store.retention = \"24h\"",
                "yes: by a signed token (logic.auth = \"jwt\")",
                "yes: by the key in push.key",
                "other machines, by http.bind = 0.0.0.0:3111",
                "no: put a proxy before it (docs/deploy.md)",
            ]
        );
    }

    #[test]
    fn before_the_first_start() {
        let answer = &answers("[http]\nrequire_key = true", PushKey::Absent, None, [127, 0, 0, 1])[5];
        assert_eq!(answer, "once `anser up` has made push.key in the data folder");
    }

    #[test]
    fn power() {
        for (medium, start) in [
            (Some(Medium::Memory), "no: the data folder is in memory"),
            (Some(Medium::Overlay), "yes, but not"),
            (Some(Medium::Network), "as the other end"),
            (None, "unknown"),
        ] {
            let answer = &answers("[store]", PushKey::Hidden, medium, [127, 0, 0, 1])[2];
            assert!(answer.starts_with(start), "{answer}");
        }
    }

    #[test]
    fn a_key_that_others_may_read() {
        let level = |mode| PushKey::Present { mode }.judge(Path::new("/data")).map(|finding| finding.level);
        assert_eq!(level(0o600), Some(Level::Ok));
        assert_eq!(level(0o640), Some(Level::Problem));
        assert_eq!(PushKey::Absent.judge(Path::new("/data")), None);
    }
}
