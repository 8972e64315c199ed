//! How a role declares its part of the configuration: a plain struct beside the code that it
//! configures, whose fields carry their documentation into `anser config`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key inside its section.
    pub name: &'static str,
    /// What it does, its unit and its bounds; one line for each line of the doc comment.
    pub doc: &'static [&'static str],
}

/// Declares a section of the configuration: a struct with serde, a default for each field, and the
/// table [`Setting`] of its keys. The doc comment of a field is its documentation for operators.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            /// The keys of this section, in the order of the file.
            pub const SETTINGS: &'static [$crate::settings::Setting] = &[
                $($crate::settings::Setting { name: stringify!($field), doc: &[$($doc),+] },)*
            ];
        }
    };
}

/// A duration as people write it: `250ms`, `8s`, `4m`, `2h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// Milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// Reads one number with its unit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad =
            || format!("`{text}` is no duration: write a whole number with ms, s, m or h, such as \"8s\"");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let scale = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        Ok(Self(Duration::from_millis(number.checked_mul(scale).ok_or_else(bad)?)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (number, unit) = [(3_600_000, "h"), (60_000, "m"), (1000, "s")]
            .into_iter()
            .find(|(scale, _)| millis > 0 && millis.is_multiple_of(*scale))
            .map_or((millis, "ms"), |(scale, unit)| (millis / scale, unit));
        write!(f, "{number}{unit}")
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, millis) in [("250ms", 250), ("8s", 8000), ("4m", 240_000), ("2h", 7_200_000), ("0ms", 0)] {
            let span = Span::parse(text).unwrap();
            assert_eq!(span.0.as_millis(), millis);
            assert_eq!(span.to_string(), text);
        }
        for text in ["", "8", "s", "8 days", "-1s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(Span::parse(text).unwrap_err().contains("is no duration"), "{text}");
        }
    }
}
