//! The configuration as a file.

use std::fmt::Write as _;

use super::Config;
use super::layers::Loaded;
use super::table::{self, Key, SECTIONS};

const HEAD: &str = "\
# Anser's configuration: every key with its default. A key that is left out keeps its default, so a
# file needs only what differs. Later ones win: this file, ANSER_<SECTION>_<KEY> in the environment,
# --set section.key=VALUE. Durations are whole numbers with ms, s, m or h.
";

/// Every key with its documentation and its default; a valid file.
pub fn defaults() -> String {
    let mut file = HEAD.to_owned();
    for section in SECTIONS {
        let values = (section.defaults)();
        let _ = write!(file, "\n# {}\n[{}]\n", section.doc, section.name);
        for setting in section.settings {
            file.push('\n');
            for line in setting.doc {
                let _ = writeln!(file, "# {}", line.trim());
            }
            let _ = writeln!(file, "{} = {}", setting.name, values[setting.name]);
        }
    }
    file
}

/// Every key with its value, and where it comes from if it is no default; a valid file.
pub fn effective(loaded: &Loaded) -> String {
    let values = table::to_table::<Config>(&loaded.config);
    let mut file = String::new();
    for section in SECTIONS {
        if !file.is_empty() {
            file.push('\n');
        }
        let _ = writeln!(file, "[{}]", section.name);
        for key in section.keys() {
            let value = &values[section.name][key.name()];
            let _ = writeln!(file, "{} = {value}{}", key.name(), origin(loaded, key));
        }
    }
    file
}

fn origin(loaded: &Loaded, key: Key) -> String {
    loaded.origins.get(&key).map(|origin| format!(" # {origin}")).unwrap_or_default()
}
