//! The job between a log and comets that die, stop, lose answers and have no place, on a virtual clock.

mod explain;
mod fakes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anser_api::comet::PushError;
use anser_api::id::{Key, Room};
use anser_api::job::{Accepted, Destination, Idempotency, Job as _, Push, Route as KeyRoute};
use anser_api::settings::Span;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use fakes::{FakeComet, MemoryLog, World};

fn key(name: &str) -> Key {
    Key::parse(name, 64).unwrap()
}

/// A job over fake comets.
struct Bench {
    world: Arc<World>,
    log: Arc<MemoryLog>,
    config: Config,
    local: bool,
    job: Option<Job>,
}

impl Bench {
    fn new(comets: &[&str], local: bool, config: Config) -> Self {
        let world = Arc::new(World::new(comets));
        let mut bench = Self { world, log: Arc::default(), config, local, job: None };
        bench.start();
        bench
    }

    fn start(&mut self) {
        let routes = self.world.comets().into_iter().map(|comet| Route {
            name: comet.name(),
            comet,
            local: self.local,
        });
        let job = Job::start(
            self.config.clone(),
            self.log.clone(),
            routes.collect(),
            self.world.clone(),
            &Handle::current(),
        );
        self.job = Some(job.unwrap());
    }

    /// The job's process is killed, and starts again.
    async fn restart(&mut self) {
        self.job = None;
        sleep(Duration::from_millis(10)).await;
        self.start();
    }

    fn comet(&self, name: &str) -> Arc<FakeComet> {
        self.world.comets().into_iter().find(|comet| comet.name().as_str() == name).unwrap()
    }

    async fn push(&self, to: Destination, body: &str) -> Result<Accepted, PushError> {
        self.push_with(to, body, None, None).await
    }

