//! Asking somebody over HTTP, who may be slow, away, or send too much.

use std::error::Error as _;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};

/// Idle connections that are kept for the next question.
const IDLE: usize = 32;

/// An `http` or `https` address. An error says what is wrong with it.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|cause| format!("it is no address ({cause})"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        scheme => Err(format!("its scheme is {scheme}, not http or https")),
    }
}

/// A client for one address. It takes the address at its word: no proxy from the environment, no redirect to
/// where the operator never pointed.
pub(super) fn client(url: &Url, timeout: Duration) -> Result<Client, String> {
    let builder = Client::builder()
        .user_agent(concat!("anser/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .timeout(timeout)
        .pool_max_idle_per_host(IDLE);
    // Without TLS there is nothing to trust, and the system may have no roots.
    let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
    builder.build().map_err(|cause| told(&cause))
}

/// A body of bounded length.
pub(super) async fn body(response: &mut Response, most: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|cause| told(&cause))? {
        if chunk.len() > most - body.len() {
            return Err(format!("the answer is longer than {most} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What went wrong, without the address, which may hold a password.
pub(super) fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer in time".to_owned();
    }
    let mut cause = error.source();
    let mut text = None;
    while let Some(inner) = cause {
        text = Some(inner.to_string());
        cause = inner.source();
    }
    let text = text.unwrap_or_else(|| "the request failed".to_owned());
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
