//! Keys that tokens are checked with. A key is for one algorithm, whatever a token asks for.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::agreement::{self, ECDH_P256, EphemeralPrivateKey};
use ring::rand::SystemRandom;
use serde::Deserialize;
use serde_json::Value;

/// Most keys of one set. A token without a `kid` is tried with several of them.
const MOST: usize = 64;

/// Shortest secret, in bytes, as RFC 7518 wants it for SHA-256.
const SHORTEST_SECRET: usize = 32;

/// RSA keys that are taken, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// One key.
pub(super) struct Key {
    /// Its name, if it has one.
    pub(super) kid: Option<String>,
    /// The one algorithm that it is for.
    pub(super) algorithm: Algorithm,
    pub(super) material: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {:?})", self.kid, self.algorithm)
    }
}

/// Who may be told secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A file of this machine.
    File,
    /// An address on the network: secrets are not fetched.
    Url,
}

impl Key {
    /// A secret for HS256.
    pub(super) fn secret(secret: &[u8]) -> Result<Self, String> {
        let material = DecodingKey::from_secret(secret);
        Self { kid: None, algorithm: Algorithm::HS256, material }.checked()
    }

    /// A public key in a PEM file. An error says what is wrong with it, and what would be right.
    pub(super) fn pem(pem: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(pem).map_err(|_| "it is not PEM")?;
        if text.contains("PRIVATE KEY-----") {
            return Err("it is a private key, which should not be here: take the public part of it, \
                        `openssl pkey -pubout -in FILE`"
                .to_owned());
        }
        if text.contains("CERTIFICATE-----") {
            return Err(
                "it is a certificate: take the key out of it, `openssl x509 -pubkey -noout -in FILE`"
                    .to_owned(),
            );
        }
        let as_ed = || Some((Algorithm::EdDSA, DecodingKey::from_ed_pem(pem).ok()?));
        let as_ec = || Some((Algorithm::ES256, DecodingKey::from_ec_pem(pem).ok()?));
        let as_rsa = || Some((Algorithm::RS256, DecodingKey::from_rsa_pem(pem).ok()?));
        let found = as_ed().or_else(as_ec).or_else(as_rsa);
        let (algorithm, material) = found
            .ok_or("it is not a public key in PEM (`-----BEGIN PUBLIC KEY-----`) of a kind known here")?;
        Self { kid: None, algorithm, material }.checked()
    }

    /// The same key, if it can work at all: said now, and not by every token.
    fn checked(self) -> Result<Self, String> {
        match (self.algorithm, self.material.kind()) {
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) if point.len() != 32 => {
                Err("it is no Ed25519 key, whose length is 32 bytes".to_owned())
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) if !is_on_p256(point) => {
                Err("it is no key of the curve P-256".to_owned())
            }
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) if secret.len() < SHORTEST_SECRET => {
                Err(format!("it has {} bytes, but needs {SHORTEST_SECRET}", secret.len()))
            }
            (Algorithm::RS256, kind) => {
                let bits = match kind {
                    DecodingKeyKind::SecretOrDer(der) => bits(modulus(der).unwrap_or_default()),
                    DecodingKeyKind::RsaModulusExponent { n, .. } => bits(n),
                };
                if RSA_BITS.contains(&bits) {
                    return Ok(self);
                }
                let (least, most) = RSA_BITS.into_inner();
                Err(format!("it is an RSA key of {bits} bits, but {least} to {most} are needed"))
            }
            _ => Ok(self),
        }
    }
}

/// Whether these bytes are an uncompressed point of the curve. ring finds out when it agrees on a secret with
/// whoever has it.
fn is_on_p256(point: &[u8]) -> bool {
    let ours = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new());
    let theirs = agreement::UnparsedPublicKey::new(&ECDH_P256, point);
    ours.is_ok_and(|ours| agreement::agree_ephemeral(ours, &theirs, |_| ()).is_ok())
}

