//! Back ends that push without pause and clients that keep account of what they get, while roles come and go.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anser_e2e::{Apart, Client, Http, Role, Transport, eventually};

/// What the goim routes answer to a push that is taken.
const TAKEN: &str = r#"{"code":0,"message":""}"#;

const TO_KEYS: i32 = 1000;
const TO_ROOM: i32 = 7;
const ROOM: &str = "live://1";

/// The body of the last push to each.
const LAST: &str = "the last";

/// Clients on each comet.
const CLIENTS: usize = 4;

/// Says something past the capture of the test harness, because it must be seen when the test passes.
pub(super) fn say(text: &str) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "apart: {text}");
}

/// Who is to get a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Key(usize),
    EveryKey,
    Room,
}

/// What a caller knows of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    /// It had no place, and nobody has it.
    Refused,
    /// There was no answer, or one that says that the push may have been taken.
    Unknown,
}

/// A push that a caller tried once: its number is its place in the list. What was not taken is tried again
/// under the next number, so that a repetition is never taken for something that came twice.
type Try = (To, Fate);

/// Who pushes.
struct Caller {
    address: SocketAddr,
    key: String,
    number: usize,
    clients: usize,
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
}

impl Caller {
    fn run(self) -> Vec<Try> {
        let mut tries = Vec::new();
        let mut connection = None;
        let mut rng = fastrand::Rng::with_seed(self.number as u64);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(mut api) = connection.take().or_else(|| Http::try_connect(self.address)) else {
                thread::park_timeout(Duration::from_millis(5));
                continue;
            };
            let to = match rng.u8(0..4) {
                0 | 1 => To::Key(rng.usize(0..self.clients)),
                2 => To::EveryKey,
                _ => To::Room,
            };
            let fate = self.push(&mut api, to, &format!("{} {}", self.number, tries.len()));
            tries.push((to, fate.unwrap_or(Fate::Unknown)));
            if fate == Some(Fate::Taken) {
                self.taken.fetch_add(1, Ordering::Relaxed);
            }
            // A connection that broke is not used again.
            connection = fate.map(|_| api);
            let pause = if fate == Some(Fate::Taken) { 3 } else { 20 };
            thread::park_timeout(Duration::from_millis(pause));
        }
        tries
    }

    /// Tries a push once. None when there is no answer.
    fn push(&self, api: &mut Http, to: To, body: &str) -> Option<Fate> {
        let target = match to {
            To::Key(key) => format!("keys?operation={TO_KEYS}&keys=k{key}"),
            To::EveryKey => {
                let keys: Vec<String> = (0..self.clients).map(|key| format!("&keys=k{key}")).collect();
                format!("keys?operation={TO_KEYS}{}", keys.concat())
            }
            To::Room => format!("room?operation={TO_ROOM}&type=live&room=1"),
        };
        let authorization = format!("Bearer {}", self.key);
        let headers = [("Authorization", authorization.as_str())];
        let answer = api.try_request("POST", &format!("/goim/push/{target}"), &headers, body.as_bytes())?;
        match answer.status() {
            200 if answer.text() == TAKEN => Some(Fate::Taken),
            429 => Some(Fate::Refused),
            503 => Some(Fate::Unknown),
            _ => panic!("{to:?} is answered {answer}"),
        }
    }
}

/// All that a client gets until the last push to its key and to its room, by operation.
fn listen(mut client: Client) -> HashMap<i32, Vec<String>> {
    let mut got: HashMap<i32, Vec<String>> = HashMap::new();
    let mut open = vec![TO_KEYS, TO_ROOM];
    while !open.is_empty() {
        let (op, body) = client.push();
        if body == LAST {
            open.retain(|open| *open != op);
        } else {
            got.entry(op).or_default().push(body);
        }
    }
    got
}

/// A storm that rages.
pub(super) struct Storm {
    clients: Vec<JoinHandle<HashMap<i32, Vec<String>>>>,
    callers: Vec<JoinHandle<Vec<Try>>>,
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
}

impl Storm {
    /// What the comets of a storm need, so that nobody loses anything for being slow.
    pub(super) const SETTINGS: &[&str] = &["comet.queue=1000000", "comet.queue_bytes=100000000"];

