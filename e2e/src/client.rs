//! A client that speaks packets, and bytes where those are what is tested.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use anser_wire::operation;
use anser_wire::packet::{self, Header};
use anser_wire::websocket::{self, Opcode};
use socket2::{Domain, Protocol, Socket, Type};

use crate::cluster::Cluster;
use crate::patience::PATIENCE;

/// Any mask does.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Any key does.
const KEY: [u8; 16] = *b"the sample nonce";

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One after another.
    Tcp,
    /// One in a message.
    WebSocket,
}

impl Transport {
    /// Every one that there is.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::WebSocket];
}

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    address: SocketAddr,
    transport: Transport,
    source: Option<Ipv4Addr>,
    receive_buffer: Option<usize>,
}

impl Dial {
    /// To the address of a server for this transport.
    pub fn new(cluster: &Cluster, transport: Transport) -> Self {
        let address = match transport {
            Transport::Tcp => cluster.tcp(),
            Transport::WebSocket => cluster.websocket(),
        };
        Self::to(address, transport)
    }

    /// To an address at which this transport is spoken.
    pub fn to(address: SocketAddr, transport: Transport) -> Self {
        Self { address, transport, source: None, receive_buffer: None }
    }

    /// From this address of our own.
    #[must_use]
    pub fn source(self, source: Ipv4Addr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// With so many bytes of kernel memory for what is not read yet. The kernel doubles it.
    #[must_use]
    pub fn receive_buffer(self, bytes: usize) -> Self {
        Self { receive_buffer: Some(bytes), ..self }
    }

    /// Connects; a WebSocket is open then.
    #[track_caller]
    pub fn connect(self) -> Client {
        let mut client = self.open();
        if self.transport == Transport::WebSocket {
            client.upgrade("/sub");
        }
        client
    }

    /// Connects and says nothing, whatever the transport.
    #[track_caller]
    pub fn open(self) -> Client {
        self.try_open().expect("the server takes the connection")
    }

    /// Connects, if the server is there and does not reset the connection at once.
    #[track_caller]
    pub fn try_open(self) -> Option<Client> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))
            .expect("there is a socket");
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).expect("buffers can be small");
        }
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::from((IpAddr::from(source), 0)).into()).expect("there is a free port");
        }
        match socket.connect_timeout(&self.address.into(), PATIENCE) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused) =>
            {
                return None;
            }
            Err(error) => panic!("the server cannot be reached: {error}"),
        }
        socket.set_tcp_nodelay(true).expect("an open socket has options");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit above zero can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a limit above zero can be set");
        Some(Client { stream, transport: self.transport, unread: Vec::new(), seq: 0 })
    }
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Version.
    pub ver: i16,
    /// Operation.
    pub op: i32,
    /// Sequence number.
    pub seq: i32,
    /// Body.
    pub body: Vec<u8>,
}

impl Packet {
    /// A packet of version 1.
    pub fn new(op: i32, seq: i32, body: impl AsRef<[u8]>) -> Self {
        Self { ver: 1, op, seq, body: body.as_ref().to_vec() }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { ver, op, seq, body } = self;
        let mut bytes = Vec::new();
        packet::Packet { header: Header { ver: *ver, op: *op, seq: *seq }, body }.encode(&mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Self {
        let packet = packet::decode_message(bytes, usize::MAX).expect("the server sends packets");
        let Header { ver, op, seq } = packet.header;
        Self { ver, op, seq, body: packet.body.to_vec() }
    }
}

/// What the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A packet; on WebSocket, the one in a message.
    Packet(Packet),
    /// A WebSocket pong.
    Pong(Vec<u8>),
    /// A WebSocket close frame.
    Close(u16, String),
    /// The end of the stream, or a reset.
    End,
}

/// One connection. What it waits for must come within [`PATIENCE`].
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    transport: Transport,
    unread: Vec<u8>,
    seq: i32,
}

impl Client {
    /// Authenticates. The first answer must be that it is in.
    #[track_caller]
    pub fn login(&mut self, token: &str) {
        let answer = self.request(operation::AUTH, token);
        assert_eq!(answer, Packet::new(operation::AUTH_REPLY, self.seq, ""), "{token}");
    }

    /// Asks for a WebSocket at this path. It must be granted.
    #[track_caller]
    pub fn upgrade(&mut self, path: &str) {
        let mut request = Vec::new();
        websocket::write_request(&mut request, "localhost", path, &KEY);
        self.write(&request);
        let len = loop {
            match websocket::parse_response(&self.unread, &KEY) {
                Ok(Some(len)) => break len,
                Ok(None) => assert!(self.fill(), "closed instead of upgraded"),
                Err(error) => panic!("{error}: {:?}", String::from_utf8_lossy(&self.unread)),
            }
        };
        self.unread.drain(..len);
    }

    /// Sends these bytes, and nothing else, in one write.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends these bytes; whether the connection took them. A server may close meanwhile.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a packet.
    #[track_caller]
    pub fn send(&mut self, packet: &Packet) {
        let bytes = self.framed(packet);
        self.write(&bytes);
    }

