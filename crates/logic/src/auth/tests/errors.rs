//! What is configured wrongly is told at the start, with what to do.

use std::path::PathBuf;

use serde_json::json;
use tokio::runtime::Handle;

use super::super::Authenticator;
use super::issuer::{Issuer, set};
use super::{Folder, jwt};
use crate::config::{Auth, Config};

#[track_caller]
fn told(config: &Config) -> String {
    Authenticator::new(config, &Handle::current()).unwrap_err().to_string()
}

#[tokio::test]
async fn what_is_missing() {
    assert_eq!(
        told(&jwt()),
        "logic.auth = \"jwt\", but there is no key to check tokens with: set logic.jwt_secret_file, \
         logic.jwt_public_key_file, logic.jwks_file or logic.jwks_url"
    );
    assert_eq!(
        told(&Config { auth: Auth::Webhook, ..Config::default() }),
        "logic.auth = \"webhook\", but logic.webhook_url is empty: set it to the address that is to be asked, \
         such as \"http://127.0.0.1:8080/auth\""
    );
}

#[tokio::test]
async fn files_that_are_none() {
    let folder = Folder::new();
    let there = folder.path().display();
    assert_eq!(
        told(&Config { jwt_secret_file: folder.path().join("none"), ..jwt() }),
        format!(
            "logic.jwt_secret_file = {there}/none: it cannot be read (No such file or directory): name a file \
             with a secret, such as one made by `openssl rand -base64 48`"
        )
    );
    let of_secret = |content: &str| told(&Config { jwt_secret_file: folder.write("s", content), ..jwt() });
    assert!(of_secret(&format!("{}\n", "x".repeat(31))).contains("it has 31 bytes, but needs 32"));
    let large = "x".repeat((1 << 20) + 1);
    assert!(of_secret(&large).contains("it is larger than 1048576 bytes"));
    let folder_itself = Config { jwt_secret_file: folder.path().to_owned(), ..jwt() };
    assert!(told(&folder_itself).contains("it is not a file"));

    let of_pem = |content: &[u8]| told(&Config { jwt_public_key_file: folder.write("p", content), ..jwt() });
    let label = |label: &str| {
        let pem = String::from_utf8(Issuer::ed().public()).unwrap();
        pem.replace("PUBLIC KEY", label).into_bytes()
    };
    for (content, expected) in [
        (b"".to_vec(), "it is not a public key in PEM"),
        (b"\xff".to_vec(), "it is not PEM"),
        (b"secret".to_vec(), "it is not a public key in PEM"),
        (label("PRIVATE KEY"), "it is a private key, which should not be here"),
        (label("RSA PRIVATE KEY"), "it is a private key"),
        (label("CERTIFICATE"), "it is a certificate: take the key out of it"),
        (label("OPENSSH KEY"), "it is not a public key in PEM"),
        (off_curve(), "it is no key of the curve P-256"),
    ] {
        let told = of_pem(&content);
        assert!(told.contains(expected) && told.contains("logic.jwt_public_key_file"), "{told}");
    }
}

/// A point that is not where the others are.
fn off_curve() -> Vec<u8> {
    let pem = String::from_utf8(Issuer::ec().public()).unwrap();
    let at = pem.find("\n-----END").unwrap() - 4;
    let other = if pem[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &pem[..at], &pem[at + 1..]).into_bytes()
}

#[tokio::test]
async fn sets_that_are_none() {
    let folder = Folder::new();
    let of = |content: &str| told(&Config { jwks_file: folder.write("keys", content), ..jwt() });
    let changed = |issuer: &Issuer, name: &str, value: serde_json::Value| {
        let mut jwk = issuer.jwk();
        jwk[name] = value;
        json!({"keys": [jwk]}).to_string()
    };
    let (none, broken) = ("it has no key for Ed25519, ES256 or RS256", "its key 1 does not work");
    for (content, expected) in [
        (String::new(), "it is not JSON"),
        ("[]".to_owned(), "it is no set of keys"),
        (json!({"keys": {}}).to_string(), "it is no set of keys"),
        (json!({"keys": []}).to_string(), none),
        (json!({"keys": [5, {}, {"kty": "AKP"}]}).to_string(), none),
        (changed(&Issuer::ec(), "use", "enc".into()), none),
        (changed(&Issuer::rsa(), "key_ops", json!(["encrypt"])), none),
        (changed(&Issuer::rsa(), "alg", "RS512".into()), none),
        (changed(&Issuer::ed(), "crv", "X25519".into()), none),
        (changed(&Issuer::ed(), "x", "AAAA".into()), broken),
        (changed(&Issuer::ed(), "x", "+".into()), broken),
        (changed(&Issuer::ec(), "y", "AAAA".into()), broken),
        (changed(&Issuer::rsa(), "n", "AAAA".into()), broken),
        (changed(&Issuer::rsa(), "n", "AQAB".into()), "an RSA key of 17 bits, but 2048 to 8192"),
        (changed(&Issuer::secret(), "k", "AAAA".into()), "it has 3 bytes, but needs 32"),
    ] {
        assert!(of(&content).contains(expected), "{content}: {}", of(&content));
    }
    let many: Vec<_> = (0..65).map(|_| Issuer::ed()).collect();
    assert!(of(&set(&many.iter().collect::<Vec<_>>())).contains("it has 65 keys, more than 64"));
}

#[tokio::test]
async fn addresses_that_are_none() {
    for (url, expected) in [
        ("id.example/keys", "it is no address (relative URL without a base)"),
        ("file:///etc/keys", "its scheme is file, not http or https"),
        ("http://", "it is no address (empty host)"),
    ] {
        let jwks = told(&Config { jwks_url: url.to_owned(), ..jwt() });
        assert!(jwks.contains("logic.jwks_url") && jwks.contains(expected), "{jwks}");
        let config = Config { auth: Auth::Webhook, webhook_url: url.to_owned(), ..Config::default() };
        assert!(told(&config).contains("logic.webhook_url") && told(&config).contains(expected));
    }
    let folder = Folder::new();
    for (content, expected) in [("", "it is empty"), ("a\nb", "it has characters that no header may have")] {
        let config = Config {
            auth: Auth::Webhook,
            webhook_url: "http://id.example".to_owned(),
            webhook_secret_file: folder.write("secret", content),
            ..Config::default()
        };
        assert!(told(&config).contains(expected), "{}", told(&config));
    }
    let config = Config { webhook_secret_file: PathBuf::from("/nowhere/secret"), ..config_of_hook() };
    assert!(told(&config).contains("logic.webhook_secret_file = /nowhere/secret: it cannot be read"));
}

fn config_of_hook() -> Config {
    Config { auth: Auth::Webhook, webhook_url: "http://127.0.0.1:1".to_owned(), ..Config::default() }
}
