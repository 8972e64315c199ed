//! Pushes that are taken, and how they are answered.

use std::time::{Duration, SystemTime};

use anser_api::comet::PushError;
use anser_api::id::{Key, Room, UserId};
use anser_api::logic::Audience;
use serde_json::{Value, json};

use super::{Api, KEY};

fn key(name: &str) -> Key {
    Key::parse(name, 100).unwrap()
}

fn room(name: &str) -> Room {
    Room::parse(name, 100).unwrap()
}

fn push(to: &Value) -> String {
    json!({"to": to, "operation": 1000, "body": "hello"}).to_string()
}

#[tokio::test]
async fn targets() {
    let api = Api::new();
    let named = |target: &str, connections: u64| {
        json!({"target": target, "status": 200, "id": "100", "connections": connections, "absent": 0,
               "repeated": false})
    };
    let open = |target: &str| json!({"target": target, "status": 200, "id": "100", "repeated": false});
    for (to, audience, message) in [
        (json!({"devices": ["a", "b", "a"]}), Audience::Keys(vec![key("a"), key("b")]), named("devices", 2)),
        (json!({"users": [8, 7, 8]}), Audience::Users(vec![UserId(8), UserId(7)]), named("users", 2)),
        (json!({"rooms": ["live://1"]}), Audience::Room(room("live://1")), open("live://1")),
        (json!({"all": {"speed": 5000}}), Audience::All { speed: 5000 }, open("all")),
        (json!({"all": {}}), Audience::All { speed: 0 }, open("all")),
        (json!({"all": {}, "users": null}), Audience::All { speed: 0 }, open("all")),
    ] {
        let reply = api.push(&push(&to)).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({"messages": [message]})));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let [pushed] = &api.fake.take()[..] else { panic!("one push") };
        assert_eq!((&pushed.to, pushed.op, &pushed.body[..]), (&audience, 1000, &b"hello"[..]));
        assert_eq!((pushed.expires, &pushed.idempotency), (None, &None));
    }
}

#[tokio::test]
async fn bodies() {
    let api = Api::new();
    for (field, value, bytes) in [
        ("body", "", &b""[..]),
        ("body", "grüße \u{0}", "grüße \u{0}".as_bytes()),
        ("body_base64", "AAEC/w==", &[0, 1, 2, 255]),
        ("body_base64", "AAEC/w", &[0, 1, 2, 255]),
        ("body_base64", "", &[]),
    ] {
        let body = json!({"to": {"users": [1]}, "operation": -5, field: value});
        assert_eq!(api.push(&body.to_string()).await.status, 200, "{body}");
        let [pushed] = &api.fake.take()[..] else { panic!("one push") };
        assert_eq!((pushed.op, &pushed.body[..]), (-5, bytes));
    }
}

#[tokio::test]
async fn expiry() {
    let api = Api::new();
    let in_an_hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    for (field, value, seconds) in [
        ("expires_in", json!("30s"), 30.0),
        ("expires_in", json!("1500ms"), 1.5),
        ("expires_in", json!(90), 90.0),
        ("expires_in", json!(0.25), 0.25),
        ("expires_in", json!("8784h"), 366.0 * 24.0 * 3600.0),
        ("expires_at", json!(in_an_hour.to_string()), 3600.0),
        ("expires_at", json!(format!("{}+00:00", in_an_hour.to_string().trim_end_matches('Z'))), 3600.0),
    ] {
        let (before, body) =
            (SystemTime::now(), json!({"to": {"users": [1]}, "operation": 1000, "body": "", field: value}));
        let reply = api.push(&body.to_string()).await;
        assert_eq!(reply.status, 200, "{body} {}", reply.text());
        let left = api.fake.take()[0].expires.unwrap().duration_since(before).unwrap().as_secs_f64();
        assert!((left - seconds).abs() < 30.0 && (seconds > 60.0 || left >= seconds), "{body}: {left}");
    }
}

/// One push for each, in their order; the first that is refused refuses all, others stand for themselves.
#[tokio::test]
async fn several_rooms() {
    let api = Api::new();
    let rooms = push(&json!({"rooms": ["a://1", "b://2", "a://1"]}));
    let reply = api.push(&rooms).await.json();
    assert_eq!(
        reply,
        json!({"messages": [
            {"target": "a://1", "status": 200, "id": "100", "repeated": false},
            {"target": "b://2", "status": 200, "id": "101", "repeated": false},
        ]})
    );
    assert_eq!(api.fake.take().len(), 2);

    let rooms = push(&json!({"rooms": ["a://1", "b://2", "c://3"]}));
    let busy = PushError::Exhausted { retry_after: Duration::from_millis(120) };
    api.fake.state().refused_room = Some(("b://2".into(), busy.clone()));
    let reply = api.push(&rooms).await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        json!({"messages": [
            {"target": "a://1", "status": 200, "id": "100", "repeated": false},
            {"target": "b://2", "status": 429, "repeated": false, "problem": {
                "type": "/problems/busy", "title": "A queue is full", "status": 429,
                "detail": "resource exhausted, retry after 120 ms", "retry_after_ms": 120,
            }},
            {"target": "c://3", "status": 200, "id": "101", "repeated": false},
        ]})
    );
    assert_eq!(api.fake.take().len(), 2);

    api.fake.state().refused_room = Some(("a://1".into(), busy));
    let reply = api.push(&rooms).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["type"]), (429, &json!("/problems/busy")));
    assert_eq!(api.fake.take(), [], "nothing was taken, so all can be sent again");
}

