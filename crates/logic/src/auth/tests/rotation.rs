//! Keys that come, go, and stay away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anser_api::settings::Span;
use serde_json::json;

use super::super::Authenticator;
use super::issuer::{Issuer, set};
use super::site::{Reply, Site};
use super::{Folder, eventually, jwt, outcome, pass, refusals, start};
use crate::config::Config;

const AWAY: &str = "authentication is unavailable: the keys that tokens are checked with cannot be had";
const NO_KEY: &str = "bad token: no key with this kid";

fn at(site: &Site) -> Config {
    Config { jwks_url: site.url.clone(), jwks_timeout: Span::millis(500), ..jwt() }
}

fn token(issuer: &Issuer) -> String {
    issuer.token(&json!({"sub": 7}))
}

/// Fetches and failures so far.
fn fetches(auth: &Authenticator) -> (u64, u64) {
    let stats = auth.stats();
    (stats.jwks_fetches.load(Ordering::Relaxed), stats.jwks_failures.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let (old, new) = (Issuer::ed().named("1"), Issuer::ec().named("2"));
    let site = Site::start(Reply::Status(200, set(&[&old]))).await;
    let auth = start(&at(&site));
    // The first fetch has begun, and is waited for.
    assert_eq!(outcome(&auth, token(&old)).await, "7");
    assert_eq!(site.asked(), 1);

    site.json(set(&[&old, &new]));
    assert_eq!(outcome(&auth, token(&new)).await, NO_KEY, "not again within 30 s");
    assert_eq!(site.asked(), 1);
    pass(Duration::from_secs(30)).await;
    let both = tokio::join!(outcome(&auth, token(&new)), outcome(&auth, token(&new)));
    assert_eq!(both, ("7".to_owned(), "7".to_owned()));
    assert_eq!(site.asked(), 2, "one fetch for all that wait");
    assert_eq!(outcome(&auth, token(&Issuer::ed().named("3"))).await, NO_KEY);
    assert_eq!((site.asked(), fetches(&auth)), (2, (2, 0)));

    // A key that is taken away is not good any more, once that is known.
    site.json(set(&[&new]));
    pass(Duration::from_secs(601)).await;
    eventually(async || site.asked() == 3 && outcome(&auth, token(&old)).await == NO_KEY).await;
    assert_eq!(outcome(&auth, token(&new)).await, "7");
    assert!(site.requests()[0].head.contains("accept: application/json"));
}

#[tokio::test]
async fn the_last_good_keys_go_on_while_the_address_is_away() {
    let (old, new) = (Issuer::ed().named("1"), Issuer::ed().named("2"));
    let site = Site::start(Reply::Status(200, set(&[&old]))).await;
    let auth = start(&at(&site));
    assert_eq!(outcome(&auth, token(&old)).await, "7");
    let weak = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "2"}]}).to_string();
    let mut failures = 0;
    for reply in [
        Reply::Status(500, set(&[&new])),
        Reply::Status(204, String::new()),
        Reply::Status(200, "<html>".to_owned()),
        Reply::Status(200, json!({"keys": []}).to_string()),
        Reply::Status(200, weak),
        Reply::Status(200, set(&[&Issuer::secret().named("2")])),
        Reply::Redirect(site.url.clone()),
        Reply::Unsized(format!("{}{}", " ".repeat(1 << 20), set(&[&new]))),
        Reply::Status(200, format!("{}{}", " ".repeat(1 << 20), set(&[&new]))),
        Reply::Noise,
        Reply::Silence,
    ] {
        site.reply(reply);
        pass(Duration::from_secs(30)).await;
        // The new key cannot be had, so its token may be a good one.
        assert_eq!(outcome(&auth, token(&new)).await, AWAY);
        assert_eq!(outcome(&auth, token(&old)).await, "7");
        failures += 1;
        assert!(fetches(&auth).1 >= failures);
    }
    site.close();
    pass(Duration::from_secs(30)).await;
    assert_eq!(outcome(&auth, token(&new)).await, AWAY);
    assert_eq!(outcome(&auth, token(&old)).await, "7");
    assert!(refusals(&auth, "unavailable") > failures);
}

