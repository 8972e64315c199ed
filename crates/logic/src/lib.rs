//! Logic: who is where, and may they; and the push API behind every surface.
//!
//! [`token`] reads goim's authentication JSON, [`session`] remembers who is connected (in memory, each
//! with a generation), and [`Logic`] puts both behind the contract of `anser_api::logic`.

mod config;
mod metrics;
mod session;
mod token;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anser_api::comet::{Away, Comet, Form, OnOverflow, Push, PushError, Target};
use anser_api::id::{Generation, Key, Position, Room, Session, UserId};
use anser_api::job::Accepted;
use anser_api::logic::{
    self, Audience, Connect, Connected, Directory, Node, NodeState, Online, Place, PushApi, Received,
    Refused, Renewal, Renewed, Restore,
};
use anser_api::{Answer, ready};
use prometheus_client::registry::Registry;
use uuid::Uuid;

pub use config::Config;
pub use metrics::{METRICS, Metric};
use session::Sessions;
use token::Token;

/// Logic with its sessions in memory, for one process.
pub struct Logic {
    shared: Arc<Shared>,
    comet: OnceLock<Arc<dyn Comet>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    config: Config,
    /// Longest name of a room, in bytes.
    room_name: usize,
    /// One short lock: a session comes or goes, or a push asks for a user's connections. Pushes to
    /// keys, rooms and everyone do not come here.
    sessions: Mutex<Sessions>,
    generation: AtomicU64,
}

impl Shared {
    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, request: &Connect) -> Result<Connected, Refused> {
        let token = Token::parse(&request.token).map_err(|cause| Refused::BadToken(token::told(&cause)))?;
        let key = if token.key.is_empty() {
            let mut buffer = Uuid::encode_buffer();
            Key::parse(Uuid::new_v4().hyphenated().encode_lower(&mut buffer), usize::MAX)?
        } else {
            Key::parse(&token.key, self.config.key)?
        };
        let room = match &token.room_id[..] {
            "" => None,
            name => Some(Room::parse(name, self.room_name)?),
        };
        if token.anser && room.as_ref().is_some_and(|room| !room.is_pushable()) {
            return Err(Refused::BadToken("room_id must be type://id, such as live://1".to_owned()));
        }
        let user = UserId::parse(token.mid);
        // Taken under the lock, so that the order of generations is the order in which sessions replace
        // each other.
        let mut sessions = self.sessions();
        let generation = Generation(self.generation.fetch_add(1, Ordering::Relaxed));
        let session = Session { key, generation };
        sessions.insert(session.clone(), user);
        drop(sessions);
        Ok(Connected {
            session,
            user,
            room,
            accepts: token.accepts,
            idle: self.config.heartbeat.0 * self.config.heartbeat_max,
            anser: token.anser,
            tell_dropped: token.dropped,
        })
    }

    /// The connections of some users, each once however often its user is named. The lock is taken for one
    /// user at a time, as workers wait for it.
    fn keys_of(&self, mut users: Vec<UserId>) -> Result<Vec<Key>, PushError> {
        let max = self.config.push_connections;
        users.sort_unstable();
        users.dedup();
        let mut keys = Vec::new();
        for user in users {
            keys.extend(self.sessions().keys_of(user).take(max + 1 - keys.len()));
            if keys.len() > max {
                return Err(PushError::TooMany { max });
            }
        }
        Ok(keys)
    }
}

impl Logic {
    /// `room_name` is the longest name of a room that the edge takes, in bytes.
    pub fn new(config: Config, room_name: usize) -> Self {
        let shared = Shared {
            config,
            room_name,
            sessions: Mutex::new(Sessions::new()),
            generation: AtomicU64::new(1),
        };
        Self { shared: Arc::new(shared), comet: OnceLock::new() }
    }

    /// Names the comet that pushes go to; only the first call counts.
    pub fn set_comet(&self, comet: Arc<dyn Comet>) {
        let _ = self.comet.set(comet);
    }

    /// Puts logic's metrics into a registry, under `anser_logic_`.
    pub fn register(&self, registry: &mut Registry) {
        metrics::register(Arc::downgrade(&self.shared), registry);
    }
}

impl anser_api::logic::Logic for Logic {
    fn connect(&self, request: Connect) -> Answer<'static, Result<Connected, Refused>> {
        ready(self.shared.connect(&request))
    }

    fn disconnect(&self, session: Session) -> Answer<'static, ()> {
        self.shared.sessions().remove(&session);
        ready(())
    }

    fn receive(&self, packet: Received) -> Answer<'static, ()> {
        tracing::debug!(key = %packet.session.key, op = packet.op, bytes = packet.body.len(), "received");
        ready(())
    }

    fn renew(&self, renewal: Renewal) -> Answer<'_, Result<Renewed, Away>> {
        todo!("{renewal:?}")
    }

    fn restore(&self, restore: Restore) -> Answer<'_, Result<(), Away>> {
        todo!("{restore:?}")
    }
}

