//! `GET /api/v1/messages/{id}`: what became of a push for somebody.

use anser_api::id::{Key, Position, Room, UserId};
use anser_api::job::{Explanation, Subject};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use super::V1;
use super::account::MessageAnswer;
use crate::problem::{self, Problem};
use crate::query::Query;

/// What became of a message
///
/// For a device, for each connection of a user, or for a room on each comet. What was written is noted
/// nowhere: a message that was sent on, and of which nothing else is noted, was written.
#[utoipa::path(
    get,
    path = "/api/v1/messages/{id}",
    operation_id = "explain",
    tag = "operators",
    security(("push_key" = [])),
    params(
        ("id" = String, Path, description = "Its number in the push log, as the answer to its push has it.",
         example = "123456"),
        ("device" = Option<String>, Query, description = "The key of the device that is asked for.",
         example = "phone-7"),
        ("user" = Option<i64>, Query, description = "Or the user."),
        ("room" = Option<String>, Query, description = "Or the room, `type://id`."),
    ),
    responses(
        (status = 200, description = "What is known. Also for a number that no message has: `state` says so.",
         body = MessageAnswer,
         example = json!({
            "id": "123456", "state": "kept",
            "message": {
                "accepted_at": "2026-03-01T12:00:00.123Z", "operation": 1000, "bytes": 5,
                "to": {"kind": "devices", "connected": 1, "absent": 0},
                "named": true,
                "absent": [],
                "deliveries": [{
                    "device": "phone-7", "comet": "comet-1", "outcome": "filtered",
                    "at": "2026-03-01T12:00:00.124Z", "followed": false, "resent": false,
                    "now": {"takes_operation": false, "member": false},
                    "notes": [
                        {"device": "phone-7", "outcome": "filtered", "at": "2026-03-01T12:00:00.124Z"},
                    ],
                    "more_notes": false,
                }],
                "more": 0,
                "places": [{"device": "phone-7", "state": "connected", "comet": "comet-1"}],
            },
         })),
        (status = 400, description = "The number is none, or it is not said for whom it is asked.", body = Problem,
         content_type = "application/problem+json"),
        (status = 401, description = "The key is missing or wrong.", body = Problem,
         content_type = "application/problem+json", headers(("WWW-Authenticate" = String))),
        (status = 429, description = "Too many wrong keys came from this address.", body = Problem,
         content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "The job, or the disk of its log, is away.", body = Problem,
         content_type = "application/problem+json"),
    ),
)]
pub(super) async fn explain(
    State(v1): State<V1>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    match v1.explain(&id, &query.unwrap_or_default()).await {
        Ok(answer) => {
            let body = serde_json::to_string(&answer).unwrap_or_default();
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

impl V1 {
    async fn explain(&self, id: &str, query: &str) -> Result<MessageAnswer, Problem> {
        let position = id.parse().map(Position).map_err(|_| {
            malformed(
                "the number of a message is a decimal number, as `id` in the answer to its push".to_owned(),
            )
        })?;
        let subject = self.subject(query)?;
        let explanation: Explanation = self.operator.explain(position, subject).await.map_err(|away| {
            Problem::new(&problem::UNAVAILABLE, format!("the job cannot be asked: {away}"))
        })?;
        Ok(MessageAnswer::of(position, explanation))
    }

    fn subject(&self, query: &str) -> Result<Subject, Problem> {
        let query = Query::parse(query);
        let given: Vec<(&str, &str)> = ["device", "user", "room"]
            .into_iter()
            .flat_map(|name| query.all(name).map(move |value| (name, value)))
            .collect();
        let [(name, value)] = given[..] else {
            let told = "say for whom: one of ?device=KEY, ?user=NUMBER and ?room=TYPE://ID";
            return Err(malformed(told.to_owned()));
        };
        match name {
            "device" => self.device(value).map(Subject::Key),
            "user" => user(value).map(|user| Subject::User { user, keys: Vec::new() }),
            _ => {
                let room =
                    Room::parse(value, self.limits.room).map_err(|long| malformed(long.to_string()))?;
                let form = || malformed("a room is named type://id, such as live://1".to_owned());
                room.is_pushable().then_some(Subject::Room(room)).ok_or_else(form)
            }
        }
    }

    /// The key of a device.
    pub(super) fn device(&self, name: &str) -> Result<Key, Problem> {
        if name.is_empty() {
            return Err(malformed("the key of a device is not empty".to_owned()));
        }
        Key::parse(name, self.limits.key).map_err(|long| malformed(long.to_string()))
    }
}

fn user(text: &str) -> Result<UserId, Problem> {
    let user = text.parse().ok().and_then(UserId::parse);
    user.ok_or_else(|| malformed("users are whole numbers above 0".to_owned()))
}

pub(super) fn malformed(told: String) -> Problem {
    Problem::new(&problem::MALFORMED, told)
}
