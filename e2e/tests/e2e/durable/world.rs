//! One data folder through several lives, each of which ends when the power goes, or only the process.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::thread::{self, JoinHandle};

use anser_e2e::{Client, Cluster, Cut, Ended, Life, Power, Report, When};
use fastrand::Rng;

use super::callers::{self, Caller, check_order, login};
use super::look::{Record, look};
use super::promises::{Answered, Promises, Push, To};
use super::{DEAF, KEYS};

/// Back ends that push at once.
const CALLERS: usize = 8;

/// Pushes of each in a life that is not cut.
const PUSHES: usize = 16;

/// Requests of earlier lives that are repeated at the start of a life.
const REPEATED: usize = 6;

/// Secrets of the data folder.
const SECRETS: [&str; 2] = ["push.key", "cluster.secret"];

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The power goes.
    Cut,
    /// Only the process goes.
    Kill,
}

/// A data folder with all that was promised about it.
pub(super) struct World {
    pub(super) power: Power,
    pub(super) promises: Promises,
    settings: Vec<&'static str>,
    rng: Rng,
    life: u32,
    /// What the log held when the last life was over.
    pub(super) records: Vec<Record>,
    /// The key that does not read has been there, and has not come back since.
    away: bool,
    secrets: Option<[String; 2]>,
    /// Whether there is a key that does not read, and is away in every second life.
    deafness: bool,
    /// How the last life ended.
    pub(super) ended: Option<Ended>,
    /// Bodies that were tried again in a later life: they have no place in the order of their caller.
    retried: HashSet<String>,
}

impl World {
    pub(super) fn new(power: Power, seed: u64) -> Self {
        let mut settings = vec![
            "store.segment_bytes=65536",
            "comet.workers=1",
            "comet.send_buffer=4096",
            "comet.queue=4096",
            "comet.queue_bytes=16777216",
        ];
        // Some keep everything, some only what is not done, some not more than they must.
        match seed % 3 {
            0 => {}
            1 => settings.push("store.retention=0ms"),
            _ => settings.push("store.retention_bytes=131072"),
        }
        Self {
            power,
            promises: Promises::new(!seed.is_multiple_of(3)),
            settings,
            rng: Rng::with_seed(seed),
            life: 0,
            records: Vec::new(),
            away: false,
            secrets: None,
            deafness: seed.is_multiple_of(2),
            ended: None,
            retried: HashSet::new(),
        }
    }

    /// A life with pushes, until one of the cuts comes about or all has been pushed.
    pub(super) fn live(&mut self, cuts: &[Cut], end: End) -> Result<Report, String> {
        self.life += 1;
        let mut life = self.power.start(Cluster::builder().set(&self.settings), cuts);
        let listening = match life.cluster() {
            Some(cluster) => self.work(cluster)?,
            None if cuts.is_empty() => return Err(format!("it does not start: {}", life.process().stderr())),
            None => Listening::default(),
        };
        if cuts.iter().any(|cut| cut.moment() == When::Fail) {
            // It has to end by itself.
            life.process().wait();
        }
        self.end(life, listening, end)
    }

    /// Whether a life removes segments that are done.
    pub(super) fn drops_segments(&self) -> bool {
        self.settings.contains(&"store.retention=0ms") && !self.deafness
    }

    /// With secrets that the disk cannot lose.
    pub(super) fn keep_secrets(self) -> Self {
        for file in SECRETS {
            let path = self.power.home().join(file);
            fs::write(&path, "a-secret-of-more-than-20-letters\n").expect("a temporary folder can be used");
            fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
        }
        self
    }

    /// All that happens while it is up.
    fn work(&mut self, cluster: &Cluster) -> Result<Listening, String> {
        self.promises.found(&self.records);
        self.check_secrets()?;
        let mut listening = Listening::default();
        listening.listen(cluster, KEYS);
        // It comes back in every second life.
        self.away = !self.away;
        let deaf = self.deafness && self.away && listening.deafen(cluster);
        self.repeat(cluster, deaf)?;
        let mut rng = self.rng.fork();
        let mut callers: Vec<Caller> =
            (0..CALLERS).map(|n| Caller::new(cluster, self.life, n, deaf, rng.fork())).collect();
        let plans: Vec<Vec<Push>> = callers.iter_mut().map(|caller| caller.plan(PUSHES)).collect();
        plans.iter().flatten().for_each(|push| self.promises.tried(push));
        self.push(&callers, plans.iter().map(|plan| &plan[..PUSHES / 2]))?;
        // With all done, positions move and old segments go.
        if self.life == 1 || !self.deafness {
            callers::settle(cluster);
        }
        self.push(&callers, plans.iter().map(|plan| &plan[PUSHES / 2..]))?;
        Ok(listening)
    }

