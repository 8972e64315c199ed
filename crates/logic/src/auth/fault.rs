//! Why a client may not come in: for the client, for the log, and as a count.

use std::borrow::Cow;
use std::fmt;

use anser_api::logic::Refused;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal,)*) => {
        /// What a refusal is counted under.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Reason {
            $($(#[doc = $doc])+ $name,)*
        }

        /// Every reason as a label, in the order of the enum.
        pub(crate) const REASONS: &[&str] = &[$($label),*];
    };
}

reasons! {
    /// The authentication packet cannot be read.
    Packet = "packet",
    /// Nothing shows who the client is.
    NoToken = "no_token",
    /// The token is not a JWT.
    Malformed = "malformed",
    /// The token is signed in a way that is not allowed here.
    Algorithm = "algorithm",
    /// The token names a key that is not known.
    UnknownKey = "unknown_key",
    /// Somebody else signed the token, or it was changed.
    Signature = "signature",
    /// The token is no longer good.
    Expired = "expired",
    /// The token is not good yet.
    NotYet = "not_yet_valid",
    /// The token comes from somebody else.
    Issuer = "issuer",
    /// The token is for somebody else.
    Audience = "audience",
    /// A claim is missing, or is not what it has to be.
    Claim = "claim",
    /// The client wants to be something else than its token says.
    Bound = "bound",
    /// The key belongs to another user at the moment.
    KeyTaken = "key_taken",
    /// The back end said no.
    BackEnd = "back_end",
    /// Whoever decides cannot be asked.
    Unavailable = "unavailable",
}

/// A refusal. Its text never holds a part of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    text: Cow<'static, str>,
}

impl Fault {
    pub(crate) fn new(reason: Reason, text: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let text = fault.text.into_owned();
        match fault.reason {
            Reason::Unavailable => Self::Unavailable(text),
            _ => Self::BadToken(text),
        }
    }
}
