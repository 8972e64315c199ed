//! What the log of a folder holds, as `anser log` says.

use std::path::Path;

use anser_e2e::Process;
use serde_json::Value;

/// A push in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) position: u64,
    pub(super) body: String,
    pub(super) to: Value,
}

/// Every push in the log of a folder, in its order. A folder without a log has none.
pub(super) fn look(data: &Path) -> Result<Vec<Record>, String> {
    let ended = Process::run(&["log", "--json", "--body", "--data", &data.display().to_string()]);
    match ended.code {
        Some(0) => ended.stdout.lines().map(record).collect(),
        Some(69) if ended.stderr.contains("there is no push log in ") => Ok(Vec::new()),
        _ => Err(format!("`anser log` ends with {:?}: {}", ended.code, ended.stderr)),
    }
}

fn record(line: &str) -> Result<Record, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
    let text = |name: &str| value[name].as_str().ok_or_else(|| format!("no {name}: {line}"));
    let position = text("id")?.parse().map_err(|error| format!("{error}: {line}"))?;
    Ok(Record { position, body: text("body")?.to_owned(), to: value["to"].clone() })
}