    /// All callers push at once.
    fn push<'a>(
        &mut self,
        callers: &[Caller],
        plans: impl Iterator<Item = &'a [Push]>,
    ) -> Result<(), String> {
        let done: Vec<Vec<(Push, Answered)>> = thread::scope(|scope| {
            let both = callers.iter().zip(plans);
            let running: Vec<_> = both.map(|(caller, plan)| scope.spawn(move || caller.run(plan))).collect();
            running.into_iter().map(|thread| thread.join().expect("a caller goes on")).collect()
        });
        done.iter().flatten().try_for_each(|(push, answered)| self.promises.answered(push, *answered))
    }

    /// What back ends used before must be right after a start.
    fn check_secrets(&mut self) -> Result<(), String> {
        let read = |file| fs::read_to_string(self.power.home().join(file)).unwrap_or_default();
        let now = SECRETS.map(read);
        match self.secrets.replace(now.clone()) {
            Some(before) if before != now => Err("a secret has changed, and nobody said so".to_owned()),
            _ => Ok(()),
        }
    }

    /// Repeats requests of earlier lives. One whose push is there is answered by its position.
    fn repeat(&mut self, cluster: &Cluster, deaf: bool) -> Result<(), String> {
        let mut known = self.promises.repeatable(&self.records);
        // A push for whom is not there is for nobody.
        known.retain(|(push, position)| deaf || position.is_some() || push.to != To::Key(DEAF));
        self.rng.shuffle(&mut known);
        let caller = Caller::new(cluster, self.life, 0, false, self.rng.fork());
        for (push, position) in known.into_iter().take(REPEATED) {
            self.retried.insert(push.body.clone());
            let answered = caller.once(&push);
            match (answered, position) {
                (Answered::Unknown, _) => return Ok(()),
                (Answered::Taken(at, true), Some(position)) if at == position => {}
                (Answered::Taken(_, false), None) => {}
                // What is done may be removed as soon as it starts, and is forgotten then.
                (Answered::Taken(_, false), Some(position))
                    if self.promises.may_be_gone(position, &push.body) => {}
                _ => {
                    let key = push.key.unwrap_or_default();
                    return Err(format!("{key}, at {position:?}, is answered {answered:?} the second time"));
                }
            }
            self.promises.answered(&push, answered)?;
        }
        Ok(())
    }

    /// The end of a life, and what is to be seen of it.
    fn end(&mut self, mut life: Life, listening: Listening, end: End) -> Result<Report, String> {
        life.kill();
        self.ended = Some(life.process().wait());
        for (key, bodies) in listening.all() {
            let in_order: Vec<String> =
                bodies.iter().filter(|body| !self.retried.contains(*body)).cloned().collect();
            check_order(key, &in_order, |body| self.promises.to(body))?;
            self.promises.delivered(bodies);
        }
        let left = look(&self.power.home())?;
        self.promises.killed(&left)?;
        let report = match end {
            End::Cut => self.power.cut(life),
            End::Kill => self.power.survive(life),
        };
        self.records = look(&self.power.home())?;
        self.promises.check(&self.records).map_err(|lost| format!("{lost}: {report}"))?;
        Ok(report)
    }

    /// A last life, in which all keys come back and get what they have not got.
    pub(super) fn come_back(&mut self) -> Result<(), String> {
        self.life += 1;
        let life = self.power.start(Cluster::builder().set(&self.settings), &[]);
        let Some(cluster) = life.cluster() else { return Err("it does not start".to_owned()) };
        self.promises.found(&self.records);
        self.check_secrets()?;
        let keys = KEYS.iter().copied().chain([DEAF]);
        let clients: Vec<_> = keys.map(|key| Some((key, login(cluster, key)?))).collect();
        self.repeat(cluster, true)?;
        for client in clients {
            let Some((key, mut client)) = client else { return Err("it is gone".to_owned()) };
            let mut missing = self.promises.pending(key);
            while !missing.is_empty() {
                let body = String::from_utf8(client.packet().body).expect("tests push texts");
                self.promises.delivered([body.clone()]);
                // Of those that it has to get, the first that has not come yet.
                match missing.iter().position(|missing| *missing == body) {
                    Some(0) => drop(missing.remove(0)),
                    Some(_) => return Err(format!("{key} misses {}", super::promises::name(&missing[0]))),
                    None => {}
                }
            }
        }
        self.end(life, Listening::default(), End::Cut).map(drop)
    }
}

/// The clients of a life.
#[derive(Default)]
struct Listening {
    reading: Vec<(&'static str, JoinHandle<Vec<u8>>)>,
    deaf: Option<Client>,
}

impl Listening {
    /// Keys that read all that comes.
    fn listen(&mut self, cluster: &Cluster, keys: &[&'static str]) {
        for key in keys {
            if let Some(mut client) = login(cluster, key) {
                self.reading.push((key, thread::spawn(move || client.rest())));
            }
        }
    }

    /// A key that reads nothing before the end. Whether it is there.
    fn deafen(&mut self, cluster: &Cluster) -> bool {
        self.deaf = login(cluster, DEAF);
        self.deaf.is_some()
    }

    /// What each has got. The server is gone.
    fn all(self) -> Vec<(&'static str, Vec<String>)> {
        let reading = self.reading.into_iter();
        let read = |thread: JoinHandle<Vec<u8>>| thread.join().expect("a reader goes on");
        let mut all: Vec<_> = reading.map(|(key, thread)| (key, callers::pushes(&read(thread)))).collect();
        all.extend(self.deaf.map(|mut client| (DEAF, callers::pushes(&client.rest()))));
        all
    }
}

impl Promises {
    /// For whom a push is.
    fn to(&self, body: &str) -> Option<To> {
        self.push(body).map(|push| push.to.clone())
    }
}
