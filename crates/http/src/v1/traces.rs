//! `PUT /api/v1/traces`: the steps of a device or of a user in the log, for a while.

use std::time::{Duration, SystemTime};

use anser_api::id::UserId;
use anser_api::logic::Tracing;
use anser_api::trace::{LONGEST, MOST, Trace, Traced};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::V1;
use super::account::told;
use super::messages::malformed;
use super::push::check_type;
use crate::problem::{self, Problem};

/// Who is to be traced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceRequest {
    /// A device, by its key, connected or not.
    #[schema(nullable = false, examples("phone-7"))]
    device: Option<String>,
    /// Or all connections of a user.
    #[schema(nullable = false, examples(7))]
    user: Option<i64>,
    /// For how long from now on, at most 3600; 0 ends it.
    #[schema(examples(600))]
    seconds: u32,
}

/// Who is traced now.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct TraceAnswer {
    /// All of them.
    traces: Vec<TraceTold>,
    /// Comets that could not be told now, and hear of it within `comet.renew`.
    missing: Vec<String>,
    /// Why no comet could be told now, if so: all hear of it within `comet.renew`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    away: Option<String>,
}

/// Somebody who is traced.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct TraceTold {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user: Option<i64>,
    #[schema(format = DateTime)]
    until: String,
}

/// Trace a device or a user
///
/// For that long the server writes a line into its log for each step: logins, packets, rooms, pushes and what
/// becomes of them, ends. Bodies and tokens are in none of them.
#[utoipa::path(
    put,
    path = "/api/v1/traces",
    operation_id = "trace",
    tag = "operators",
    security(("push_key" = [])),
    request_body(content = TraceRequest, example = json!({"device": "phone-7", "seconds": 600})),
    responses(
        (status = 200, description = "Who is traced now.", body = TraceAnswer,
         example = json!({
            "traces": [{"device": "phone-7", "until": "2026-03-01T12:10:00.000Z"}], "missing": [],
         })),
        (status = 400, description = "The body is no such request.", body = Problem,
         content_type = "application/problem+json"),
        (status = 401, description = "The key is missing or wrong.", body = Problem,
         content_type = "application/problem+json", headers(("WWW-Authenticate" = String))),
        (status = 413, description = "The body is too large.", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "The body is not declared as JSON.", body = Problem,
         content_type = "application/problem+json"),
        (status = 429, description = "As many are traced as may be; or too many wrong keys came from this address.",
         body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn trace(State(v1): State<V1>, request: Request) -> Response {
    match v1.trace(request).await {
        Ok(answer) => {
            let body = serde_json::to_string(&answer).unwrap_or_default();
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

impl V1 {
    async fn trace(&self, request: Request) -> Result<TraceAnswer, Problem> {
        check_type(request.headers())?;
        let body = self.read(request).await?;
        let TraceRequest { device, user, seconds } = serde_json::from_slice(&body)
            .map_err(|cause| malformed(format!("the body is no trace: {cause}")))?;
        let of = match (device, user) {
            (Some(name), None) => Traced::Key(self.device(&name)?),
            (None, Some(user)) => Traced::User(
                UserId::parse(user).ok_or_else(|| malformed("users are whole numbers above 0".to_owned()))?,
            ),
            _ => return Err(malformed("say who: one of `device` and `user`".to_owned())),
        };
        let time = Duration::from_secs(seconds.into());
        if time > LONGEST {
            return Err(malformed(format!("`seconds` is at most {}", LONGEST.as_secs())));
        }
        let tracing = self.operator.trace(of, SystemTime::now() + time).await;
        tracing.map(TraceAnswer::of).map_err(|_| {
            let told = format!("{MOST} are traced, which is as many as may be: end one, or wait for its end");
            Problem::new(&problem::BUSY, told)
        })
    }
}

impl TraceAnswer {
    fn of(tracing: Tracing) -> Self {
        let Tracing { list, missing, away } = tracing;
        Self {
            traces: list.into_iter().map(TraceTold::of).collect(),
            missing: missing.iter().map(ToString::to_string).collect(),
            away: away.map(|away| away.0),
        }
    }
}

impl TraceTold {
    fn of(Trace { of, until }: Trace) -> Self {
        let (device, user) = match of {
            Traced::Key(key) => (Some(key.to_string()), None),
            Traced::User(user) => (None, Some(user.0)),
        };
        Self { device, user, until: told(until) }
    }
}
