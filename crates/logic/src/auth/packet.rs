//! What a client brings: something that shows who it is, and what it would like to be.

use anser_api::logic::Connect;

use super::fault::{Fault, Reason};
use crate::token::{self, Token};

/// Longest authentication packet and longest cookie header, in bytes. A token with an RSA signature has
/// about 800; checking one costs time that grows with it.
const LONGEST: usize = 16 << 10;

/// An authentication packet in a mode in which clients have to show something.
#[derive(Debug)]
pub(super) struct Packet {
    /// What it shows. Empty: nothing.
    pub(super) token: Vec<u8>,
    /// What it says of itself beside that.
    pub(super) wishes: Token,
}

impl Packet {
    /// The body is a token as it stands, or goim's JSON with a field `token`.
    pub(super) fn read(request: &Connect) -> Result<Self, Fault> {
        let body = request.token.trim_ascii();
        if body.len() > LONGEST || request.cookie.as_ref().is_some_and(|cookie| cookie.len() > LONGEST) {
            let text = format!("what shows who you are is longer than {LONGEST} bytes");
            return Err(Fault::new(Reason::Packet, text));
        }
        if !body.starts_with(b"{") && body != b"null" {
            return Ok(Self { token: body.to_vec(), wishes: Token::default() });
        }
        let mut wishes = parse(body)?;
        let token = std::mem::take(&mut wishes.proof).into_bytes();
        Ok(Self { token, wishes })
    }
}

/// goim's JSON.
pub(super) fn parse(body: &[u8]) -> Result<Token, Fault> {
    Token::parse(body).map_err(|cause| Fault::new(Reason::Packet, token::told(&cause)))
}

/// The value of a cookie in a `Cookie` header. The first of equal names counts.
pub(super) fn cookie<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(other, _)| *other == name)?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        for (header, expected) in [
            ("t=1", Some("1")),
            ("a=b; t=x.y.z; c=d", Some("x.y.z")),
            ("a=b;t=\"q=\"", Some("q=")),
            ("t=1; t=2", Some("1")),
            ("xt=1; T=2", None),
            ("t=", None),
            ("t", None),
            ("", None),
        ] {
            assert_eq!(cookie(header, "t"), expected, "{header}");
        }
    }
}
