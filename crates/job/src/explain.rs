//! What became of a push: the log says what it was, the lanes how far it is, the comets what they did not
//! write.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anser_api::comet::{Away, Comet, Inquiry, Target, Testimony};
use anser_api::id::{CometName, Key, LogId, Position, Room, UserId};
use anser_api::job::{Account, Addressed, Destination, Explanation, Progress, Push, Share, Subject};
use anser_store::ReadError;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout};

use crate::Shared;
use crate::record::{self, Logged};
use crate::remarks::{Remark, What};
use crate::state::State;

/// Most connections of a user that are told of.
const MOST: usize = 100;

/// How long a comet may take to say what it knows. They are asked at once, within the deadline of calls
/// between processes.
const CALL: Duration = Duration::from_secs(3);

/// What was found at a position.
enum Found {
    NotGiven(Position),
    NotKept(Option<Position>),
    Record(Logged),
}

/// Whom of a push the question is about.
struct Concerned {
    named: bool,
    absent: Vec<Key>,
    /// Keys, each with the comet that it was on, if the log has it.
    routes: Vec<(Key, Option<CometName>)>,
    /// The whole room is asked for.
    room: bool,
    more: u64,
}

impl Shared {
    pub(crate) async fn explain(
        self: &Arc<Self>,
        position: Position,
        subject: Subject,
    ) -> Result<Explanation, Away> {
        let shared = self.clone();
        let found = spawn_blocking(move || shared.find(position)).await;
        let found = found.map_err(|_| Away("the job is ending".to_owned()))?;
        let found = found.map_err(|cause| Away(format!("the push log cannot be read: {cause}")))?;
        Ok(match found {
            Found::NotGiven(next) => Explanation::NotGiven { next },
            Found::NotKept(first) => Explanation::NotKept { first },
            Found::Record(logged) => {
                Explanation::Kept(Box::new(self.account(position, logged, subject).await))
            }
        })
    }

    fn find(&self, position: Position) -> Result<Found, ReadError> {
        let mut next = 0;
        self.log.end(&mut |end| next = end);
        if position.0 >= next {
            return Ok(Found::NotGiven(Position(next)));
        }
        if let Some(logged) = self.log.get(position.0)?.and_then(record::decode) {
            return Ok(Found::Record(logged));
        }
        let first = self.log.read(0, 1)?.records.first().map(|(first, _)| Position(*first));
        Ok(Found::NotKept(first))
    }

    async fn account(&self, position: Position, logged: Logged, subject: Subject) -> Account {
        let Logged { accepted, push } = logged;
        let concerned = concerned(&push.to, &subject);
        let room = match &push.to {
            Destination::Room(room) => Some(room.clone()),
            _ => None,
        };
        let keys: Vec<Key> = match subject {
            Subject::Key(key) => vec![key],
            Subject::User { mut keys, .. } => {
                keys.extend(concerned.routes.iter().map(|(key, _)| key.clone()));
                keys.into_iter().collect::<BTreeSet<_>>().into_iter().take(MOST).collect()
            }
            Subject::Room(_) => Vec::new(),
        };
        let open = matches!(push.to, Destination::Room(_) | Destination::All { .. });
        let (mut shares, since) = {
            let state = self.state();
            (state.shares_of(position, &concerned, open), state.remarks.since)
        };
        self.ask_comets(position, push.op, room.as_ref(), &mut shares).await;
        if open {
            // A comet that knows nothing of a key need not be named.
            shares.retain(|share| share.key.is_none() || concerns(share));
        }
        let now = match timeout(CALL, self.directory.locate(keys.clone())).await {
            Ok(Ok(places)) => keys.into_iter().zip(places).collect(),
            _ => Vec::new(),
        };
        Account {
            accepted,
            op: push.op,
            bytes: push.body.len() as u64,
            expires: push.expires,
            to: addressed(&push),
            named: concerned.named,
            absent: concerned.absent,
            shares,
            more: concerned.more,
            since,
            now,
        }
    }

    /// Each comet is asked once for all that is to be known of it.
    async fn ask_comets(&self, position: Position, op: i32, room: Option<&Room>, shares: &mut [Share]) {
        let log = LogId(self.log.id());
        let comets: Vec<(CometName, Arc<dyn Comet>)> =
            self.state().lanes.iter().map(|lane| (lane.name.clone(), lane.comet.clone())).collect();
        let mut answers = JoinSet::new();
        for (name, comet) in comets {
            let own: Vec<&Share> = shares.iter().filter(|share| share.comet == name).collect();
            if own.is_empty() {
                continue;
            }
            let keys = own.iter().filter_map(|share| share.key.clone()).collect();
            let inquiry = Inquiry { log, position, op, room: room.cloned(), keys };
            answers.spawn(async move {
                let late = |_| Err(Away("it does not answer".to_owned()));
                (name, timeout(CALL, comet.explain(inquiry)).await.unwrap_or_else(late))
            });
        }
        while let Some(answer) = answers.join_next().await {
            let Ok((name, said)) = answer else { continue };
            for share in shares.iter_mut().filter(|share| share.comet == name) {
                share.said = said.clone().map(|said| part(said, share.key.as_ref()));
            }
        }
    }
}

/// What of an answer is about one key.
fn part(mut said: Testimony, key: Option<&Key>) -> Testimony {
    if let Some(key) = key {
        said.notes.retain(|note| note.key.as_ref().is_none_or(|own| own == key));
        said.present.retain(|present| present.key == *key);
    }
    said
}

/// Whether a comet has to do with the key of a share.
fn concerns(share: &Share) -> bool {
    share
        .said
        .as_ref()
        .map_or(true, |said| !said.present.is_empty() || said.notes.iter().any(|note| note.key.is_some()))
}

