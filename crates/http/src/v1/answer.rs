//! The answer to `POST /api/v1/push`.

use anser_api::comet::PushError;
use anser_api::job::Accepted;
use anser_api::logic::Audience;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::{self, Problem};

/// What became of a push.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct PushAnswer {
    /// One message, or one for each room, in the order of the request; a room that was named twice stands
    /// here once.
    pub(super) messages: Vec<Message>,
}

/// One message.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Message {
    /// `devices`, `users`, `all`, or the name of the room.
    #[schema(examples("live://1"))]
    target: String,
    /// 200 when it was taken. Another only where one of several rooms was refused after others were taken.
    #[schema(examples(200))]
    status: u16,
    /// Its number in the push log, a decimal number of up to 20 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("123456"))]
    id: Option<String>,
    /// Connections that it named and that are there; not for rooms and everyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    connections: Option<u64>,
    /// Devices, or users, that are not connected; not for rooms and everyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    absent: Option<u64>,
    /// Whether this is the answer to an earlier request with the same idempotency key, and nothing was
    /// pushed again.
    repeated: bool,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<Problem>,
}

impl Message {
    pub(super) fn taken(target: String, to: Counted, accepted: Accepted) -> Self {
        let counted = |count| (to == Counted::Named).then_some(count);
        Self {
            target,
            status: 200,
            id: Some(accepted.position.to_string()),
            connections: counted(accepted.routed),
            absent: counted(accepted.absent),
            repeated: accepted.repeated,
            problem: None,
        }
    }

    pub(super) fn refused(target: String, cause: &PushError) -> Self {
        let problem = refused(cause);
        Self {
            target,
            status: problem.status(),
            id: None,
            connections: None,
            absent: None,
            repeated: false,
            problem: Some(problem),
        }
    }
}

/// Whether a push counts who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// It names connections or users.
    Named,
    /// It goes to whoever is there.
    Open,
}

impl Counted {
    pub(super) fn of(audience: &Audience) -> Self {
        match audience {
            Audience::Keys(_) | Audience::Users(_) => Self::Named,
            Audience::Room(_) | Audience::All { .. } => Self::Open,
        }
    }
}

/// A push that was not taken, as a problem.
pub(super) fn refused(cause: &PushError) -> Problem {
    match cause {
        PushError::Exhausted { retry_after } => {
            Problem::new(&problem::BUSY, cause.to_string()).retry_after(*retry_after)
        }
        PushError::TooLarge { .. } => {
            Problem::new(&problem::TOO_LARGE, format!("{cause}: send less, or raise comet.push_body"))
        }
        PushError::TooMany { .. } => {
            let told = format!("{cause}: send several with fewer users, or raise logic.push_connections");
            Problem::new(&problem::TOO_LARGE, told)
        }
        PushError::Draining => Problem::new(&problem::DRAINING, cause.to_string()),
        PushError::Unavailable { retry_after, .. } => {
            Problem::new(&problem::UNAVAILABLE, cause.to_string()).retry_after(*retry_after)
        }
        PushError::Conflict => Problem::new(&problem::CONFLICT, cause.to_string()),
    }
}
