//! goim's push API: `POST /goim/push/{keys,mids,room,all}`, its envelope and its errors.
//!
//! One thing differs on purpose: a push that cannot be taken now is answered with status 429, a
//! `Retry-After` header (whole seconds, as HTTP has them) and the milliseconds in the message. goim
//! answers such pushes with code 0 and loses them.

use std::fmt::Write as _;
use std::sync::Arc;

use anser_api::comet::PushError;
use anser_api::id::{Key, Room, UserId};
use anser_api::job::Accepted;
use anser_api::logic::{Audience, Push, PushApi};
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;

use crate::body::{self, ReadError};
use crate::query::{Query, required};

/// Longest key or room that is looked at; the configuration allows no longer ones.
const NAME: usize = 4096;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Goim {
    pub(crate) push: Arc<dyn PushApi>,
    pub(crate) max_body: usize,
    pub(crate) max_receivers: usize,
}

pub(crate) fn routes(goim: Goim) -> Router {
    Router::new()
        .route("/goim/push/keys", post(keys))
        .route("/goim/push/mids", post(mids))
        .route("/goim/push/room", post(room))
        .route("/goim/push/all", post(all))
        .with_state(goim)
}

type Answer = Result<Response, Response>;

async fn keys(State(goim): State<Goim>, RawQuery(query): RawQuery, request: Request) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let op = query.int32("operation").map_err(|cause| bad_query(&cause))?;
    let keys: Vec<Key> = query.all("keys").filter_map(|key| Key::parse(key, NAME).ok()).collect();
    if keys.is_empty() {
        return Err(envelope(StatusCode::OK, -400, ""));
    }
    goim.check_count(keys.len())?;
    goim.push(Audience::Keys(keys), op, request).await
}

async fn mids(State(goim): State<Goim>, RawQuery(query): RawQuery, request: Request) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let op = query.int32("operation").map_err(|cause| bad_query(&cause))?;
    let mids = query.int64s("mids").map_err(|cause| bad_query(&cause))?;
    goim.check_count(mids.len())?;
    let users = mids.into_iter().filter_map(UserId::parse).collect();
    goim.push(Audience::Users(users), op, request).await
}

async fn room(State(goim): State<Goim>, RawQuery(query): RawQuery, request: Request) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let op = query.int32("operation").map_err(|cause| bad_query(&cause))?;
    let (kind, room) = (query.first("type"), query.first("room"));
    let missing = [("Op", op == 0), ("Type", kind.is_empty()), ("Room", room.is_empty())];
    required(&missing).map_err(|cause| bad_query(&cause))?;
    let room = Room::parse(&format!("{kind}://{room}"), NAME)
        .map_err(|cause| envelope(StatusCode::OK, -500, &cause.to_string()))?;
    goim.push(Audience::Room(room), op, request).await
}

async fn all(State(goim): State<Goim>, RawQuery(query): RawQuery, request: Request) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let op = query.int32("operation").map_err(|cause| bad_query(&cause))?;
    let speed = query.int32("speed").map_err(|cause| bad_query(&cause))?;
    required(&[("Op", op == 0)]).map_err(|cause| bad_query(&cause))?;
    goim.push(Audience::All { speed: speed.max(0) as u32 }, op, request).await
}

impl Goim {
    #[expect(clippy::result_large_err, reason = "the error is the response itself")]
    fn check_count(&self, count: usize) -> Result<(), Response> {
        if count <= self.max_receivers {
            return Ok(());
        }
        let message = format!(
            "{count} receivers in one push are more than {}: send several, or raise http.receivers",
            self.max_receivers
        );
        Err(envelope(StatusCode::PAYLOAD_TOO_LARGE, -400, &message))
    }

    async fn push(&self, to: Audience, op: i32, request: Request) -> Answer {
        let body = self.read(request).await?;
        let push = Push { to, op, body, expires: None, idempotency: None };
        let cause = match self.push.push(push).await {
            Ok(accepted) => return Ok(taken(accepted)),
            Err(cause) => cause,
        };
        Err(match cause {
            PushError::Exhausted { retry_after } => {
                let mut response = envelope(StatusCode::TOO_MANY_REQUESTS, -429, &cause.to_string());
                let seconds = retry_after.as_secs_f64().ceil() as u64;
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
                response
            }
            PushError::TooLarge { .. } | PushError::TooMany { .. } => {
                envelope(StatusCode::PAYLOAD_TOO_LARGE, -500, &cause.to_string())
            }
            PushError::Unavailable { .. } | PushError::Conflict | PushError::Draining => {
                envelope(StatusCode::SERVICE_UNAVAILABLE, -500, &cause.to_string())
            }
        })
    }

    async fn read(&self, request: Request) -> Result<Bytes, Response> {
        body::read(request, self.max_body).await.map_err(|cause| {
            let status = match cause {
                ReadError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
                ReadError::Broken(_) => StatusCode::OK,
            };
            envelope(status, -400, &cause.to_string())
        })
    }
}

/// goim's answer to a push, and in a header the number of its message, by which it is found again.
fn taken(accepted: Accepted) -> Response {
    let mut response = envelope(StatusCode::OK, 0, "");
    response.headers_mut().insert("anser-message-id", accepted.position.0.into());
    response
}

fn bad_query(cause: &str) -> Response {
    let mut response = envelope(StatusCode::BAD_REQUEST, -400, cause);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// goim's envelope, to the byte.
pub(crate) fn envelope(status: StatusCode, code: i32, message: &str) -> Response {
    let mut body = format!("{{\"code\":{code},\"message\":\"");
    escape(message, &mut body);
    body.push_str("\"}");
    (status, [(CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}

/// Escapes a string as Go's `encoding/json` does.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

/// What goim answers to paths and methods that it does not have: a trailing slash is sent on, the rest
/// is not found.
pub(crate) fn fallback(request: &Request) -> Response {
    let path = request.uri().path();
    let known = ["/goim/push/keys", "/goim/push/mids", "/goim/push/room", "/goim/push/all"];
    if let Some(trimmed) = path.strip_suffix('/')
        && known.contains(&trimmed)
        && request.method() == Method::POST
    {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, format!("{trimmed}{query}"))]).into_response();
    }
    (StatusCode::NOT_FOUND, [(CONTENT_TYPE, "text/plain")], Body::from("404 page not found")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_as_go_escapes() {
        let mut out = String::new();
        escape("a\"b\\c\n<d>&é\u{1}\u{2028}", &mut out);
        assert_eq!(out, r#"a\"b\\c\n\u003cd\u003e\u0026é\u0001\u2028"#);
    }
}