    async fn push_with(
        &self,
        to: Destination,
        body: &str,
        expires: Option<SystemTime>,
        idempotency: Option<Idempotency>,
    ) -> Result<Accepted, PushError> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.job.as_ref().unwrap().push(Push { to, op: 1000, body, expires, idempotency }).await
    }

    /// A push to keys, where they are as far as the directory knows.
    async fn push_keys(&self, names: &[&str], body: &str) -> Result<Accepted, PushError> {
        self.push(self.route(names), body).await
    }

    fn route(&self, names: &[&str]) -> Destination {
        let (mut routes, mut absent) = (Vec::new(), Vec::new());
        for name in names {
            match self.world.place(&key(name)) {
                Some(comet) => routes.push(KeyRoute { key: key(name), comet }),
                None => absent.push(key(name)),
            }
        }
        Destination::Keys { routes, absent, users: vec![] }
    }

    fn room(name: &str) -> Destination {
        Destination::Room(Room::parse(name, 64).unwrap())
    }

    /// Waits until nothing is on its way.
    #[track_caller]
    fn idle(&self) -> impl Future<Output = ()> + use<'_> {
        let place = std::panic::Location::caller();
        async move {
            let limit = Instant::now() + Duration::from_secs(300);
            while self.job.as_ref().unwrap().shared.state().open() > 0 {
                assert!(Instant::now() < limit, "{place}: {} on the way", self.open());
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn open(&self) -> usize {
        self.job.as_ref().unwrap().shared.state().open()
    }

    /// Parcels by what became of them; none is unaccounted for.
    #[track_caller]
    fn done(&self, how: metrics::Done) -> u64 {
        let state = self.job.as_ref().unwrap().shared.state();
        let stats = &state.stats;
        assert_eq!(stats.fed, stats.done.iter().sum::<u64>() + state.open() as u64, "{stats:?}");
        stats.done[how as usize]
    }
}

async fn becomes<T: PartialEq + fmt::Debug>(expected: T, mut actual: impl FnMut() -> T) {
    let limit = Instant::now() + Duration::from_secs(300);
    loop {
        let now = actual();
        if now == expected {
            return;
        }
        assert!(Instant::now() < limit, "{now:?} did not become {expected:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_reaches_its_keys_and_rooms_and_is_done() {
    for local in [false, true] {
        let bench = Bench::new(&["a", "b"], local, Config::default());
        bench.comet("a").enter("one", Some("live://1"));
        bench.comet("b").enter("two", Some("live://1"));
        becomes(true, || bench.job.as_ref().unwrap().shared.state().lanes.iter().all(Lane::is_open)).await;
        let accepted = bench.push_keys(&["one", "two", "three"], "keys").await.unwrap();
        assert_eq!((accepted.routed, accepted.absent, accepted.repeated), (2, 1, false));
        bench.push(Bench::room("live://1"), "room").await.unwrap();
        bench.push(Destination::All { speed: 0 }, "all").await.unwrap();
        bench.idle().await;
        for (comet, name) in [("a", "one"), ("b", "two")] {
            assert_eq!(bench.comet(comet).got(name), ["keys", "room", "all"], "local {local}");
        }
        assert_eq!(bench.done(metrics::Done::Reported), 6);
        becomes(bench.log.end_now(), || bench.log.committed()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_waits_for_the_disk_and_delivery_does_not() {
    let bench = Bench::new(&["a"], true, Config::default());
    bench.comet("a").enter("one", None);
    becomes(true, || bench.job.as_ref().unwrap().shared.state().lanes[0].is_open()).await;
    bench.log.hold();
    let mut push = std::pin::pin!(bench.push_keys(&["one"], "early"));
    assert!(timeout(Duration::from_secs(5), push.as_mut()).await.is_err());
    assert_eq!(bench.comet("a").got("one"), ["early"]);
    bench.log.release();
    push.await.unwrap();
    bench.log.hold();
    let cause = bench.push_keys(&["one"], "never on disk").await.unwrap_err();
    assert!(matches!(cause, PushError::Unavailable { .. }), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_full_local_comet_refuses_before_anything_is_logged() {
    let bench = Bench::new(&["a"], true, Config::default());
    bench.comet("a").enter("one", Some("live://1"));
    becomes(true, || bench.job.as_ref().unwrap().shared.state().lanes[0].is_open()).await;
    bench.comet("a").full(true);
    let end = bench.log.end_now();
    for to in [Bench::room("live://1"), bench.route(&["one"]), Destination::All { speed: 0 }] {
        assert!(matches!(bench.push(to, "no").await, Err(PushError::Exhausted { .. })));
    }
    assert_eq!((bench.log.end_now(), bench.open()), (end, 0));
    bench.comet("a").full(false);
    bench.push_keys(&["one"], "yes").await.unwrap();
    bench.idle().await;
    assert_eq!(bench.comet("a").got("one"), ["yes"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_room_of_a_remote_comet_is_parked_and_others_pass() {
    let bench = Bench::new(&["a"], false, Config::default());
    bench.comet("a").enter("one", Some("live://1"));
    bench.comet("a").enter("two", Some("live://2"));
    bench.comet("a").full_room("live://1", true);
    for n in 0..5 {
        bench.push(Bench::room("live://1"), &format!("hot {n}")).await.unwrap();
        bench.push(Bench::room("live://2"), &format!("cool {n}")).await.unwrap();
        bench.push_keys(&["one"], &format!("key {n}")).await.unwrap();
    }
    becomes(5, || bench.comet("a").got("two").len()).await;
    becomes(vec!["key 0", "key 1", "key 2", "key 3", "key 4"], || {
        bench.comet("a").got("one").into_iter().map(|s| &*s.leak()).collect::<Vec<_>>()
    })
    .await;
    bench.comet("a").full_room("live://1", false);
    bench.idle().await;
    let hot: Vec<_> =
        bench.comet("a").got("one").into_iter().filter(|body| body.starts_with("hot")).collect();
    assert_eq!(hot, ["hot 0", "hot 1", "hot 2", "hot 3", "hot 4"]);
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_bounded_and_a_stopped_comet_holds_up_nobody() {
    // What has not been reported counts, and reports are 100 ms apart.
    let config = Config { lane: 200, ..Config::default() };
    let bench = Bench::new(&["a", "b"], false, config);
    bench.comet("a").enter("one", Some("live://1"));
    bench.comet("b").enter("two", Some("live://1"));
    bench.push(Bench::room("live://1"), "first").await.unwrap();
    bench.idle().await;
    bench.comet("a").stop(true);
    for n in 0..500 {
        bench.push(Bench::room("live://1"), &format!("{n}")).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    becomes(501, || bench.comet("b").got("two").len()).await;
    assert_eq!(bench.done(metrics::Done::Full), 300);
    // After the patience what still waits is dropped, and counted.
    becomes(200, || bench.done(metrics::Done::Away)).await;
    assert_eq!(bench.open(), 0);
    bench.comet("a").stop(false);
    sleep(Duration::from_secs(2)).await;
    bench.push(Bench::room("live://1"), "last").await.unwrap();
    bench.idle().await;
    assert_eq!(bench.comet("a").got("one").last().unwrap(), "last");
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_comet_did_not_report_goes_to_keys_that_come_back_in_order() {
    let bench = Bench::new(&["a", "b"], false, Config::default());
    bench.comet("a").enter("one", Some("live://1"));
    bench.push_keys(&["one"], "reported").await.unwrap();
    bench.idle().await;
    bench.comet("a").write(false);
    bench.push_keys(&["one"], "taken").await.unwrap();
    bench.push(Bench::room("live://1"), "room").await.unwrap();
    sleep(Duration::from_millis(300)).await;
    bench.comet("a").die();
    sleep(Duration::from_secs(1)).await;
    // The directory does not know yet that it is dead.
    bench.push_keys(&["one"], "waits").await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert!(bench.open() > 0);
    bench.comet("b").enter("one", None);
    bench.push_keys(&["one"], "new").await.unwrap();
    becomes(3, || bench.comet("b").got("one").len()).await;
    assert_eq!(bench.comet("b").got("one"), ["taken", "waits", "new"]);
    bench.comet("a").live();
    bench.idle().await;
    assert_eq!(bench.done(metrics::Done::Lost) + bench.done(metrics::Done::Away), 1, "the room's");
    assert_eq!(bench.job.as_ref().unwrap().shared.state().stats.resent, 1, "`taken` may have been written");
}

#[tokio::test(start_paused = true)]
async fn keys_that_do_not_come_back_are_given_up_after_their_time() {
    let bench = Bench::new(&["a"], false, Config::default());
    bench.comet("a").enter("one", None);
    bench.comet("a").write(false);
    bench.push_keys(&["one"], "taken").await.unwrap();
    sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    bench.comet("a").die();
    bench.comet("a").live();
    bench.idle().await;
    assert_eq!(bench.done(metrics::Done::NotBack), 1);
    assert!(began.elapsed() > Duration::from_secs(59) && began.elapsed() < Duration::from_secs(75));
}

/// Also what comes while its comet is away, and nothing else waits.
#[tokio::test(start_paused = true)]
async fn what_comes_for_a_comet_that_is_away_waits_no_longer() {
    let bench = Bench::new(&["a"], false, Config::default());
    bench.comet("a").enter("one", None);
    becomes(true, || bench.job.as_ref().unwrap().shared.state().lanes[0].is_open()).await;
    bench.comet("a").die();
    becomes(false, || bench.job.as_ref().unwrap().shared.state().lanes[0].is_open()).await;
    bench.push_keys(&["one"], "waits").await.unwrap();
    sleep(Duration::from_secs(59)).await;
    assert_eq!(bench.open(), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((bench.open(), bench.done(metrics::Done::NotBack)), (0, 1));
}

/// What a comet that drains does not take goes to the keys before what comes for them on another one.
#[tokio::test(start_paused = true)]
async fn keys_of_a_comet_that_drains_get_all_in_order() {
    let bench = Bench::new(&["a", "b"], false, Config::default());
    bench.comet("a").enter("one", Some("live://1"));
    bench.push_keys(&["one"], "taken").await.unwrap();
    bench.idle().await;
    bench.comet("a").drain();
    for body in ["first", "second"] {
        bench.push_keys(&["one"], body).await.unwrap();
    }
    bench.push(Bench::room("live://1"), "for a room").await.unwrap();
    sleep(Duration::from_millis(10)).await;
    bench.push_keys(&["one"], "third").await.unwrap();
    // It is still there for a while, and so is the key as far as the directory knows.
    sleep(Duration::from_secs(1)).await;
    bench.comet("b").enter("one", None);
    bench.push_keys(&["one"], "fourth").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.comet("b").got("one"), ["first", "second", "third", "fourth"]);
    assert_eq!(bench.open(), 1, "the room's");
    bench.comet("a").die();
    bench.comet("a").live();
    bench.idle().await;
    assert_eq!(bench.done(metrics::Done::Absent), 1);
    assert_eq!(bench.job.as_ref().unwrap().shared.state().stats.resent, 0);
}

/// Logic knows of a client before its comet has let it in: what waits for its key does not come too early, and
/// what did is not lost.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_about_to_come_in_gets_all_in_order() {
    let bench = Bench::new(&["a", "b"], false, Config::default());
    bench.comet("a").enter("one", None);
    becomes(true, || bench.job.as_ref().unwrap().shared.state().lanes.iter().all(Lane::is_open)).await;
    let stale = bench.route(&["one"]);
    bench.comet("a").die();
    becomes(false, || bench.job.as_ref().unwrap().shared.state().lanes[0].is_open()).await;
    for body in ["first", "second"] {
        bench.push(stale.clone(), body).await.unwrap();
    }
    // Comes in after longer than one look takes.
    bench.world.announce("one", "b");
    bench.push(bench.route(&["one"]), "third").await.unwrap();
    sleep(Duration::from_millis(450)).await;
    bench.comet("b").enter("one", None);
    bench.push_keys(&["one"], "fourth").await.unwrap();
    becomes(4, || bench.comet("b").got("one").len()).await;
    assert_eq!(bench.comet("b").got("one"), ["first", "second", "third", "fourth"]);
    bench.comet("a").live();
    bench.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_moved_meanwhile_is_found() {
    let bench = Bench::new(&["a", "b"], false, Config::default());
    bench.comet("a").enter("one", None);
    bench.push_keys(&["one"], "first").await.unwrap();
    bench.idle().await;
    let stale = bench.route(&["one"]);
    bench.comet("a").leave("one");
    bench.comet("b").enter("one", None);
    bench.push(stale.clone(), "second").await.unwrap();
    bench.idle().await;
    assert_eq!(bench.comet("b").got("one"), ["second"]);
    bench.comet("b").leave("one");
    bench.push(stale, "third").await.unwrap();
    bench.idle().await;
    assert_eq!(bench.done(metrics::Done::Absent), 1);
}

#[tokio::test(start_paused = true)]
async fn pushes_expire_on_the_way() {
    let bench = Bench::new(&["a"], false, Config::default());
    bench.comet("a").enter("one", None);
    bench.comet("a").stop(true);
    let soon = SystemTime::now();
    bench.push_with(bench.route(&["one"]), "late", Some(soon), None).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    bench.comet("a").stop(false);
    bench.push_keys(&["one"], "in time").await.unwrap();
    bench.idle().await;
    assert_eq!(
        (bench.done(metrics::Done::Expired), bench.comet("a").got("one")),
        (1, vec!["in time".into()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_again_changes_nothing_also_after_a_restart() {
    let mut bench = Bench::new(&["a"], false, Config::default());
    bench.comet("a").enter("one", None);
    let request = |digest| Some(Idempotency { key: "k".into(), digest: [digest; 32] });
    let first = bench.push_with(bench.route(&["one"]), "once", None, request(1)).await.unwrap();
    for round in 0..2 {
        let again = bench.push_with(bench.route(&["one"]), "once", None, request(1)).await.unwrap();
        assert_eq!(again, Accepted { repeated: true, ..first }, "round {round}");
        let other = bench.push_with(bench.route(&["one"]), "other", None, request(2)).await;
        assert_eq!(other, Err(PushError::Conflict));
        bench.idle().await;
        bench.restart().await;
    }
    bench.idle().await;
    assert_eq!(bench.comet("a").got("one"), ["once"]);
}

#[tokio::test(start_paused = true)]
async fn broadcasts_keep_to_the_speed_limit() {
    let config = Config { broadcast_speed: 100, return_within: Span::secs(60), ..Config::default() };
    let bench = Bench::new(&["a", "b", "c"], false, config);
    for (asked, expected) in [(0, [34, 33, 33]), (50, [17, 17, 16]), (1000, [34, 33, 33]), (2, [1, 1, 1])] {
        bench.push(Destination::All { speed: asked }, "all").await.unwrap();
        bench.idle().await;
        let got = ["a", "b", "c"].map(|name| bench.comet(name).last_speed());
        assert_eq!(got, expected, "{asked}");
    }
}

/// Whatever befalls job and answers: a client that stays connected gets each push once and in order, as long
/// as its comet lives.
#[tokio::test(start_paused = true)]
async fn once_and_in_order_whatever_befalls_the_job() {
    for seed in 0..60 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new(&["a", "b"], false, Config::default());
        bench.world.seed(seed);
        let names = ["k0", "k1", "k2", "k3"];
        for (n, name) in names.iter().enumerate() {
            let room = ["live://0", "live://1"][n / 2 % 2];
            bench.comet(["a", "b"][n % 2]).enter(name, Some(room));
        }
        let mut expected: Vec<Vec<String>> = vec![Vec::new(); names.len()];
        bench.world.trouble(20);
        for n in 0..dice.usize(20..150) {
            let body = n.to_string();
            match dice.u8(..20) {
                0 => bench.restart().await,
                1 => {
                    let name = ["a", "b"][dice.usize(..2)];
                    bench.comet(name).stop(true);
                    sleep(Duration::from_millis(dice.u64(..8000))).await;
                    bench.comet(name).stop(false);
                }
                2 => {
                    let (comet, room) =
                        (["a", "b"][dice.usize(..2)], ["live://0", "live://1"][dice.usize(..2)]);
                    bench.comet(comet).full_room(room, dice.bool());
                }
                3 => sleep(Duration::from_millis(dice.u64(..500))).await,
                4..10 => {
                    let room = dice.usize(..2);
                    bench.push(Bench::room(&format!("live://{room}")), &body).await.unwrap();
                    for member in [room * 2, room * 2 + 1] {
                        expected[member].push(body.clone());
                    }
                }
                _ => {
                    let who: Vec<usize> = (0..names.len()).filter(|_| dice.bool()).collect();
                    let to: Vec<&str> = who.iter().map(|at| names[*at]).collect();
                    bench.push_keys(&to, &body).await.unwrap();
                    for at in who {
                        expected[at].push(body.clone());
                    }
                }
            }
        }
        bench.world.trouble(0);
        for name in ["a", "b"] {
            for room in ["live://0", "live://1"] {
                bench.comet(name).full_room(room, false);
            }
        }
        bench.idle().await;
        for (n, name) in names.iter().enumerate() {
            let got = bench.comet(["a", "b"][n % 2]).got(name);
            let once: BTreeSet<&String> = got.iter().collect();
            assert_eq!(once.len(), got.len(), "seed {seed}: {name} got something twice: {got:?}");
            // Parked rooms pass others: the order is that of each key and of each room.
            let of = |room: bool, all: &[String]| -> Vec<String> {
                all.iter().filter(|body| bench.world.was_room(body) == room).cloned().collect()
            };
            for room in [false, true] {
                let stats = bench.job.as_ref().unwrap().shared.state().stats.done;
                assert_eq!(
                    of(room, &got),
                    of(room, &expected[n]),
                    "seed {seed}: {name}, room {room}: {stats:?}"
                );
            }
        }
    }
}

/// Whatever befalls comets and the job: a key that comes back in time misses nothing that was accepted for
/// it, and as long as the job lives gets it in order. (A job that starts anew sends what it finds in the log
/// to each comet by itself: what was meant for one that is dead comes later.)
#[tokio::test(start_paused = true)]
async fn keys_that_come_back_miss_nothing_whatever_befalls_comets() {
    for seed in 0..60 {
        let mut dice = fastrand::Rng::with_seed(1000 + seed);
        let mut bench = Bench::new(&["a", "b"], false, Config::default());
        bench.world.seed(seed);
        let names = ["k0", "k1", "k2", "k3"];
        for (n, name) in names.iter().enumerate() {
            bench.comet(["a", "b"][n % 2]).enter(name, None);
        }
        let mut expected: Vec<Vec<String>> = vec![Vec::new(); names.len()];
        bench.world.trouble(10);
        for n in 0..dice.usize(20..120) {
            let body = n.to_string();
            match dice.u8(..20) {
                0 if seed % 2 == 0 => bench.restart().await,
                1 | 2 => {
                    let (dead, other) = if dice.bool() { ("a", "b") } else { ("b", "a") };
                    bench.comet(dead).write(dice.bool());
                    let at = dice.usize(..names.len());
                    if let Ok(accepted) = bench.push_keys(&[names[at]], &body).await {
                        assert_eq!(accepted.routed, 1, "seed {seed}");
                        expected[at].push(body);
                    }
                    sleep(Duration::from_millis(dice.u64(..300))).await;
                    bench.comet(dead).die();
                    sleep(Duration::from_millis(dice.u64(..20_000))).await;
                    let home = if dice.bool() { other } else { dead };
                    let gone: Vec<&str> = names
                        .into_iter()
                        .filter(|name| bench.world.place(&key(name)) == Some(bench.comet(dead).name()))
                        .collect();
                    bench.comet(dead).live();
                    for name in gone {
                        bench.comet(home).enter(name, None);
                    }
                }
                3..6 => sleep(Duration::from_millis(dice.u64(..1000))).await,
                _ => {
                    let who: Vec<usize> = (0..names.len()).filter(|_| dice.bool()).collect();
                    let to: Vec<&str> = who.iter().map(|at| names[*at]).collect();
                    bench.push_keys(&to, &body).await.unwrap();
                    for at in who {
                        expected[at].push(body.clone());
                    }
                }
            }
        }
        bench.world.trouble(0);
        bench.idle().await;
        for (n, name) in names.iter().enumerate() {
            let got = bench.world.got(name);
            let mut first: Vec<String> = Vec::new();
            for body in &got {
                if !first.contains(body) {
                    first.push(body.clone());
                }
            }
            let stats = bench.job.as_ref().unwrap().shared.state().stats.done;
            let mut expected = expected[n].clone();
            if seed % 2 == 0 {
                first.sort();
                expected.sort();
            }
            assert_eq!(first, expected, "seed {seed}: {name} got {got:?}: {stats:?}");
        }
    }
}
