//! JSON as Go's `encoding/json` writes it.

use std::fmt::Write as _;

/// An object under construction.
#[derive(Debug)]
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a field that is JSON already.
    pub(super) fn raw(mut self, name: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        escape(name, &mut self.0);
        self.0.push(':');
        self.0.push_str(json);
        self
    }

    pub(super) fn text(self, name: &str, value: &str) -> Self {
        self.raw(name, &text(value))
    }

    pub(super) fn number(self, name: &str, value: impl Into<i128>) -> Self {
        self.raw(name, &value.into().to_string())
    }

    pub(super) fn texts<'a>(self, name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        self.raw(name, &list(values.into_iter().map(text)))
    }

    /// Adds a field unless it is empty: Go's `omitempty`.
    pub(super) fn text_if(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.text(name, value) }
    }

    /// See [`Self::text_if`].
    pub(super) fn number_if(self, name: &str, value: impl Into<i128>) -> Self {
        let value = value.into();
        if value == 0 { self } else { self.number(name, value) }
    }

    /// See [`Self::text_if`].
    pub(super) fn float_if(self, name: &str, value: f32) -> Self {
        if value == 0.0 { self } else { self.raw(name, &float(value)) }
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A list of what is JSON already.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    escape(text, &mut out);
    out
}

/// A finite `float32`: the shortest digits that give the same number, with an exponent where Go has one.
fn float(value: f32) -> String {
    if (1e-6..1e21).contains(&value.abs()) || value == 0.0 {
        return value.to_string();
    }
    let text = format!("{value:e}");
    if value.abs() < 1.0 { text } else { text.replace('e', "e+") }
}

/// Writes a string with its quotes.
fn escape(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_as_go_escapes() {
        assert_eq!(text("a\"b\\c\n<d>&é\u{1}\u{2028}"), r#""a\"b\\c\n\u003cd\u003e\u0026é\u0001\u2028""#);
    }

    #[test]
    fn floats_as_go_writes_them() {
        for (value, expected) in [
            (1.8, "1.8"),
            (0.3, "0.3"),
            (2.0, "2"),
            (0.1 + 0.2, "0.3"),
            (-1.5, "-1.5"),
            (0.0, "0"),
            (1_000_000.0, "1000000"),
            (1e-6, "0.000001"),
            (2.5e-7, "2.5e-7"),
            (1e21, "1e+21"),
            (16_777_216.0, "16777216"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn objects() {
        let inner = Object::new().number_if("zero", 0).text_if("empty", "").float_if("none", 0.0).end();
        assert_eq!(inner, "{}");
        let object = Object::new().raw("a<", &inner).number("b", -1).texts("c", ["x", "&"]).texts("d", []);
        assert_eq!(object.end(), r#"{"a\u003c":{},"b":-1,"c":["x","\u0026"],"d":[]}"#);
    }
}
