//! What a token or a back end says of a client, and what that leaves to the client.

use anser_api::id::UserId;
use serde_json::{Map, Value};

use super::Claims;
use super::fault::{Fault, Reason};
use crate::token::Token;

/// What somebody trusted says of a client. What is `None`, the client may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The user behind it, if any.
    pub(super) user: Option<UserId>,
    pub(super) key: Option<String>,
    pub(super) room_id: Option<String>,
    pub(super) accepts: Option<Vec<i32>>,
}

impl Verdict {
    /// Reads what binds a client out of a JSON object; the user is read by the caller. An error names the
    /// field.
    pub(super) fn read(fields: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |name| match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(_) => Err(name),
        };
        let accepts = match fields.get("accepts") {
            None | Some(Value::Null) => None,
            Some(Value::Array(ops)) => {
                let op = |op: &Value| op.as_i64().and_then(|op| i32::try_from(op).ok());
                Some(ops.iter().map(op).collect::<Option<_>>().ok_or("accepts")?)
            }
            Some(_) => return Err("accepts"),
        };
        Ok(Self { user: None, key: text("key")?, room_id: text("room_id")?, accepts })
    }

    /// Puts it together with what the client says of itself. Errors where the two differ.
    pub(super) fn merge(self, wishes: Token) -> Result<Claims, Fault> {
        let bound = |text| Err(Fault::new(Reason::Bound, text));
        // Not positive means none, as everywhere in goim.
        if UserId::parse(wishes.mid).is_some_and(|mid| Some(mid) != self.user) {
            return bound("mid is not the user that you are let in as: leave it out");
        }
        let key_is_bound = self.key.is_some();
        let Some(key) = agreed(self.key, wishes.key) else {
            return bound("key is not the one that you are let in with: leave it out");
        };
        let Some(room_id) = agreed(self.room_id, wishes.room_id) else {
            return bound("room_id is not the room that you are let in to: leave it out");
        };
        let accepts = match self.accepts {
            Some(allowed) if wishes.accepts.iter().any(|op| !allowed.contains(op)) => {
                return bound("accepts names an operation that you may not take: leave it out");
            }
            Some(allowed) if wishes.accepts.is_empty() => allowed,
            _ => wishes.accepts,
        };
        let (anser, dropped) = (wishes.anser, wishes.dropped);
        Ok(Claims { user: self.user, key, key_is_bound, room_id, accepts, anser, dropped })
    }
}

/// What is bound, if the client wants that or nothing; what it wants, if nothing is bound.
fn agreed(bound: Option<String>, wish: String) -> Option<String> {
    match bound {
        Some(bound) => (wish.is_empty() || wish == bound).then_some(bound),
        None => Some(wish),
    }
}

/// A number, written as one or as a string of digits.
pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Verdict, &'static str> {
        let fields: Map<String, Value> = serde_json::from_str(json).unwrap();
        Verdict::read(&fields)
    }

    /// The claims as `key bound room accepts`, or the field that is complained about.
    fn merged(verdict: &str, wishes: &str) -> String {
        let verdict = Verdict { user: UserId::parse(7), ..read(verdict).unwrap() };
        match verdict.merge(Token::parse(wishes.as_bytes()).unwrap()) {
            Ok(claims) => {
                format!("{} {} {} {:?}", claims.key, claims.key_is_bound, claims.room_id, claims.accepts)
            }
            Err(fault) => {
                assert_eq!(fault.reason, Reason::Bound);
                fault.to_string().split(' ').next().unwrap().to_owned()
            }
        }
    }

    #[test]
    fn what_is_bound_is_not_chosen() {
        for (verdict, wishes, expected) in [
            ("{}", "{}", " false  []"),
            ("{}", r#"{"mid":7,"key":"k","room_id":"a://b","accepts":[1]}"#, "k false a://b [1]"),
            (r#"{"key":"k","room_id":"a://b","accepts":[1,2]}"#, "{}", "k true a://b [1, 2]"),
            (
                r#"{"key":"k","room_id":"a://b","accepts":[1,2]}"#,
                r#"{"key":"k","room_id":"a://b"}"#,
                "k true a://b [1, 2]",
            ),
            (r#"{"key":"","room_id":null,"accepts":null}"#, r#"{"key":"k","accepts":[1]}"#, "k false  [1]"),
            (r#"{"accepts":[1,2]}"#, r#"{"accepts":[2]}"#, " false  [2]"),
            (r#"{"accepts":[]}"#, "{}", " false  []"),
            ("{}", r#"{"mid":8}"#, "mid"),
            ("{}", r#"{"mid":-8}"#, " false  []"),
            (r#"{"key":"k"}"#, r#"{"key":"K"}"#, "key"),
            (r#"{"room_id":"a://b"}"#, r#"{"room_id":"a://c"}"#, "room_id"),
            (r#"{"accepts":[1,2]}"#, r#"{"accepts":[2,3]}"#, "accepts"),
            (r#"{"accepts":[]}"#, r#"{"accepts":[3]}"#, "accepts"),
        ] {
            assert_eq!(merged(verdict, wishes), expected, "{verdict} {wishes}");
        }
    }

    #[test]
    fn fields_of_the_wrong_kind_are_named() {
        for (json, field) in [
            (r#"{"key":5}"#, "key"),
            (r#"{"room_id":["a://b"]}"#, "room_id"),
            (r#"{"accepts":7}"#, "accepts"),
            (r#"{"accepts":["7"]}"#, "accepts"),
            (r#"{"accepts":[2147483648]}"#, "accepts"),
            (r#"{"accepts":[1.5]}"#, "accepts"),
        ] {
            assert_eq!(read(json), Err(field));
        }
    }
}