#[tokio::test]
async fn repeated_requests() {
    let api = Api::new();
    let send = async |idempotency: &str, body: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", idempotency)];
        let reply = api.push_with(&headers, body).await;
        (reply.status.as_u16(), reply.json())
    };
    let rooms = push(&json!({"rooms": ["a://1", "b://2"]}));
    let (_, first) = send("k", &rooms).await;
    assert_eq!((&first["messages"][0]["id"], &first["messages"][1]["id"]), (&json!("100"), &json!("101")));
    // Written in another way, it is the same request.
    let again = r#" {"body_base64":"aGVsbG8=", "operation":1000, "to":{"rooms":["\u0061://1","b://2"]}}"#;
    let (status, repeated) = send("k", again).await;
    assert_eq!(status, 200);
    for n in [0, 1] {
        assert_eq!(repeated["messages"][n]["id"], first["messages"][n]["id"]);
        assert_eq!(repeated["messages"][n]["repeated"], true);
    }
    api.fake.take();
    // Whatever is asked for instead is a mistake, and nothing of it is pushed.
    for other in [
        push(&json!({"rooms": ["a://1"]})),
        push(&json!({"rooms": ["c://1", "b://2"]})),
        push(&json!({"rooms": ["a://1", "b://2", "c://3"]})),
        push(&json!({"rooms": ["b://2", "a://1"]})),
        push(&json!({"devices": ["a://1"]})),
        push(&json!({"users": [1]})),
        push(&json!({"all": {}})),
        json!({"to": {"rooms": ["a://1", "b://2"]}, "operation": 1001, "body": "hello"}).to_string(),
        json!({"to": {"rooms": ["a://1", "b://2"]}, "operation": 1000, "body": "hello!"}).to_string(),
        json!({"to": {"rooms": ["a://1", "b://2"]}, "operation": 1000, "body": "hello", "expires_in": 9})
            .to_string(),
    ] {
        let (status, reply) = send("k", &other).await;
        assert_eq!((status, &reply["type"]), (422, &json!("/problems/idempotency-conflict")), "{other}");
    }
    assert_eq!(api.fake.take(), []);
    // Another key of the request, and another key of the API, know nothing of it.
    let (_, other) = send("l", &rooms).await;
    assert_eq!(other["messages"][0]["repeated"], false);
    let headers = [("authorization", "Bearer the-second-key-of-all"), ("idempotency-key", "k")];
    let mut request = axum::http::Request::post("/api/v1/push");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let reply = api.send(request.body(push(&json!({"users": [1]})).into()).unwrap()).await;
    assert_eq!(reply.json()["messages"][0]["repeated"], false);
}

/// A relative end is a relative end, however late the request is repeated.
#[tokio::test]
async fn a_repeated_expiry() {
    let api = Api::new();
    let body = json!({"to": {"users": [1]}, "operation": 1000, "body": "", "expires_in": "30s"}).to_string();
    let mut ends = Vec::new();
    for _ in 0..2 {
        let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
        assert_eq!(api.push_with(&headers, &body).await.status, 200);
        ends.extend(api.fake.take().into_iter().map(|push| (push.expires, push.idempotency)));
    }
    let [(first, known), (second, again)] = &ends[..] else { panic!("two pushes") };
    assert_ne!(first, second);
    assert_eq!(known, again);
    let scope = known.as_ref().unwrap().key.split_once(' ').unwrap();
    assert_eq!((scope.0.len(), scope.1), (16, "k"));
    assert!(!known.as_ref().unwrap().key.contains(&KEY[6..]), "the key itself goes nowhere");
}

#[tokio::test]
async fn goims_routes_say_the_number() {
    let api = Api::new();
    let request = axum::http::Request::post("/goim/push/room?operation=1000&type=live&room=1")
        .header("authorization", format!("Bearer {KEY}"));
    let reply = api.send(request.body("x".into()).unwrap()).await;
    assert_eq!(reply.text(), r#"{"code":0,"message":""}"#);
    assert_eq!(reply.header("anser-message-id"), Some("100"));
}
