//! Anser's own API, as commands for operators call it.

use clap::Args;
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{Answer, Base};
use super::key::{self, Found, KeyArguments};
use super::runtime;
use crate::exit::Exit;
use crate::failure::Failure;

/// The arguments of each of them.
#[derive(Debug, Args)]
pub(super) struct ApiArguments {
    /// The server's HTTP address
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:3111")]
    http: Base,
    #[command(flatten)]
    key: KeyArguments,
}

/// An error of the API, as RFC 9457 has them.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

impl ApiArguments {
    /// Asks, and reads the answer.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let found = self.key.find()?;
        let answer = runtime()?.block_on(self.http.ask(method, path, found.key.as_ref(), body))?;
        read(&self.http, &found, &answer)
    }
}

fn read<T: DeserializeOwned>(base: &Base, found: &Found, answer: &Answer) -> Result<T, Failure> {
    if answer.status == 200
        && let Ok(read) = serde_json::from_slice(&answer.body)
    {
        return Ok(read);
    }
    if answer.status == 401 {
        return Err(key::unknown(base, found));
    }
    let Ok(Problem { detail }) = serde_json::from_slice(&answer.body) else {
        return Err(Failure::new(
            Exit::Unavailable,
            format!("{base} answered HTTP {} with what is no answer of this API", answer.status),
            "--http must name the address of http.bind of a server of this version",
        ));
    };
    Err(match answer.status {
        400..=499 if answer.status != 429 => {
            Failure::new(Exit::Usage, format!("the server refused the question ({detail})"), "correct it")
        }
        _ => Failure::new(
            Exit::Unavailable,
            format!("the server cannot answer ({detail})"),
            "try again when that is over",
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn answers() {
        let base: Base = "http://127.0.0.1:3111".parse().unwrap();
        let found = Found { key: None, place: "data/push.key".to_owned() };
        let check = |status, body: &'static str| {
            let answer = Answer { status, retry_after: None, body: body.into() };
            read::<Value>(&base, &found, &answer).map_err(|failure| (failure.exit, failure.to_string()))
        };
        assert_eq!(check(200, r#"{"a":1}"#).unwrap()["a"], 1);
        for (status, body, exit, told) in [
            (400, r#"{"detail":"no number"}"#, Exit::Usage, "refused the question (no number)"),
            (429, r#"{"detail":"too many"}"#, Exit::Unavailable, "cannot answer (too many)"),
            (503, r#"{"detail":"the job is away"}"#, Exit::Unavailable, "cannot answer (the job is away)"),
            (404, "404 page not found", Exit::Unavailable, "answered HTTP 404 with what is no answer"),
            (200, "hello", Exit::Unavailable, "answered HTTP 200 with what is no answer"),
            (401, r#"{"detail":"x"}"#, Exit::Usage, "wants a push API key, and there is no data/push.key"),
        ] {
            let (found, said) = check(status, body).unwrap_err();
            assert!(found == exit && said.contains(told), "{status}: {said}");
        }
    }
}
