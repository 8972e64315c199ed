//! Errors of Anser's own API, as RFC 9457 has them: `application/problem+json`.

use std::fmt::Write as _;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use utoipa::ToSchema;

/// Most mistakes that are told of one request.
const TOLD: usize = 20;

/// A kind of error, by which programs tell them apart.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The last part of its `type`.
    name: &'static str,
    pub(crate) status: StatusCode,
    title: &'static str,
    /// What to do about it; the page that the `type` leads to.
    remedy: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $path:literal, $status:ident, $title:literal, $remedy:literal;)*) => {
        $(pub(crate) const $name: Kind =
            Kind { name: $path, status: StatusCode::$status, title: $title, remedy: $remedy };)*

        /// Every kind that there is.
        const KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    MALFORMED = "malformed-request", BAD_REQUEST, "The request is malformed",
        "The body is no JSON, or a header, the path or the query is not as it must be. The detail says where.";
    MISSING_KEY = "missing-key", UNAUTHORIZED, "A key is needed",
        "Send `Authorization: Bearer KEY`. The keys are in the file push.key in the data folder of the server.";
    WRONG_KEY = "wrong-key", UNAUTHORIZED, "The key is wrong",
        "The good keys are in the file push.key in the data folder of the server, which reads them when it starts.";
    ORIGIN = "origin", FORBIDDEN, "Web pages of this origin may not call the API",
        "Push from a back end, or name the origin in http.allowed_origins.";
    NOT_FOUND = "not-found", NOT_FOUND, "There is nothing at this path",
        "/docs shows every path.";
    OTHER_METHOD = "method-not-allowed", METHOD_NOT_ALLOWED, "The path has no such method",
        "The header Allow names those that it has.";
    TIMEOUT = "timeout", REQUEST_TIMEOUT, "The request took too long",
        "It did not arrive, or was not done, within http.request_timeout. With an Idempotency-Key it can be sent again \
         without being delivered twice.";
    TOO_LARGE = "too-large", PAYLOAD_TOO_LARGE, "The request is too large",
        "The detail names the limit and its setting: send less, send several requests, or raise it.";
    MEDIA_TYPE = "media-type", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON",
        "Send `Content-Type: application/json`.";
    INVALID = "invalid-request", UNPROCESSABLE_ENTITY, "The request asks for something that cannot be",
        "Each of `errors` names a place in the body by its JSON pointer, and says what is wrong there.";
    CONFLICT = "idempotency-conflict", UNPROCESSABLE_ENTITY, "The idempotency key stands for another request",
        "It was used with another body. Nothing was pushed. Use a new key for each new request, and the same key only \
         to repeat one.";
    BUSY = "busy", TOO_MANY_REQUESTS, "A queue is full",
        "Nothing was pushed. Send it again after `retry_after_ms`.";
    TOO_MANY_WRONG_KEYS = "too-many-wrong-keys", TOO_MANY_REQUESTS, "Too many wrong keys came from this address",
        "Stop what sends them; the address is heard again after the seconds of Retry-After.";
    UNAVAILABLE = "unavailable", SERVICE_UNAVAILABLE, "Something that is needed is away",
        "Send it again after `retry_after_ms`; the detail says what is away.";
    DRAINING = "draining", SERVICE_UNAVAILABLE, "The server is shutting down",
        "Nothing was pushed. Send it to another server, or again later.";
}

impl Kind {
    fn uri(&self) -> String {
        format!("/problems/{}", self.name)
    }
}

/// One mistake in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Mistake {
    /// Where, as a JSON pointer (RFC 6901); empty for the whole body.
    #[schema(examples("/to/rooms/1"))]
    pub(crate) pointer: String,
    /// What is wrong there, and what to do.
    pub(crate) message: String,
}

/// The mistakes in a request. A body of mistakes costs no more than those that are told.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    told: Vec<Mistake>,
    more: usize,
}

impl Mistakes {
    pub(crate) fn add(&mut self, pointer: &str, message: impl Into<String>) {
        if self.told.len() < TOLD {
            self.told.push(Mistake { pointer: pointer.to_owned(), message: message.into() });
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

/// Why a request was refused (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The kind of error, a path of this server at which it is explained. Programs tell errors apart by it.
    #[serde(rename = "type")]
    #[schema(examples("/problems/invalid-request"))]
    kind: String,
    /// The kind in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time, and what to do.
    detail: String,
    /// Each mistake with its place in the body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<Mistake>,
    /// When it is worth another try, in milliseconds. `Retry-After` has it in seconds, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after_ms: Option<u64>,
}

impl Problem {
    pub(crate) fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.uri(),
            title: kind.title.to_owned(),
            status: kind.status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_ms: None,
        }
    }

    /// What is wrong with the content of a body.
    pub(crate) fn invalid(mistakes: Mistakes) -> Self {
        let Mistakes { told: errors, more } = mistakes;
        let mut detail = match &errors[..] {
            [first, ..] if first.pointer.is_empty() => first.message.clone(),
            [first, ..] => format!("{} {}", first.pointer, first.message),
            [] => String::new(),
        };
        if errors.len() > 1 {
            detail.push_str("; `errors` has the others");
        }
        if more > 0 {
            let _ = write!(detail, ", but for {more}");
        }
        Self { errors, ..Self::new(&INVALID, detail) }
    }

    #[must_use]
    pub(crate) fn retry_after(self, time: Duration) -> Self {
        Self { retry_after_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(millis) = self.retry_after_ms {
            let value = HeaderValue::from(seconds(Duration::from_millis(millis)));
            response.headers_mut().insert(RETRY_AFTER, value);
        }
        response
    }
}

/// Whole seconds, as HTTP has them, rounded up.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The pages that the types of errors lead to.
pub(crate) fn routes() -> Router {
    Router::new().route("/problems/{name}", get(explain))
}

async fn explain(Path(name): Path<String>) -> Response {
    match KINDS.iter().find(|kind| kind.name == name) {
        Some(kind) => {
            format!("{} ({})\n\n{}\n", kind.title, kind.status.as_u16(), kind.remedy).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such problem\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let mut names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
    }

    #[test]
    fn many_mistakes_are_cut() {
        let problem = |count: usize| {
            let mut mistakes = Mistakes::default();
            (0..count).for_each(|n| mistakes.add(&format!("/to/users/{n}"), "is no user"));
            Problem::invalid(mistakes)
        };
        assert_eq!(problem(50).errors.len(), TOLD);
        assert_eq!(problem(50).detail, "/to/users/0 is no user; `errors` has the others, but for 30");
        assert_eq!(problem(2).detail, "/to/users/0 is no user; `errors` has the others");
        assert_eq!(problem(1).detail, "/to/users/0 is no user");
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (millis, seconds_up) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(seconds(Duration::from_millis(millis)), seconds_up);
        }
    }
}
