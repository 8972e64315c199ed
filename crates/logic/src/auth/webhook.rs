//! A back end that is asked about each client.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anser_api::id::UserId;
use anser_api::logic::Connect;
use anser_api::{Answer, ready};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::fault::{Fault, Reason};
use super::memory::{Memory, Shown};
use super::packet::Packet;
use super::quiet::Quiet;
use super::stats::{Stats, count};
use super::verdict::{Verdict, number};
use super::{AuthError, Claims, fetch, file};
use crate::config::{Absence, Config};

/// Most questions that are out at once.
const OUT: usize = 256;

/// After so many failures in a row the back end counts as away, and is asked once each [`PROBE`].
const FAILURES: u32 = 5;

/// See [`FAILURES`].
const PROBE: Duration = Duration::from_secs(1);

/// Longest answer, in bytes.
const LONGEST: usize = 64 << 10;

/// Longest message of the back end to a client, in characters.
const MESSAGE: usize = 200;

/// The back end, and what is remembered of it.
pub(super) struct Webhook {
    client: Client,
    url: Url,
    timeout: Duration,
    secret: Option<HeaderValue>,
    slots: Arc<Semaphore>,
    health: Mutex<Health>,
    memory: Option<Mutex<Memory>>,
    runtime: Handle,
    stats: Arc<Stats>,
    away: Quiet,
}

/// What the back end is asked.
#[derive(Serialize)]
struct Question {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<String>,
    remote: IpAddr,
    comet: String,
}

/// What comes back.
enum Reply {
    LetIn(Verdict),
    Refused(String),
    /// No decision, and why.
    Away(String),
}

/// How the last questions went.
#[derive(Debug, Default)]
struct Health {
    /// Failures in a row.
    failures: u32,
    /// The last question that was let through while it was away.
    probe: Option<Instant>,
}

impl Health {
    fn may_ask(&mut self) -> bool {
        let now = Instant::now();
        let waits = self.probe.is_some_and(|probe| now.saturating_duration_since(probe) < PROBE);
        if self.failures >= FAILURES {
            if waits {
                return false;
            }
            self.probe = Some(now);
        }
        true
    }

    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == FAILURES {
            self.probe = Some(Instant::now());
        }
    }
}

impl Webhook {
    pub(super) fn start(
        config: &Config,
        runtime: &Handle,
        stats: Arc<Stats>,
    ) -> Result<Arc<Self>, AuthError> {
        const URL: &str = "logic.webhook_url";
        if config.webhook_url.is_empty() {
            return Err(AuthError {
                what: "logic.auth = \"webhook\", but logic.webhook_url is empty".to_owned(),
                remedy: "set it to the address that is to be asked, such as \"http://127.0.0.1:8080/auth\""
                    .to_owned(),
            });
        }
        let timeout = config.webhook_timeout.0;
        let url = fetch::url(&config.webhook_url).map_err(|cause| AuthError::url(URL, &cause))?;
        let client = fetch::client(&url, timeout).map_err(|cause| AuthError::client(URL, &cause))?;
        let memory = match config.webhook_away {
            Absence::Refuse => None,
            Absence::Last => Some(Mutex::new(Memory::new(config.webhook_grace.0))),
        };
        Ok(Arc::new(Self {
            client,
            url,
            timeout,
            secret: bearer(config)?,
            slots: Arc::new(Semaphore::new(OUT)),
            health: Mutex::default(),
            memory,
            runtime: runtime.clone(),
            stats,
            away: Quiet::default(),
        }))
    }

