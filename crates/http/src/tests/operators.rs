//! What operators ask.

use anser_api::comet::{Note, Present, Testimony, Unwritten};
use anser_api::id::UserId;
use anser_api::job::{Account, Addressed, Progress, Share};
use axum::http::Method;
use serde_json::json;

use super::*;

impl Api {
    async fn ask(&self, method: Method, path: &str, body: &str) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {KEY}"))
            .extension(Peer([127, 0, 0, 1].into()));
        self.send(request.body(body.to_owned().into()).unwrap()).await
    }

    async fn put(&self, body: &Value) -> Reply {
        self.ask(Method::PUT, "/api/v1/traces", &body.to_string()).await
    }

    fn explains(&self, explanation: Result<Explanation, Away>) {
        self.fake.state().explanations.push_back(explanation);
    }
}

fn key(name: &str) -> Key {
    Key::parse(name, 9).unwrap()
}

fn filtered() -> Account {
    let accepted = SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_366_400_123);
    let at = accepted + Duration::from_millis(1);
    let said = Testimony {
        notes: vec![Note { key: Some(key("phone-7")), why: Unwritten::Filtered, at }],
        more: false,
        since: Some(SystemTime::UNIX_EPOCH),
        present: vec![Present { key: key("phone-7"), takes: false, member: false, waits: false }],
    };
    let comet = CometName::parse("comet-1", 9).unwrap();
    let share = Share {
        key: Some(key("phone-7")),
        comet: comet.clone(),
        progress: Progress::Done,
        followed: false,
        resent: false,
        said: Ok(said),
    };
    Account {
        accepted,
        op: 1000,
        bytes: 5,
        expires: None,
        to: Addressed::Keys { connected: 1, absent: 0 },
        named: true,
        absent: vec![],
        shares: vec![share],
        more: 0,
        since: SystemTime::UNIX_EPOCH,
        now: vec![(key("phone-7"), Place::At(comet))],
    }
}

/// The answer is what the document shows.
#[tokio::test]
async fn what_became_of_a_message() {
    let api = Api::new();
    api.explains(Ok(Explanation::Kept(Box::new(filtered()))));
    let reply = api.ask(Method::GET, "/api/v1/messages/123456?device=phone-7", "").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, Some("application/json")));
    let document = api.get("/api/v1/openapi.json").await.json();
    let shown = &document["paths"]["/api/v1/messages/{id}"]["get"]["responses"]["200"]["content"];
    assert_eq!(reply.json(), shown["application/json"]["example"]);
    for (explanation, told) in [
        (
            Explanation::NotGiven { next: Position(9) },
            json!({"id": "5", "state": "not_given", "log_id": "9"}),
        ),
        (Explanation::NotKept { first: None }, json!({"id": "5", "state": "not_kept"})),
    ] {
        api.explains(Ok(explanation));
        assert_eq!(api.ask(Method::GET, "/api/v1/messages/5?room=live://1", "").await.json(), told);
    }
    api.ask(Method::GET, "/api/v1/messages/5?user=7", "").await;
    let asked: Vec<Subject> = api.fake.state().asked.drain(..).map(|(_, subject)| subject).collect();
    let room = Subject::Room(Room::parse("live://1", 9).unwrap());
    let user = Subject::User { user: UserId(7), keys: vec![] };
    assert_eq!(asked, [Subject::Key(key("phone-7")), room.clone(), room, user]);
}

#[tokio::test]
async fn questions_that_are_none() {
    let api = Api::new();
    for (path, told) in [
        ("x?device=a", "the number of a message is a decimal number"),
        ("-1?device=a", "the number of a message is a decimal number"),
        ("5", "say for whom: one of ?device=KEY"),
        ("5?device=a&user=7", "say for whom: one of ?device=KEY"),
        ("5?device=", "is not empty"),
        ("5?device=123456789012345678901", "a key of 21 bytes is longer than 20"),
        ("5?user=0", "whole numbers above 0"),
        ("5?room=live", "type://id"),
    ] {
        let reply = api.ask(Method::GET, &format!("/api/v1/messages/{path}"), "").await;
        assert_eq!(reply.status, 400, "{path}");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(told), "{path}: {detail}");
    }
    let away = api.ask(Method::GET, "/api/v1/messages/5?user=7", "").await;
    assert_eq!(
        (away.status.as_u16(), &away.json()["detail"]),
        (503, &json!("the job cannot be asked: gone"))
    );
    for path in ["/api/v1/messages/5?user=7", "/api/v1/traces"] {
        assert_eq!(api.get(path).await.status, 401, "without a key");
    }
}

#[tokio::test]
async fn who_is_traced() {
    let api = Api::new();
    let reply = api.put(&json!({"device": "phone-7", "seconds": 600})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!((&answer["missing"], &answer["away"]), (&json!(["comet-2"]), &json!("gone")));
    assert_eq!(answer["traces"][0]["device"], "phone-7");
    let until: jiff::Timestamp = answer["traces"][0]["until"].as_str().unwrap().parse().unwrap();
    let left = until.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((590..=600).contains(&left), "{left}");
    let answer = api.put(&json!({"user": 7, "seconds": 3600})).await.json();
    assert_eq!(answer["traces"][1]["user"], 7);
    let answer = api.put(&json!({"device": "phone-7", "seconds": 0})).await.json();
    assert_eq!(answer["traces"].as_array().unwrap().len(), 1);
    for (body, told) in [
        (json!({"seconds": 1}), "say who: one of `device` and `user`"),
        (json!({"device": "a", "user": 1, "seconds": 1}), "say who: one of `device` and `user`"),
        (json!({"device": "a"}), "missing field `seconds`"),
        (json!({"device": "a", "seconds": 3601}), "at most 3600"),
        (json!({"user": -1, "seconds": 1}), "whole numbers above 0"),
        (json!({"device": "", "seconds": 1}), "is not empty"),
        (json!({"device": "a", "seconds": 1, "room": "x"}), "unknown field `room`"),
    ] {
        let reply = api.put(&body).await;
        assert_eq!(reply.status, 400, "{body}");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(told), "{body}: {detail}");
    }
    for user in 8..71 {
        assert_eq!(api.put(&json!({"user": user, "seconds": 60})).await.status, 200);
    }
    let reply = api.put(&json!({"user": 99, "seconds": 60})).await;
    assert_eq!(reply.status, 429, "{}", reply.text());
}
