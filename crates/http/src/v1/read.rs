//! The fields of a push out of JSON: their names and types. What they mean is looked at in [`request`].
//!
//! [`request`]: super::request

use serde_json::{Map, Value};

use super::request::{All, ExpiresIn, PushRequest, To};
use crate::problem::Mistakes;

/// The fields of a push.
pub(super) const FIELDS: [&str; 6] = ["to", "operation", "body", "body_base64", "expires_in", "expires_at"];

/// The fields of a target, of which it has one.
const TARGETS: [&str; 4] = ["devices", "users", "rooms", "all"];

/// Reads a push, or says all that has a wrong name or type.
pub(super) fn push(json: Value) -> Result<PushRequest, Mistakes> {
    let mut mistakes = Mistakes::default();
    match Object::read(json, "", &FIELDS, &mut mistakes).and_then(|object| object.push(&mut mistakes)) {
        Some(push) if mistakes.is_empty() => Ok(push),
        _ => Err(mistakes),
    }
}

/// An object, whose fields are taken one by one. Null is as good as no field.
struct Object<'a> {
    /// Its own place.
    pointer: &'a str,
    fields: Map<String, Value>,
    /// There were fields that it does not have.
    strange: bool,
}

impl<'a> Object<'a> {
    /// Complains about fields that are not among those.
    fn read(value: Value, pointer: &'a str, known: &[&str], mistakes: &mut Mistakes) -> Option<Self> {
        let Value::Object(mut fields) = value else {
            mistakes.add(pointer, "must be an object");
            return None;
        };
        let mut strange = false;
        fields.retain(|name, value| {
            let is_known = known.contains(&&**name);
            if !is_known {
                strange = true;
                let names: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
                let message = format!("is no field here: there may be {}", names.join(", "));
                mistakes.add(&format!("{pointer}/{}", escape(name)), message);
            }
            is_known && !value.is_null()
        });
        Some(Self { pointer, fields, strange })
    }

    /// A field that may be absent, read by `read`.
    fn field<T>(
        &mut self,
        name: &str,
        mistakes: &mut Mistakes,
        read: impl FnOnce(Value, &str, &mut Mistakes) -> Option<T>,
    ) -> Option<T> {
        read(self.fields.remove(name)?, &format!("{}/{name}", self.pointer), mistakes)
    }

    fn push(mut self, mistakes: &mut Mistakes) -> Option<PushRequest> {
        for name in ["to", "operation"] {
            if !self.fields.contains_key(name) {
                mistakes.add(&format!("/{name}"), "is missing");
            }
        }
        let to = self.field("to", mistakes, target);
        let operation = self.field("operation", mistakes, integer);
        let body = self.field("body", mistakes, string);
        let body_base64 = self.field("body_base64", mistakes, string);
        let expires_in = self.field("expires_in", mistakes, expires_in);
        let expires_at = self.field("expires_at", mistakes, string);
        Some(PushRequest { to: to?, operation: operation?, body, body_base64, expires_in, expires_at })
    }
}

fn target(value: Value, pointer: &str, mistakes: &mut Mistakes) -> Option<To> {
    let mut object = Object::read(value, pointer, &TARGETS, mistakes)?;
    let mut names = object.fields.keys().cloned();
    let (Some(name), None) = (names.next(), names.next()) else {
        if !(object.strange && object.fields.is_empty()) {
            mistakes.add(pointer, "must have exactly one of `devices`, `users`, `rooms`, `all`");
        }
        return None;
    };
    match &*name {
        "devices" => object
            .field(&name, mistakes, |value, at, mistakes| list(value, at, mistakes, string))
            .map(|devices| To::Devices { devices }),
        "users" => object
            .field(&name, mistakes, |value, at, mistakes| list(value, at, mistakes, integer))
            .map(|users| To::Users { users }),
        "rooms" => object
            .field(&name, mistakes, |value, at, mistakes| list(value, at, mistakes, string))
            .map(|rooms| To::Rooms { rooms }),
        _ => object.field(&name, mistakes, all).map(|all| To::All { all }),
    }
}

fn all(value: Value, pointer: &str, mistakes: &mut Mistakes) -> Option<All> {
    let mut object = Object::read(value, pointer, &["speed"], mistakes)?;
    let speed = object.field("speed", mistakes, integer);
    Some(All { speed: speed.unwrap_or_default() })
}

fn list<T>(
    value: Value,
    pointer: &str,
    mistakes: &mut Mistakes,
    read: impl Fn(Value, &str, &mut Mistakes) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(items) = value else {
        mistakes.add(pointer, "must be a list");
        return None;
    };
    let items = items.into_iter().enumerate();
    Some(items.filter_map(|(n, item)| read(item, &format!("{pointer}/{n}"), mistakes)).collect())
}

fn string(value: Value, pointer: &str, mistakes: &mut Mistakes) -> Option<String> {
    if let Value::String(text) = value {
        return Some(text);
    }
    mistakes.add(pointer, "must be a string");
    None
}

#[expect(clippy::needless_pass_by_value, reason = "as all readers")]
fn integer<T: Bounded>(value: Value, pointer: &str, mistakes: &mut Mistakes) -> Option<T> {
    let number = value.as_i64().and_then(|number| T::try_from(number).ok());
    if number.is_none() {
        mistakes.add(pointer, format!("must be a whole number from {} to {}", T::LEAST, T::MOST));
    }
    number
}

/// A type of whole numbers.
trait Bounded: TryFrom<i64> {
    const LEAST: i64;
    const MOST: i64;
}

impl Bounded for i32 {
    const LEAST: i64 = i32::MIN as i64;
    const MOST: i64 = i32::MAX as i64;
}

impl Bounded for u32 {
    const LEAST: i64 = 0;
    const MOST: i64 = u32::MAX as i64;
}

impl Bounded for i64 {
    const LEAST: i64 = i64::MIN;
    const MOST: i64 = i64::MAX;
}

fn expires_in(value: Value, pointer: &str, mistakes: &mut Mistakes) -> Option<ExpiresIn> {
    match value {
        Value::String(text) => Some(ExpiresIn::Text(text)),
        Value::Number(number) => number.as_f64().map(ExpiresIn::Seconds),
        _ => {
            mistakes.add(pointer, "must be a duration such as \"30s\", or seconds as a number");
            None
        }
    }
}

/// A name inside a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
