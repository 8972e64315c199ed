//! Keys: where they are needed, and what those hear who have none. And pages of browsers.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::{Api, KEY};
use crate::Config;
use crate::access::Peer;

const PUSH: &str = "/api/v1/push";
const ALL: &str = "/goim/push/all?operation=1000";

fn post(path: &str, headers: &[(&str, &str)], peer: [u8; 4]) -> Request<Body> {
    let mut request = Request::post(path).extension(Peer(peer.into()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(r#"{"to":{"all":{}},"operation":1000,"body":""}"#.into()).unwrap()
}

#[tokio::test]
async fn without_a_key() {
    let api = Api::new();
    let told = "the push API needs a key: send `Authorization: Bearer KEY`; it is in the file push.key in the data \
                folder of the server";
    let reply = api.send(post(ALL, &[], [1; 4])).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.text(), format!("{{\"code\":-401,\"message\":\"{told}\"}}"));
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    let reply = api.send(post(PUSH, &[], [1; 4])).await;
    let expected =
        json!({"type": "/problems/missing-key", "title": "A key is needed", "status": 401, "detail": told});
    assert_eq!((reply.status.as_u16(), reply.json()), (401, expected));
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(api.fake.take(), []);
    assert_eq!(api.metric("anser_http_refused_total{reason=\"missing_key\"}"), Some(2));
}

#[tokio::test]
async fn with_a_wrong_key() {
    let api = Api::new();
    let wrong = [("authorization", "Bearer anser_the-key-of-other-tests")];
    let told = "this is no key of the push API: the good ones are in the file push.key in the data folder of the \
                server, and are read when it starts";
    let reply = api.send(post(ALL, &wrong, [1; 4])).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.text(), format!("{{\"code\":-401,\"message\":\"{told}\"}}"));
    assert_eq!(reply.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    let reply = api.send(post(PUSH, &wrong, [1; 4])).await;
    let expected =
        json!({"type": "/problems/wrong-key", "title": "The key is wrong", "status": 401, "detail": told});
    assert_eq!((reply.status.as_u16(), reply.json()), (401, expected));
    assert_eq!(api.fake.take(), []);
    assert_eq!(api.metric("anser_http_refused_total{reason=\"wrong_key\"}"), Some(2));
}

#[tokio::test]
async fn many_wrong_keys() {
    let api = Api::new();
    let (wrong, good) = ([("authorization", "Bearer wrong")], [("authorization", &*format!("Bearer {KEY}"))]);
    for _ in 0..20 {
        assert_eq!(api.send(post(ALL, &wrong, [1; 4])).await.status, 401);
    }
    let reply = api.send(post(ALL, &good, [1; 4])).await;
    assert_eq!(reply.status, 429);
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let told =
        format!("too many wrong push API keys came from your address: no key is looked at for {wait} s");
    assert_eq!(reply.text(), format!("{{\"code\":-429,\"message\":\"{told}\"}}"));
    let reply = api.send(post(PUSH, &good, [1; 4])).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["type"]),
        (429, &json!("/problems/too-many-wrong-keys"))
    );
    assert_eq!(api.fake.take(), []);
    assert_eq!(api.send(post(ALL, &good, [2; 4])).await.status, 200, "others are not concerned");
    assert_eq!(api.metric("anser_http_refused_total{reason=\"too_many_wrong_keys\"}"), Some(2));
}

#[tokio::test]
async fn with_a_key() {
    let api = Api::new();
    for key in [KEY, "the-second-key-of-all"] {
        let reply = api.send(post(ALL, &[("authorization", &format!("Bearer {key}"))], [1; 4])).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, r#"{"code":0,"message":""}"#));
    }
    assert_eq!(api.metric("anser_http_requests_total{route=\"/goim/push/all\",status=\"2xx\"}"), Some(2));
    assert_eq!(api.metric("anser_http_request_seconds_count{route=\"/goim/push/all\"}"), Some(2));
}

#[tokio::test]
async fn what_needs_none() {
    let api = Api::new();
    for path in ["/healthz", "/metrics", "/docs/", "/api/v1/openapi.json", "/problems/busy"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    assert_eq!(api.get("/readyz").await.status, 503);
    assert_ne!(api.get("/goim/nodes/weighted").await.status, 401, "clients call it");
    for path in ["/goim/online/total", "/api/v1/other", "/goim/push/room/"] {
        assert_eq!(api.get(path).await.status, 401, "{path}");
    }
    assert_eq!(api.metric("anser_http_requests_total{route=\"other\",status=\"4xx\"}"), Some(2));
}

#[tokio::test]
async fn a_server_that_asks_for_none() {
    let api = Api::with(Config { require_key: false, ..Config::default() });
    for path in [ALL, PUSH] {
        assert_eq!(api.send(post(path, &[], [1; 4])).await.status, 200);
        assert_eq!(api.send(post(path, &[("authorization", "Bearer wrong")], [1; 4])).await.status, 200);
    }
    let known = post(PUSH, &[("idempotency-key", "a")], [1; 4]);
    api.fake.take();
    assert_eq!(api.send(known).await.status, 200);
    assert_eq!(api.fake.take()[0].idempotency.as_ref().unwrap().key, "open a");
}

#[tokio::test]
async fn pages_of_browsers() {
    let named = vec!["https://app.example".to_owned()];
    let api = Api::with(Config { allowed_origins: named, ..Config::default() });
    let key = format!("Bearer {KEY}");
    let page = |origin, host| [("authorization", &*key), ("origin", origin), ("host", host)];
    let other = page("https://evil.example", "127.0.0.1:3111");
    let told = "web pages of this origin may not call the API: http.allowed_origins names those that may";
    let reply = api.send(post(ALL, &other, [1; 4])).await;
    assert_eq!(
        (reply.status.as_u16(), reply.text()),
        (403, &*format!("{{\"code\":-403,\"message\":\"{told}\"}}"))
    );
    let reply = api.send(post(PUSH, &other, [1; 4])).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["detail"]), (403, &json!(told)));
    assert_eq!(api.metric("anser_http_refused_total{reason=\"origin\"}"), Some(2));
    assert_eq!(api.fake.take(), []);

    // Our own page, and one that is named.
    let ours = page("http://127.0.0.1:3111", "127.0.0.1:3111");
    assert_eq!(api.send(post(PUSH, &ours, [1; 4])).await.status, 200);
    let named = page("https://app.example", "push.example");
    let reply = api.send(post(PUSH, &named, [1; 4])).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("access-control-allow-origin")),
        (200, Some("https://app.example"))
    );
    assert_eq!(reply.header("vary"), Some("origin"));

    // A browser asks before it sends a key, and it cannot send the key with the question.
    let asks = |origin: &str| {
        let request =
            Request::options(PUSH).header("origin", origin).header("access-control-request-method", "POST");
        request.body(Body::empty()).unwrap()
    };
    let reply = api.send(asks("https://app.example")).await;
    assert_eq!(reply.status, 204);
    assert_eq!(
        reply.header("access-control-allow-headers"),
        Some("authorization, content-type, idempotency-key")
    );
    assert_eq!(api.send(asks("https://evil.example")).await.status, 403);
}
