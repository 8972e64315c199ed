//! The API as one piece, with a push API behind it that answers as it is told.

mod bad_requests;
mod docs;
mod keys;
mod operators;
mod pushes;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anser_api::comet::{Away, PushError};
use anser_api::id::{CometName, Key, Position, Room};
use anser_api::job::{Accepted, Explanation, Subject};
use anser_api::logic::{
    Advice, Audience, Backoff, Directory, Node, NodeState, Online, Operator, Place, Push, PushApi,
    TooManyTraces, Tracing,
};
use anser_api::trace::{Traced, Watch};
use anser_api::{Answer, ready};
use axum::Router;
use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Request, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::access::{Keys, Peer};
use crate::{Alive, Bound, Config, Names, Ready, Roles, health};

const KEY: &str = "anser_the-key-of-these-tests";

/// Takes pushes as the job does: numbers them, knows repeated ones, and refuses what it is told to.
#[derive(Default)]
struct Fake {
    state: Mutex<State>,
    watch: Watch,
}

#[derive(Default)]
struct State {
    pushes: Vec<Push>,
    known: HashMap<String, ([u8; 32], Position)>,
    /// What the next pushes are answered, if not taken; those to rooms of this name, always.
    refused: VecDeque<PushError>,
    refused_room: Option<(String, PushError)>,
    /// What was asked, and what is answered next.
    asked: Vec<(Position, Subject)>,
    explanations: VecDeque<Result<Explanation, Away>>,
}

impl Fake {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came since the last call.
    fn take(&self) -> Vec<Push> {
        std::mem::take(&mut self.state().pushes)
    }

    fn refuse(&self, cause: PushError) {
        self.state().refused.push_back(cause);
    }
}

impl State {
    fn push(&mut self, push: Push) -> Result<Accepted, PushError> {
        if let Some(cause) = self.refused.pop_front() {
            return Err(cause);
        }
        if let (Audience::Room(room), Some((refused, cause))) = (&push.to, &self.refused_room)
            && room.as_str() == refused
        {
            return Err(cause.clone());
        }
        let routed = match &push.to {
            Audience::Keys(keys) => keys.len() as u64,
            Audience::Users(users) => users.len() as u64,
            Audience::Room(_) | Audience::All { .. } => 0,
        };
        let mut position = Position(self.pushes.len() as u64 + 100);
        let mut repeated = false;
        if let Some(known) = push.idempotency.clone() {
            let next = position;
            let (digest, first) = *self.known.entry(known.key).or_insert((known.digest, next));
            if digest != known.digest {
                return Err(PushError::Conflict);
            }
            (position, repeated) = (first, first != next);
        }
        self.pushes.push(push);
        Ok(Accepted { position, routed, absent: 0, repeated })
    }
}

impl PushApi for Fake {
    fn push(&self, push: Push) -> Answer<'_, Result<Accepted, PushError>> {
        ready(self.state().push(push))
    }
}

impl Operator for Fake {
    fn explain(&self, position: Position, subject: Subject) -> Answer<'_, Result<Explanation, Away>> {
        let mut state = self.state();
        state.asked.push((position, subject));
        ready(state.explanations.pop_front().unwrap_or_else(|| Err(Away("gone".to_owned()))))
    }

    fn trace(&self, of: Traced, until: SystemTime) -> Answer<'_, Result<Tracing, TooManyTraces>> {
        let traces = self.watch.change(of, until);
        let missing = vec![CometName::parse("comet-2", 9).unwrap()];
        let away = Some(Away("gone".to_owned()));
        let tracing = traces.map(|traces| Tracing { list: traces.list, missing, away });
        ready(tracing.ok_or(TooManyTraces))
    }
}

/// Knows nobody.
struct Nobody;

impl Directory for Nobody {
    fn locate(&self, keys: Vec<Key>) -> Answer<'_, Result<Vec<Place>, Away>> {
        ready(Ok(vec![Place::Absent; keys.len()]))
    }

    fn online(&self) -> Answer<'_, Online> {
        ready(Online::default())
    }

    fn largest_rooms(&self, _: String, _: usize) -> Answer<'_, Vec<(Room, u32)>> {
        ready(Vec::new())
    }

    fn members(&self, rooms: Vec<Room>) -> Answer<'_, Vec<u32>> {
        ready(vec![0; rooms.len()])
    }

    fn nodes(&self) -> Answer<'_, Vec<NodeState>> {
        ready(Vec::new())
    }

    fn best_nodes(&self) -> Answer<'_, Vec<Node>> {
        ready(Vec::new())
    }
}

fn advice() -> Advice {
    let (second, domain) = (Duration::from_secs(1), "comets.example".to_owned());
    let backoff = Backoff { max_delay: second, base_delay: second, factor: 1.0, jitter: 0.0 };
    Advice {
        host_domain: domain.clone(),
        domain,
        tcp_port: 1,
        ws_port: 2,
        wss_port: 3,
        heartbeat: second,
        heartbeat_max: 2,
        backoff,
    }
}

/// The API on an address at which nobody knocks.
struct Api {
    router: Router,
    fake: Arc<Fake>,
    registry: Arc<Registry>,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|cause| panic!("{cause}: {}", self.text()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Api {
    /// With the settings of the tests: short limits, so that they are met.
    fn new() -> Self {
        Self::with(Config { body: 500, receivers: 3, ..Config::default() })
    }

    fn with(config: Config) -> Self {
        let fake = Arc::new(Fake::default());
        let bound = Bound::bind(Config { bind: ([127, 0, 0, 1], 0).into(), ..config }).unwrap();
        let mut registry = Registry::default();
        bound.register(&mut registry);
        let registry = Arc::new(registry);
        let alive: Alive = Arc::new(|| Ok(()));
        let roles = Roles {
            push: fake.clone(),
            operator: fake.clone(),
            directory: Arc::new(Nobody),
            advice: advice(),
            keys: Keys::default(),
            names: Names { key: 20, room: 20 },
        };
        let routes = bound.routes(roles).merge(health::routes(alive, Ready::default(), registry.clone()));
        Self { router: bound.fence(routes, Keys::new([KEY, "the-second-key-of-all"])), fake, registry }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().into();
        Reply { status: head.status, headers: head.headers, body }
    }

    /// Without a key.
    async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// A push with the key, and with these headers.
    async fn push_with(&self, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::post("/api/v1/push")
            .header(AUTHORIZATION, format!("Bearer {KEY}"))
            .extension(Peer([127, 0, 0, 1].into()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.to_owned().into()).unwrap()).await
    }

    async fn push(&self, body: &str) -> Reply {
        self.push_with(&[("content-type", "application/json")], body).await
    }

    /// The value of a metric with its labels, as they are written.
    fn metric(&self, name: &str) -> Option<u64> {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}