#[tokio::test]
async fn a_start_without_the_address_waits_for_it() {
    let issuer = Issuer::ed().named("1");
    let site = Site::start(Reply::Silence).await;
    let auth = start(&at(&site));
    assert_eq!(outcome(&auth, token(&issuer)).await, AWAY);
    assert_eq!(refusals(&auth, "unavailable"), 1);
    let unsigned = "eyJhbGciOiJub25lIn0.e30.";
    assert_eq!(outcome(&auth, unsigned).await, "bad token: algorithm none is not allowed");
    site.json(set(&[&issuer]));
    pass(Duration::from_secs(5)).await;
    eventually(async || outcome(&auth, token(&issuer)).await == "7").await;
}

#[tokio::test]
async fn files_and_an_address_together() {
    let (secret, named) = (Issuer::secret(), Issuer::ed().named("1"));
    let (folder, site) = (Folder::new(), Site::start(Reply::Status(503, String::new())).await);
    let config = Config { jwt_secret_file: folder.write("secret", secret.public()), ..at(&site) };
    let auth = start(&config);
    assert_eq!(outcome(&auth, token(&secret)).await, "7");
    // Each of these may be signed with a key that has not come yet.
    for issuer in [&named, &Issuer::ed(), &Issuer::secret(), &Issuer::secret().named("2")] {
        assert_eq!(outcome(&auth, token(issuer)).await, AWAY);
    }
    site.json(set(&[&named]));
    pass(Duration::from_secs(30)).await;
    assert_eq!(outcome(&auth, token(&named)).await, "7");
    assert_eq!(outcome(&auth, token(&secret)).await, "7");
    let wrong = "bad token: the signature is wrong";
    assert_eq!(outcome(&auth, token(&Issuer::secret())).await, wrong);
    assert_eq!(outcome(&auth, token(&Issuer::secret().named("2"))).await, NO_KEY);
}

#[tokio::test]
async fn a_file_that_changes_is_read_again() {
    let (old, new) = (Issuer::secret(), Issuer::secret());
    let folder = Folder::new();
    let config = Config { jwt_secret_file: folder.write("secret", old.public()), ..jwt() };
    let auth = start(&config);
    assert_eq!(outcome(&auth, token(&old)).await, "7");
    folder.write("secret", new.public());
    // At once, for a token that does not fit.
    assert_eq!(outcome(&auth, token(&new)).await, "7");
    let wrong = "bad token: the signature is wrong";
    assert_eq!(outcome(&auth, token(&old)).await, wrong);

    // By itself, within a second: a key that was taken away needs no token to be forgotten.
    folder.write("secret", old.public());
    assert_eq!(outcome(&auth, token(&old)).await, wrong, "not again within 5 s");
    let keys = || match &auth.mode {
        super::super::Mode::Jwt(jwt) => jwt.keys.set(),
        _ => unreachable!(),
    };
    let before = keys();
    pass(Duration::from_secs(1)).await;
    eventually(async || !std::sync::Arc::ptr_eq(&keys(), &before)).await;
    assert_eq!(outcome(&auth, token(&old)).await, "7");

    // What is no key changes nothing.
    folder.write("secret", "short");
    pass(Duration::from_secs(5)).await;
    assert_eq!(outcome(&auth, token(&new)).await, wrong);
    std::fs::remove_file(folder.path().join("secret")).unwrap();
    pass(Duration::from_secs(5)).await;
    assert_eq!(outcome(&auth, token(&new)).await, wrong);
    assert_eq!(outcome(&auth, token(&old)).await, "7");
}

#[tokio::test]
async fn a_set_in_a_file_is_read_again_for_a_new_kid() {
    let (old, new) = (Issuer::ed().named("1"), Issuer::rsa().named("2"));
    let folder = Folder::new();
    let auth = start(&Config { jwks_file: folder.write("keys", set(&[&old])), ..jwt() });
    folder.write("keys", set(&[&new]));
    assert_eq!(outcome(&auth, token(&new)).await, "7");
    assert_eq!(outcome(&auth, token(&old)).await, NO_KEY);
}

/// Nothing goes on when nobody checks tokens any more.
#[tokio::test]
async fn the_tasks_end_with_their_owner() {
    let site = Site::start(Reply::Status(200, set(&[&Issuer::ed()]))).await;
    let folder = Folder::new();
    let config = Config { jwt_secret_file: folder.write("secret", Issuer::secret().public()), ..at(&site) };
    let auth = start(&config);
    let metrics = tokio::runtime::Handle::current().metrics();
    eventually(async || fetches(&auth).0 == 1).await;
    drop(auth);
    // The site's own task stays.
    eventually(async || metrics.num_alive_tasks() == 1).await;
}
