//! ring, as the one provider of cryptography: for TLS, and for the signatures of tokens.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_, _: &EncodingKey| -> Result<Box<dyn JwtSigner>> {
        Err(new_error(ErrorKind::Provider("tokens are checked here, and signed elsewhere".to_owned())))
    },
    verifier_factory: |algorithm, key| {
        // Who chooses the algorithm chooses how the key is read: a public key must never pass for a secret.
        if algorithm.family() != key.family() {
            return Err(new_error(ErrorKind::InvalidAlgorithm));
        }
        match algorithm {
            Algorithm::HS256 | Algorithm::ES256 | Algorithm::RS256 | Algorithm::EdDSA => {
                Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
            }
            _ => Err(new_error(ErrorKind::UnsupportedAlgorithm)),
        }
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring the provider for this process, for TLS and for tokens. Calling it again changes nothing.
pub fn install_crypto() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _ = RING.install_default();
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let by = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature)
        };
        let verified = match (self.algorithm, self.key.kind()) {
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), message, signature)
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => by(&ECDSA_P256_SHA256_FIXED, point),
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => by(&ED25519, point),
            (Algorithm::RS256, DecodingKeyKind::SecretOrDer(der)) => by(&RSA_PKCS1_2048_8192_SHA256, der),
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::crypto::verify;

    use super::*;

    #[test]
    fn a_key_is_of_one_family() {
        install_crypto();
        install_crypto();
        let signature = |key: &[u8]| {
            use base64::Engine as _;
            let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"message");
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(signature)
        };
        let (public, secret) = (DecodingKey::from_ed_der(&[7; 32]), DecodingKey::from_secret(&[7; 32]));
        let checked = |key, algorithm| verify(&signature(&[7; 32]), b"message", key, algorithm);
        assert!(checked(&secret, Algorithm::HS256).unwrap());
        let other = verify(&signature(&[8; 32]), b"message", &secret, Algorithm::HS256);
        assert!(!other.unwrap());
        assert_eq!(*checked(&public, Algorithm::HS256).unwrap_err().kind(), ErrorKind::InvalidAlgorithm);
        assert_eq!(*checked(&secret, Algorithm::EdDSA).unwrap_err().kind(), ErrorKind::InvalidAlgorithm);
        assert_eq!(*checked(&secret, Algorithm::HS512).unwrap_err().kind(), ErrorKind::UnsupportedAlgorithm);
    }
}
