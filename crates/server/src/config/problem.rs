//! What is wrong with a configuration, and where it stands.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file.
    File(Excerpt),
    /// In an environment variable.
    Env(String),
    /// In `--set`, for this key.
    Flag(String),
}

impl Origin {
    /// For an order: the layers, and in the file the lines.
    pub(super) fn place(&self) -> (u8, usize) {
        match self {
            Self::File(excerpt) => (0, excerpt.line),
            Self::Env(_) => (1, 0),
            Self::Flag(_) => (2, 0),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(excerpt) => write!(f, "{}:{}", excerpt.path.display(), excerpt.line),
            Self::Env(variable) => f.write_str(variable),
            Self::Flag(key) => write!(f, "--set {key}"),
        }
    }
}

/// A place in a file, with the line's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    path: PathBuf,
    /// Counted from 1.
    line: usize,
    text: String,
    /// What is meant inside the line, in bytes.
    span: Range<usize>,
}

impl Excerpt {
    /// The line of the text in which the span starts. A span over several lines is cut at the first end.
    pub fn new(path: &Path, text: &str, span: Range<usize>) -> Self {
        let at =
            |offset: usize| (0..=offset.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let (start, end) = (at(span.start), at(span.end));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        Self {
            path: path.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            text: text[line_start..line_end].trim_end().to_owned(),
            span: start - line_start..end.clamp(start, line_end) - line_start,
        }
    }
}

/// The line, and carets under what is meant. A tab stays a tab, so that the carets stand right.
impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.span.start).unwrap_or(&self.text);
        let marked = self.text.get(self.span.clone()).unwrap_or_default();
        let indent: String = before.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
        let carets = "^".repeat(marked.chars().count().max(1));
        writeln!(f, "{:>5} | {}", self.line, self.text)?;
        write!(f, "{:>5} | {indent}{carets}", "")
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; none for what nobody set.
    pub origin: Option<Origin>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// A problem with something that was given.
    pub fn at(origin: Origin, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { origin: Some(origin), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}: {}", self.what, self.remedy)?;
        match &self.origin {
            Some(Origin::File(excerpt)) => write!(f, "\n{excerpt}"),
            _ => Ok(()),
        }
    }
}

/// All that is wrong, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
