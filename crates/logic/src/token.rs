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
    /// What shows who it is, where it has to show that; empty means nothing. goim has no such field.
    pub(crate) proof: String,
}

impl Token {
    /// Names match in any case, the last of equal names wins, unknown ones are skipped, and `null` is as
    /// good as absent, also for the whole. What is no text stands for U+FFFD.
    pub(crate) fn parse(token: &[u8]) -> Result<Self, serde_json::Error> {
        let parse =
            |token: &[u8]| serde_json::from_slice::<Option<Self>>(token).map(Option::unwrap_or_default);
        parse(token).or_else(|cause| parse(&mended(token)).map_err(|_| cause))
    }
}

/// What is wrong with a token, without any part of it: tokens are secrets, and this goes into logs.
pub(crate) fn told(cause: &serde_json::Error) -> String {
    let text = cause.to_string();
    let quoted = text.split_once(['"', '`']).zip(text.rsplit_once(", expected"));
    match quoted {
        Some(((before, _), (_, expected))) if text.starts_with("invalid") => {
            format!("{}, expected{expected}", before.trim_end())
        }
        _ => text,
    }
}

/// Puts U+FFFD for each byte that is not UTF-8 and for each escaped half of a surrogate pair, as Go's
/// decoder does and serde's does not.
fn mended(token: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    for chunk in token.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    let mut mended = String::new();
    let mut rest = &text[..];
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let len = match (surrogate(escape), surrogate(escape.get(6..).unwrap_or_default())) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(_), _) => {
                mended.push(char::REPLACEMENT_CHARACTER);
                rest = &escape[6..];
                continue;
            }
            // The character behind the backslash may be another one.
            (None, _) => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&escape[..len]);
        rest = &escape[len..];
    }
    mended.push_str(rest);
    mended.into_bytes()
}

/// The half of a surrogate pair that an escape at the beginning of `text` stands for.
fn surrogate(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let unit = u16::from_str_radix(digits, 16).ok()?;
    (0xd800..0xe000).contains(&unit).then_some(unit)
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
                // Whatever else a client of goim may have there, it was skipped before.
                "token" => {
                    if let serde_json::Value::String(text) = map.next_value()? {
                        token.proof = text;
                    }
                }
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
        check(r#"{"token":"e.y.J"}"#, Token { proof: "e.y.J".into(), ..token() });
        check(r#"{"token":{"mid":7}}"#, token());
        check(" {\"mid\" : 3}\n", Token { mid: 3, ..token() });
        check(r#"{"key":"\ud83d\ude00\n\\ud800"}"#, Token { key: "😀\n\\ud800".into(), ..token() });
        check(r#"{"key":"\ud800"}"#, Token { key: "\u{fffd}".into(), ..token() });
        check(
            r#"{"key":"a\ude00\ud83db\ud83d\ud83d\ude00\\"}"#,
            Token { key: "a\u{fffd}\u{fffd}b\u{fffd}😀\\".into(), ..token() },
        );
        let latin = b"{\"key\":\"\xe9\xe2\x82\",\"platform\":\"\xff\"}";
        assert_eq!(Token::parse(latin).unwrap(), Token { key: "\u{fffd}\u{fffd}\u{fffd}".into(), ..token() });
    }

    #[test]
    fn what_is_wrong_is_told_without_the_token() {
        for (token, expected) in [
            (r#"{"mid":"se\"cret, expected x"}"#, "invalid type: string, expected i64 at line 1 column 29"),
            (r#"{"mid":77.5}"#, "invalid type: floating point, expected i64 at line 1 column 11"),
            (r#"{"accepts":[99999999999]}"#, "invalid value: integer, expected i32 at line 1 column 23"),
            ("secret", "expected value at line 1 column 1"),
        ] {
            assert_eq!(told(&Token::parse(token.as_bytes()).unwrap_err()), expected);
        }
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
            r#"{"key":"\ud80"}"#,
            r#"{"key":"\"#,
            "\u{fffd}",
        ] {
            assert!(Token::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
