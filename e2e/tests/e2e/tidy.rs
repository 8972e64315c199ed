//! Rules of this tree, as tests. Each message says what to do.
//!
//! The generated parts of docs/ are compared here as well; `BLESS=1 cargo test -p anser-e2e tidy`
//! writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anser_e2e::Cluster;
use anser_server::config::{print, table};
use anser_wire::operation::{self, Dialect, Direction};
use anser_wire::packet::{Header, Packet};
use cargo_metadata::{DependencyKind, MetadataCommand};

mod contracts;

/// Which crate may use which of ours, tests aside (ARCHITECTURE.md, Map). What is not here is forbidden.
const MAY_USE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("api", &["wire"]),
    ("comet", &["api", "wire"]),
    ("store", &[]),
    ("job", &["api", "store"]),
    ("logic", &["api"]),
    ("http", &["api", "wire"]),
    ("sdk", &["wire"]),
    ("server", &["api", "comet", "http", "job", "logic", "sdk", "store", "wire"]),
    ("bench", &["sdk", "wire"]),
    ("e2e", &["sdk", "server", "wire"]),
];

/// Longest file, in lines. Past it a file has more than one subject.
const LINES: usize = 800;

/// Longest ARCHITECTURE.md, in words. Past it nobody reads it.
const WORDS: usize = 1500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the root").to_owned()
}

/// A file of this tree.
struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl File {
    /// Whether it is only compiled for tests.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs") || self.path.starts_with("e2e/")
    }

    /// Whether a test writes it.
    fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }

    /// Its lines of tests: all, or those behind the first `#[cfg(test)]`.
    fn test_lines(&self) -> impl Iterator<Item = &str> {
        let start = if self.is_test() { Some(0) } else { self.text.find("#[cfg(test)]") };
        self.text[start.unwrap_or(self.text.len())..].lines()
    }
}

/// Every file with one of these extensions, but for what is built.
fn files(extensions: &[&str]) -> Vec<File> {
    fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
        for entry in fs::read_dir(folder).expect("folders of the tree can be read") {
            let path = entry.expect("folders of the tree can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "corpus", "artifacts"].contains(&&*name) && !name.starts_with('.') {
                    walk(&path, visit);
                }
            } else {
                visit(&path);
            }
        }
    }
    let (root, mut files) = (root(), Vec::new());
    walk(&root, &mut |path| {
        let known =
            path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known));
        // Somebody may be writing it, or taking it away, at this moment.
        if known && let Ok(text) = fs::read_to_string(path) {
            let path = path.strip_prefix(&root).expect("it lies below the root");
            files.push(File { path: path.to_string_lossy().replace('\\', "/"), text });
        }
    });
    assert!(!files.is_empty(), "the walk of {} finds nothing", root.display());
    files
}

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn crates_use_what_they_may() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo knows its workspace");
    let name_of = |package: &str| package.strip_prefix("anser-").map(str::to_owned);
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(name) = name_of(&package.name) else {
            complaints.push(format!("{}: call the package anser-<folder>", package.name));
            continue;
        };
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            complaints
                .push(format!("{name}: a new crate: say in MAY_USE and in ARCHITECTURE.md what it may use"));
            continue;
        };
        let used = package.dependencies.iter().filter(|used| used.kind != DependencyKind::Development);
        for used in used.filter(|used| used.path.is_some()).filter_map(|used| name_of(&used.name)) {
            if !allowed.contains(&&*used) {
                complaints.push(format!("{name} must not use {used}: a trait in api usually does it"));
            }
        }
    }
    none(&complaints);
    let packages: BTreeSet<String> =
        metadata.workspace_packages().iter().filter_map(|package| name_of(&package.name)).collect();
    let listed: BTreeSet<String> = MAY_USE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed, packages, "MAY_USE names crates that are gone");
}

/// The compiler proves what `no_std` forbids, as long as nobody takes the attribute away or brings
/// `std` back by name.
#[test]
fn wire_knows_no_std() {
    let sources: Vec<File> =
        files(&["rs"]).into_iter().filter(|file| file.path.starts_with("crates/wire/src/")).collect();
    let root = sources.iter().find(|file| file.path == "crates/wire/src/lib.rs").expect("wire has a root");
    assert!(root.text.lines().any(|line| line == "#![no_std]"), "put `#![no_std]` back into wire");
    let names_std = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.clone().any(|word| word == "std")
    };
    let found = sources.iter().flat_map(|file| {
        let lines = file.text.lines().enumerate().filter(|(_, line)| names_std(line));
        lines.map(|(n, line)| format!("{}:{}: {}: use core or alloc", file.path, n + 1, line.trim()))
    });
    none(&found.collect::<Vec<_>>());
}

