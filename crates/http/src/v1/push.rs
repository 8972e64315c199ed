//! `POST /api/v1/push`.

use std::time::SystemTime;

use anser_api::comet::PushError;
use anser_api::job::Accepted;
use anser_api::logic::{Audience, Push};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::V1;
use super::answer::{self, Counted, Message, PushAnswer};
use super::idempotency::Known;
use super::request::{self, Checked};
use crate::access::Scope;
use crate::body::{self, ReadError};
use crate::problem::{self, Problem};

/// Pushes to rooms of one request that are on their way at once. They share syncs of the disk, so that a
/// full list takes some tens of these, and do not fill queues that others need.
const AT_ONCE: usize = 256;

/// Push a message
///
/// To devices, users, rooms or everyone. The answer comes when the message is on disk and on its way to
/// whoever is connected; it does not wait for them.
#[utoipa::path(
    post,
    path = "/api/v1/push",
    operation_id = "push",
    tag = "push",
    security(("push_key" = [])),
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "A key of your choice, 1 to 255 visible ASCII characters, best a random one. A request that is \
                       repeated with it is answered like the first, and pushes nothing again.",
        example = "order-7-paid",
    )),
    request_body(
        content = request::PushRequest,
        examples(
            ("devices" = (summary = "To a device", value = json!({
                "to": {"devices": ["phone-7"]}, "operation": 1000, "body": "hello", "expires_in": "30s",
            }))),
            ("users" = (summary = "To all devices of two users", value = json!({
                "to": {"users": [7, 8]}, "operation": 1000, "body_base64": "AAEC/w==", "expires_in": 90,
            }))),
            ("rooms" = (summary = "To two rooms, one message for each", value = json!({
                "to": {"rooms": ["live://1", "live://2"]}, "operation": 1000, "body": "hello",
            }))),
            ("all" = (summary = "To everyone, 5000 connections a second", value = json!({
                "to": {"all": {"speed": 5000}}, "operation": 1000, "body": "hello",
            }))),
        ),
    ),
    responses(
        (
            status = 200,
            description = "Taken. Where several rooms were named and some of them were refused after others were taken, \
                           each message says which.",
            body = PushAnswer,
            examples(
                ("devices" = (value = json!({"messages": [
                    {"target": "devices", "status": 200, "id": "123456", "connections": 1, "absent": 0,
                     "repeated": false},
                ]}))),
                ("rooms" = (value = json!({"messages": [
                    {"target": "live://1", "status": 200, "id": "123457", "repeated": false},
                    {"target": "live://2", "status": 429, "repeated": false, "problem": {
                        "type": "/problems/busy", "title": "A queue is full", "status": 429,
                        "detail": "resource exhausted, retry after 120 ms", "retry_after_ms": 120,
                    }},
                ]}))),
            ),
        ),
        (status = 400, description = "The body is no JSON, or a header is malformed.", body = Problem,
         content_type = "application/problem+json"),
        (status = 401, description = "The key is missing or wrong.", body = Problem,
         content_type = "application/problem+json", headers(("WWW-Authenticate" = String))),
        (status = 403, description = "It comes from a web page that `http.allowed_origins` does not name.",
         body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "It took longer than `http.request_timeout`.", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "A limit is exceeded; the detail names it.", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "The body is not declared as JSON.", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "The request asks for something that cannot be, or the idempotency key was used \
                                      for another request.", body = Problem,
         content_type = "application/problem+json",
         example = json!({
            "type": "/problems/invalid-request", "title": "The request asks for something that cannot be",
            "status": 422, "detail": "/to/rooms/1 must be type://id, such as live://1",
            "errors": [{"pointer": "/to/rooms/1", "message": "must be type://id, such as live://1"}],
         })),
        (status = 429, description = "A queue is full, and nobody has got anything; or too many wrong keys came from \
                                      this address.", body = Problem,
         content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "The server is shutting down, or something that it needs is away.",
         body = Problem, content_type = "application/problem+json",
         headers(("Retry-After" = u64, description = "Seconds"))),
    ),
)]
pub(super) async fn push(State(v1): State<V1>, request: Request) -> Response {
    match v1.answer(request).await {
        Ok(answer) => {
            let body = serde_json::to_string(&answer).unwrap_or_default();
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

impl V1 {
    async fn answer(&self, request: Request) -> Result<PushAnswer, Problem> {
        check_type(request.headers())?;
        let headers = request.headers().clone();
        let scope = request.extensions().get().cloned().unwrap_or_else(Scope::open);
        let body = self.read(request).await?;
        let now = SystemTime::now();
        let checked = request::parse(&body, &self.limits, now)?;
        let known = Known::read(&headers, &scope, &checked)?;
        self.push_all(checked, known.as_ref(), now).await
    }

    pub(super) async fn read(&self, request: Request) -> Result<Bytes, Problem> {
        body::read(request, self.limits.body).await.map_err(|cause| match cause {
            ReadError::TooLarge(_) => {
                Problem::new(&problem::TOO_LARGE, format!("{cause}: send less, or raise it"))
            }
            ReadError::Broken(_) => {
                Problem::new(&problem::MALFORMED, format!("the body cannot be read: {cause}"))
            }
        })
    }

    /// The first push alone: if it is refused, nothing was taken, and the whole request is refused. The
    /// others, which only a list of rooms has, stand each for itself.
    async fn push_all(
        &self,
        request: Checked,
        known: Option<&Known>,
        now: SystemTime,
    ) -> Result<PushAnswer, Problem> {
        let Checked { pushes, op, body, expires } = request;
        let expires = expires.and_then(|expires| expires.at(now));
        let send = |n: usize, (target, to): (String, Audience)| {
            let counted = Counted::of(&to);
            let push =
                Push { to, op, body: body.clone(), expires, idempotency: known.map(|known| known.nth(n)) };
            let sent = self.push.push(push);
            async move { (target, counted, sent.await) }
        };
        let mut pushes = pushes.into_iter().enumerate();
        let mut messages = Vec::with_capacity(pushes.len());
        if let Some((n, first)) = pushes.next() {
            let (target, counted, result) = send(n, first).await;
            messages.push(Message::taken(target, counted, result.map_err(|cause| answer::refused(&cause))?));
        }
        let others = stream::iter(pushes).map(|(n, push)| send(n, push)).buffered(AT_ONCE);
        let others =
            others.map(|(target, counted, result): (String, Counted, Result<Accepted, PushError>)| {
                match result {
                    Ok(accepted) => Message::taken(target, counted, accepted),
                    Err(cause) => Message::refused(target, &cause),
                }
            });
        messages.extend(others.collect::<Vec<_>>().await);
        Ok(PushAnswer { messages })
    }
}

/// A body that says what it is must say that it is JSON; `curl -d` says that it is a form.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let kind =
        value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json") {
        return Ok(());
    }
    let told = format!(
        "the body is declared as {kind:?}: send `Content-Type: application/json` (curl does with --json)"
    );
    Err(Problem::new(&problem::MEDIA_TYPE, told))
}
