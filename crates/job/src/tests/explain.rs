//! What became of pushes, as operators ask.

use anser_api::comet::Unwritten;
use anser_api::id::{CometName, UserId};
use anser_api::job::{Account, Addressed, Ended, Explanation, Progress, Share, Subject};
use anser_api::logic::Place;

use super::*;

impl Bench {
    async fn explain(&self, position: Position, subject: Subject) -> Explanation {
        self.job.as_ref().unwrap().explain(position, subject).await.unwrap()
    }

    async fn account(&self, position: Position, subject: Subject) -> Account {
        match self.explain(position, subject).await {
            Explanation::Kept(account) => *account,
            other => panic!("{other:?}"),
        }
    }

    /// The only share of a key.
    async fn share(&self, position: Position, name: &str) -> Share {
        let mut shares = self.account(position, Subject::Key(key(name))).await.shares;
        assert_eq!(shares.len(), 1, "{shares:?}");
        shares.remove(0)
    }

    async fn opened(&self) {
        becomes(true, || self.job.as_ref().unwrap().shared.state().lanes.iter().all(Lane::is_open)).await;
    }
}

fn comet(name: &str) -> CometName {
    CometName::parse(name, 64).unwrap()
}

#[tokio::test(start_paused = true)]
async fn numbers_without_a_message() {
    let bench = Bench::new(&["a"], false, Config::default());
    let subject = || Subject::Key(key("one"));
    let next = Position(bench.log.end_now());
    assert_eq!(bench.explain(Position(99), subject()).await, Explanation::NotGiven { next });
    bench.push_keys(&["one"], "first").await.unwrap();
    let accepted = bench.push_keys(&["one"], "second").await.unwrap();
    let first = Some(Position(0));
    let between = Position(accepted.position.0 - 1);
    assert_eq!(bench.explain(between, subject()).await, Explanation::NotKept { first });
    assert!(matches!(bench.explain(accepted.position, subject()).await, Explanation::Kept(_)));
}

#[tokio::test(start_paused = true)]
async fn a_push_to_keys() {
    let bench = Bench::new(&["a", "b"], false, Config::default());
    bench.comet("a").enter("one", None);
    bench.comet("b").enter("two", None);
    bench.opened().await;
    let before = SystemTime::now() - Duration::from_millis(1);
    let accepted = bench.push_keys(&["one", "two", "three"], "hello").await.unwrap();
    bench.idle().await;
    let account = bench.account(accepted.position, Subject::Key(key("one"))).await;
    assert!(account.named && account.accepted >= before && account.since <= SystemTime::now());
    assert_eq!((account.op, account.bytes), (1000, 5));
    assert_eq!(account.to, Addressed::Keys { connected: 2, absent: 1 });
    assert_eq!(account.now, [(key("one"), Place::At(comet("a")))]);
    let share = &account.shares[0];
    assert_eq!((&share.comet, share.progress, share.resent), (&comet("a"), Progress::Done, false));
    let said = share.said.as_ref().unwrap();
    assert!(said.notes.is_empty() && said.present[0].key == key("one"));
    // One who was not there, one whom it does not name, and a room, which it does not name either.
    let account = bench.account(accepted.position, Subject::Key(key("three"))).await;
    assert!(account.named && account.shares.is_empty() && account.absent == [key("three")]);
    let account = bench.account(accepted.position, Subject::Key(key("four"))).await;
    assert!(!account.named && account.shares.is_empty() && account.absent.is_empty());
    let room = Subject::Room(Room::parse("live://1", 64).unwrap());
    assert!(!bench.account(accepted.position, room).await.named);
    // A key that left before its push came, and is nowhere else.
    let stale = bench.route(&["one"]);
    bench.comet("a").leave("one");
    let accepted = bench.push(stale, "late").await.unwrap();
    bench.idle().await;
    let share = bench.share(accepted.position, "one").await;
    assert_eq!(share.said.unwrap().notes[0].why, Unwritten::Absent);
}