#[test]
fn every_module_says_what_it_is() {
    let silent = files(&["rs"]).into_iter().filter(|file| file.path.contains("/src/") && !file.is_test());
    let silent = silent.filter(|file| !file.text.starts_with("//!"));
    none(
        &silent
            .map(|file| format!("{}: begin with `//!` and a line on what it is for", file.path))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn files_are_short() {
    let long = files(&["rs"]).into_iter().filter(|file| !file.is_generated());
    let long = long.map(|file| (file.text.lines().count(), file.path));
    let long = long.filter(|(lines, _)| *lines > LINES);
    none(
        &long
            .map(|(lines, path)| format!("{path}: {lines} lines, {LINES} are allowed: divide it"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn nothing_is_left_undone() {
    // Put together here, so that this file passes.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["X", "XX"].concat()];
    let mut complaints = Vec::new();
    for file in files(&["rs", "md", "toml", "sh", "yml"]) {
        for (n, line) in file.text.lines().enumerate() {
            let mut found = line.split(|c: char| !c.is_alphanumeric());
            if let Some(word) = found.find(|word| words.iter().any(|left| left == word)) {
                complaints.push(format!("{}:{}: {word}: do it, or make an issue of it", file.path, n + 1));
            }
        }
    }
    none(&complaints);
}

#[test]
fn no_test_is_ignored_and_none_sleeps() {
    // Put together here, so that this file passes.
    let ignored = ["#[", "ignore"].concat();
    let sleep = ["thread::", "sleep("].concat();
    let mut complaints = Vec::new();
    for file in files(&["rs"]) {
        if file.text.contains(&ignored) {
            complaints.push(format!("{}: an ignored test: mend it or take it away", file.path));
        }
        if file.test_lines().any(|line| line.contains(&sleep)) {
            complaints.push(format!("{}: a test sleeps: wait for what it expects, with a limit", file.path));
        }
    }
    none(&complaints);
}

#[test]
fn the_way_in_exists_and_is_short() {
    let read = |name: &str| {
        fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}: write it"))
    };
    assert!(
        read("README.md").contains("ARCHITECTURE.md"),
        "README.md should say where the code is explained"
    );
    let words = read("ARCHITECTURE.md").split_whitespace().count();
    assert!(
        words <= WORDS,
        "ARCHITECTURE.md has {words} words, {WORDS} are allowed: cut what readers find in the code"
    );
    for (name, _) in MAY_USE {
        assert!(
            read("ARCHITECTURE.md").contains(&format!("`{name}`")),
            "ARCHITECTURE.md does not know the crate {name}"
        );
    }
}

/// Links between our documents lead somewhere.
#[test]
fn links_lead_somewhere() {
    let mut complaints = Vec::new();
    for file in files(&["md"]) {
        let folder = root().join(&file.path).parent().expect("a file is in a folder").to_owned();
        for link in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                complaints.push(format!("{}: {link} does not exist", file.path));
            }
        }
    }
    none(&complaints);
}

/// The messages of `warn!` and `error!` in a source, up to what is filled in.
fn warnings(source: &str) -> Vec<&str> {
    let calls = ["warn!(", "error!("].into_iter().flat_map(|call| source.split(call).skip(1));
    let messages = calls.filter_map(|call| {
        let end = call.find(");").unwrap_or(call.len());
        // The message comes behind the fields.
        let message = call[..end].split('"').skip(1).step_by(2).last()?;
        let message = message.split(['{', '\\']).next()?.split(". ").next()?;
        Some(message.trim_end_matches([':', ' ']))
    });
    messages.filter(|message| !message.is_empty()).collect()
}

#[test]
fn every_warning_is_explained() {
    assert_eq!(warnings("warn!(a = \"x\", b, \"is: {}\", c);\nerror!(\n\"out\"\n);"), ["is", "out"]);
    let manual = fs::read_to_string(root().join("docs/operations.md")).expect("there is a manual");
    // The log of the library is its application's.
    let ours = |file: &&File| {
        file.path.starts_with("crates/")
            && file.path.contains("/src/")
            && !file.path.starts_with("crates/sdk/")
    };
    let files = files(&["rs"]);
    let mut complaints = Vec::new();
    for file in files.iter().filter(ours) {
        for message in warnings(&file.text).iter().filter(|message| !manual.contains(**message)) {
            complaints.push(format!(
                "{}: say in the table of docs/operations.md what to do about {message:?}",
                file.path
            ));
        }
    }
    none(&complaints);
}

/// Compares the part of a document between two marks, or writes it when `BLESS` is set.
#[track_caller]
fn generated(document: &str, part: &str, expected: &str) {
    let path = root().join(document);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document}: {error}"));
    let (begin, end) =
        (format!("<!-- begin {part}: generated, see CONTRIBUTING.md -->\n"), format!("<!-- end {part} -->"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
    let (before, (found, after)) =
        parts.unwrap_or_else(|| panic!("{document}: put these marks where the part belongs:\n{begin}{end}"));
    if found == expected {
        return;
    }
    assert!(
        env::var_os("BLESS").is_some(),
        "{document} is behind the code: run `BLESS=1 cargo test -p anser-e2e tidy`. It should say\n{expected}"
    );
    fs::write(&path, format!("{before}{begin}{expected}{end}{after}")).expect("documents can be written");
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_protocol_is_documented() {
    let mut table =
        String::from("| op | name | from | on | answer | body | meaning |\n|---|---|---|---|---|---|---|\n");
    for row in operation::TABLE {
        let from = match row.direction {
            Direction::Up => "client",
            Direction::Down => "server",
            Direction::Neither => "nobody",
        };
        let on = match row.dialect {
            Dialect::Goim => "all",
            Dialect::Anser => "`anser/1`",
        };
        let answer = row.reply.map(|reply| reply.to_string()).unwrap_or_default();
        let (body, doc) = (cell(row.body), cell(row.doc));
        let _ =
            writeln!(table, "| {} | {} | {from} | {on} | {answer} | {body} | {doc} |", row.number, row.name);
    }
    generated("docs/protocol.md", "operations", &table);
}

/// The bytes in the page are those of the code.
#[test]
fn the_golden_bytes_are_documented() {
    let document = fs::read_to_string(root().join("docs/protocol.md")).expect("the page exists");
    let shown = |op, seq, body: &[u8]| {
        let mut bytes = Vec::new();
        Packet { header: Header { ver: 1, op, seq }, body }.encode(&mut bytes);
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
        };
        let fields = [0..4, 4..6, 6..8, 8..12, 12..16].map(|field| hex(&bytes[field]));
        let tail = if body.is_empty() { String::new() } else { format!(" {}", hex(body)) };
        format!("`{}{tail}`", fields.join(" "))
    };
    let token = br#"{"mid":7,"accepts":[1000]}"#;
    let auth = shown(operation::AUTH, 1, token);
    for bytes in [
        format!("{}`", &auth[..auth.rfind(' ').expect("it has a body")]),
        shown(operation::AUTH_REPLY, 1, b""),
        shown(operation::HEARTBEAT, 1, b""),
        shown(operation::HEARTBEAT_REPLY, 1, &[0, 0, 0, 5]),
        shown(1000, 0, br#"{"test":1}"#),
    ] {
        assert!(document.contains(&bytes), "docs/protocol.md does not have {bytes}");
    }
    assert!(document.contains(&format!("the {} bytes of the token", token.len())));
    assert!(document.contains(&format!("`82{:02x} 37fa213d`", 0x80 | (16 + token.len()))));
}

#[test]
fn every_setting_is_documented() {
    generated("docs/config.md", "config", &format!("```toml\n{}```\n", print::defaults()));
    let document = fs::read_to_string(root().join("docs/config.md")).expect("it was just read");
    for key in table::keys() {
        assert!(document.contains(&format!("\n{} = ", key.name())), "docs/config.md does not know {key}");
    }
}

/// The table has what the crates say of their metrics, with the types that a running server gives them;
/// and a running server has these metrics and no other.
#[test]
fn every_metric_is_documented() {
    let comet =
        anser_comet::METRICS.iter().map(|metric| (format!("anser_comet_{}", metric.name), metric.help));
    let logic =
        anser_logic::METRICS.iter().map(|metric| (format!("anser_logic_{}", metric.name), metric.help));
    let http = anser_http::METRICS.iter().map(|metric| (format!("anser_http_{}", metric.name), metric.help));
    let (name, help) = anser_server::log::METRIC;
    let process = anser_server::process::METRICS.iter().map(|metric| (metric.name.to_owned(), metric.help));
    let job = anser_job::METRICS.iter().map(|metric| (format!("anser_job_{}", metric.name), metric.help));
    let store =
        anser_store::METRICS.iter().map(|metric| (format!("anser_store_{}", metric.name), metric.help));
    let own = [(name.to_owned(), help)];
    let roles = comet.chain(logic).chain(http).chain(job).chain(store);
    let metrics: Vec<(String, &str)> = roles.chain(process).chain(own).collect();

    let cluster = Cluster::start(&[]);
    let scrape = cluster.metrics();
    let types: BTreeMap<&str, &str> =
        scrape.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let named: BTreeSet<&str> = metrics.iter().map(|(name, _)| &**name).collect();
    let served: BTreeSet<&str> = types.keys().copied().collect();
    assert_eq!(served, named, "add what is served to METRICS of its crate, or serve what is in METRICS");

    let mut table = String::from("| name | type | meaning |\n|---|---|---|\n");
    for (name, help) in &metrics {
        let kind = types[&**name];
        let suffix = if kind == "counter" { "_total" } else { "" };
        let _ = writeln!(table, "| `{name}{suffix}` | {kind} | {} |", cell(help));
    }
    generated("docs/metrics.md", "metrics", &table);
}