    /// The bytes by which a packet travels here.
    pub fn framed(&self, packet: &Packet) -> Vec<u8> {
        match self.transport {
            Transport::Tcp => packet.bytes(),
            Transport::WebSocket => frame(Opcode::Binary, &packet.bytes()),
        }
    }

    /// Sends a WebSocket frame.
    #[track_caller]
    pub fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        self.write(&frame(opcode, payload));
    }

    /// Sends a request with the next sequence number, and gives the packet that comes next.
    #[track_caller]
    pub fn request(&mut self, op: i32, body: impl AsRef<[u8]>) -> Packet {
        self.seq += 1;
        self.send(&Packet::new(op, self.seq, body));
        self.packet()
    }

    /// Sends a heartbeat, whose answer must come next; the number of connections in the room.
    #[track_caller]
    pub fn heartbeat(&mut self) -> i32 {
        let Packet { ver, op, seq, body } = self.request(operation::HEARTBEAT, "");
        assert_eq!((ver, op, seq, body.len()), (1, operation::HEARTBEAT_REPLY, self.seq, 4));
        i32::from_be_bytes([body[0], body[1], body[2], body[3]])
    }

    /// What the server says next.
    #[track_caller]
    pub fn incoming(&mut self) -> Incoming {
        match self.transport {
            Transport::Tcp => self.incoming_tcp(),
            Transport::WebSocket => self.incoming_websocket(),
        }
    }

    #[track_caller]
    fn incoming_tcp(&mut self) -> Incoming {
        if !self.fill_to(4) {
            return Incoming::End;
        }
        let len = int(&self.unread) as usize;
        assert!(self.fill_to(len), "the stream ends within a packet");
        Incoming::Packet(Packet::read(&self.take_unread(len)))
    }

    #[track_caller]
    fn incoming_websocket(&mut self) -> Incoming {
        if !self.fill_to(2) {
            return Incoming::End;
        }
        let (first, short) = (self.unread[0], self.unread[1]);
        assert!(short & 0x80 == 0, "a server does not mask");
        let head = match short {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        assert!(self.fill_to(head), "the stream ends within a frame's head");
        let len = match head {
            2 => usize::from(short),
            _ => self.unread[2..head].iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
        };
        assert!(self.fill_to(head + len), "the stream ends within a frame");
        let payload = self.take_unread(head + len).split_off(head);
        match first {
            0x82 => Incoming::Packet(Packet::read(&payload)),
            0x8a => Incoming::Pong(payload),
            0x88 if payload.is_empty() => Incoming::Close(1005, String::new()),
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Incoming::Close(code, String::from_utf8_lossy(&payload[2..]).into_owned())
            }
            other => panic!("the server sent a frame of {other:#x}"),
        }
    }

    /// The next packet, which must be what comes next.
    #[track_caller]
    pub fn packet(&mut self) -> Packet {
        match self.incoming() {
            Incoming::Packet(packet) => packet,
            other => panic!("{other:?} instead of a packet"),
        }
    }

    /// The next push, which must be what comes next: its operation and its body, a text.
    #[track_caller]
    pub fn push(&mut self) -> (i32, String) {
        let packet = self.packet();
        let Packet { ver, op, seq, body } = match self.transport {
            Transport::Tcp => packet,
            Transport::WebSocket => {
                assert_eq!((packet.ver, packet.op, packet.seq), (1, operation::RAW, 0), "{packet:?}");
                let inner = Packet::read(&packet.body);
                assert_eq!(inner.bytes(), packet.body, "a container holds one push");
                inner
            }
        };
        assert_eq!((ver, seq), (1, 0), "a push has version 1 and no number");
        (op, String::from_utf8(body).expect("tests push texts"))
    }

    /// The server must close now. What its close frame said, on WebSocket.
    #[track_caller]
    pub fn closed(&mut self) -> Option<(u16, String)> {
        match self.incoming() {
            Incoming::End => None,
            Incoming::Close(code, reason) => {
                assert_eq!(self.incoming(), Incoming::End);
                Some((code, reason))
            }
            other => panic!("{other:?} instead of the end"),
        }
    }

    /// The next bytes as they come.
    #[track_caller]
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        assert!(self.fill_to(len), "the stream ends after {:02x?}", self.unread);
        self.take_unread(len)
    }

    /// All bytes until the server closes.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.unread)
    }

    /// Says that we send nothing more.
    pub fn finish(&mut self) {
        // A server that is gone already needs no goodbye.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    fn take_unread(&mut self, len: usize) -> Vec<u8> {
        self.unread.drain(..len).collect()
    }

    #[track_caller]
    fn fill_to(&mut self, len: usize) -> bool {
        while self.unread.len() < len {
            if !self.fill() {
                assert!(self.unread.is_empty(), "the stream ends with {:02x?}", self.unread);
                return false;
            }
        }
        true
    }

    /// Reads some more; whether there was more.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.unread.extend_from_slice(&buffer[..n]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing comes from the server: {error}; so far {:02x?}", self.unread),
        }
    }
}

/// A masked frame.
fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    websocket::write_frame(&mut bytes, opcode, payload, Some(MASK));
    bytes
}

fn int(bytes: &[u8]) -> i32 {
    i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
