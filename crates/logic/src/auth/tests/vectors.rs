//! The examples of the RFCs: what others sign is good here.

use serde_json::json;

use super::super::jwt::{KeySet, Rules, check};
use super::super::key::{self, From};
use super::super::{fault::Fault, install_crypto};
use super::issuer::RSA_N;

/// The claims of RFC 7515, A.1 to A.3: `iss`, `exp` and no user.
const CLAIMS: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// Checks on the last second of the examples.
fn checked(jwk: &serde_json::Value, token: &str) -> Fault {
    install_crypto();
    let keys = key::set(json!({"keys": [jwk]}).to_string().as_bytes(), From::File).unwrap();
    let set = KeySet { keys: keys.into_iter().map(Into::into).collect(), ..KeySet::default() };
    let rules = Rules { issuer: "joe".to_owned(), audience: String::new(), leeway: 0.0 };
    check(token.as_bytes(), &set, &rules, 1_300_819_379.0).unwrap_err()
}

/// The example is signed well, but names no user; and with any change of its signature it is not.
#[track_caller]
fn is_signed(jwk: &serde_json::Value, token: &str, then: &str) {
    assert_eq!(checked(jwk, token).to_string(), then);
    // The last character holds bits that no byte has, and the first belongs to a byte.
    let at = token.rfind('.').unwrap() + 1;
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = format!("{}{other}{}", &token[..at], &token[at + 1..]);
    assert_eq!(checked(jwk, &forged).to_string(), "the signature is wrong");
}

const NO_USER: &str = "the token names no user: it needs the claim sub or mid";

#[test]
fn rfc_7515_a1_hs256() {
    let k = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let header = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
    let signature = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    is_signed(&json!({"kty": "oct", "k": k}), &format!("{header}.{CLAIMS}.{signature}"), NO_USER);
}

#[test]
fn rfc_7515_a2_rs256() {
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let jwk = json!({"kty": "RSA", "n": RSA_N, "e": "AQAB"});
    is_signed(&jwk, &format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{signature}"), NO_USER);
}

#[test]
fn rfc_7515_a3_es256() {
    let jwk = json!({
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    is_signed(&jwk, &format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.{signature}"), NO_USER);
}

/// Its payload is no JSON, which is looked at only behind a good signature.
#[test]
fn rfc_8037_a4_ed25519() {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
                 hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    is_signed(&jwk, token, "the claims of the token are no JSON object");
}
