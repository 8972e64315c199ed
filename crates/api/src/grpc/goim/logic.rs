//! `goim.logic.Logic`, over logic and its directory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tonic::{Request, Response, Status, async_trait};
use tracing::warn;

use super::sessions::{Full, Sessions};
use crate::grpc::NAME;
use crate::grpc::generated::goim::logic as message;
use crate::grpc::generated::goim::logic::logic_server;
use crate::id::{CometName, Generation, Incarnation, Key, Room, Session, UserId};
use crate::logic::{Advice, Connect, Directory, Logic, Node, Received, Renewal, Restore};

/// Most comets of goim that one logic serves.
const COMETS: usize = 1024;

/// Most sessions on them. Each costs about 250 bytes, its key included.
const SESSIONS: usize = 4_000_000;

/// Sessions that go back to logic in one call.
const RESTORED: usize = 1000;

/// goim's comets do not tell their lives apart, so all have the same.
const LIFE: Incarnation = Incarnation(0);

/// The service.
pub(in crate::grpc) struct LogicService {
    logic: Arc<dyn Logic>,
    directory: Arc<dyn Directory>,
    advice: Advice,
    /// Locked for single look-ups, and never over a call.
    sessions: Mutex<Sessions>,
}

impl LogicService {
    pub(in crate::grpc) fn new(logic: Arc<dyn Logic>, directory: Arc<dyn Directory>, advice: Advice) -> Self {
        Self { logic, directory, advice, sessions: Mutex::new(Sessions::new(COMETS, SESSIONS)) }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The comet that calls.
    fn caller(&self, server: &str) -> Result<CometName, Status> {
        if server.is_empty() {
            return Err(Status::invalid_argument("`server` is empty: it is the name of the comet"));
        }
        let comet = CometName::parse(server, NAME).map_err(|cause| unknown(&cause))?;
        let heard = self.sessions().hear(&comet, Instant::now());
        heard.map_err(|Full| Status::resource_exhausted(format!("there are {COMETS} comets already")))?;
        Ok(comet)
    }

    /// Tells logic the sessions of a comet, as that cannot do it.
    async fn restore(&self, comet: &CometName) {
        let sessions = self.sessions().all(comet);
        let mut parts = sessions.chunks(RESTORED).peekable();
        loop {
            let part = parts.next().unwrap_or_default().to_vec();
            let last = parts.peek().is_none();
            let restore = Restore { comet: comet.clone(), incarnation: LIFE, sessions: part, last };
            if let Err(away) = self.logic.restore(restore).await {
                // It will ask again.
                warn!(comet = %comet, error = %away, "logic was not told the sessions of a comet of goim");
                return;
            }
            if last {
                return;
            }
        }
    }
}

fn unknown(cause: &impl ToString) -> Status {
    Status::unknown(cause.to_string())
}

#[async_trait]
impl logic_server::Logic for LogicService {
    async fn connect(
        &self,
        request: Request<message::ConnectReq>,
    ) -> Result<Response<message::ConnectReply>, Status> {
        let message::ConnectReq { server, cookie, token } = request.into_inner();
        let comet = self.caller(&server)?;
        if !self.sessions().has_room(Instant::now()) {
            return Err(Status::resource_exhausted(format!("there are {SESSIONS} sessions already")));
        }
        let cookie = (!cookie.is_empty()).then_some(cookie);
        // goim's contract does not say where the client comes from.
        let remote = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let connect = Connect { comet: comet.clone(), token, cookie, remote };
        let connected = self.logic.connect(connect).await.map_err(|cause| unknown(&cause))?;
        let over = self.sessions().begin(&comet, &connected.session, connected.user);
        if let Some(session) = over {
            self.logic.disconnect(session).await;
        }
        Ok(Response::new(message::ConnectReply {
            mid: connected.user.map_or(0, |user| user.0),
            key: connected.session.key.to_string(),
            room_id: connected.room.map(|room| room.to_string()).unwrap_or_default(),
            accepts: connected.accepts,
            heartbeat: i64::try_from(connected.idle.as_nanos()).unwrap_or(i64::MAX),
        }))
    }

    async fn disconnect(
        &self,
        request: Request<message::DisconnectReq>,
    ) -> Result<Response<message::DisconnectReply>, Status> {
        let message::DisconnectReq { mid: _, key, server } = request.into_inner();
        let comet = self.caller(&server)?;
        let key = Key::parse(&key, NAME).map_err(|cause| unknown(&cause))?;
        let session = self.sessions().end(&comet, key);
        let has = session.is_some();
        if let Some(session) = session {
            self.logic.disconnect(session).await;
        }
        Ok(Response::new(message::DisconnectReply { has }))
    }

