//! The secret that all processes of a cluster share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use tracing::warn;

use super::server::Counters;

/// Shortest secret, in characters. Sixteen by chance cannot be guessed over a network.
const SHORTEST: usize = 16;

/// Longest secret, in characters; it goes with every call.
const LONGEST: usize = 1024;

/// What the metadata has in front of the secret.
const BEARER: &[u8] = b"bearer ";

/// Why a text cannot be the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadSecret {
    /// It has too few or too many characters.
    #[error("the secret has {0} characters: use {SHORTEST} to {LONGEST}, by chance")]
    Length(usize),
    /// It has blanks or characters beyond ASCII, which do not pass in metadata.
    #[error("the secret has other characters than the visible ones of ASCII: use letters and digits")]
    Character,
}

/// Shows that a caller belongs to the cluster: each call carries it as `authorization: Bearer <secret>`.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a secret that can be one.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadSecret::Character);
        }
        if !(SHORTEST..=LONGEST).contains(&text.len()) {
            return Err(BadSecret::Length(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// What a call carries.
    pub(super) fn bearer(&self) -> MetadataValue<Ascii> {
        let text = format!("Bearer {}", self.0);
        let mut value =
            MetadataValue::try_from(text).unwrap_or_else(|_| MetadataValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }

    /// Whether the metadata of a call has it. The time that this takes tells the length at most.
    fn is_in(&self, value: &[u8]) -> bool {
        let Some((scheme, token)) = value.split_at_checked(BEARER.len()) else { return false };
        scheme.eq_ignore_ascii_case(BEARER) && bool::from(token.ct_eq(self.0.as_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Turns away calls without the secret, before anything of them is read.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Absent where everybody may call.
    pub(super) secret: Option<Secret>,
    pub(super) counters: Arc<Counters>,
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(secret) = &self.secret else { return Ok(request) };
        let value = request.metadata().get("authorization");
        if value.is_some_and(|value| secret.is_in(value.as_encoded_bytes())) {
            return Ok(request);
        }
        self.counters.unauthenticated.fetch_add(1, Ordering::Relaxed);
        if self.counters.unauthenticated_said.may_speak(Instant::now()) {
            let from = request.remote_addr();
            warn!(?from, "refused a gRPC call without the secret of this cluster");
        }
        let what = if value.is_some() { "wrong" } else { "missing" };
        Err(Status::unauthenticated(format!(
            "the secret of the cluster is {what}: send `authorization: Bearer <secret>` in the metadata"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_a_secret() {
        for (text, expected) in [
            ("0123456789abcdef", None),
            ("0123456789abcde", Some(BadSecret::Length(15))),
            ("", Some(BadSecret::Length(0))),
            ("0123456789 abcdef", Some(BadSecret::Character)),
            ("0123456789abcdef\n", Some(BadSecret::Character)),
            ("0123456789abcdefé", Some(BadSecret::Character)),
        ] {
            assert_eq!(Secret::parse(text).err(), expected, "{text}");
        }
        assert_eq!(Secret::parse(&"x".repeat(1025)).err(), Some(BadSecret::Length(1025)));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::parse("0123456789abcdef").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert!(!format!("{:?}", secret.bearer()).contains("0123456789abcdef"));
    }

    #[test]
    fn only_the_whole_secret_is_one() {
        let secret = Secret::parse("0123456789abcdef").unwrap();
        assert!(secret.is_in(secret.bearer().as_encoded_bytes()));
        assert!(secret.is_in(b"bearer 0123456789abcdef"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcdef0",
            "Basic  0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!secret.is_in(wrong.as_bytes()), "{wrong}");
        }
    }
}
