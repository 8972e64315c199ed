//! A query string, bound to fields as goim's web framework binds it, with the same words for errors.

use std::num::IntErrorKind;

/// The pairs of a query string, decoded.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// All values of a name, in order. Commas do not split.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| &value[..])
    }

    /// The first value of a name.
    pub(crate) fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The first value as a number; absent and empty are 0.
    pub(crate) fn int32(&self, name: &str) -> Result<i32, String> {
        int(self.first(name), str::parse)
    }

    /// The first value as a wide number; absent and empty are 0.
    pub(crate) fn int64(&self, name: &str) -> Result<i64, String> {
        int(self.first(name), str::parse)
    }

    /// All values as numbers.
    pub(crate) fn int64s(&self, name: &str) -> Result<Vec<i64>, String> {
        self.all(name).map(|value| int(value, str::parse)).collect()
    }
}

fn int<T: Default>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, std::num::ParseIntError>,
) -> Result<T, String> {
    if text.is_empty() {
        return Ok(T::default());
    }
    parse(text).map_err(|cause| {
        let why = match cause.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {why}")
    })
}

/// The complaint about required fields that are zero or empty; `missing` holds their names in Go.
pub(crate) fn required(missing: &[(&str, bool)]) -> Result<(), String> {
    let complaints: Vec<String> = missing
        .iter()
        .filter(|(_, absent)| *absent)
        .map(|(name, _)| {
            format!("Key: '{name}' Error:Field validation for '{name}' failed on the 'required' tag")
        })
        .collect();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let query = Query::parse("a=5&b=&c=x&d=2147483648&e=-1&e=2&e=&f=1,2&g=+3&h=%2B3");
        assert_eq!(query.int32("a"), Ok(5));
        assert_eq!(query.int32("b"), Ok(0));
        assert_eq!(query.int32("absent"), Ok(0));
        assert_eq!(query.int32("c"), Err(r#"strconv.ParseInt: parsing "x": invalid syntax"#.into()));
        assert_eq!(
            query.int32("d"),
            Err(r#"strconv.ParseInt: parsing "2147483648": value out of range"#.into())
        );
        assert_eq!(query.int64s("e"), Ok(vec![-1, 2, 0]));
        assert_eq!(query.int64s("f"), Err(r#"strconv.ParseInt: parsing "1,2": invalid syntax"#.into()));
        assert!(query.int32("g").is_err(), "an unescaped plus is a blank");
        assert_eq!(query.int32("h"), Ok(3));
    }

    #[test]
    fn required_fields_are_named_together() {
        assert_eq!(required(&[("Op", false), ("Type", false)]), Ok(()));
        assert_eq!(
            required(&[("Op", true), ("Type", false), ("Room", true)]).unwrap_err(),
            "Key: 'Op' Error:Field validation for 'Op' failed on the 'required' tag\n\
             Key: 'Room' Error:Field validation for 'Room' failed on the 'required' tag"
        );
    }
}
