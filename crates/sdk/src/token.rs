//! What a client shows to be let in.

use std::fmt;

use anser_wire::operation::Dialect;
use bytes::Bytes;
use serde::Serialize;

/// The body of the authentication request, and the dialect that it asks for.
///
/// goim's own authentication takes JSON, which [`Login`] builds. A server with an authenticator of
/// its own takes whatever that one wants: [`Token::raw`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    bytes: Bytes,
    dialect: Dialect,
    /// The room that it enters, empty for none; `None` when only the server knows.
    room: Option<Bytes>,
}

impl Token {
    /// Bytes for the authenticator of the server, for a connection that speaks goim.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), dialect: Dialect::Goim, room: None }
    }

    /// Bytes for the authenticator of the server, which makes it speak `anser/1`.
    pub fn raw_anser(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), dialect: Dialect::Anser, room: None }
    }

    /// The bytes that are sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Which operations the connection will know.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn room(&self) -> Option<Bytes> {
        self.room.clone()
    }
}

/// Without the bytes, which may be a secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes, {:?})", self.bytes.len(), self.dialect)
    }
}

/// Builds the JSON that goim's authentication takes. What is not named is not sent.
///
/// ```
/// use anser_sdk::{Login, Token};
///
/// let login = Login::new().mid(7).key("phone-7").room("live://1000").accepts([1000, 1001]).anser();
/// let token = Token::from(login);
/// assert_eq!(
///     token.bytes(),
///     r#"{"mid":7,"key":"phone-7","room_id":"live://1000","accepts":[1000,1001],"proto":"anser/1"}"#
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Login {
    #[serde(skip_serializing_if = "Option::is_none")]
    mid: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    room_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepts: Vec<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dropped: bool,
}

impl Login {
    /// An anonymous login: no user, a key of the server's choice, no room.
    pub fn new() -> Self {
        Self::default()
    }

    /// The user. Zero and less are nobody.
    #[must_use]
    pub fn mid(self, mid: i64) -> Self {
        Self { mid: Some(mid), ..self }
    }

    /// The key of this device. A second connection with the same key replaces the first.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self }
    }

    /// The room to start in, `type://id`.
    #[must_use]
    pub fn room(self, room: impl Into<String>) -> Self {
        Self { room_id: room.into(), ..self }
    }

    /// The kind of device. goim reads it and does nothing with it.
    #[must_use]
    pub fn platform(self, platform: impl Into<String>) -> Self {
        Self { platform: platform.into(), ..self }
    }

    /// Operations whose pushes to the key, the user and everyone are wanted. Rooms are not filtered.
    #[must_use]
    pub fn accepts(self, ops: impl IntoIterator<Item = i32>) -> Self {
        Self { accepts: ops.into_iter().collect(), ..self }
    }

    /// Speaks `anser/1`: several rooms, refusals with a reason, notice of draining. A goim server
    /// takes no notice of it, and answers none of those.
    #[must_use]
    pub fn anser(self) -> Self {
        Self { proto: Some("anser/1"), ..self }
    }

    /// Asks to be told how many pushes were lost when this client reads too slowly. That needs
    /// `anser/1`, so it asks for that too.
    #[must_use]
    pub fn dropped(self) -> Self {
        Self { dropped: true, ..self.anser() }
    }
}

impl From<Login> for Token {
    fn from(login: Login) -> Self {
        let dialect = if login.proto.is_some() { Dialect::Anser } else { Dialect::Goim };
        let bytes = serde_json::to_vec(&login).expect("numbers, texts and lists are JSON");
        Self { bytes: bytes.into(), dialect, room: Some(login.room_id.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_what_was_named() {
        let check = |login: Login, json: &str, dialect| {
            let token = Token::from(login);
            assert_eq!((&token.bytes()[..], token.dialect()), (json.as_bytes(), dialect));
        };
        check(Login::new(), "{}", Dialect::Goim);
        check(Login::new().mid(-1), r#"{"mid":-1}"#, Dialect::Goim);
        check(
            Login::new().platform("ios").key("say \"hi\""),
            r#"{"key":"say \"hi\"","platform":"ios"}"#,
            Dialect::Goim,
        );
        check(Login::new().dropped(), r#"{"proto":"anser/1","dropped":true}"#, Dialect::Anser);
    }

    #[test]
    fn secrets_are_not_printed() {
        let token = Token::raw_anser("secret");
        assert_eq!(format!("{token:?}"), "Token(6 bytes, Anser)");
    }
}
