//! Who may use the API: back ends that have a key. What clients call, and what says how the server is,
//! needs none.

mod guesses;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::metrics::{Metrics, Refused};
use crate::problem::{self, seconds};
use crate::surface;
use guesses::Guesses;

/// Bytes of a key's digest that name the caller in idempotency keys.
const SCOPE: usize = 8;

/// The keys that are good. It holds their digests alone, so no log and no dump has a key in it.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Takes the keys themselves. Without any nobody gets in.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(keys.into_iter().map(|key| Sha256::digest(key).into()).collect())
    }

    /// Who has this key, if it is one. Takes as long for a wrong key as for a good one: digests are
    /// compared in constant time, and all of them are.
    fn scope(&self, key: &[u8]) -> Option<Scope> {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let good = self.0.iter().fold(Choice::from(0), |good, known| good | known.ct_eq(&digest));
        bool::from(good).then(|| Scope(hex(&digest[..SCOPE]).into()))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|n| char::from(b"0123456789abcdef"[n as usize]))
        .collect()
}

/// Whose request it is, as far as idempotency keys go: two back ends with keys of their own may use the
/// same ones. Goes along with each request that was let in by a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope(Arc<str>);

impl Scope {
    /// The one scope of a server that asks for no key.
    pub(crate) fn open() -> Self {
        Self("open".into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Lets requests in that bring a key.
#[derive(Debug)]
pub(crate) struct Guard {
    keys: Keys,
    /// One short lock, taken for wrong keys, and for good ones to see whether they come too late.
    guesses: Mutex<Guesses>,
    metrics: Metrics,
}

impl Guard {
    pub(crate) fn new(keys: Keys, metrics: Metrics) -> Self {
        Self { keys, guesses: Mutex::new(Guesses::new(Instant::now())), metrics }
    }

    fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who asks, or what to answer.
    #[expect(clippy::result_large_err, reason = "the error is the response itself")]
    fn admit(&self, request: &Request, now: Instant) -> Result<Scope, Response> {
        let path = request.uri().path();
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        if let Some(wait) = peer.and_then(|peer| self.guesses().blocked(peer, now)) {
            self.metrics.refused(Refused::TooManyWrongKeys);
            let told = format!(
                "too many wrong push API keys came from your address: no key is looked at for {} s",
                seconds(wait)
            );
            let mut response = surface::refuse(path, &problem::TOO_MANY_WRONG_KEYS, &told);
            response.headers_mut().insert(RETRY_AFTER, seconds(wait).into());
            return Err(response);
        }
        let Some(key) = bearer(request.headers()) else {
            self.metrics.refused(Refused::MissingKey);
            let told = "the push API needs a key: send `Authorization: Bearer KEY`; it is in the file push.key in the \
                        data folder of the server";
            return Err(unauthorized(path, &problem::MISSING_KEY, "Bearer", told));
        };
        self.keys.scope(key).ok_or_else(|| {
            self.metrics.refused(Refused::WrongKey);
            if let Some(peer) = peer {
                self.guesses().wrong(peer, now);
            }
            let told = "this is no key of the push API: the good ones are in the file push.key in the data folder of \
                        the server, and are read when it starts";
            unauthorized(path, &problem::WRONG_KEY, "Bearer error=\"invalid_token\"", told)
        })
    }
}

fn unauthorized(path: &str, kind: &'static problem::Kind, challenge: &'static str, told: &str) -> Response {
    let mut response = surface::refuse(path, kind, told);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

/// The key in the header, whose scheme may be written in any case.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !key.is_empty()).then_some(key)
}

/// Whether a key is needed there: for all that back ends call, also for what is not there yet.
fn is_guarded(path: &str) -> bool {
    let back_ends = path.starts_with("/goim/") || path.starts_with("/api/");
    back_ends && !path.starts_with("/goim/nodes/") && path != crate::v1::DOCUMENT
}

/// Asks for a key where one is needed.
pub(crate) async fn ask(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if is_guarded(request.uri().path()) {
        match guard.admit(&request, Instant::now()) {
            Ok(scope) => request.extensions_mut().insert(scope),
            Err(response) => return response,
        };
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const GOOD: &str = "anser_a-good-key-of-the-api";

    fn guard() -> Guard {
        Guard::new(Keys::new([GOOD, "another-key-of-20-bytes"]), Metrics::default())
    }

    fn request(path: &str, authorization: Option<&str>, peer: [u8; 4]) -> Request {
        let mut request = Request::builder().uri(path).extension(Peer(peer.into()));
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn keys() {
        let guard = guard();
        for (authorization, admitted) in [
            (Some(format!("Bearer {GOOD}")), true),
            (Some(format!("bearer  {GOOD}")), true),
            (Some("BEARER another-key-of-20-bytes".into()), true),
            (Some(format!("Bearer {GOOD}x")), false),
            (Some(format!("Bearer {}", &GOOD[1..])), false),
            (Some(format!("Basic {GOOD}")), false),
            (Some(GOOD.into()), false),
            (Some("Bearer ".into()), false),
            (Some("Bearer".into()), false),
            (None, false),
        ] {
            let request = request("/goim/push/all", authorization.as_deref(), [1; 4]);
            assert_eq!(guard.admit(&request, Instant::now()).is_ok(), admitted, "{authorization:?}");
        }
        let closed = Guard::new(Keys::default(), Metrics::default());
        let request = request("/goim/push/all", Some("Bearer "), [1; 4]);
        assert!(closed.admit(&request, Instant::now()).is_err());
    }

    #[test]
    fn a_scope_stands_for_a_key() {
        let keys = Keys::new([GOOD, "another-key-of-20-bytes"]);
        let scope = |key: &str| keys.scope(key.as_bytes()).unwrap();
        assert_eq!(scope(GOOD), scope(GOOD));
        assert_ne!(scope(GOOD), scope("another-key-of-20-bytes"));
        assert_eq!(scope(GOOD).as_str().len(), 2 * SCOPE);
    }

    #[test]
    fn no_key_is_shown() {
        let guard = guard();
        assert!(!format!("{guard:?}").contains("good-key"));
    }

    #[test]
    fn who_guesses_has_to_wait() {
        let (guard, now) = (guard(), Instant::now());
        let status = |key: &str, peer, now| {
            let request = request("/api/v1/push", Some(&format!("Bearer {key}")), peer);
            guard.admit(&request, now).map_or_else(|response| response.status().as_u16(), |_| 200)
        };
        for _ in 0..guesses::MOST {
            assert_eq!(status("wrong", [1; 4], now), 401);
        }
        assert_eq!(status("wrong", [1; 4], now), 429);
        assert_eq!(status(GOOD, [1; 4], now), 429, "a guess that hits is not told from one that does not");
        assert_eq!(status(GOOD, [2; 4], now), 200, "others are not concerned");
        assert_eq!(status(GOOD, [1; 4], now + guesses::WINDOW), 200);
    }

    #[test]
    fn what_needs_a_key() {
        for (path, guarded) in [
            ("/goim/push/room", true),
            ("/goim/push/", true),
            ("/goim/online/total", true),
            ("/goim/nodes/weighted", false),
            ("/api/v1/push", true),
            ("/api/v2/anything", true),
            ("/api/v1/openapi.json", false),
            ("/api/v1/openapi.json/", true),
            ("/docs/", false),
            ("/healthz", false),
            ("/metrics", false),
            ("/", false),
        ] {
            assert_eq!(is_guarded(path), guarded, "{path}");
        }
    }
}
