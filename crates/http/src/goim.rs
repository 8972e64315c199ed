//! goim's HTTP API: nine routes, their envelope and their errors, to the byte.

mod host;
mod json;
mod nodes;
mod online;
mod push;

use std::sync::Arc;

use anser_api::logic::{Advice, Directory, PushApi};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use crate::surface;
use json::Object;

/// Longest key or room that is looked at; the configuration allows no longer ones.
const NAME: usize = 4096;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Goim {
    pub(crate) push: Arc<dyn PushApi>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) advice: Arc<Advice>,
    /// The environment that comets are listed in.
    pub(crate) deploy_env: Arc<str>,
    pub(crate) max_body: usize,
    pub(crate) max_receivers: usize,
}

/// Every route: its method, its path, and who answers.
fn table() -> [(Method, &'static str, MethodRouter<Goim>); 9] {
    [
        (Method::POST, "/goim/push/keys", post(push::keys)),
        (Method::POST, "/goim/push/mids", post(push::mids)),
        (Method::POST, "/goim/push/room", post(push::room)),
        (Method::POST, "/goim/push/all", post(push::all)),
        (Method::GET, "/goim/online/top", get(online::top)),
        (Method::GET, "/goim/online/room", get(online::room)),
        (Method::GET, "/goim/online/total", get(online::total)),
        (Method::GET, "/goim/nodes/weighted", get(nodes::weighted)),
        (Method::GET, "/goim/nodes/instances", get(nodes::instances)),
    ]
}

pub(crate) fn routes(goim: Goim) -> Router {
    let add = |router: Router<Goim>, (method, path, answer): (Method, &str, MethodRouter<Goim>)| {
        // goim has no HEAD, which comes with GET here.
        router.route(path, if method == Method::GET { answer.head(surface::other_method) } else { answer })
    };
    table().into_iter().fold(Router::new(), add).with_state(goim)
}

type Answer = Result<Response, Response>;

impl Goim {
    /// Refuses more names in one request than are allowed. `what` says of what, and what to do instead.
    #[expect(clippy::result_large_err, reason = "the error is the response itself")]
    fn check_count(&self, count: usize, (what, instead): (&str, &str)) -> Result<(), Response> {
        let max = self.max_receivers;
        if count <= max {
            return Ok(());
        }
        let message = format!("{count} {what} are more than {max}: {instead}, or raise http.receivers");
        Err(envelope(StatusCode::PAYLOAD_TOO_LARGE, -400, &message))
    }
}

/// A query that does not bind. goim writes its headers before it knows that it will answer with JSON.
fn bad_query(cause: &str) -> Response {
    let mut response = envelope(StatusCode::BAD_REQUEST, -400, cause);
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// goim's envelope without data.
pub(crate) fn envelope(status: StatusCode, code: i32, message: &str) -> Response {
    enveloped(status, Object::new().number("code", code).text("message", message))
}

/// goim's envelope around data, which is JSON.
fn success(data: &str) -> Response {
    enveloped(StatusCode::OK, Object::new().number("code", 0).text("message", "").raw("data", data))
}

fn enveloped(status: StatusCode, body: Object) -> Response {
    (status, [(CONTENT_TYPE, "application/json; charset=utf-8")], body.end()).into_response()
}

/// What goim answers to paths and methods that it does not have: a trailing slash is sent on, the rest
/// is not found.
pub(crate) fn fallback(request: &Request) -> Response {
    let path = request.uri().path();
    let known =
        |path: &str| table().iter().any(|(method, known, _)| method == request.method() && *known == path);
    if let Some(trimmed) = path.strip_suffix('/')
        && known(trimmed)
    {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        return redirect(request.method(), &format!("{trimmed}{query}"));
    }
    (StatusCode::NOT_FOUND, [(CONTENT_TYPE, "text/plain")], Body::from("404 page not found")).into_response()
}

/// As Go's library writes it: a link in the body, if it was a GET.
fn redirect(method: &Method, to: &str) -> Response {
    if method != Method::GET {
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response();
    }
    let mut link = to.replace('&', "&amp;");
    for (c, escaped) in [('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")] {
        link = link.replace(c, escaped);
    }
    let body = format!("<a href=\"{link}\">Moved Permanently</a>.\n\n");
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (LOCATION, to)];
    (StatusCode::MOVED_PERMANENTLY, headers, body).into_response()
}