    /// In goim it prolongs the session in Redis. Here a session lasts until its end, or its comet's.
    async fn heartbeat(
        &self,
        request: Request<message::HeartbeatReq>,
    ) -> Result<Response<message::HeartbeatReply>, Status> {
        self.caller(&request.into_inner().server)?;
        Ok(Response::new(message::HeartbeatReply {}))
    }

    async fn renew_online(
        &self,
        request: Request<message::OnlineReq>,
    ) -> Result<Response<message::OnlineReply>, Status> {
        let message::OnlineReq { server, room_count } = request.into_inner();
        let comet = self.caller(&server)?;
        let count = |(name, members): (&String, &i32)| {
            Some((Room::parse(name, NAME).ok()?, u32::try_from(*members).unwrap_or(0)))
        };
        let rooms: Vec<(Room, u32)> = room_count.iter().filter_map(count).collect();
        // Where clients and roles reach it is known to goim's discovery only, so none is sent there.
        let node = Node {
            comet: comet.clone(),
            addresses: Vec::new(),
            region: String::new(),
            zone: String::new(),
            weight: 0,
            offline: true,
            grpc: String::new(),
        };
        let connections = self.sessions().count(&comet) as u64;
        let renewal = Renewal { node, incarnation: LIFE, connections, addresses: 0, rooms: rooms.clone() };
        let renewed = self.logic.renew(renewal).await.map_err(|cause| unknown(&cause))?;
        if renewed.restore {
            self.restore(&comet).await;
        }
        let elsewhere: HashMap<Room, u32> = renewed.elsewhere.into_iter().collect();
        let everywhere = rooms.into_iter().map(|(room, members)| {
            let members = members.saturating_add(elsewhere.get(&room).copied().unwrap_or(0));
            (room.to_string(), i32::try_from(members).unwrap_or(i32::MAX))
        });
        Ok(Response::new(message::OnlineReply { all_room_count: everywhere.collect() }))
    }

    async fn receive(
        &self,
        request: Request<message::ReceiveReq>,
    ) -> Result<Response<message::ReceiveReply>, Status> {
        let message::ReceiveReq { mid, proto } = request.into_inner();
        let proto = proto.unwrap_or_default();
        // goim says who sent it, and not on which connection.
        let key = Key::parse("", NAME).map_err(|cause| unknown(&cause))?;
        let session = Session { key, generation: Generation(0) };
        let user = UserId::parse(mid);
        let packet = Received { session, user, op: proto.op, seq: proto.seq, body: proto.body };
        self.logic.receive(packet).await;
        Ok(Response::new(message::ReceiveReply {}))
    }

    async fn nodes(
        &self,
        request: Request<message::NodesReq>,
    ) -> Result<Response<message::NodesReply>, Status> {
        let web = request.into_inner().platform == "web";
        let best = self.directory.best_nodes().await;
        let Advice { domain, host_domain, tcp_port, ws_port, wss_port, heartbeat, heartbeat_max, backoff } =
            &self.advice;
        let mut nodes: Vec<String> = if web {
            best.iter().map(|node| format!("{}{host_domain}", node.comet)).collect()
        } else {
            best.into_iter().flat_map(|node| node.addresses).collect()
        };
        if nodes.is_empty() {
            nodes.push(domain.clone());
        }
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let seconds = |time: Duration| i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
        Ok(Response::new(message::NodesReply {
            domain: domain.clone(),
            tcp_port: (*tcp_port).into(),
            ws_port: (*ws_port).into(),
            wss_port: (*wss_port).into(),
            heartbeat: seconds(*heartbeat),
            nodes,
            backoff: Some(message::Backoff {
                max_delay: seconds(backoff.max_delay),
                base_delay: seconds(backoff.base_delay),
                factor: backoff.factor,
                jitter: backoff.jitter,
            }),
            heartbeat_max: number(*heartbeat_max),
        }))
    }

    async fn ping(&self, _: Request<message::PingReq>) -> Result<Response<message::PingReply>, Status> {
        Ok(Response::new(message::PingReply {}))
    }

    async fn close(&self, _: Request<message::CloseReq>) -> Result<Response<message::CloseReply>, Status> {
        Ok(Response::new(message::CloseReply {}))
    }
}
