//! `Idempotency-Key`: by what a repeated request is known.

use std::time::UNIX_EPOCH;

use anser_api::job::Idempotency;
use anser_api::logic::Audience;
use axum::http::HeaderMap;
use sha2::{Digest as _, Sha256};

use super::request::{Checked, Expires};
use crate::access::Scope;
use crate::problem::{self, Problem};

/// The header.
const HEADER: &str = "idempotency-key";

/// Longest key.
const LONGEST: usize = 255;

/// What a request is known by, if it has a key.
#[derive(Debug)]
pub(super) struct Known {
    /// The key with its caller. A blank divides them, which neither can hold.
    key: String,
    digest: [u8; 32],
}

impl Known {
    pub(super) fn read(
        headers: &HeaderMap,
        scope: &Scope,
        request: &Checked,
    ) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let good = (1..=LONGEST).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
        match value.to_str() {
            Ok(key) if good && values.next().is_none() => {
                Ok(Some(Self { key: format!("{} {key}", scope.as_str()), digest: digest(request) }))
            }
            _ => {
                let told = format!(
                    "the header Idempotency-Key must stand there once, with 1 to {LONGEST} visible ASCII characters"
                );
                Err(Problem::new(&problem::MALFORMED, told))
            }
        }
    }

    /// For the nth push of the request. The first has the key itself, so another request with the same key
    /// meets it, however many pushes it has.
    pub(super) fn nth(&self, n: usize) -> Idempotency {
        let key = if n == 0 { self.key.clone() } else { format!("{} {n}", self.key) };
        Idempotency { key, digest: self.digest }
    }
}

/// A digest of what is asked for, however it was written: order of fields, blanks and escapes do not
/// count, nor does the way in which the body came.
fn digest(request: &Checked) -> [u8; 32] {
    let mut hash = Hash(Sha256::new_with_prefix("anser push 1"));
    hash.number(request.pushes.len() as u64);
    for (_, audience) in &request.pushes {
        match audience {
            Audience::Keys(keys) => {
                hash.part(b'k', keys.len() as u64);
                for key in keys {
                    hash.bytes(key.as_str().as_bytes());
                }
            }
            Audience::Users(users) => {
                hash.part(b'u', users.len() as u64);
                for user in users {
                    hash.number(user.0 as u64);
                }
            }
            Audience::Room(room) => {
                hash.part(b'r', 1);
                hash.bytes(room.as_str().as_bytes());
            }
            Audience::All { speed } => hash.part(b'a', (*speed).into()),
        }
    }
    hash.number(request.op as u64);
    hash.bytes(&request.body);
    match request.expires {
        None => hash.part(b'-', 0),
        Some(Expires::In(time)) => hash.part(b'i', time.as_nanos() as u64),
        Some(Expires::At(time)) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            hash.part(b't', since.as_nanos() as u64);
        }
    }
    hash.0.finalize().into()
}

/// Hashes parts so that no two lists of parts look the same.
struct Hash(Sha256);

impl Hash {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn part(&mut self, kind: u8, number: u64) {
        self.0.update([kind]);
        self.number(number);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }
}
