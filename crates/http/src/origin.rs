//! A browser lets every web page post to every server: what comes from a page, with an `Origin`, is
//! refused unless that is in the list, or the page is one of ours.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::metrics::{Metrics, Refused};
use crate::{problem, surface};

/// What pages may send, and read, beyond what browsers let them anyway.
const SENT: &str = "authorization, content-type, idempotency-key";
const READ: &str = "anser-message-id, retry-after";

/// Which pages may call.
#[derive(Debug)]
pub(crate) struct Origins {
    /// By origin; `*` is all.
    pub(crate) allowed: Vec<String>,
    /// Whether a key is needed. Without one a name that leads here must not make a page ours: anybody can
    /// point a name at this address.
    pub(crate) keys: bool,
    pub(crate) metrics: Metrics,
}

impl Origins {
    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        let same =
            |allowed: &String| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
        self.allowed.iter().any(same)
    }

    /// Whether it is a page of this server, such as `/docs`.
    fn is_ours(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let (Some(origin), Some(host)) = (text(ORIGIN), text(HOST)) else { return false };
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        !host.is_empty() && authority.eq_ignore_ascii_case(host) && (self.keys || is_this_machine(host))
    }
}

/// Whether a `Host` is an address or `localhost`, which no stranger can point here.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// Lets pages in that may call, and tells their browsers so.
pub(crate) async fn check(State(origins): State<Arc<Origins>>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else { return next.run(request).await };
    if !origins.is_allowed(&origin) {
        if origins.is_ours(request.headers()) {
            return next.run(request).await;
        }
        origins.metrics.refused(Refused::Origin);
        let told = "web pages of this origin may not call the API: http.allowed_origins names those that may";
        return surface::refuse(request.uri().path(), &problem::ORIGIN, told);
    }
    let asks =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks {
        let allowed = [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
            (ACCESS_CONTROL_ALLOW_HEADERS, SENT),
            (ACCESS_CONTROL_MAX_AGE, "3600"),
        ];
        (StatusCode::NO_CONTENT, allowed).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(READ));
    headers.append(VARY, HeaderValue::from_static("origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_ours() {
        for (origin, host, keys, ours) in [
            ("http://127.0.0.1:3111", "127.0.0.1:3111", false, true),
            ("http://localhost:3111", "localhost:3111", false, true),
            ("http://[::1]:3111", "[::1]:3111", false, true),
            ("http://[::1]", "[::1]", false, true),
            ("http://evil.example:3111", "evil.example:3111", false, false),
            ("https://push.example", "push.example", true, true),
            ("http://evil.example", "127.0.0.1:3111", true, false),
            ("http://127.0.0.1:80", "127.0.0.1:3111", true, false),
            ("null", "127.0.0.1:3111", true, false),
            ("", "", true, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, origin.parse().unwrap());
            headers.insert(HOST, host.parse().unwrap());
            let origins = Origins { allowed: Vec::new(), keys, metrics: Metrics::default() };
            assert_eq!(origins.is_ours(&headers), ours, "{origin} {host}");
        }
    }
}
