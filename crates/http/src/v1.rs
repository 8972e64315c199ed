//! Anser's own API, `/api/v1`, its document and its page.
//!
//! What a push takes is in [`request`] and [`read`], what it answers in [`answer`], the route itself in [`push`]. For
//! operators there are [`messages`] (what became of one, told by [`account`]) and [`traces`]. The document is made
//! from these, in [`docs`].

mod account;
mod answer;
mod docs;
mod idempotency;
mod messages;
mod push;
mod read;
mod request;
mod traces;

use std::sync::Arc;

use anser_api::logic::{Operator, PushApi};
use axum::Router;

pub(crate) use docs::DOCUMENT;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct V1 {
    pub(crate) push: Arc<dyn PushApi>,
    pub(crate) operator: Arc<dyn Operator>,
    pub(crate) limits: Limits,
}

/// How much a request may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the whole body, `http.body`.
    pub(crate) body: usize,
    /// Receivers, `http.receivers`.
    pub(crate) receivers: usize,
    /// Bytes of a device's key, `logic.key`.
    pub(crate) key: usize,
    /// Bytes of a room's name, `comet.room_name`.
    pub(crate) room: usize,
}

pub(crate) fn routes(v1: V1) -> Router {
    docs::routes(v1)
}
