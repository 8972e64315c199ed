//! How a value is written outside the file, and what a wrong one is told.

use std::net::SocketAddr;

use anser_api::settings::Span;
use toml::Value;

use super::problem::{Origin, Problem};
use super::table::Key;

/// One value, as some layer gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// Which setting.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// Who says so.
    pub origin: Origin,
}

impl Given {
    /// Whether the value has the type of its key. Tried alone, so that every wrong value is told.
    pub fn accepted(self) -> Result<Self, Problem> {
        let alone = toml::Table::from_iter([(self.key.name().to_owned(), self.value.clone())]);
        match (self.key.section().accepts)(alone) {
            Ok(()) => Ok(self),
            Err(error) => {
                let default = self.key.default_value();
                let what = format!(
                    "{} is {}, but must be {}",
                    self.key,
                    shown(&self.value),
                    expected(&default, error.message())
                );
                let remedy = format!("write it like its default, {default}");
                Err(Problem::at(self.origin, what, remedy))
            }
        }
    }
}

/// Reads a value from a flag or a variable: TOML if it is a TOML value, a string without quotes if not.
/// Where the key wants a list, words joined by commas are one.
pub fn read(key: Key, text: &str) -> Value {
    match text.trim().parse() {
        Ok(value @ Value::Array(_)) => value,
        _ if key.default_value().is_array() => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Value::Array(words.map(|word| Value::String(word.to_owned())).collect())
        }
        Ok(value) => value,
        Err(_) => Value::String(text.to_owned()),
    }
}

/// What would be right. The default's form tells more about it than serde's message does, except for the
/// choices of an enum and the width of a number.
fn expected(default: &Value, message: &str) -> String {
    if message.starts_with("unknown variant") {
        return message.rsplit("expected ").next().unwrap_or(message).replace('`', "\"");
    }
    let form = match default {
        Value::Integer(_) if message.contains("expected u32") => "a whole number from 0 to 4294967295",
        Value::Integer(_) => "a whole number, 0 or more",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::String(text) if Span::parse(text).is_ok() => "a duration (a whole number with ms, s, m or h)",
        Value::String(text) if text.parse::<SocketAddr>().is_ok() => "an IP address (not a name) with a port",
        Value::String(_) => "a string",
        Value::Array(_) if message.contains("socket address") => {
            "a list of IP addresses (not names) with ports"
        }
        Value::Array(_) => "a list",
        Value::Datetime(_) => "a date",
        Value::Table(_) => "a table",
    };
    form.to_owned()
}

/// The value on one line that a terminal can bear.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
