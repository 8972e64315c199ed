//! `POST /goim/push/{keys,mids,room,all}`.
//!
//! One thing differs on purpose: a push that cannot be taken now is answered with status 429 or 503, a
//! `Retry-After` header (whole seconds, as HTTP has them) and the milliseconds in the message. goim
//! answers such pushes with code 0 and loses them.

use std::time::Duration;

use anser_api::comet::PushError;
use anser_api::id::{Key, Room, UserId};
use anser_api::job::Accepted;
use anser_api::logic::{Audience, Push};
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::Response;
use bytes::Bytes;

use super::{Answer, Goim, NAME, bad_query, envelope};
use crate::body::{self, ReadError};
use crate::query::{Query, required};

/// What is counted in a push, and what to do when it is too many.
const PUSH: (&str, &str) = ("receivers in one push", "send several");

pub(super) async fn keys(State(goim): State<Goim>, RawQuery(query): RawQuery, request: Request) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let op = query.int32("operation").map_err(|cause| bad_query(&cause))?;
    let keys: Vec<Key> = query.all("keys").filter_map(|key| Key::parse(key, NAME).ok()).collect();
    if keys.is_empty() {
        return Err(envelope(StatusCode::OK, -400, ""));
    }
    goim.check_count(keys.len(), PUSH)?;
    goim.push(Audience::Keys(keys), op, request).await
}

pub(super) async fn mids(State(goim): State<Goim>, RawQuery(query): RawQuery, request: Request) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let op = query.int32("operation").map_err(|cause| bad_query(&cause))?;
    let mids = query.int64s("mids").map_err(|cause| bad_query(&cause))?;
    goim.check_count(mids.len(), PUSH)?;
    let users = mids.into_iter().filter_map(UserId::parse).collect();
    goim.push(Audience::Users(users), op, request).await
}

pub(super) async fn room(State(goim): State<Goim>, RawQuery(query): RawQuery, request: Request) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let op = query.int32("operation").map_err(|cause| bad_query(&cause))?;
    let (kind, room) = (query.first("type"), query.first("room"));
    let missing = [("Op", op == 0), ("Type", kind.is_empty()), ("Room", room.is_empty())];
    required(&missing).map_err(|cause| bad_query(&cause))?;
    let room = Room::parse(&format!("{kind}://{room}"), NAME)
        .map_err(|cause| envelope(StatusCode::OK, -500, &cause.to_string()))?;
    goim.push(Audience::Room(room), op, request).await
}

pub(super) async fn all(State(goim): State<Goim>, RawQuery(query): RawQuery, request: Request) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let op = query.int32("operation").map_err(|cause| bad_query(&cause))?;
    let speed = query.int32("speed").map_err(|cause| bad_query(&cause))?;
    required(&[("Op", op == 0)]).map_err(|cause| bad_query(&cause))?;
    goim.push(Audience::All { speed: speed.max(0) as u32 }, op, request).await
}

impl Goim {
    async fn push(&self, to: Audience, op: i32, request: Request) -> Answer {
        let body = self.read(request).await?;
        let push = Push { to, op, body, expires: None, idempotency: None };
        let cause = match self.push.push(push).await {
            Ok(accepted) => return Ok(taken(accepted)),
            Err(cause) => cause,
        };
        let message = cause.to_string();
        Err(match cause {
            PushError::Exhausted { retry_after } => {
                later(StatusCode::TOO_MANY_REQUESTS, -429, &message, retry_after)
            }
            PushError::Unavailable { retry_after, .. } => {
                later(StatusCode::SERVICE_UNAVAILABLE, -500, &message, retry_after)
            }
            PushError::TooLarge { .. } | PushError::TooMany { .. } => {
                envelope(StatusCode::PAYLOAD_TOO_LARGE, -500, &message)
            }
            PushError::Draining => envelope(StatusCode::SERVICE_UNAVAILABLE, -500, &message),
            // These routes give no idempotency key.
            PushError::Conflict => envelope(StatusCode::CONFLICT, -500, &message),
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

/// Refuses a push that is to be tried again.
fn later(status: StatusCode, code: i32, message: &str, retry_after: Duration) -> Response {
    let mut response = envelope(status, code, message);
    let seconds = retry_after.as_secs_f64().ceil() as u64;
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}
