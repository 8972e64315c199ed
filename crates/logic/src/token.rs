//! goim's authentication JSON, read as Go's `encoding/json` reads it.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The protocol name by which a client asks for Anser's own operations.
const ANSER: &str = "anser/1";

/// What a client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Token {
    /// The user; not positive means none.
    pub(crate) mid: i64,
    /// The connection's own name; empty means that the server makes one.
    pub(crate) key: String,
    /// The room to start in; empty means none.
    pub(crate) room_id: String,
    /// Operations that it takes.
    pub(crate) accepts: Vec<i32>,
    /// It speaks `anser/1`.
    pub(crate) anser: bool,
    /// It wants to be told of dropped pushes.
    pub(crate) dropped: bool,
}

impl Token {
    /// Names match in any case, the last of equal names wins, unknown ones are skipped, and `null` is as
    /// good as absent, also for the whole.
    pub(crate) fn parse(token: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<Option<Self>>(token).map(Option::unwrap_or_default)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TokenVisitor)
    }
}

struct TokenVisitor;

impl<'de> Visitor<'de> for TokenVisitor {
    type Value = Token;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an object such as {\"mid\":1,\"key\":\"phone\",\"room_id\":\"live://1\",\"accepts\":[1000]}",
        )
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Token, A::Error> {
        let mut token = Token::default();
        while let Some(name) = map.next_key::<String>()? {
            match &name.to_lowercase()[..] {
                "mid" => set(&mut token.mid, map.next_value()?),
                "key" => set(&mut token.key, map.next_value()?),
                "room_id" => set(&mut token.room_id, map.next_value()?),
                "platform" => {
                    map.next_value::<Option<String>>()?;
                }
                "accepts" => {
                    if let Some(accepts) = map.next_value::<Option<Vec<Option<i32>>>>()? {
                        token.accepts = accepts.into_iter().map(Option::unwrap_or_default).collect();
                    }
                }
                "proto" => match map.next_value::<serde_json::Value>()?.as_str() {
                    Some(ANSER) => token.anser = true,
                    Some(other) if other.starts_with("anser/") => {
                        return Err(de::Error::custom(format_args!(
                            "protocol {other} is not spoken here: use {ANSER}"
                        )));
                    }
                    _ => {}
                },
                "dropped" => token.dropped = map.next_value::<serde_json::Value>()? == true,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(token)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_as_go_reads_it() {
        let check = |text: &str, expected: Token| {
            assert_eq!(Token::parse(text.as_bytes()).unwrap(), expected, "{text}");
        };
        let token = Token::default;
        check("null", token());
        check("{}", token());
        check(r#"{"mid":1,"unknown":{"mid":2}}"#, Token { mid: 1, ..token() });
        check(r#"{"MID":1,"mId":2}"#, Token { mid: 2, ..token() });
        check(r#"{"mid":1,"mid":null,"key":null,"accepts":null}"#, Token { mid: 1, ..token() });
        check(
            r#"{"mid":-5,"key":"a","room_id":"live://1","platform":"web"}"#,
            Token { mid: -5, key: "a".into(), room_id: "live://1".into(), ..token() },
        );
        check(r#"{"accepts":[1000,null,-1]}"#, Token { accepts: vec![1000, 0, -1], ..token() });
        check(r#"{"proto":"anser/1","dropped":true}"#, Token { anser: true, dropped: true, ..token() });
        check(r#"{"proto":17,"dropped":"yes"}"#, token());
        check(" {\"mid\" : 3}\n", Token { mid: 3, ..token() });
    }

    #[test]
    fn refused_as_go_refuses_it() {
        for text in [
            "",
            "1",
            "\"x\"",
            "[]",
            "{",
            r#"{"mid":"1"}"#,
            r#"{"mid":1.5}"#,
            r#"{"mid":1} x"#,
            r#"{"mid":9223372036854775808}"#,
            r#"{"key":1}"#,
            r#"{"room_id":[]}"#,
            r#"{"platform":1}"#,
            r#"{"accepts":[2147483648]}"#,
            r#"{"accepts":["1"]}"#,
            r#"{"accepts":1000}"#,
            r#"{"proto":"anser/2"}"#,
        ] {
            assert!(Token::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
