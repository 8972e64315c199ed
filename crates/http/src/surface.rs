//! Which form an error has: each API has its own, and what stands before the routes must know it.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::goim;
use crate::problem::{self, Kind, Problem};

/// Whether this path belongs to Anser's own API.
fn is_modern(path: &str) -> bool {
    path.starts_with("/api/")
}

/// An answer of what stands before the routes, in the form of the path's API.
pub(crate) fn refuse(path: &str, kind: &'static Kind, told: &str) -> Response {
    if is_modern(path) {
        return Problem::new(kind, told).into_response();
    }
    let code = match kind.status {
        StatusCode::REQUEST_TIMEOUT => -400,
        status => -i32::from(status.as_u16()),
    };
    goim::envelope(kind.status, code, told)
}

/// What is not there.
pub(crate) async fn missing(request: Request) -> Response {
    let path = request.uri().path();
    if is_modern(path) {
        let told = format!("there is nothing at {path}: /docs shows what there is");
        return Problem::new(&problem::NOT_FOUND, told).into_response();
    }
    goim::fallback(&request)
}

/// What is there for another method.
pub(crate) async fn other_method(request: Request) -> Response {
    if is_modern(request.uri().path()) {
        let told =
            format!("{} is no method of {}: /docs shows what is", request.method(), request.uri().path());
        return Problem::new(&problem::OTHER_METHOD, told).into_response();
    }
    goim::fallback(&request)
}