fn bits(modulus: &[u8]) -> usize {
    let start = modulus.iter().position(|byte| *byte != 0).unwrap_or(modulus.len());
    let modulus = &modulus[start..];
    modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize)
}

/// The modulus in an RSA public key as PKCS #1 has it: the first number of a sequence.
fn modulus(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    content(content(der, SEQUENCE)?, INTEGER)
}

/// The content of the first element, if it has this tag.
fn content(der: &[u8], tag: u8) -> Option<&[u8]> {
    let rest = der.strip_prefix(&[tag])?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ ..0x80 => (short as usize, rest),
        long => {
            let (length, rest) = rest.split_at_checked((long & 0x7f) as usize)?;
            let length = length
                .iter()
                .try_fold(0_usize, |sum, byte| sum.checked_mul(256).map(|sum| sum + *byte as usize));
            (length?, rest)
        }
    };
    rest.get(..length)
}

/// A key in a set, as RFC 7517 has it. Others than these fields are skipped.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
}

impl Jwk {
    /// The key, or `None` if it is not for tokens, or of a kind that is not known here.
    fn key(self, from: From) -> Option<Result<Key, String>> {
        let checks = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let (algorithm, names) = match (&*self.kty, self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, &["EdDSA", "Ed25519"][..]),
            ("EC", Some("P-256")) => (Algorithm::ES256, &["ES256"][..]),
            ("RSA", _) => (Algorithm::RS256, &["RS256"][..]),
            ("oct", _) if from == From::File => (Algorithm::HS256, &["HS256"][..]),
            _ => return None,
        };
        let for_it = self.alg.as_deref().is_none_or(|alg| names.contains(&alg));
        (checks && for_it).then(|| {
            let material = self.decoded(algorithm).ok_or("a part of it is missing, or is not base64url")?;
            Key { kid: self.kid, algorithm, material }.checked()
        })
    }

    fn decoded(&self, algorithm: Algorithm) -> Option<DecodingKey> {
        let decode = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_ref()?).ok();
        // ring wants numbers without leading zeros.
        let number = |part| {
            let bytes = decode(part)?;
            let start = bytes.iter().position(|byte| *byte != 0)?;
            Some(bytes[start..].to_vec())
        };
        Some(match algorithm {
            Algorithm::EdDSA => DecodingKey::from_ed_der(&decode(&self.x)?),
            Algorithm::ES256 => {
                let point = [&[4], &*decode(&self.x)?, &*decode(&self.y)?].concat();
                DecodingKey::from_ec_der(&point)
            }
            Algorithm::RS256 => DecodingKey::from_rsa_raw_components(&number(&self.n)?, &number(&self.e)?),
            _ => DecodingKey::from_secret(&decode(&self.k)?),
        })
    }
}

/// The keys of a set. Those that are not for tokens are left out, and a set without any is an error. A key
/// that could not work is an error in a file, whose author can mend it, and left out from elsewhere.
pub(super) fn set(json: &[u8], from: From) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_slice(json).map_err(|cause| format!("it is not JSON ({cause})"))?;
    let Some(Value::Array(jwks)) = set.get("keys") else {
        return Err("it is no set of keys, an object such as {\"keys\":[..]}".to_owned());
    };
    let mut keys = Vec::new();
    for (at, jwk) in jwks.iter().enumerate() {
        // A key that does not have the form of one is as good as one of an unknown kind.
        let Ok(jwk) = Jwk::deserialize(jwk) else { continue };
        match jwk.key(from) {
            Some(Ok(key)) => keys.push(key),
            Some(Err(wrong)) if from == From::File => {
                return Err(format!("its key {} does not work: {wrong}", at + 1));
            }
            Some(Err(_)) | None => {}
        }
    }
    match keys.len() {
        0 => Err("it has no key for Ed25519, ES256 or RS256 tokens that works".to_owned()),
        1..=MOST => Ok(keys),
        n => Err(format!("it has {n} keys, more than {MOST}")),
    }
}
