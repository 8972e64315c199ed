//! What a back end may get wrong, and what it is told, to the letter.

use std::time::Duration;

use anser_api::comet::PushError;
use axum::body::Body;
use axum::http::{Request, header::AUTHORIZATION};
use serde_json::{Value, json};

use super::{Api, KEY};
use crate::Config;

/// Kinds of the statuses that one mistake in the body can have.
fn invalid(pointer: &str, message: &str) -> Value {
    let detail = if pointer.is_empty() { message.to_owned() } else { format!("{pointer} {message}") };
    json!({
        "type": "/problems/invalid-request",
        "title": "The request asks for something that cannot be",
        "status": 422,
        "detail": detail,
        "errors": [{"pointer": pointer, "message": message}],
    })
}

/// A push in which everything is right but for these fields, which stand instead or beside; null takes
/// one away.
fn but(fields: &Value) -> String {
    let mut push = json!({"to": {"devices": ["phone-7"]}, "operation": 1000, "body": "hello"});
    for (name, value) in fields.as_object().unwrap() {
        match value {
            Value::Null => push.as_object_mut().unwrap().remove(name),
            value => push.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    push.to_string()
}

#[tokio::test]
async fn one_mistake() {
    let api = Api::new();
    let targets = "must have exactly one of `devices`, `users`, `rooms`, `all`";
    let field =
        "is no field here: there may be `to`, `operation`, `body`, `body_base64`, `expires_in`, `expires_at`";
    let int32 = "must be a whole number from -2147483648 to 2147483647";
    let operation = "belongs to the protocol (0 to 17, 100 to 199): use 1000 or above";
    let duration = "must be a duration such as \"30s\", or seconds as a number";
    let no_duration =
        "is no duration: write a whole number with ms, s, m or h, such as \"30s\", or a number of seconds";
    let no_time = "is no time of RFC 3339: write it like 2099-12-31T12:00:00Z, with Z or an offset";
    let over = "is over already: nobody could get the message";
    let far = "is later than the year 2199: leave it out, or set an earlier one";
    let room = "must be type://id, such as live://1";
    let user = "is no user: users are whole numbers above 0";
    for (fields, pointer, message) in [
        (json!({"to": null}), "/to", "is missing"),
        (json!({"to": {}}), "/to", targets),
        (json!({"to": {"devices": ["a"], "users": [1]}}), "/to", targets),
        (
            json!({"to": {"device": ["a"]}}),
            "/to/device",
            "is no field here: there may be `devices`, `users`, `rooms`, `all`",
        ),
        (json!({"to": "phone-7"}), "/to", "must be an object"),
        (json!({"to": {"devices": "a"}}), "/to/devices", "must be a list"),
        (json!({"to": {"devices": [7]}}), "/to/devices/0", "must be a string"),
        (json!({"to": {"devices": []}}), "/to/devices", "names nobody: name at least one"),
        (json!({"to": {"devices": ["a", ""]}}), "/to/devices/1", "is empty"),
        (json!({"to": {"devices": ["x".repeat(21)]}}), "/to/devices/0", "has 21 bytes, logic.key allows 20"),
        (json!({"to": {"users": []}}), "/to/users", "names nobody: name at least one"),
        (json!({"to": {"users": [1, 0]}}), "/to/users/1", user),
        (json!({"to": {"users": [-1]}}), "/to/users/0", user),
        (
            json!({"to": {"users": ["7"]}}),
            "/to/users/0",
            "must be a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        (
            json!({"to": {"users": [1.5]}}),
            "/to/users/0",
            "must be a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        (json!({"to": {"rooms": []}}), "/to/rooms", "names nobody: name at least one"),
        (json!({"to": {"rooms": ["live://1", "live"]}}), "/to/rooms/1", room),
        (json!({"to": {"rooms": ["://1"]}}), "/to/rooms/0", room),
        (json!({"to": {"rooms": ["live://"]}}), "/to/rooms/0", room),
        (
            json!({"to": {"rooms": ["live://45678901234567"]}}),
            "/to/rooms/0",
            "has 21 bytes, comet.room_name allows 20",
        ),
        (json!({"to": {"all": true}}), "/to/all", "must be an object"),
        (
            json!({"to": {"all": {"speed": -1}}}),
            "/to/all/speed",
            "must be a whole number from 0 to 4294967295",
        ),
        (json!({"to": {"all": {"sped": 1}}}), "/to/all/sped", "is no field here: there may be `speed`"),
        (json!({"operation": null}), "/operation", "is missing"),
        (json!({"operation": "1000"}), "/operation", int32),
        (json!({"operation": 1000.5}), "/operation", int32),
        (json!({"operation": 2_147_483_648_u64}), "/operation", int32),
        (json!({"operation": 0}), "/operation", operation),
        (json!({"operation": 17}), "/operation", operation),
        (json!({"operation": 100}), "/operation", operation),
        (json!({"operation": 199}), "/operation", operation),
        (json!({"body": null}), "/body", "is missing: send `body`, which may be empty, or `body_base64`"),
        (json!({"body": {"a": 1}}), "/body", "must be a string"),
        (json!({"body_base64": "aGk="}), "/body_base64", "stands beside `body`: send one of them"),
        (
            json!({"body": null, "body_base64": "a?"}),
            "/body_base64",
            "is no standard base64: Invalid symbol 63, offset 1.",
        ),
        (
            json!({"body": null, "body_base64": "_-8="}),
            "/body_base64",
            "is no standard base64: Invalid symbol 95, offset 0.",
        ),
        (json!({"expires_in": "soon"}), "/expires_in", no_duration),
        (json!({"expires_in": "30"}), "/expires_in", no_duration),
        (json!({"expires_in": [30]}), "/expires_in", duration),
        (json!({"expires_in": -1}), "/expires_in", "must not be below 0"),
        (json!({"expires_in": 0}), "/expires_in", over),
        (json!({"expires_in": "0s"}), "/expires_in", over),
        (json!({"expires_in": 1e300}), "/expires_in", far),
        (json!({"expires_in": "9000000h"}), "/expires_in", far),
        (json!({"expires_at": "tomorrow"}), "/expires_at", no_time),
        (json!({"expires_at": "2030-01-31T12:00:00"}), "/expires_at", no_time),
        (json!({"expires_at": 1_900_000_000}), "/expires_at", "must be a string"),
        (json!({"expires_at": "2001-01-01T00:00:00Z"}), "/expires_at", over),
        (json!({"expires_at": "2200-01-01T00:00:00Z"}), "/expires_at", far),
        (json!({"expires_at": "9999-12-31T23:59:59Z"}), "/expires_at", far),
        (json!({"expires_at": "1900-01-01T00:00:00Z"}), "/expires_at", over),
        (json!({"expires_in": "18446744073709551615ms"}), "/expires_in", far),
        (
            json!({"expires_in": "1s", "expires_at": "2030-01-31T12:00:00Z"}),
            "/expires_at",
            "stands beside `expires_in`: send one of them",
        ),
        (json!({"op": 1000}), "/op", field),
        (json!({"a/b~c": 1}), "/a~1b~0c", field),
    ] {
        let body = but(&fields);
        let reply = api.push(&body).await;
        assert_eq!(reply.json(), invalid(pointer, message), "{body}");
        assert_eq!(reply.status, 422);
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    }
    assert_eq!(api.fake.take(), [], "nothing of it was pushed");
}

#[tokio::test]
async fn all_mistakes_are_told_at_once() {
    let api = Api::new();
    let body = json!({"to": {"users": [0, 1, -5]}, "operation": 5, "expires_in": 0});
    let reply = api.push(&body.to_string()).await.json();
    let pointers = |reply: &Value| -> Vec<String> {
        let errors = reply["errors"].as_array().unwrap().iter();
        errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(pointers(&reply), ["/to/users/0", "/to/users/2", "/operation", "/body", "/expires_in"]);
    assert_eq!(
        reply["detail"],
        "/to/users/0 is no user: users are whole numbers above 0; `errors` has the others"
    );
    let body = json!({"to": {"users": ["a", 1, true]}, "operation": "x", "body": 5, "expires_at": 7, "x": 1});
    let reply = api.push(&body.to_string()).await.json();
    let expected = ["/x", "/to/users/0", "/to/users/2", "/operation", "/body", "/expires_at"];
    assert_eq!(pointers(&reply), expected);
}

#[tokio::test]
async fn no_json() {
    let api = Api::new();
    for (body, told) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("hello", "expected value at line 1 column 1"),
        (
            r#"{"to":{"users":[1]},"operation":1000,"body":"a""#,
            "EOF while parsing an object at line 1 column 47",
        ),
        (r#"{"to":{"users":[1]},"operation":1000,"body":"a"} {}"#, "trailing characters at line 1 column 50"),
        ("{\"to\":\n{\"users\":[01]}}", "invalid number at line 2 column 12"),
        (&"[".repeat(400), "recursion limit exceeded at line 1 column 128"),
        ("[1, 2", "EOF while parsing a list at line 1 column 5"),
    ] {
        let reply = api.push(body).await;
        let expected = json!({
            "type": "/problems/malformed-request", "title": "The request is malformed", "status": 400,
            "detail": format!("the body is no JSON: {told}"),
        });
        assert_eq!((reply.status.as_u16(), reply.json()), (400, expected), "{body}");
    }
    for body in ["null", "7", "\"to\"", r#"[{"users":[1]},1000,"hello",null,null,null]"#] {
        assert_eq!(api.push(body).await.json(), invalid("", "must be an object"), "{body}");
    }
    assert_eq!(api.fake.take(), []);
}

#[tokio::test]
async fn too_much() {
    let api = Api::new();
    let told =
        |reply: &super::Reply| (reply.status.as_u16(), reply.json()["detail"].as_str().unwrap().to_owned());
    let reply = api.push(&but(&json!({"body": "x".repeat(500)}))).await;
    assert_eq!(
        told(&reply),
        (413, "the body is larger than 500 bytes: http.body: send less, or raise it".into())
    );
    for (name, list) in [("devices", json!(["a", "b", "c", "d"])), ("users", json!([1, 2, 3, 4]))] {
        let reply = api.push(&but(&json!({"to": {name: list}}))).await;
        let detail = format!("/to/{name} names 4, http.receivers allows 3: send several pushes, or raise it");
        assert_eq!(told(&reply), (413, detail));
        assert_eq!(reply.json()["type"], "/problems/too-large");
    }
    assert_eq!(api.push(&but(&json!({"to": {"users": [1, 2, 3]}}))).await.status, 200);
}

#[tokio::test]
async fn bad_headers() {
    let api = Api::new();
    let json = ("content-type", "application/json");
    let push = but(&json!({}));
    for kind in ["application/x-www-form-urlencoded", "text/plain", "", "json", "image/svg+json"] {
        let reply = api.push_with(&[("content-type", kind)], &push).await;
        assert_eq!(reply.status, 415, "{kind}");
        let told = format!(
            "the body is declared as {kind:?}: send `Content-Type: application/json` (curl does with --json)"
        );
        assert_eq!(reply.json()["detail"], told);
    }
    for kind in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.push+json"] {
        assert_eq!(api.push_with(&[("content-type", kind)], &push).await.status, 200, "{kind}");
    }
    assert_eq!(api.push_with(&[], &push).await.status, 200);
    api.fake.take();
    let long = "x".repeat(256);
    for keys in [&[""][..], &["a b"], &["ü"], &[&long], &["a", "b"]] {
        let keys: Vec<_> = keys.iter().map(|key| ("idempotency-key", *key)).chain([json]).collect();
        let reply = api.push_with(&keys, &push).await;
        assert_eq!(reply.status, 400, "{keys:?}");
        assert_eq!(
            reply.json()["detail"],
            "the header Idempotency-Key must stand there once, with 1 to 255 visible ASCII characters"
        );
    }
    assert_eq!(api.fake.take(), []);
    assert_eq!(api.push_with(&[json, ("idempotency-key", &long[1..])], &push).await.status, 200);
}

/// What the job answers, in the words of this API.
#[tokio::test]
async fn pushes_that_are_refused() {
    let api = Api::new();
    let millis = Duration::from_millis(1500);
    for (cause, status, kind, retry_after, detail) in [
        (
            PushError::Exhausted { retry_after: millis },
            429,
            "busy",
            Some("2"),
            "resource exhausted, retry after 1500 ms",
        ),
        (
            PushError::TooLarge { len: 9, max: 8 },
            413,
            "too-large",
            None,
            "a push of 9 bytes is larger than 8: send less, or raise comet.push_body",
        ),
        (
            PushError::TooMany { max: 5 },
            413,
            "too-large",
            None,
            "the users of a push have more than 5 connections: send several with fewer users, or raise \
             logic.push_connections",
        ),
        (PushError::Draining, 503, "draining", None, "this server is shutting down"),
        (
            PushError::Unavailable { what: "the disk is full".into(), retry_after: millis },
            503,
            "unavailable",
            Some("2"),
            "the disk is full: try again in 1500 ms",
        ),
        (
            PushError::Conflict,
            422,
            "idempotency-conflict",
            None,
            "the idempotency key was used for another push",
        ),
    ] {
        api.fake.refuse(cause);
        let reply = api.push(&but(&json!({}))).await;
        let json = reply.json();
        assert_eq!(reply.status, status);
        assert_eq!((&json["type"], &json["detail"]), (&json!(format!("/problems/{kind}")), &json!(detail)));
        assert_eq!(reply.header("retry-after"), retry_after, "{kind}");
        let expected = retry_after.map_or(Value::Null, |_| json!(1500));
        assert_eq!(json["retry_after_ms"], expected);
        let page = api.get(json["type"].as_str().unwrap()).await;
        assert_eq!(page.status, 200, "the type of an error leads to its explanation");
        assert!(page.text().starts_with(json["title"].as_str().unwrap()), "{}", page.text());
    }
    assert_eq!(api.get("/problems/none").await.status, 404);
}

#[tokio::test]
async fn what_is_not_there() {
    let api = Api::new();
    for (method, path, status, kind) in [
        ("GET", "/api/v1/push", 405, "method-not-allowed"),
        ("PUT", "/api/v1/push", 405, "method-not-allowed"),
        ("POST", "/api/v1/push/", 404, "not-found"),
        ("POST", "/api/v2/push", 404, "not-found"),
    ] {
        let request =
            Request::builder().method(method).uri(path).header(AUTHORIZATION, format!("Bearer {KEY}"));
        let reply = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["type"]),
            (status, &json!(format!("/problems/{kind}")))
        );
        assert_eq!(reply.header("allow"), (status == 405).then_some("POST"), "{method} {path}");
    }
    assert_eq!(api.get("/nowhere").await.text(), "404 page not found", "elsewhere it is goim's");
    let reply = api.send(Request::post("/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (404, "404 page not found"));
}

/// A body that never comes.
#[tokio::test(start_paused = true)]
async fn slow_requests() {
    let api = Api::with(Config::default());
    for (path, expected) in [
        ("/api/v1/push", "/problems/timeout"),
        ("/goim/push/all?operation=1000", r#"{"code":-400,"message":"the request took too long to arrive"}"#),
    ] {
        let body = Body::from_stream(futures_util::stream::pending::<Result<&[u8], std::io::Error>>());
        let request = Request::post(path).header(AUTHORIZATION, format!("Bearer {KEY}"));
        let reply = api.send(request.body(body).unwrap()).await;
        assert_eq!(reply.status, 408);
        assert!(reply.text().contains(expected), "{}", reply.text());
    }
    assert_eq!(api.metric("anser_http_refused_total{reason=\"timeout\"}"), Some(2));
}
