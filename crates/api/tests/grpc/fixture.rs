//! A port with roles that answer what the test says, and a client that knows no contract.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anser_api::comet::{
    Away, Batch, Comet, Flow, Inquiry, Push, PushError, Report, Taken, Testimony, Welcome,
};
use anser_api::grpc::client::Link;
use anser_api::grpc::goim::Rooms;
use anser_api::grpc::{Counters, Limits, Options, Secret, Server};
use anser_api::id::{CometName, Key, LogId, Position, Room, Session};
use anser_api::job::{self, Accepted, Explanation, Job, Subject};
use anser_api::logic::{
    self, Advice, Backoff, Connect, Connected, Directory, Logic, Node, NodeState, Online, Place, PushApi,
    Received, Refused, Renewal, Renewed, Restore,
};
use anser_api::trace::Traces;
use anser_api::{Answer, ready};
use bytes::{Buf, BufMut, Bytes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

pub(crate) const SECRET: &str = "a-secret-of-24-characters";

/// For what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn secret() -> Secret {
    Secret::parse(SECRET).unwrap()
}

pub(crate) fn key(name: &str) -> Key {
    Key::parse(name, 4096).unwrap()
}

pub(crate) fn room(name: &str) -> Room {
    Room::parse(name, 4096).unwrap()
}

/// All roles at once: says what it is told to, and remembers what it was asked.
#[derive(Default)]
pub(crate) struct Fake {
    answers: Mutex<VecDeque<Box<dyn Any + Send>>>,
    asked: Mutex<Vec<String>>,
    hanging: Mutex<bool>,
}

impl Fake {
    /// The next answer, of the type that the method has.
    pub(crate) fn answers<T: Send + 'static>(&self, answer: T) {
        self.answers.lock().unwrap().push_back(Box::new(answer));
    }

    /// From now on nothing is answered.
    pub(crate) fn hangs(&self, hangs: bool) {
        *self.hanging.lock().unwrap() = hangs;
    }

    /// What it was asked since.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn answer<T: Send + 'static>(&self, question: &impl Debug) -> Answer<'static, T> {
        self.asked.lock().unwrap().push(format!("{question:?}"));
        if *self.hanging.lock().unwrap() {
            return Box::pin(std::future::pending());
        }
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| panic!("nobody said what to answer to {question:?}"));
        ready(*answer.downcast().unwrap_or_else(|_| panic!("no answer to {question:?}")))
    }
}

impl Comet for Fake {
    fn push(&self, push: Push) -> Answer<'_, Result<(), PushError>> {
        self.answer(&push)
    }

    fn open_lane(&self, log: LogId) -> Answer<'_, Result<Welcome, Away>> {
        self.answer(&log)
    }

    fn take(&self, batch: Batch) -> Answer<'_, Result<Taken, Away>> {
        self.answer(&batch)
    }

    fn report(&self, log: LogId, seen: u64) -> Answer<'_, Result<Report, Away>> {
        self.answer(&(log, seen))
    }

    fn switch(&self, session: Session, to: Flow) -> Answer<'_, Result<(), PushError>> {
        self.answer(&(session, to))
    }

    fn explain(&self, inquiry: Inquiry) -> Answer<'_, Result<Testimony, Away>> {
        self.answer(&inquiry)
    }

    fn trace(&self, traces: Traces) -> Answer<'_, Result<(), Away>> {
        self.answer(&traces)
    }
}

impl Logic for Fake {
    fn connect(&self, request: Connect) -> Answer<'static, Result<Connected, Refused>> {
        self.answer(&request)
    }

    fn disconnect(&self, session: Session) -> Answer<'static, ()> {
        self.answer(&session)
    }

    fn receive(&self, packet: Received) -> Answer<'static, ()> {
        self.answer(&packet)
    }

    fn renew(&self, renewal: Renewal) -> Answer<'_, Result<Renewed, Away>> {
        self.answer(&renewal)
    }

    fn restore(&self, restore: Restore) -> Answer<'_, Result<(), Away>> {
        self.answer(&restore)
    }
}

impl PushApi for Fake {
    fn push(&self, push: logic::Push) -> Answer<'_, Result<Accepted, PushError>> {
        self.answer(&push)
    }
}

impl Job for Fake {
    fn push(&self, push: job::Push) -> Answer<'_, Result<Accepted, PushError>> {
        self.answer(&push)
    }

    fn explain(&self, position: Position, subject: Subject) -> Answer<'_, Result<Explanation, Away>> {
        self.answer(&(position, subject))
    }

    fn trace(&self, traces: Traces) -> Answer<'_, Result<Vec<CometName>, Away>> {
        self.answer(&traces)
    }
}

