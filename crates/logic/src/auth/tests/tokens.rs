//! Tokens and packets, and what becomes of them.

use anser_api::id::UserId;
use anser_api::logic::Refused;
use serde_json::{Value, json};

use super::super::{Authenticator, now};
use super::issuer::{Issuer, base64, set};
use super::{Folder, answer, client, jwt, outcome, refusals, start};
use crate::config::Config;

/// A server that knows one key of each kind, and who made them.
fn all_kinds(folder: &Folder) -> (Authenticator, [Issuer; 4]) {
    let (secret, ed) = (Issuer::secret(), Issuer::ed());
    let (ec, rsa) = (Issuer::ec().named("ec-1"), Issuer::rsa().named("rsa-1"));
    let config = Config {
        jwt_secret_file: folder.write("secret", [&secret.public()[..], b"\n"].concat()),
        jwt_public_key_file: folder.write("ed.pem", ed.public()),
        jwks_file: folder.write("keys.json", set(&[&ec, &rsa])),
        jwt_issuer: "https://id.example".to_owned(),
        jwt_audience: "anser".to_owned(),
        ..jwt()
    };
    (start(&config), [secret, ed, ec, rsa])
}

/// Claims that are good at [`all_kinds`], but for these.
fn claims(but: &Value) -> Value {
    let mut claims = json!({"iss": "https://id.example", "aud": "anser", "sub": "7"});
    for (name, value) in but.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn each_kind_of_key_lets_in() {
    let folder = Folder::new();
    let (auth, issuers) = all_kinds(&folder);
    for issuer in &issuers {
        assert_eq!(outcome(&auth, issuer.token(&claims(&json!({"key": "phone"})))).await, "7 phone");
    }
    let [_, ed, ..] = &issuers;
    let header = json!({"alg": "Ed25519", "kid": "whatever its signer calls it"});
    let unnamed = ed.signed(&header, &claims(&json!({"exp": now() + 5.5})));
    // There is a set, so a name that it does not have is a new key, unless the key without a name fits.
    assert_eq!(outcome(&auth, unnamed).await, "7");
}

#[tokio::test]
async fn public_keys_of_each_kind_in_pem() {
    for issuer in [Issuer::ed(), Issuer::ec(), Issuer::rsa()] {
        let folder = Folder::new();
        let config = Config { jwt_public_key_file: folder.write("key.pem", issuer.public()), ..jwt() };
        assert_eq!(outcome(&start(&config), issuer.token(&json!({"sub": 7}))).await, "7");
    }
}

#[tokio::test]
async fn claims_and_what_becomes_of_them() {
    let folder = Folder::new();
    let (auth, [secret, ..]) = all_kinds(&folder);
    let at = now() as i64;
    let (expired, early) = ("the token has expired", "the token is not valid yet");
    let (no_user, no_exp) = ("it needs the claim sub or mid", "the token has no exp");
    for (but, expected, reason) in [
        (json!({"exp": at - 40}), expired, "expired"),
        (json!({"exp": -1}), expired, "expired"),
        (json!({"exp": null}), no_exp, "claim"),
        (json!({"exp": "soon"}), "exp of the token is no number", "claim"),
        (json!({"nbf": at + 40}), early, "not_yet_valid"),
        (json!({"nbf": "now"}), "nbf of the token is no number", "claim"),
        (json!({"iss": "https://id.example/"}), "another issuer", "issuer"),
        (json!({"iss": null}), "another issuer", "issuer"),
        (json!({"aud": "other"}), "another audience", "audience"),
        (json!({"aud": ["a", "b"]}), "another audience", "audience"),
        (json!({"aud": null}), "another audience", "audience"),
        (json!({"sub": null}), no_user, "claim"),
        (json!({"sub": "0"}), "sub of the token is not a whole number above 0", "claim"),
        (json!({"sub": 0}), "sub of the token is not", "claim"),
        (json!({"sub": "-7"}), "sub of the token is not", "claim"),
        (json!({"sub": -7}), "sub of the token is not", "claim"),
        (json!({"sub": "+7"}), "sub of the token is not", "claim"),
        (json!({"sub": ""}), "sub of the token is not", "claim"),
        (json!({"sub": "seven"}), "sub of the token is not", "claim"),
        (json!({"sub": 7.5}), "sub of the token is not", "claim"),
        (json!({"sub": 9_223_372_036_854_775_808_u64}), "sub of the token is not", "claim"),
        (json!({"sub": "9223372036854775808"}), "sub of the token is not", "claim"),
        (json!({"mid": 0}), "mid of the token is not", "claim"),
        (json!({"key": 5}), "key of the token has the wrong form", "claim"),
        (json!({"accepts": "all"}), "accepts of the token has the wrong form", "claim"),
    ] {
        let before = refusals(&auth, reason);
        let told = outcome(&auth, secret.token(&claims(&but))).await;
        assert!(told.starts_with("bad token: ") && told.contains(expected), "{but}: {told}");
        assert_eq!(refusals(&auth, reason), before + 1, "{but}");
    }
    for (but, user) in [
        (json!({"exp": at - 20}), "7"),
        (json!({"exp": 1e300}), "7"),
        (json!({"nbf": at + 20}), "7"),
        (json!({"aud": ["other", "anser"]}), "7"),
        (json!({"sub": 9_223_372_036_854_775_807_i64}), "9223372036854775807"),
        (json!({"sub": "007"}), "7"),
        (json!({"sub": "auth0|seven", "mid": "8"}), "8"),
        (json!({"sub": "7", "mid": null}), "7"),
    ] {
        assert_eq!(outcome(&auth, secret.token(&claims(&but))).await, user, "{but}");
    }
}

#[tokio::test]
async fn signatures_and_what_becomes_of_them() {
    let folder = Folder::new();
    let (auth, [secret, ed, ec, rsa]) = all_kinds(&folder);
    let good = claims(&json!({"exp": now() + 60.0}));
    let unsigned =
        |alg: &str| format!("{}.{}.", base64(json!({"alg": alg}).to_string()), base64(good.to_string()));
    let wrong = "the signature is wrong";
    let named = |issuer: &Issuer, kid: &str| {
        let mut header = issuer.header();
        header["kid"] = kid.into();
        issuer.signed(&header, &good)
    };
    let of_rsa_bytes = Issuer::with_secret(&rsa.public());
    let of_ed_bytes = Issuer::with_secret(&ed.public());
    let (other, other_ec) = (Issuer::secret().token(&good), Issuer::ec());
    let changed = {
        let token = ed.token(&good);
        let parts: Vec<_> = token.split('.').collect();
        let claims = base64(claims(&json!({"sub": "8", "exp": now() + 60.0})).to_string());
        format!("{}.{claims}.{}", parts[0], parts[2])
    };
    for (token, expected, reason) in [
        (other, wrong, "signature"),
        (changed, wrong, "signature"),
        (unsigned("none"), "algorithm none is not allowed", "algorithm"),
        (unsigned("None"), "algorithm none is not allowed", "algorithm"),
        (unsigned("HS256"), wrong, "signature"),
        (unsigned("EdDSA"), wrong, "signature"),
        (unsigned("HS512"), "algorithm HS512 is not allowed", "algorithm"),
        (unsigned("PS256"), "algorithm PS256 is not allowed", "algorithm"),
        (unsigned("<script>"), "the algorithm of the token is not known", "algorithm"),
        (of_rsa_bytes.token(&good), wrong, "signature"),
        (of_ed_bytes.token(&good), wrong, "signature"),
        (named(&ec, "rsa-1"), "algorithm ES256 is not allowed", "algorithm"),
        (named(&ec, "ec-2"), "no key with this kid", "unknown_key"),
        (Issuer::ed().named("ed-1").token(&good), "no key with this kid", "unknown_key"),
        (other_ec.named("ec-1").token(&good), wrong, "signature"),
        (
            secret.signed(&json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &good),
            "extension",
            "malformed",
        ),
    ] {
        let before = refusals(&auth, reason);
        let told = outcome(&auth, &token).await;
        assert!(told.starts_with("bad token: ") && told.contains(expected), "{expected}: {told}");
        assert_eq!(refusals(&auth, reason), before + 1, "{told}");
    }
}

/// The attack on servers that let the token choose: the public key, which everybody has, as an HMAC secret.
#[tokio::test]
async fn a_public_key_is_no_secret() {
    for issuer in [Issuer::ed(), Issuer::ec(), Issuer::rsa()] {
        let folder = Folder::new();
        let config = Config { jwt_public_key_file: folder.write("key.pem", issuer.public()), ..jwt() };
        let forged = Issuer::with_secret(&issuer.public()).token(&json!({"sub": "7"}));
        assert_eq!(outcome(&start(&config), forged).await, "bad token: algorithm HS256 is not allowed");
    }
}

#[tokio::test]
async fn what_is_no_token() {
    let folder = Folder::new();
    let (auth, [secret, ..]) = all_kinds(&folder);
    let good = secret.token(&claims(&json!({})));
    let parts: Vec<_> = good.split('.').collect();
    let (no_jwt, no_base64) = ("the token is no JWT", "a part of the token is not base64url");
    let long = "A".repeat(1_000_000);
    for (body, expected, reason) in [
        (String::new(), "there is no token", "no_token"),
        ("null".to_owned(), "there is no token", "no_token"),
        ("{}".to_owned(), "there is no token", "no_token"),
        (r#"{"mid":7,"token":7}"#.to_owned(), "there is no token", "no_token"),
        ("secret".to_owned(), no_jwt, "malformed"),
        ("..".to_owned(), "the header of the token", "malformed"),
        (format!("{}.{}", parts[0], parts[1]), no_jwt, "malformed"),
        (format!("{good}.{good}"), no_jwt, "malformed"),
        (format!("{}=.{}.{}", parts[0], parts[1], parts[2]), no_base64, "malformed"),
        (format!("{}.{}.{}+", parts[0], parts[1], parts[2]), no_jwt, "malformed"),
        (format!("{}.{}.{}", base64("[]"), parts[1], parts[2]), "the header of the token", "malformed"),
        (
            format!("{}.{}.{}", base64("{\"alg\":5}"), parts[1], parts[2]),
            "the header of the token",
            "malformed",
        ),
        (secret.signed(&secret.header(), &json!(["sub", 7])), "no JSON object", "malformed"),
        (format!("{{\"token\":\"{good}\",\"mid\":\"x\"}}"), "expected i64", "packet"),
        (format!("{{\"token\":\"{good}\""), "EOF while parsing", "packet"),
        (long.clone(), "longer than 16384 bytes", "packet"),
        (format!("{{\"token\":\"{long}\"}}"), "longer than 16384 bytes", "packet"),
    ] {
        let before = refusals(&auth, reason);
        let told = outcome(&auth, &body).await;
        assert!(told.starts_with("bad token: ") && told.contains(expected), "{expected}: {told}");
        assert!(told.len() < 120 && !told.contains(parts[1]), "{told}");
        assert_eq!(refusals(&auth, reason), before + 1, "{told}");
    }
    assert!(outcome(&auth, b"\xff.\xff.\xff").await.contains(no_jwt));
    assert_eq!(outcome(&auth, format!(" {good}\r\n")).await, "7");
}

#[tokio::test]
async fn json_around_the_token() {
    let folder = Folder::new();
    let (auth, [secret, ..]) = all_kinds(&folder);
    let free = secret.token(&claims(&json!({})));
    let packet = json!({
        "token": free, "key": "phone-7", "room_id": "live://1", "accepts": [1000],
        "proto": "anser/1", "dropped": true, "mid": 7,
    });
    let let_in = answer(&auth, client(packet.to_string().as_bytes(), None)).await.unwrap();
    assert_eq!((let_in.user, &*let_in.key, &*let_in.room_id), (Some(UserId(7)), "phone-7", "live://1"));
    assert_eq!(let_in.accepts, [1000]);
    assert!(let_in.anser && let_in.dropped && !let_in.key_is_bound);

    let bound = secret.token(&claims(&json!({"key": "tv", "room_id": "live://2", "accepts": [1, 2]})));
    let let_in = answer(&auth, client(bound.as_bytes(), None)).await.unwrap();
    assert_eq!((&*let_in.key, &*let_in.room_id, &let_in.accepts[..]), ("tv", "live://2", &[1, 2][..]));
    assert!(let_in.key_is_bound && !let_in.anser);
    for (token, wish, told) in [
        (&free, json!({"mid": 8}), "mid is not the user"),
        (&bound, json!({"key": "phone"}), "key is not the one"),
        (&bound, json!({"room_id": "live://1"}), "room_id is not the room"),
        (&bound, json!({"accepts": [1, 3]}), "accepts names an operation"),
    ] {
        let mut packet = wish;
        packet["token"] = token.as_str().into();
        let before = refusals(&auth, "bound");
        assert!(outcome(&auth, packet.to_string()).await.contains(told), "{told}");
        assert_eq!(refusals(&auth, "bound"), before + 1);
    }
}

#[tokio::test]
async fn a_cookie_counts_when_the_packet_has_no_token() {
    let folder = Folder::new();
    let (auth, [secret, ..]) = all_kinds(&folder);
    let (seven, eight) = (secret.token(&claims(&json!({}))), secret.token(&claims(&json!({"sub": "8"}))));
    let cookie = format!("theme=dark; anser_token={eight}");
    for (body, user) in [("", 8), (r#"{"key":"tv"}"#, 8), (&seven, 7)] {
        let let_in = answer(&auth, client(body.as_bytes(), Some(&cookie))).await.unwrap();
        assert_eq!(let_in.user, Some(UserId(user)), "{body}");
    }
    let no_token = |answer: Result<_, Refused>| answer.unwrap_err().to_string().contains("there is no token");
    assert!(no_token(answer(&auth, client(b"", Some("anser_tokens=x"))).await));
    let config = Config {
        jwt_secret_file: folder.write("secret", secret.public()),
        jwt_cookie: String::new(),
        ..jwt()
    };
    for cookie in [&cookie, &format!("={seven}")] {
        assert!(no_token(answer(&start(&config), client(b"", Some(cookie))).await), "{cookie}");
    }
    let long = answer(&auth, client(seven.as_bytes(), Some(&"x".repeat(1_000_000)))).await;
    assert!(long.unwrap_err().to_string().contains("longer than"));
}

#[tokio::test]
async fn a_token_without_a_kid_is_tried_with_few_keys() {
    let folder = Folder::new();
    let mut issuers: Vec<_> = (0..4).map(|_| Issuer::ed().named("one of them")).collect();
    let write = |issuers: &[Issuer]| folder.write("keys.json", set(&issuers.iter().collect::<Vec<_>>()));
    let config = Config { jwks_file: write(&issuers), ..jwt() };
    let unnamed = issuers[3].signed(&json!({"alg": "EdDSA"}), &json!({"sub": 7, "exp": now() + 60.0}));
    assert_eq!(outcome(&start(&config), &unnamed).await, "7");
    issuers.push(Issuer::ed().named("one more"));
    write(&issuers);
    let told = outcome(&start(&config), &unnamed).await;
    assert_eq!(told, "bad token: the token does not say which key it is signed with (kid)");
}

#[test]
fn open_mode_believes_all() {
    let auth = Authenticator::open();
    let mut answer = auth.authenticate(&client(br#"{"mid":7,"key":"k","token":"x"}"#, None));
    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(claims) = answer.as_mut().poll(context) else { panic!("it is ready") };
    let claims = claims.unwrap();
    assert_eq!((claims.user, &*claims.key, claims.key_is_bound), (Some(UserId(7)), "k", true));
}
