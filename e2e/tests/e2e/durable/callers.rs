//! Back ends that push, and clients that listen, until the server is gone.

use std::net::SocketAddr;
use std::time::Duration;

use anser_e2e::{Answer, Client, Cluster, Dial, Http, Incoming, Transport};
use fastrand::Rng;
use serde_json::{Value, json};

use super::promises::{Answered, Push, To, name, place};
use super::{DEAF, KEYS, ROOM};

/// Most pushes to the key that does not read, of one caller in one life: they must fit into its queue.
const DEAF_PUSHES: usize = 20;

/// A back end.
pub(super) struct Caller {
    address: SocketAddr,
    authorization: String,
    rng: Rng,
    life: u32,
    number: usize,
    /// Whether the key that does not read is there.
    deaf: bool,
}

impl Caller {
    pub(super) fn new(cluster: &Cluster, life: u32, number: usize, deaf: bool, rng: Rng) -> Self {
        let authorization = cluster.authorization();
        let value = authorization.trim_end().trim_start_matches("Authorization: ");
        Self { address: cluster.http(), authorization: value.to_owned(), rng, life, number, deaf }
    }

    /// The pushes that it will try.
    pub(super) fn plan(&mut self, count: usize) -> Vec<Push> {
        let mut deaf = 0;
        (0..count)
            .map(|n| {
                let to = match self.rng.u8(..10) {
                    0 => To::Room,
                    1 => To::All,
                    2..=4 if self.deaf && n >= count / 2 && deaf < DEAF_PUSHES => {
                        deaf += 1;
                        To::Key(DEAF)
                    }
                    _ => To::Key(self.rng.choice(KEYS).expect("there are keys")),
                };
                let most = match (&to, self.rng.u8(..20)) {
                    (To::Key(DEAF), _) => 2000,
                    (_, 0) => 30_000,
                    (_, 1..=4) => 6000,
                    _ => 600,
                };
                let mut body = format!("{}.{}.{n}:", self.life, self.number);
                body.extend(std::iter::repeat_n(self.rng.lowercase(), self.rng.usize(..most)));
                let key = self.rng.bool().then(|| format!("key-{}", name(&body)));
                Push { to, caller: self.number, body, key }
            })
            .collect()
    }

    /// Pushes one after another, until one is not answered.
    pub(super) fn run(&self, pushes: &[Push]) -> Vec<(Push, Answered)> {
        let mut done = Vec::new();
        let Some(mut api) = Http::try_connect(self.address) else { return done };
        for push in pushes {
            let answered = send(&mut api, &self.authorization, push);
            done.push((push.clone(), answered));
            if answered == Answered::Unknown {
                break;
            }
        }
        done
    }

    /// Tries one.
    pub(super) fn once(&self, push: &Push) -> Answered {
        Http::try_connect(self.address)
            .map_or(Answered::Unknown, |mut api| send(&mut api, &self.authorization, push))
    }
}

/// Waits until all pushes are done, or the server is gone. Some may take long, and need not be waited for.
pub(super) fn settle(cluster: &Cluster) {
    for _ in 0..100 {
        let answer = Http::try_connect(cluster.http());
        let answer = answer.and_then(|mut api| api.try_request("GET", "/metrics", &[], b""));
        let Some(answer) = answer else { return };
        if answer.text().lines().any(|line| line == "anser_job_open 0") {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The operation that clients of a destination take.
fn operation(to: &To) -> i32 {
    if *to == To::Key(DEAF) { 2000 } else { 1000 }
}

fn send(api: &mut Http, authorization: &str, push: &Push) -> Answered {
    let own = [("Authorization", authorization)];
    let op = operation(&push.to);
    if let Some(key) = &push.key {
        let to = match &push.to {
            To::Key(key) => json!({"devices": [key]}),
            To::Room => json!({"rooms": [ROOM]}),
            To::All => json!({"all": {}}),
        };
        let body = json!({"to": to, "operation": op, "body": push.body}).to_string();
        let headers = [own[0], ("Content-Type", "application/json"), ("Idempotency-Key", key)];
        return match api.try_request("POST", "/api/v1/push", &headers, body.as_bytes()) {
            Some(answer) if answer.status() == 200 => {
                let told: Value = serde_json::from_str(answer.text()).expect("the API answers JSON");
                let told = &told["messages"][0];
                let id = told["id"].as_str().and_then(|id| id.parse().ok()).expect("it is a number");
                Answered::Taken(id, told["repeated"] == true)
            }
            other => refused(other.as_ref()),
        };
    }
    let target = match &push.to {
        To::Key(key) => format!("keys?operation={op}&keys={key}"),
        To::Room => {
            let (kind, id) = ROOM.split_once("://").expect("it is type://id");
            format!("room?operation={op}&type={kind}&room={id}")
        }
        To::All => format!("all?operation={op}"),
    };
    match api.try_request("POST", &format!("/goim/push/{target}"), &own, push.body.as_bytes()) {
        Some(answer) if answer.status() == 200 => {
            let id = answer.header("anser-message-id").and_then(|id| id.parse().ok());
            Answered::Taken(id.expect("it is a number"), false)
        }
        other => refused(other.as_ref()),
    }
}

fn refused(answer: Option<&Answer>) -> Answered {
    match answer {
        Some(answer) if answer.status() == 429 => Answered::Refused,
        _ => Answered::Unknown,
    }
}

/// A client that is in, unless the server is gone.
pub(super) fn login(cluster: &Cluster, key: &str) -> Option<Client> {
    let mut dial = Dial::new(cluster, Transport::Tcp);
    if key == DEAF {
        dial = dial.receive_buffer(4096);
    }
    let mut client = dial.try_open()?;
    let room = if key == KEYS[0] { ROOM } else { "" };
    let op = operation(&To::Key(if key == DEAF { DEAF } else { KEYS[0] }));
    let token = json!({"key": key, "room_id": room, "accepts": [op]}).to_string();
    if !client.try_write(&anser_e2e::Packet::new(7, 1, token).bytes()) {
        return None;
    }
    match client.incoming() {
        Incoming::Packet(answer) if answer.op == 8 => Some(client),
        Incoming::End => None,
        other => panic!("{other:?} instead of a login"),
    }
}

/// The bodies of the whole pushes in what a client has read.
pub(super) fn pushes(bytes: &[u8]) -> Vec<String> {
    let mut bodies = Vec::new();
    let mut rest = bytes;
    while let Some(len) = rest.first_chunk().map(|len| u32::from_be_bytes(*len) as usize)
        && let Some(packet) = rest.get(..len)
    {
        bodies.push(String::from_utf8(packet[16..].to_vec()).expect("tests push texts"));
        rest = &rest[len..];
    }
    bodies
}

/// Whether what one client got in one life is in order, for each caller and kind of destination.
pub(super) fn check_order(
    key: &str,
    bodies: &[String],
    to: impl Fn(&str) -> Option<To>,
) -> Result<(), String> {
    let mut last: std::collections::HashMap<(To, String), (u32, u64)> = std::collections::HashMap::new();
    for body in bodies {
        let Some(to) = to(body) else { return Err(format!("{key} got what nobody pushed: {}", name(body))) };
        if matches!(to, To::Key(own) if own != key) {
            return Err(format!("{key} got a push to {to:?}"));
        }
        let (life, number) = place(body);
        let caller = name(body).split('.').nth(1).unwrap_or_default().to_owned();
        let now = (life.parse().unwrap_or(0), number);
        let before = last.insert((to, caller), now);
        if before.is_some_and(|before| before >= now) {
            return Err(format!("{key} got {} behind {before:?}", name(body)));
        }
    }
    Ok(())
}