impl Directory for Fake {
    fn locate(&self, keys: Vec<Key>) -> Answer<'_, Result<Vec<Place>, Away>> {
        self.answer(&keys)
    }

    fn online(&self) -> Answer<'_, Online> {
        self.answer(&"online")
    }

    fn largest_rooms(&self, kind: String, limit: usize) -> Answer<'_, Vec<(Room, u32)>> {
        self.answer(&(kind, limit))
    }

    fn members(&self, rooms: Vec<Room>) -> Answer<'_, Vec<u32>> {
        self.answer(&rooms)
    }

    fn nodes(&self) -> Answer<'_, Vec<NodeState>> {
        self.answer(&"nodes")
    }

    fn best_nodes(&self) -> Answer<'_, Vec<Node>> {
        self.answer(&"best nodes")
    }
}

impl Rooms for Fake {
    fn rooms(&self) -> Vec<(Room, u32)> {
        vec![(room("live://1"), 2), (room("live://2"), 0)]
    }
}

/// As in goim's example.
fn advice() -> Advice {
    Advice {
        domain: "conn.goim.io".into(),
        host_domain: ".goim.io".into(),
        tcp_port: 3101,
        ws_port: 3102,
        wss_port: 3103,
        heartbeat: Duration::from_secs(240),
        heartbeat_max: 2,
        backoff: Backoff {
            max_delay: Duration::from_secs(300),
            base_delay: Duration::from_secs(3),
            factor: 1.8,
            jitter: 0.3,
        },
    }
}

/// A port on which all services are.
pub(crate) struct Port {
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: SocketAddr,
    pub(crate) counters: Arc<Counters>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Port {
    pub(crate) async fn start() -> Self {
        Self::with("127.0.0.1:0".parse().unwrap(), false, Limits::default()).await
    }

    pub(crate) async fn with(address: SocketAddr, goim_without_secret: bool, limits: Limits) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Arc::new(Fake::default());
        let server = Server::new(Options { secret: secret(), goim_without_secret, limits })
            .comet(fake.clone())
            .logic(fake.clone())
            .directory(fake.clone())
            .push_api(fake.clone())
            .job(fake.clone())
            .goim_comet(fake.clone(), fake.clone())
            .goim_logic(fake.clone(), fake.clone(), advice());
        let counters = server.counters();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            server.serve(listener, shutdown).await.unwrap();
        });
        Self { fake, address, counters, stop, serving }
    }

    pub(crate) fn link(&self, deadline: Duration) -> Link {
        let runtime = tokio::runtime::Handle::current();
        Link::new(&format!("grpc://{}", self.address), &secret(), deadline, runtime).unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap();
    }

    /// A call by somebody who has the secret.
    pub(crate) async fn call(&self, path: &'static str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        raw(self.channel().await, path, body, Some(&format!("Bearer {SECRET}")), None).await
    }
}

/// One call with these bytes as its message.
pub(crate) async fn raw(
    channel: Channel,
    path: &'static str,
    body: Vec<u8>,
    authorization: Option<&str>,
    compression: Option<CompressionEncoding>,
) -> Result<Vec<u8>, Status> {
    let mut client = Grpc::new(channel);
    if let Some(compression) = compression {
        client = client.send_compressed(compression);
    }
    client.ready().await.map_err(|cause| Status::new(Code::Unavailable, cause.to_string()))?;
    let mut metadata = MetadataMap::new();
    if let Some(authorization) = authorization {
        metadata.insert("authorization", authorization.parse().unwrap());
    }
    let request = Request::from_parts(metadata, http::Extensions::default(), body);
    let call = client.unary(request, path.parse().unwrap(), Raw);
    tokio::time::timeout(PATIENCE, call).await.unwrap().map(tonic::Response::into_inner)
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A number in a field of a message; negative ones have ten bytes.
pub(crate) fn number(field: u8, value: i64) -> Vec<u8> {
    [vec![field << 3], varint(value as u64)].concat()
}

/// A text, bytes or a message in a field of a message.
pub(crate) fn bytes(field: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [vec![field << 3 | 2], varint(value.len() as u64), value.to_vec()].concat()
}

/// A float in a field of a message.
pub(crate) fn float(field: u8, value: f32) -> Vec<u8> {
    [vec![field << 3 | 5], value.to_le_bytes().to_vec()].concat()
}

/// `goim.protocol.Proto`.
pub(crate) fn proto(ver: i64, op: i64, seq: i64, body: &[u8]) -> Vec<u8> {
    [number(1, ver), number(2, op), number(3, seq), bytes(4, body)].concat()
}

/// A packet of goim.
pub(crate) fn packet(op: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_i32(16 + body.len() as i32);
    bytes.put_slice(&[0, 16, 0, 1]);
    bytes.put_i32(op);
    bytes.put_i32(0);
    bytes.put_slice(body);
    bytes
}

/// Waits until it is true.
pub(crate) async fn becomes(what: &str, mut is: impl FnMut() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

/// A connection on which nothing is said.
pub(crate) async fn silent(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

pub(crate) fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