    /// Clients on every comet, all in one room, and so many back ends.
    pub(super) fn start(apart: &Apart, callers: usize) -> Self {
        let count = apart.comets() * CLIENTS;
        let (stop, taken) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let clients = (0..count).map(|n| {
            let token = format!(r#"{{"key":"k{n}","room_id":"{ROOM}","accepts":[{TO_KEYS}]}}"#);
            let client = apart.login(n % apart.comets(), Transport::ALL[n / apart.comets() % 2], &token);
            thread::spawn(move || listen(client))
        });
        let clients = clients.collect();
        let callers = (0..callers).map(|number| {
            let (stop, taken) = (stop.clone(), taken.clone());
            let address = apart.http(Role::Logic);
            let caller = Caller { address, key: apart.key(), number, clients: count, stop, taken };
            thread::spawn(move || caller.run())
        });
        Self { clients, callers: callers.collect(), stop, taken }
    }

    /// Waits until so many more pushes have been taken.
    #[track_caller]
    pub(super) fn rage(&self, pushes: u64) {
        let upto = self.taken.load(Ordering::Relaxed) + pushes;
        eventually("the storm goes on", || (self.taken.load(Ordering::Relaxed) >= upto).then_some(()));
    }

    /// Ends it. Every client, all of which have stayed, must have got what was taken once, and what may have
    /// been taken once at most; from each caller in its order, to its key and to the room; and the room's
    /// pushes in one order.
    #[track_caller]
    pub(super) fn end(self, apart: &Apart) {
        self.stop.store(true, Ordering::Relaxed);
        let tries: Vec<Vec<Try>> = self.callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        apart.check_accounts();
        let comets = (0..apart.comets()).map(|comet| apart.metrics(Role::Comet(comet)));
        let delivered: i64 = comets.map(|metrics| metrics.get("comet_delivered")).sum();
        let last = Caller {
            address: apart.http(Role::Logic),
            key: apart.key(),
            number: 0,
            clients: self.clients.len(),
            stop: Arc::default(),
            taken: Arc::default(),
        };
        for to in [To::EveryKey, To::Room] {
            eventually("the last push is taken", || {
                (last.push(&mut apart.api(), to, LAST) == Some(Fate::Taken)).then_some(())
            });
        }
        let got: Vec<_> = self.clients.into_iter().map(|client| client.join().unwrap()).collect();
        for (client, got) in got.iter().enumerate() {
            check(client, got, &tries);
        }
        let received: usize = got.iter().flat_map(HashMap::values).map(Vec::len).sum();
        assert_eq!(received as i64, delivered, "what comets counted as delivered, clients got");
        let rooms = got.iter().map(|got| taken_only(got.get(&TO_ROOM), &tries)).collect::<Vec<_>>();
        assert!(rooms.iter().all(|room| *room == rooms[0]), "the members of a room see one order");
        apart.check_accounts();
        let count = |which| tries.iter().flatten().filter(|(_, fate)| *fate == which).count();
        let [taken, refused, unknown] = [Fate::Taken, Fate::Refused, Fate::Unknown].map(count);
        say(&format!(
            "{taken} pushes taken, {refused} refused, {unknown} unknown; {received} deliveries to {} clients",
            got.len()
        ));
    }
}

fn parse(body: &str) -> (usize, usize) {
    let (caller, number) = body.split_once(' ').expect("a push says who sent it");
    (caller.parse().expect("callers have numbers"), number.parse().expect("tries have numbers"))
}

fn taken_only<'a>(got: Option<&'a Vec<String>>, tries: &[Vec<Try>]) -> Vec<&'a str> {
    let bodies = got.into_iter().flatten().map(String::as_str);
    let taken = |body: &&str| {
        let (caller, number) = parse(body);
        tries[caller][number].1 == Fate::Taken
    };
    bodies.filter(taken).collect()
}

#[track_caller]
fn check(client: usize, got: &HashMap<i32, Vec<String>>, tries: &[Vec<Try>]) {
    for (caller, tries) in tries.iter().enumerate() {
        for op in [TO_KEYS, TO_ROOM] {
            let all = got.get(&op).into_iter().flatten().map(|body| parse(body));
            let own: Vec<usize> = all.filter(|(own, _)| *own == caller).map(|(_, number)| number).collect();
            let wrong = own.windows(2).find(|pair| pair[0] >= pair[1]);
            assert_eq!(wrong, None, "k{client}, operation {op}: twice or out of order from caller {caller}");
            let mine = |to: To| match to {
                To::Key(key) => op == TO_KEYS && key == client,
                To::EveryKey => op == TO_KEYS,
                To::Room => op == TO_ROOM,
            };
            for (number, (to, fate)) in tries.iter().enumerate() {
                let came = own.binary_search(&number).is_ok();
                let may = match fate {
                    _ if !mine(*to) => !came,
                    Fate::Taken => came,
                    Fate::Refused => !came,
                    Fate::Unknown => true,
                };
                let how = if came { "came" } else { "did not come" };
                assert!(may, "k{client}: try {number} of caller {caller} to {to:?}, {fate:?}, {how}");
            }
        }
    }
}
