//! Every section and key that there is. What reads, checks, prints or suggests a key goes through here.

use std::fmt;

use anser_api::settings::Setting;
use serde::Serialize;
use serde::de::DeserializeOwned;
use strsim::damerau_levenshtein;

use super::{Cluster, Log, Store};

/// The sections, in the order of the file.
pub const SECTIONS: &[Section] = &[
    Section::of::<anser_comet::Config>(
        "comet",
        "The edge: it accepts clients, holds their connections and writes pushes to them.",
        anser_comet::Config::SETTINGS,
    ),
    Section::of::<anser_logic::Config>(
        "logic",
        "Who is where, and may they: authentication, sessions, routes.",
        anser_logic::Config::SETTINGS,
    ),
    Section::of::<anser_http::Config>(
        "http",
        "The HTTP API for back ends, health and metrics.",
        anser_http::Config::SETTINGS,
    ),
    Section::of::<anser_job::Config>(
        "job",
        "From the push log to the comets: lanes, patience, repetitions.",
        anser_job::Config::SETTINGS,
    ),
    Section::of::<Store>("store", "The push log on disk.", Store::SETTINGS),
    Section::of::<Cluster>("cluster", "Roles in processes of their own.", Cluster::SETTINGS),
    Section::of::<Log>("log", "What the process says about itself.", Log::SETTINGS),
];

/// The names of environment variables start with this.
pub const ENV_PREFIX: &str = "ANSER_";

/// One `[section]` of the file.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it configures, in one line.
    pub doc: &'static str,
    /// Its keys, in the order of the file.
    pub settings: &'static [Setting],
    /// Its values, when nobody sets any.
    pub defaults: fn() -> toml::Table,
    /// Whether these of its values have the right types.
    pub accepts: fn(toml::Table) -> Result<(), toml::de::Error>,
}

impl Section {
    const fn of<T: Default + Serialize + DeserializeOwned>(
        name: &'static str,
        doc: &'static str,
        settings: &'static [Setting],
    ) -> Self {
        Self {
            name,
            doc,
            settings,
            defaults: || to_table(&T::default()),
            accepts: |values| T::deserialize(values).map(drop),
        }
    }

    /// Its keys.
    pub fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        let section = self.name;
        self.settings.iter().map(move |setting| Key { section, name: setting.name })
    }
}

/// A struct of values as TOML.
pub(crate) fn to_table<T: Serialize>(section: &T) -> toml::Table {
    toml::Table::try_from(section).expect("sections are structs of values that TOML knows")
}

/// The name of a setting. Only the table makes one, so it always exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    section: &'static str,
    name: &'static str,
}

impl Key {
    /// The key of this name, if there is one.
    pub fn find(section: &str, name: &str) -> Option<Self> {
        keys().find(|key| key.section == section && key.name == name)
    }

    /// The key that this environment variable sets, if there is one.
    pub fn of_env(variable: &str) -> Option<Self> {
        keys().find(|key| key.env() == variable)
    }

    /// The key that was probably meant, over all sections; none if nothing is near. Between keys that
    /// are as near, the nearer section wins.
    pub fn nearest(section: Option<&str>, name: &str) -> Option<Self> {
        let section = section.unwrap_or_default();
        keys().filter(|key| near(name, key.name)).min_by_key(|key| {
            (damerau_levenshtein(name, key.name), damerau_levenshtein(section, key.section))
        })
    }

    /// Its section.
    pub fn section(&self) -> &'static Section {
        section_named(self.section).expect("a key is made from its section")
    }

    /// Its name inside the section.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The environment variable that sets it.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}_{}", self.section, self.name).to_ascii_uppercase()
    }

    /// Its value when nobody sets it.
    pub fn default_value(&self) -> toml::Value {
        (self.section().defaults)().remove(self.name).expect("every setting has a default")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.name)
    }
}

/// Every key.
pub fn keys() -> impl Iterator<Item = Key> {
    SECTIONS.iter().flat_map(Section::keys)
}

/// The section of this name, if there is one.
pub fn section_named(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The section that was probably meant; none if nothing is near.
pub fn nearest_section(name: &str) -> Option<&'static str> {
    SECTIONS
        .iter()
        .map(|section| section.name)
        .filter(|known| near(name, known))
        .min_by_key(|known| damerau_levenshtein(name, known))
}

/// The names of the sections, for a message.
pub fn section_list() -> String {
    let names: Vec<String> = SECTIONS.iter().map(|section| format!("[{}]", section.name)).collect();
    names.join(", ")
}

/// A third of the letters may be wrong: `pushbody` means `push_body`, but `foo` does not mean `body`.
fn near(given: &str, known: &str) -> bool {
    damerau_levenshtein(given, known) * 3 <= given.chars().count().max(known.len())
}