#[tokio::test(start_paused = true)]
async fn a_push_to_users() {
    let bench = Bench::new(&["a"], false, Config::default());
    bench.comet("a").enter("one", None);
    bench.comet("a").enter("two", None);
    bench.opened().await;
    let to = |users: &[i64]| match bench.route(&["one", "two"]) {
        Destination::Keys { routes, absent, .. } => {
            Destination::Keys { routes, absent, users: users.iter().copied().map(UserId).collect() }
        }
        other => other,
    };
    let subject = |user| Subject::User { user: UserId(user), keys: vec![key("two")] };
    // Of one user all connections are the user's, of several those that are now.
    for (users, expected) in [(vec![7], 2), (vec![7, 8], 1)] {
        let accepted = bench.push(to(&users), "hello").await.unwrap();
        bench.idle().await;
        let account = bench.account(accepted.position, subject(7)).await;
        assert!(account.named);
        assert_eq!(account.shares.len(), expected);
        assert_eq!(account.to, Addressed::Users { users: users.len() as u64, connected: 2 });
    }
    let accepted = bench.push(to(&[8]), "hello").await.unwrap();
    let nobody = Subject::User { user: UserId(9), keys: vec![] };
    assert!(!bench.account(accepted.position, nobody).await.named);
}

#[tokio::test(start_paused = true)]
async fn a_push_to_a_room() {
    let bench = Bench::new(&["a", "b"], false, Config::default());
    bench.comet("a").enter("one", Some("live://1"));
    bench.comet("b").enter("two", Some("live://2"));
    bench.opened().await;
    bench.comet("a").full_room("live://1", true);
    let accepted = bench.push(Bench::room("live://1"), "hello").await.unwrap();
    sleep(Duration::from_millis(5)).await;
    // Each comet is asked, and those tell of a key that know it.
    let share = bench.share(accepted.position, "one").await;
    assert_eq!(share.comet, comet("a"));
    assert!(matches!(share.progress, Progress::Parked { .. }), "{share:?}");
    bench.comet("a").full_room("live://1", false);
    bench.idle().await;
    assert_eq!(bench.share(accepted.position, "one").await.progress, Progress::Done);
    assert_eq!(bench.share(accepted.position, "two").await.comet, comet("b"));
    let room = |name| Subject::Room(Room::parse(name, 64).unwrap());
    let account = bench.account(accepted.position, room("live://1")).await;
    let shares: Vec<_> = account.shares.iter().map(|share| (share.key.is_none(), &share.comet)).collect();
    assert_eq!(shares, [(true, &comet("a")), (true, &comet("b"))]);
    assert!(!bench.account(accepted.position, room("live://2")).await.named);
    let accepted = bench.push(Destination::All { speed: 0 }, "all").await.unwrap();
    assert_eq!(bench.account(accepted.position, room("live://2")).await.shares.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_says_why() {
    let bench = Bench::new(&["a"], false, Config::default());
    bench.comet("a").enter("one", None);
    bench.opened().await;
    // The comet has no place.
    bench.comet("a").full(true);
    let accepted = bench.push_keys(&["one"], "full").await.unwrap();
    sleep(Duration::from_millis(5)).await;
    let progress = bench.share(accepted.position, "one").await.progress;
    assert!(matches!(progress, Progress::Paused { .. }), "{progress:?}");
    bench.comet("a").full(false);
    bench.idle().await;
    // It takes, and does not write.
    bench.comet("a").write(false);
    let taken = bench.push_keys(&["one"], "taken").await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.share(taken.position, "one").await.progress, Progress::Taken);
    // It dies: keys are waited for, rooms are not.
    bench.comet("a").die();
    sleep(Duration::from_secs(1)).await;
    let share = bench.share(taken.position, "one").await;
    let Progress::Returning { until } = share.progress else { panic!("{share:?}") };
    assert!(until > SystemTime::now() && until <= SystemTime::now() + Config::default().return_within.0);
    assert!(share.said.is_err(), "it is dead");
    let room = bench.push(Bench::room("live://1"), "room").await.unwrap();
    let subject = || Subject::Room(Room::parse("live://1", 64).unwrap());
    let away = bench.account(room.position, subject()).await.shares.remove(0);
    assert!(matches!(away.progress, Progress::CometAway { .. }), "{away:?}");
    // It comes back, without the key.
    bench.comet("a").live();
    bench.idle().await;
    let ended = bench.share(taken.position, "one").await.progress;
    assert!(matches!(ended, Progress::Ended { why: Ended::NotBack, .. }), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn what_follows_its_key_is_told_with_both_comets() {
    let bench = Bench::new(&["a", "b"], false, Config::default());
    bench.comet("a").enter("one", None);
    bench.opened().await;
    let stale = bench.route(&["one"]);
    bench.comet("a").leave("one");
    bench.comet("b").enter("one", None);
    let accepted = bench.push(stale, "moved").await.unwrap();
    bench.idle().await;
    let shares = bench.account(accepted.position, Subject::Key(key("one"))).await.shares;
    let told: Vec<_> = shares.iter().map(|share| (&share.comet, share.followed, share.resent)).collect();
    assert_eq!(told, [(&comet("a"), false, false), (&comet("b"), true, false)]);
    // A comet that dies with a push, whose key comes to another one.
    bench.comet("b").write(false);
    let accepted = bench.push_keys(&["one"], "twice").await.unwrap();
    sleep(Duration::from_millis(300)).await;
    bench.comet("b").die();
    sleep(Duration::from_secs(1)).await;
    bench.comet("a").enter("one", None);
    bench.comet("b").live();
    bench.idle().await;
    let shares = bench.account(accepted.position, Subject::Key(key("one"))).await.shares;
    let told: Vec<_> = shares.iter().map(|share| (&share.comet, share.followed, share.resent)).collect();
    assert_eq!(told, [(&comet("b"), false, false), (&comet("a"), true, true)]);
}

#[tokio::test(start_paused = true)]
async fn what_expired_on_its_way() {
    let bench = Bench::new(&["a"], false, Config::default());
    bench.comet("a").enter("one", None);
    bench.opened().await;
    bench.comet("a").full(true);
    let soon = SystemTime::now();
    let accepted = bench.push_with(bench.route(&["one"]), "late", Some(soon), None).await.unwrap();
    bench.idle().await;
    let progress = bench.share(accepted.position, "one").await.progress;
    assert!(matches!(progress, Progress::Ended { why: Ended::Expired, .. }), "{progress:?}");
}

/// A comet that does not answer holds up nobody for long.
#[tokio::test(start_paused = true)]
async fn a_comet_that_hangs() {
    let bench = Bench::new(&["a"], false, Config::default());
    bench.comet("a").enter("one", None);
    bench.opened().await;
    let accepted = bench.push_keys(&["one"], "hello").await.unwrap();
    bench.idle().await;
    bench.comet("a").stop(true);
    let began = Instant::now();
    let said = bench.share(accepted.position, "one").await.said.unwrap_err();
    assert_eq!(said.0, "it does not answer");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    bench.comet("a").stop(false);
}

/// Comets are told who is traced; those that cannot be are named.
#[tokio::test(start_paused = true)]
async fn traces_go_to_all_comets() {
    let bench = Bench::new(&["a", "b"], false, Config::default());
    let traces = Traces { revision: 5, list: vec![] };
    let job = bench.job.as_ref().unwrap();
    assert_eq!(job.trace(traces.clone()).await.unwrap(), []);
    bench.comet("b").die();
    let later = Traces { revision: 6, ..traces };
    assert_eq!(job.trace(later).await.unwrap(), [comet("b")]);
    assert_eq!((bench.comet("a").traced(), bench.comet("b").traced()), (6, 0));
}
