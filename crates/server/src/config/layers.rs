//! Defaults, file, environment, flags: later ones win, and every one of them is checked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize as _;

use super::problem::{Origin, Problem, Problems};
use super::table::{self, Key};
use super::value::{self, Given};
use super::{Config, file};

/// Variables of this prefix that are no settings: they say where the file is, where the data, and which key
/// `anser push` sends.
const NOT_SETTINGS: [&str; 3] = ["ANSER_CONFIG", "ANSER_DATA", "ANSER_KEY"];

/// What stands over the defaults.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The file, which must exist.
    pub file: Option<PathBuf>,
    /// The variables of the environment; those of others are passed over.
    pub env: Vec<(OsString, OsString)>,
    /// The arguments of `--set`, in their order.
    pub set: Vec<Assignment>,
}

/// A configuration that may be run with.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Where those come from that are no defaults.
    pub origins: BTreeMap<Key, Origin>,
}

impl Layers {
    /// Merges them. What is wrong in any layer is told at once, even if a later layer hides it, and so is
    /// what [`Config::check`] finds in the values that could be read.
    pub fn load(&self) -> Result<Loaded, Problems> {
        let mut given = match &self.file {
            Some(path) => read_file(path).map_err(|problem| Problems(vec![problem]))?,
            None => Vec::new(),
        };
        let mut env: Vec<_> = self.env.iter().collect();
        env.sort_unstable();
        given.extend(env.into_iter().filter_map(|(name, value)| read_variable(name, value)));
        given.extend(self.set.iter().map(Assignment::read));

        let mut problems = Vec::new();
        let mut merged = toml::Table::new();
        let mut origins = BTreeMap::new();
        for given in given {
            match given.and_then(Given::accepted) {
                Ok(Given { key, value, origin }) => {
                    section_of(&mut merged, key).insert(key.name().to_owned(), value);
                    origins.insert(key, origin);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let config = Config::deserialize(merged).expect("each value was accepted by its section");
        let mut complaints = config.check();
        if problems.is_empty() && complaints.is_empty() {
            return Ok(Loaded { config, origins });
        }
        if !problems.is_empty() {
            // A default that stands in for what could not be read is nobody's fault.
            complaints.retain(|complaint| origins.contains_key(&complaint.key));
        }
        problems.extend(complaints.into_iter().map(|complaint| complaint.placed(&origins)));
        // A stable sort: the layers stay in their order, the file's lines come in theirs.
        problems.sort_by_key(|problem| problem.origin.as_ref().map(Origin::place));
        Err(Problems(problems))
    }
}

fn section_of(merged: &mut toml::Table, key: Key) -> &mut toml::Table {
    let section = merged.entry(key.section().name).or_insert_with(|| toml::Table::new().into());
    section.as_table_mut().expect("only tables are inserted")
}

fn read_file(path: &Path) -> Result<Vec<Result<Given, Problem>>, Problem> {
    let text = fs::read_to_string(path).map_err(|error| Problem {
        origin: None,
        what: format!(
            "the configuration {} cannot be read ({})",
            path.display(),
            crate::failure::plain(&error)
        ),
        remedy: "name a file that can, or make one with `anser config > FILE`".to_owned(),
    })?;
    Ok(file::read(path, &text))
}

/// None for a variable of somebody else.
fn read_variable(name: &OsString, value: &OsString) -> Option<Result<Given, Problem>> {
    let shown = name.to_string_lossy();
    if !shown.starts_with(table::ENV_PREFIX) || NOT_SETTINGS.contains(&&*shown) {
        return None;
    }
    let origin = Origin::Env(shown.clone().into_owned());
    let Some(key) = Key::of_env(&shown) else {
        return Some(Err(unknown_variable(&shown, origin)));
    };
    Some(match value.to_str() {
        Some(value) => Ok(Given { key, value: value::read(key, value), origin }),
        None => Err(Problem::at(origin, "its value is not UTF-8", format!("write {key} in UTF-8"))),
    })
}

fn unknown_variable(variable: &str, origin: Origin) -> Problem {
    let words = variable.trim_start_matches(table::ENV_PREFIX).to_ascii_lowercase();
    let (section, name) = words.split_once('_').unwrap_or(("", &words));
    let remedy = match Key::nearest(Some(section), name) {
        Some(key) => format!("did you mean `{}`, which sets `{key}`?", key.env()),
        None => {
            "unset it, or see `anser config` for the keys; the variable is ANSER_<SECTION>_<KEY>".to_owned()
        }
    };
    Problem::at(origin, "no key has this variable", remedy)
}

pub(super) fn unknown_key(section: &str, name: &str, origin: Origin) -> Problem {
    let remedy = match Key::nearest(Some(section), name) {
        Some(key) => format!("did you mean `{key}`?"),
        None => "`anser config` lists every key".to_owned(),
    };
    Problem::at(origin, format!("unknown key `{section}.{name}`"), remedy)
}

/// The argument of `--set`: `section.key=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    section: String,
    name: String,
    value: String,
}

impl Assignment {
    fn read(&self) -> Result<Given, Problem> {
        let Self { section, name, value } = self;
        let origin = Origin::Flag(format!("{section}.{name}"));
        match Key::find(section, name) {
            Some(key) => Ok(Given { key, value: value::read(key, value), origin }),
            None => Err(unknown_key(section, name, origin)),
        }
    }
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(key, value)| Some((key.trim().split_once('.')?, value)));
        match parts {
            Some(((section, name), value)) => {
                Ok(Self { section: section.to_owned(), name: name.to_owned(), value: value.to_owned() })
            }
            None => Err("write section.key=VALUE, such as comet.queue=512".to_owned()),
        }
    }
}
