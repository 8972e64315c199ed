//! What a check found, and how all of it is told.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Nothing is wrong; somebody may want to know.
    Note,
    /// It runs, but not as well or as safely as its operator may think.
    Warning,
    /// It does not run, or does not do what it is there for.
    Problem,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// One line.
    pub(super) found: String,
    /// What to do, in one line; none where there is nothing to do.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
    /// How the command ends if this is a problem.
    #[serde(skip)]
    exit: Exit,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), remedy: None, exit: Exit::Ok }
    }

    pub(super) fn note(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Note, remedy: Some(remedy.into()), ..Self::ok(check, found) }
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::note(check, found, remedy) }
    }

    pub(super) fn problem(
        check: &'static str,
        exit: Exit,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Problem, exit, ..Self::note(check, found, remedy) }
    }
}

/// A failure's message, `what: remedy`, in its parts.
pub(super) fn parts(failure: &Failure) -> (String, String) {
    let text = failure.to_string();
    match text.rsplit_once(": ") {
        Some((what, remedy)) => (what.to_owned(), remedy.to_owned()),
        None => (text, String::new()),
    }
}

/// What a server with these settings promises, in one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Promise {
    pub(super) promise: &'static str,
    pub(super) answer: String,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
    /// None when the configuration is not known.
    pub(super) promises: Vec<Promise>,
}

impl Report {
    /// How the command ends: as its first problem says.
    pub(super) fn exit(&self) -> Exit {
        let first = self.findings.iter().find(|finding| finding.level == Level::Problem);
        first.map_or(Exit::Ok, |problem| problem.exit)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Finding { check, level, found, remedy, .. } in &self.findings {
            let _ = writeln!(text, "{:<8} {check:<14} {found}", level.name());
            if let Some(remedy) = remedy {
                let _ = writeln!(text, "{:<23} -> {remedy}", "");
            }
        }
        if !self.promises.is_empty() {
            text.push_str("\nWhat these settings promise:\n");
        }
        for Promise { promise, answer } in &self.promises {
            let _ = writeln!(text, "  {promise:<28} {answer}");
        }
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "findings": self.findings,
            "promises": self.promises,
            "exit": self.exit() as u8,
        })
    }

    fn summary(&self) -> String {
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let some = [Level::Problem, Level::Warning, Level::Note].map(|level| (count(level), level.name()));
        let some: Vec<String> = some
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, name)| format!("{n} {name}{}", if n == 1 { "" } else { "s" }))
            .collect();
        if some.is_empty() { "Nothing to complain of.".to_owned() } else { format!("{}.", some.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            findings: vec![
                Finding::ok("clock", "right"),
                Finding::warning("folder", "in memory", "move it"),
                Finding::problem("ports", Exit::Unavailable, "taken", "free it"),
                Finding::problem("disk", Exit::System, "full", "empty it"),
            ],
            promises: vec![Promise { promise: "survives kill -9", answer: "yes".into() }],
        }
    }

    #[test]
    fn the_first_problem_is_the_exit_code() {
        assert_eq!(report().exit(), Exit::Unavailable);
        let mut harmless = report();
        harmless.findings.truncate(2);
        assert_eq!(harmless.exit(), Exit::Ok);
    }

    #[test]
    fn text() {
        assert_eq!(
            report().text(),
            "\
ok       clock          right
warning  folder         in memory
                        -> move it
problem  ports          taken
                        -> free it
problem  disk           full
                        -> empty it

What these settings promise:
  survives kill -9             yes

2 problems, 1 warning.
"
        );
        assert_eq!(Report::default().text(), "\nNothing to complain of.\n");
    }

    #[test]
    fn json_has_the_same() {
        let json = report().json();
        assert_eq!(json["exit"], 69);
        assert_eq!(json["findings"][0], json!({"check": "clock", "level": "ok", "found": "right"}));
        assert_eq!(json["findings"][1]["do"], "move it");
        assert_eq!(json["promises"][0]["answer"], "yes");
    }
}
