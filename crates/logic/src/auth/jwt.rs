//! Checking one token. Time is an argument, and nothing waits.

use std::sync::Arc;

use anser_api::id::UserId;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto;
use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::fault::{Fault, Reason};
use super::key::Key;
use super::verdict::{Verdict, number};

/// Most keys that one token is tried with: a check costs up to a tenth of a millisecond of a worker.
const TRIES: usize = 4;

/// The registered algorithms (RFC 7518, 8037, 9864): names that may be repeated to a client.
const NAMES: &[&str] = &[
    "none", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "ES256K",
    "PS256", "PS384", "PS512", "EdDSA", "Ed25519", "Ed448",
];

/// Keys to check with, as they are at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Arc<Key>>,
    /// Whether some come from a set (JWKS), where a token's `kid` says which.
    pub(super) named: bool,
    /// Whether some have not come yet, so that a token without a fitting one may be a good one.
    pub(super) lacking: bool,
    /// Whether newer ones could not be had the last time, so that the same holds for a new `kid`.
    pub(super) stale: bool,
}

/// What a token must say.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Its issuer. Empty: any.
    pub(super) issuer: String,
    /// Whom it must be for. Empty: anyone.
    pub(super) audience: String,
    /// How far the issuer's clock may be off, in seconds.
    pub(super) leeway: f64,
}

/// The part of a token's header that counts.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

/// What a token says of a client, if it is a good one. `now` is in seconds since 1970.
pub(super) fn check(token: &[u8], set: &KeySet, rules: &Rules, now: f64) -> Result<Verdict, Fault> {
    let payload = signed(token, set)?;
    let payload = decode(payload)?;
    let Ok(Value::Object(claims)) = serde_json::from_slice(&payload) else {
        return Err(Fault::new(Reason::Malformed, "the claims of the token are no JSON object"));
    };
    rules.check(&claims, now)?;
    let wrong =
        |field| Fault::new(Reason::Claim, format!("the claim {field} of the token has the wrong form"));
    let user = Some(user(&claims)?);
    Ok(Verdict { user, ..Verdict::read(&claims).map_err(wrong)? })
}

/// The claims of a token, still encoded, if somebody signed them whose key is here.
fn signed<'a>(token: &'a [u8], set: &KeySet) -> Result<&'a str, Fault> {
    let malformed = || {
        let text = "the token is no JWT: it needs three parts of base64url, with dots between";
        Fault::new(Reason::Malformed, text)
    };
    let token = str::from_utf8(token).map_err(|_| malformed())?;
    let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, payload) = message.split_once('.').ok_or_else(malformed)?;
    if payload.contains('.') {
        return Err(malformed());
    }
    let Ok(header) = serde_json::from_slice::<Header>(&decode(header)?) else {
        return Err(Fault::new(Reason::Malformed, "the header of the token is no JSON object with an alg"));
    };
    if header.crit.is_some() {
        return Err(Fault::new(
            Reason::Malformed,
            "the token demands an extension (crit), and none is known",
        ));
    }
    for key in candidates(&header, set)? {
        match crypto::verify(signature, message.as_bytes(), &key.material, key.algorithm) {
            Ok(true) => return Ok(payload),
            Err(error) if matches!(error.kind(), ErrorKind::Base64(_)) => return Err(malformed()),
            Ok(false) | Err(_) => {}
        }
    }
    Err(match unknown(&header, set) {
        Some(fault) => fault,
        None if set.lacking => lacking(),
        None => Fault::new(Reason::Signature, "the signature is wrong"),
    })
}