fn addressed(push: &Push) -> Addressed {
    match &push.to {
        Destination::Keys { routes, absent, users } if users.is_empty() => {
            Addressed::Keys { connected: routes.len() as u64, absent: absent.len() as u64 }
        }
        Destination::Keys { routes, users, .. } => {
            Addressed::Users { users: users.len() as u64, connected: routes.len() as u64 }
        }
        Destination::Room(room) => Addressed::Room(room.clone()),
        Destination::All { .. } => Addressed::All,
    }
}

/// Which of a push's receivers are the subject's.
fn concerned(to: &Destination, subject: &Subject) -> Concerned {
    let mut concerned = match (to, subject) {
        (Destination::Keys { routes, absent, users }, _) => {
            let is_own = |key: &Key| match subject {
                Subject::Key(own) => own == key,
                Subject::User { user, keys } => is_only(users, *user) || keys.contains(key),
                Subject::Room(_) => false,
            };
            let own = routes.iter().filter(|route| is_own(&route.key));
            let routes: Vec<_> = own.map(|route| (route.key.clone(), Some(route.comet.clone()))).collect();
            let absent: Vec<Key> = absent.iter().filter(|key| is_own(key)).cloned().collect();
            let by_user = matches!(subject, Subject::User { user, .. } if users.contains(user));
            let named = by_user || !routes.is_empty() || !absent.is_empty();
            Concerned { named, absent, routes, room: false, more: 0 }
        }
        (Destination::Room(room), Subject::Room(own)) => Concerned::open(room == own, Vec::new()),
        (Destination::All { .. }, Subject::Room(_)) => Concerned::open(true, Vec::new()),
        (_, Subject::Key(key)) => Concerned::open(true, vec![key.clone()]),
        (_, Subject::User { keys, .. }) => Concerned::open(true, keys.clone()),
    };
    concerned.more = concerned.routes.len().saturating_sub(MOST) as u64;
    concerned.routes.truncate(MOST);
    concerned.absent.truncate(MOST);
    concerned.room = matches!(subject, Subject::Room(_)) && concerned.named;
    concerned
}

impl Concerned {
    /// A push to whoever is there.
    fn open(named: bool, keys: Vec<Key>) -> Self {
        let routes = keys.into_iter().map(|key| (key, None)).collect();
        Self { named, absent: Vec::new(), routes, room: false, more: 0 }
    }
}

/// Whether all connections of a push are this user's. Of several users the log does not say which is whose.
fn is_only(users: &[UserId], user: UserId) -> bool {
    matches!(users, [only] if *only == user)
}

impl State {
    /// What the job knows of the shares of a push; what comets know is asked later.
    fn shares_of(&self, position: Position, concerned: &Concerned, open: bool) -> Vec<Share> {
        let mut shares = Vec::new();
        if concerned.room {
            for lane in &self.lanes {
                shares.push(self.share(position, None, &lane.name, true));
            }
        }
        for (key, comet) in &concerned.routes {
            let mut comets: Vec<&CometName> = match comet {
                Some(comet) => vec![comet],
                None if open => self.lanes.iter().map(|lane| &lane.name).collect(),
                None => Vec::new(),
            };
            for remark in self.remarks.of(position).filter(|remark| remark.key.as_ref() == Some(key)) {
                if let (What::Followed | What::Resent, Some(comet)) = (remark.what, &remark.comet)
                    && !comets.contains(&comet)
                {
                    comets.push(comet);
                }
            }
            let last = comets.len();
            for (n, comet) in comets.into_iter().enumerate() {
                shares.push(self.share(position, Some(key), comet, n + 1 == last));
            }
        }
        shares
    }

    /// How far a push is on its way to one comet. What waits for its key to come back belongs to the last
    /// comet that the push was sent to.
    fn share(&self, position: Position, key: Option<&Key>, comet: &CometName, last: bool) -> Share {
        let about = |remark: &&Remark| match (&remark.key, key) {
            // Of all on that comet.
            (None, _) => remark.comet.as_ref() == Some(comet),
            (Some(own), Some(key)) => own == key && remark.comet.as_ref().map_or(last, |own| own == comet),
            (Some(_), None) => false,
        };
        let remarks: Vec<&Remark> = self.remarks.of(position).filter(about).collect();
        let has = |what| remarks.iter().any(|remark| remark.what == what);
        let ended = remarks.iter().rev().find_map(|remark| match remark.what {
            What::Ended(why) => Some(Progress::Ended { why, at: remark.at }),
            What::Followed | What::Resent => None,
        });
        let lane = self.lanes.iter().find(|lane| lane.name == *comet);
        let progress = lane
            .and_then(|lane| lane.progress(position, key))
            .or_else(|| self.returning.until(position, key?).filter(|_| last).map(returning))
            .or(ended)
            .unwrap_or(Progress::Done);
        let (followed, resent) = (has(What::Followed) || has(What::Resent), has(What::Resent));
        let said = Err(Away("it is none of this job's".to_owned()));
        Share { key: key.cloned(), comet: comet.clone(), progress, followed, resent, said }
    }
}

fn returning(until: Instant) -> Progress {
    Progress::Returning { until: from_now(until) }
}

/// The time of day of a moment to come.
pub(crate) fn from_now(until: Instant) -> SystemTime {
    SystemTime::now() + until.saturating_duration_since(Instant::now())
}

/// The time of day of a moment that has been.
pub(crate) fn ago(since: Instant) -> SystemTime {
    SystemTime::now() - since.elapsed()
}

/// Whether an item of a lane is for a key; a room's and everyone's may be for any.
pub(crate) fn is_for(to: &Target, key: Option<&Key>) -> bool {
    match (to, key) {
        (Target::Keys(keys), Some(key)) => keys.contains(key),
        _ => true,
    }
}