    /// Asks about a client. The question goes out on the runtime, whoever waits for the answer.
    pub(super) fn authenticate(
        self: &Arc<Self>,
        request: &Connect,
    ) -> Answer<'static, Result<Claims, Fault>> {
        let Packet { mut token, wishes } = match Packet::read(request) {
            Ok(packet) => packet,
            Err(fault) => return ready(Err(fault)),
        };
        if token.is_empty() {
            // JSON without a token is itself what the back end looks at.
            token = request.token.trim_ascii().to_vec();
        }
        let shown = Shown::new(&token, request.cookie.as_deref());
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let busy = "too many clients are being asked about";
            return ready(self.without(&shown, busy).and_then(|verdict| verdict.merge(wishes)));
        };
        if !self.health.lock().unwrap_or_else(PoisonError::into_inner).may_ask() {
            let away = "the back end is away";
            return ready(self.without(&shown, away).and_then(|verdict| verdict.merge(wishes)));
        }
        let (hook, cookie) = (self.clone(), request.cookie.clone());
        let (remote, comet) = (request.remote, request.comet.to_string());
        let asked = self.runtime.spawn(async move {
            let _slot = slot;
            hook.ask(shown, token, cookie, remote, comet).await
        });
        Box::pin(async move {
            let stopped = |_| Err(Fault::new(Reason::Unavailable, "the server ends"));
            asked.await.unwrap_or_else(stopped).and_then(|verdict| verdict.merge(wishes))
        })
    }

    async fn ask(
        &self,
        shown: Shown,
        token: Vec<u8>,
        cookie: Option<String>,
        remote: IpAddr,
        comet: String,
    ) -> Result<Verdict, Fault> {
        count(&self.stats.webhook_requests);
        let (token, token_base64) = match String::from_utf8(token) {
            Ok(text) => (Some(text), None),
            Err(bytes) => (None, Some(STANDARD.encode(bytes.as_bytes()))),
        };
        let question = Question { token, token_base64, cookie, remote, comet };
        let reply = timeout(self.timeout, self.exchange(&question)).await;
        match reply.unwrap_or_else(|_| Reply::Away("it does not answer in time".to_owned())) {
            Reply::LetIn(verdict) => {
                self.answered();
                self.remember(|memory| memory.insert(shown, &verdict));
                Ok(verdict)
            }
            Reply::Refused(message) => {
                self.answered();
                self.remember(|memory| memory.remove(&shown));
                Err(Fault::new(Reason::BackEnd, message))
            }
            Reply::Away(cause) => {
                count(&self.stats.webhook_failures);
                self.health.lock().unwrap_or_else(PoisonError::into_inner).failed();
                if self.away.may_speak() {
                    let meanwhile = match self.memory {
                        None => "clients are told to come again",
                        Some(_) => {
                            "those that it let in a short while ago come in, others are told to come again"
                        }
                    };
                    warn!(%cause, "logic.webhook_url gives no decision: {meanwhile}");
                }
                self.without(&shown, "the back end gives no decision")
            }
        }
    }

    async fn exchange(&self, question: &Question) -> Reply {
        let mut request = self.client.post(self.url.clone()).json(question);
        if let Some(secret) = &self.secret {
            request = request.header(AUTHORIZATION, secret.clone());
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(cause) => return Reply::Away(fetch::told(&cause)),
        };
        match response.status() {
            StatusCode::OK => match verdict(&mut response).await {
                Ok(verdict) => Reply::LetIn(verdict),
                Err(cause) => Reply::Away(cause),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Reply::Refused(message(&mut response, question).await)
            }
            status => Reply::Away(format!("it answers with status {}", status.as_u16())),
        }
    }

    fn answered(&self) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::default();
        if self.away.over() {
            info!("logic.webhook_url decides again");
        }
    }

    fn remember<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        let memory = self.memory.as_ref()?;
        Some(change(&mut memory.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What becomes of a client about whom nobody can be asked.
    fn without(&self, shown: &Shown, cause: &'static str) -> Result<Verdict, Fault> {
        let last = self.remember(|memory| memory.get(shown)).flatten();
        last.ok_or_else(|| Fault::new(Reason::Unavailable, cause))
    }
}

/// The header that shows the back end who asks.
fn bearer(config: &Config) -> Result<Option<HeaderValue>, AuthError> {
    let path = &config.webhook_secret_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let value = file::secret(path).and_then(|secret| {
        if secret.is_empty() {
            return Err("it is empty".to_owned());
        }
        let value = HeaderValue::from_bytes(&[b"Bearer ", &secret[..]].concat());
        value.map_err(|_| "it has characters that no header may have".to_owned())
    });
    let mut value = value.map_err(|cause| AuthError {
        what: format!("logic.webhook_secret_file = {}: {cause}", path.display()),
        remedy: "name a file with one line of visible characters".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Reads whom the back end lets in. An error is no decision.
async fn verdict(response: &mut Response) -> Result<Verdict, String> {
    let body = fetch::body(response, LONGEST).await?;
    let fields: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|_| "its answer is no JSON object".to_owned())?;
    let wrong = |field| format!("the field {field} of its answer has the wrong form");
    let user = match fields.get("mid") {
        None | Some(Value::Null) => None,
        Some(mid) => UserId::parse(number(mid).ok_or_else(|| wrong("mid"))?),
    };
    Ok(Verdict { user, ..Verdict::read(&fields).map_err(wrong)? })
}

/// What the back end tells a client that it refuses. Whatever else its answer is, it is a refusal.
async fn message(response: &mut Response, question: &Question) -> String {
    let body = fetch::body(response, LONGEST).await.unwrap_or_default();
    let fields: Map<String, Value> = serde_json::from_slice(&body).unwrap_or_default();
    let message = fields.get("message").and_then(Value::as_str).unwrap_or_default();
    let secrets = [&question.token, &question.token_base64];
    let tells = |secret: &String| !secret.is_empty() && message.contains(&**secret);
    if message.is_empty() || secrets.into_iter().flatten().any(tells) {
        return "the back end refuses it".to_owned();
    }
    message.chars().filter(|char| !char.is_control()).take(MESSAGE).collect()
}