/// The keys that a token may be signed with.
fn candidates<'a>(header: &Header, set: &'a KeySet) -> Result<Vec<&'a Key>, Fault> {
    let algorithm = match &*header.alg {
        "HS256" => Some(Algorithm::HS256),
        "ES256" => Some(Algorithm::ES256),
        "RS256" => Some(Algorithm::RS256),
        "EdDSA" | "Ed25519" => Some(Algorithm::EdDSA),
        _ => None,
    };
    let Some(algorithm) = algorithm else { return Err(not_allowed(&header.alg)) };
    let named = |key: &Key| header.kid.is_none() || key.kid.is_none() || key.kid == header.kid;
    let fitting = set.keys.iter().map(|key| &**key).filter(|key| key.algorithm == algorithm && named(key));
    let fitting: Vec<_> = fitting.collect();
    match fitting.len() {
        0 if set.lacking => Err(lacking()),
        0 => Err(unknown(header, set).unwrap_or_else(|| not_allowed(&header.alg))),
        1..=TRIES => Ok(fitting),
        _ => Err(Fault::new(Reason::UnknownKey, "the token does not say which key it is signed with (kid)")),
    }
}

/// The fault of a token whose `kid` is in no set.
fn unknown(header: &Header, set: &KeySet) -> Option<Fault> {
    let unknown = set.named && header.kid.is_some() && !set.keys.iter().any(|key| key.kid == header.kid);
    unknown.then(|| {
        let fault = || Fault::new(Reason::UnknownKey, "no key with this kid");
        if set.stale || set.lacking { lacking() } else { fault() }
    })
}

fn lacking() -> Fault {
    Fault::new(Reason::Unavailable, "the keys that tokens are checked with cannot be had")
}

fn not_allowed(alg: &str) -> Fault {
    let text = match NAMES.iter().find(|name| name.eq_ignore_ascii_case(alg)) {
        Some(name) => format!("algorithm {name} is not allowed"),
        None => "the algorithm of the token is not known".to_owned(),
    };
    Fault::new(Reason::Algorithm, text)
}

fn decode(part: &str) -> Result<Vec<u8>, Fault> {
    let malformed = |_| Fault::new(Reason::Malformed, "a part of the token is not base64url");
    URL_SAFE_NO_PAD.decode(part).map_err(malformed)
}

impl Rules {
    fn check(&self, claims: &Map<String, Value>, now: f64) -> Result<(), Fault> {
        let fault = |reason, text: &'static str| Err(Fault::new(reason, text));
        let time = |name| claims.get(name).filter(|value| !value.is_null()).map(Value::as_f64);
        match time("exp") {
            Some(Some(exp)) if now < exp + self.leeway => {}
            Some(Some(_)) => return fault(Reason::Expired, "the token has expired"),
            Some(None) => return fault(Reason::Claim, "the claim exp of the token is no number"),
            None => return fault(Reason::Claim, "the token has no exp, and would be good for ever"),
        }
        match time("nbf") {
            Some(Some(nbf)) if now + self.leeway < nbf => {
                return fault(Reason::NotYet, "the token is not valid yet");
            }
            Some(None) => return fault(Reason::Claim, "the claim nbf of the token is no number"),
            _ => {}
        }
        if !self.issuer.is_empty() && claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return fault(Reason::Issuer, "the token is from another issuer");
        }
        let for_us = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(&self.audience)),
            one => one.and_then(Value::as_str) == Some(&self.audience),
        };
        if !self.audience.is_empty() && !for_us {
            return fault(Reason::Audience, "the token is for another audience");
        }
        Ok(())
    }
}

/// The user: `mid`, for issuers whose subjects are no numbers, or the subject.
fn user(claims: &Map<String, Value>) -> Result<UserId, Fault> {
    let named = ["mid", "sub"]
        .into_iter()
        .find_map(|name| claims.get(name).filter(|value| !value.is_null()).map(|value| (name, value)));
    let Some((name, value)) = named else {
        return Err(Fault::new(Reason::Claim, "the token names no user: it needs the claim sub or mid"));
    };
    number(value).and_then(UserId::parse).ok_or_else(|| {
        Fault::new(Reason::Claim, format!("the claim {name} of the token is not a whole number above 0"))
    })
}