impl PushApi for Logic {
    fn push(&self, push: logic::Push) -> Answer<'_, Result<Accepted, PushError>> {
        let logic::Push { to, op, body, expires, .. } = push;
        let target = match to {
            Audience::Keys(keys) => Target::Keys(keys),
            Audience::Users(users) => match self.shared.keys_of(users) {
                Ok(keys) => Target::Keys(keys),
                Err(cause) => return ready(Err(cause)),
            },
            Audience::Room(room) => Target::Room(room),
            Audience::All { speed } => Target::All { speed },
        };
        let Some(comet) = self.comet.get() else { return ready(Err(PushError::Draining)) };
        let answer = comet.push(Push {
            target,
            op,
            form: Form::Message,
            body,
            on_overflow: OnOverflow::Drop,
            expires,
        });
        Box::pin(async move {
            answer.await?;
            Ok(Accepted { position: Position(0), routed: 0, absent: 0, repeated: false })
        })
    }
}

impl Directory for Logic {
    fn locate(&self, keys: Vec<Key>) -> Answer<'_, Result<Vec<Place>, Away>> {
        todo!("{keys:?}")
    }

    fn online(&self) -> Answer<'_, Online> {
        ready(self.shared.sessions().online())
    }

    fn largest_rooms(&self, kind: String, limit: usize) -> Answer<'_, Vec<(Room, u32)>> {
        todo!("{kind} {limit}")
    }

    fn members(&self, rooms: Vec<Room>) -> Answer<'_, Vec<u32>> {
        todo!("{rooms:?}")
    }

    fn nodes(&self) -> Answer<'_, Vec<NodeState>> {
        todo!()
    }

    fn best_nodes(&self) -> Answer<'_, Vec<Node>> {
        todo!()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use anser_api::id::CometName;
    use anser_api::logic::Logic as _;

    use bytes::Bytes;

    use super::*;

    fn connect(logic: &Logic, token: &str) -> Result<Connected, Refused> {
        logic.shared.connect(&Connect {
            comet: CometName::parse("comet-1", 64).unwrap(),
            token: Bytes::copy_from_slice(token.as_bytes()),
            cookie: None,
            remote: Ipv4Addr::LOCALHOST.into(),
        })
    }

    #[test]
    fn a_client_without_a_key_gets_a_uuid() {
        let logic = Logic::new(Config::default(), 256);
        let connected = connect(&logic, r#"{"mid":7,"room_id":"live://1","accepts":[1000,1001]}"#).unwrap();
        assert_eq!(connected.session.key.as_str().len(), 36);
        assert_eq!(connected.user, Some(UserId(7)));
        assert_eq!(connected.room.unwrap().as_str(), "live://1");
        assert_eq!(connected.accepts, [1000, 1001]);
        assert_eq!(connected.idle, Duration::from_secs(480));
        assert_ne!(connect(&logic, "null").unwrap().session.key, connected.session.key);
    }

    #[tokio::test]
    async fn a_late_disconnect_keeps_the_newer_session() {
        let logic = Logic::new(Config::default(), 256);
        let old = connect(&logic, r#"{"mid":7,"key":"phone"}"#).unwrap().session;
        let new = connect(&logic, r#"{"mid":7,"key":"phone"}"#).unwrap().session;
        logic.disconnect(old).await;
        assert_eq!(logic.online().await, Online { connections: 1, users: 1, addresses: 0 });
        logic.disconnect(new).await;
        assert_eq!(logic.online().await, Online::default());
    }

    #[test]
    fn a_push_to_users_reaches_each_connection_once_and_not_too_many() {
        let logic = Logic::new(Config { push_connections: 3, ..Config::default() }, 256);
        for token in [r#"{"mid":7,"key":"a"}"#, r#"{"mid":7,"key":"b"}"#, r#"{"mid":8,"key":"c"}"#] {
            connect(&logic, token).unwrap();
        }
        let keys_of = |mids: &[i64]| {
            let keys = logic.shared.keys_of(mids.iter().copied().map(UserId).collect())?;
            Ok(keys.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(keys_of(&[8, 7, 8, 9, 7, 7]), Ok(vec!["b".into(), "a".into(), "c".into()]));
        connect(&logic, r#"{"mid":8,"key":"d"}"#).unwrap();
        assert_eq!(keys_of(&[8, 7]), Err(PushError::TooMany { max: 3 }));
        assert_eq!(keys_of(&[7]).unwrap().len(), 2);
    }

    #[test]
    fn rooms_that_no_push_could_name_are_for_goims_clients() {
        let logic = Logic::new(Config::default(), 256);
        for room in ["live", "live://", "://1"] {
            assert!(connect(&logic, &format!(r#"{{"room_id":"{room}"}}"#)).is_ok());
            let refused =
                connect(&logic, &format!(r#"{{"room_id":"{room}","proto":"anser/1"}}"#)).unwrap_err();
            assert_eq!(refused, Refused::BadToken("room_id must be type://id, such as live://1".to_owned()));
        }
        assert!(connect(&logic, r#"{"room_id":"live://1","proto":"anser/1"}"#).is_ok());
    }

    #[test]
    fn long_names_are_refused() {
        let logic = Logic::new(Config { key: 4, ..Config::default() }, 8);
        assert!(matches!(connect(&logic, r#"{"key":"12345"}"#), Err(Refused::TooLong(_))));
        assert!(matches!(connect(&logic, r#"{"room_id":"123456789"}"#), Err(Refused::TooLong(_))));
        assert!(connect(&logic, r#"{"key":"1234","room_id":"12345678"}"#).is_ok());
    }
}
