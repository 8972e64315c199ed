//! A back end that lets in, refuses, and fails in every way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anser_api::id::UserId;
use anser_api::settings::Span;
use serde_json::json;

use super::super::Authenticator;
use super::site::{Reply, Site};
use super::{Folder, answer, client, eventually, outcome, pass, refusals, start};
use crate::config::{Absence, Auth, Config};

const NONE: &str = "authentication is unavailable: the back end gives no decision";
const AWAY: &str = "authentication is unavailable: the back end is away";

fn at(site: &Site) -> Config {
    Config {
        auth: Auth::Webhook,
        webhook_url: site.url.clone(),
        webhook_timeout: Span::millis(500),
        ..Config::default()
    }
}

/// Requests and failures so far.
fn counts(auth: &Authenticator) -> (u64, u64) {
    let stats = auth.stats();
    (stats.webhook_requests.load(Ordering::Relaxed), stats.webhook_failures.load(Ordering::Relaxed))
}

#[tokio::test]
async fn lets_in_as_what_the_back_end_says() {
    let site = Site::start(Reply::Status(200, json!({"mid": 7}).to_string())).await;
    let auth = start(&at(&site));
    let packet = json!({"token": "t-1", "key": "phone", "room_id": "live://1", "accepts": [1], "mid": 7});
    let request = client(packet.to_string().as_bytes(), Some("sid=5"));
    let let_in = answer(&auth, request).await.unwrap();
    assert_eq!((let_in.user, &*let_in.key, &*let_in.room_id), (Some(UserId(7)), "phone", "live://1"));
    assert!(!let_in.key_is_bound);
    let asked = &site.requests()[0];
    let question = json!({"token": "t-1", "cookie": "sid=5", "remote": "192.0.2.7", "comet": "comet-1"});
    assert_eq!(asked.json(), question);
    assert!(asked.head.starts_with("post /there http/1.1"), "{}", asked.head);
    assert!(asked.head.contains("content-type: application/json"), "{}", asked.head);
    assert!(!asked.head.contains("authorization"), "{}", asked.head);

    for (body, expected) in [
        (&b"opaque"[..], json!({"token": "opaque"})),
        (b"\xff\x00", json!({"token_base64": "/wA="})),
        (br#"{"mid":7,"platform":"web"}"#, json!({"token": r#"{"mid":7,"platform":"web"}"#})),
        (b"", json!({"token": ""})),
    ] {
        assert_eq!(outcome(&auth, body).await, "7");
        let mut question = site.requests().pop().unwrap().json();
        for name in ["remote", "comet"] {
            question.as_object_mut().unwrap().remove(name);
        }
        assert_eq!(question, expected);
    }

    site.json(
        json!({"mid": "8", "key": "tv", "room_id": "live://2", "accepts": [2], "more": {}}).to_string(),
    );
    let let_in = answer(&auth, client(b"t", None)).await.unwrap();
    assert_eq!((let_in.user, &*let_in.key, &*let_in.room_id), (Some(UserId(8)), "tv", "live://2"));
    assert!(let_in.key_is_bound);
    assert!(outcome(&auth, r#"{"token":"t","key":"phone"}"#).await.contains("key is not the one"));
    for nobody in ["{}", r#"{"mid":0}"#, r#"{"mid":null}"#, r#"{"mid":-1}"#] {
        site.json(nobody);
        assert_eq!(outcome(&auth, "t").await, "0");
        assert!(outcome(&auth, r#"{"token":"t","mid":7}"#).await.contains("mid is not the user"));
    }
    assert_eq!(counts(&auth).1, 0);
}

#[tokio::test]
async fn refuses_with_the_words_of_the_back_end() {
    let site = Site::start(Reply::Silence).await;
    let auth = start(&at(&site));
    let message = |text: &str| json!({"message": text}).to_string();
    let plain = "the back end refuses it";
    for (status, body, told) in [
        (401, message("log in again"), "log in again"),
        (403, message("you are banned"), "you are banned"),
        (401, String::new(), plain),
        (403, "<html>".to_owned(), plain),
        (403, message(""), plain),
        (403, json!({"message": 5}).to_string(), plain),
        (403, message("token my-token is bad"), plain),
        (403, message("a\r\nb"), "ab"),
        (403, message(&"é".repeat(300)), &"é".repeat(200)),
        (401, " ".repeat((64 << 10) + 1), plain),
    ] {
        site.reply(Reply::Status(status, body));
        assert_eq!(outcome(&auth, "my-token").await, format!("bad token: {told}"));
    }
    assert_eq!(refusals(&auth, "back_end"), 10);
    assert_eq!(counts(&auth), (10, 0));
}

#[tokio::test]
async fn no_decision_is_unavailable() {
    let site = Site::start(Reply::Silence).await;
    let good = json!({"mid": 7}).to_string();
    for reply in [
        Reply::Status(500, good.clone()),
        Reply::Status(204, String::new()),
        Reply::Status(404, good.clone()),
        Reply::Status(200, "ok".to_owned()),
        Reply::Status(200, "[]".to_owned()),
        Reply::Status(200, json!({"mid": "seven"}).to_string()),
        Reply::Status(200, json!({"mid": 7, "accepts": 5}).to_string()),
        Reply::Status(200, format!("{}{good}", " ".repeat(64 << 10))),
        Reply::Unsized(format!("{}{good}", " ".repeat(64 << 10))),
        Reply::Redirect(site.url.clone()),
        Reply::Noise,
        Reply::Silence,
    ] {
        let auth = start(&at(&site));
        site.reply(reply);
        let before = site.asked();
        assert_eq!(outcome(&auth, "t").await, NONE);
        assert_eq!(site.asked(), before + 1);
        assert_eq!((counts(&auth), refusals(&auth, "unavailable")), ((1, 1), 1));
    }
    let auth = start(&at(&site));
    site.close();
    eventually(async || outcome(&auth, "t").await == NONE).await;
}

#[tokio::test]
async fn a_back_end_that_is_away_is_asked_once_a_second() {
    let site = Site::start(Reply::Status(500, String::new())).await;
    let auth = start(&at(&site));
    for _ in 0..5 {
        assert_eq!(outcome(&auth, "t").await, NONE);
    }
    assert_eq!(outcome(&auth, "t").await, AWAY);
    assert_eq!(site.asked(), 5);
    pass(Duration::from_secs(1)).await;
    assert_eq!(outcome(&auth, "t").await, NONE, "one probe");
    assert_eq!(outcome(&auth, "t").await, AWAY);
    assert_eq!((site.asked(), counts(&auth)), (6, (6, 6)));
    site.reply(Reply::Status(403, String::new()));
    pass(Duration::from_secs(1)).await;
    for _ in 0..3 {
        assert_eq!(outcome(&auth, "t").await, "bad token: the back end refuses it", "it is there again");
    }
}

#[tokio::test]
async fn not_too_many_questions_at_once() {
    let site = Site::start(Reply::Silence).await;
    let auth = start(&Config { webhook_timeout: Span::secs(60), ..at(&site) });
    let mut waiting: Vec<_> = (0..256).map(|_| auth.authenticate(&client(b"t", None))).collect();
    let busy = "authentication is unavailable: too many clients are being asked about";
    assert_eq!(outcome(&auth, "t").await, busy);
    // A client that leaves does not make place: its question is still out.
    waiting.pop();
    eventually(async || site.asked() == 256).await;
    assert_eq!(outcome(&auth, "t").await, busy);
    assert_eq!(refusals(&auth, "unavailable"), 2);
    pass(Duration::from_secs(60)).await;
    for answer in waiting {
        assert_eq!(answer.await.unwrap_err().to_string(), NONE);
    }
    assert_eq!(outcome(&auth, "t").await, AWAY);
}

#[tokio::test]
async fn those_let_in_before_come_in_while_the_back_end_is_away() {
    let site = Site::start(Reply::Status(200, json!({"mid": 7, "key": "tv"}).to_string())).await;
    let auth = start(&Config { webhook_away: Absence::Last, ..at(&site) });
    assert_eq!(outcome(&auth, "good").await, "7 tv");
    assert_eq!(outcome(&auth, "banned").await, "7 tv");
    assert_eq!(answer(&auth, client(b"", Some("sid=1"))).await.unwrap().user, Some(UserId(7)));
    site.reply(Reply::Status(403, String::new()));
    assert_eq!(outcome(&auth, "banned").await, "bad token: the back end refuses it");

    site.reply(Reply::Status(502, String::new()));
    for _ in 0..7 {
        assert_eq!(outcome(&auth, "good").await, "7 tv");
    }
    assert_eq!(site.asked(), 9, "also those that are not asked about");
    assert_eq!(outcome(&auth, "banned").await, AWAY);
    assert_eq!(outcome(&auth, "other").await, AWAY);
    // Without a token the cookie is what was shown.
    assert_eq!(answer(&auth, client(b"", Some("sid=1"))).await.unwrap().user, Some(UserId(7)));
    assert_eq!(answer(&auth, client(b"", Some("sid=2"))).await.unwrap_err().to_string(), AWAY);
    assert_eq!(outcome(&auth, "").await, AWAY);
    pass(Duration::from_secs(301)).await;
    assert_eq!(outcome(&auth, "good").await, NONE, "for five minutes, and not for ever");
}

#[tokio::test]
async fn the_back_end_is_shown_who_asks() {
    let (folder, site) = (Folder::new(), Site::start(Reply::Status(200, "{}".to_owned())).await);
    let config = Config { webhook_secret_file: folder.write("secret", "s3cret\r\n"), ..at(&site) };
    assert_eq!(outcome(&start(&config), "t").await, "0");
    assert!(site.requests()[0].head.contains("authorization: bearer s3cret"), "{}", site.requests()[0].head);
}
