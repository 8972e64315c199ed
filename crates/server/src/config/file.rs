//! The file's layer: TOML, every key of which must be one that exists.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::layers;
use super::problem::{Excerpt, Origin, Problem};
use super::table::{self, Key};
use super::value::Given;

/// Everything that the file gives, in its order, or what is wrong with it.
pub(super) fn read(path: &Path, text: &str) -> Vec<Result<Given, Problem>> {
    let file = File { path, text };
    match DeTable::parse(text) {
        Ok(document) => file.document(document.get_ref()),
        Err(error) => vec![Err(file.syntax(&error))],
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

/// An answer, and where in the file what it is about begins.
type Found = (usize, Result<Given, Problem>);

impl File<'_> {
    fn document(&self, document: &DeTable<'_>) -> Vec<Result<Given, Problem>> {
        let mut found: Vec<Found> = Vec::new();
        for (name, value) in document {
            let span = name.span();
            match (table::section_named(name.get_ref()), value.get_ref()) {
                (Some(section), DeValue::Table(settings)) => self.section(section.name, settings, &mut found),
                (Some(section), _) => found.push((span.start, Err(self.not_a_section(section.name, span)))),
                (None, DeValue::Table(_)) => {
                    found.push((span.start, Err(self.unknown_section(name.get_ref(), span))));
                }
                (None, _) => found.push((span.start, Err(self.outside_sections(name.get_ref(), span)))),
            }
        }
        found.sort_by_key(|(start, _)| *start);
        found.into_iter().map(|(_, given)| given).collect()
    }

    fn section(&self, section: &str, settings: &DeTable<'_>, found: &mut Vec<Found>) {
        for (name, value) in settings {
            let given = match Key::find(section, name.get_ref()) {
                Some(key) => self.given(key, value),
                None => Err(layers::unknown_key(section, name.get_ref(), self.origin(name.span()))),
            };
            found.push((name.span().start, given));
        }
    }

    /// What parsed as TOML is a value, unless a number in it is out of every bound.
    fn given(&self, key: Key, value: &Spanned<DeValue<'_>>) -> Result<Given, Problem> {
        let origin = self.origin(value.span());
        let Ok(value) = Value::deserialize(value.clone().into_deserializer()) else {
            let remedy = format!("write it like its default, {}", key.default_value());
            return Err(Problem::at(origin, format!("{key} is too large a number"), remedy));
        };
        Ok(Given { key, value, origin })
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let origin = self.origin(error.span().unwrap_or_default());
        Problem::at(
            origin,
            format!("not TOML: {message}"),
            "correct the line; `anser config` prints a valid file",
        )
    }

    fn not_a_section(&self, section: &str, span: Range<usize>) -> Problem {
        let remedy = format!("write [{section}] and its keys on lines of their own");
        Problem::at(self.origin(span), format!("`{section}` is a section and takes no value"), remedy)
    }

    fn unknown_section(&self, name: &str, span: Range<usize>) -> Problem {
        let remedy = match table::nearest_section(name) {
            Some(section) => format!("did you mean [{section}]?"),
            None => format!("the sections are {}", table::section_list()),
        };
        Problem::at(self.origin(span), format!("unknown section [{name}]"), remedy)
    }

    fn outside_sections(&self, name: &str, span: Range<usize>) -> Problem {
        let remedy = match Key::nearest(None, name) {
            Some(key) => format!("did you mean `{key}`?"),
            None => format!("the sections are {}", table::section_list()),
        };
        Problem::at(self.origin(span), format!("`{name}` stands outside every section"), remedy)
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        Origin::File(Excerpt::new(self.path, self.text, span))
    }
}
