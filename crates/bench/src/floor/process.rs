//! The floor's own process: accepts a fleet, and sends the same bytes to all of it.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anser_wire::input::Input;
use anser_wire::limits::Limits;
use anser_wire::operation::{AUTH, AUTH_REPLY};
use anser_wire::packet::{self, Header};
use anser_wire::push::Frame;
use anser_wire::websocket::{self, Message, Role};
use anyhow::{Context, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::control::{FloorCommand, Reply, Transport};
use crate::helper::reply;
use crate::stamp::Stamp;
use crate::{clock, placement};

/// How long a client may take over its handshake, and a send over a full socket.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Clients that wait to be accepted, as many as the kernel allows.
const BACKLOG: i32 = 4096;

type Room = Arc<Mutex<Vec<Socket>>>;

/// Runs until standard input ends.
pub(crate) fn run(transport: Transport) -> anyhow::Result<()> {
    placement::open_files(0)?;
    clock::wake_on_time();
    let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(BACKLOG)?;
    let address = listener.local_addr()?.as_socket().context("no address")?;
    let room = Room::default();
    let members = Arc::clone(&room);
    thread::spawn(move || accept(&listener, transport, &members));
    reply(&Reply::Listening(address))?;
    for line in io::stdin().lock().lines() {
        let answer = match command(serde_json::from_str(&line?)?, transport, &room) {
            Ok(sent) => sent,
            Err(error) => Reply::Failed(format!("{error:#}")),
        };
        reply(&answer)?;
    }
    Ok(())
}

/// Takes one client after the other. Those that fail their handshake are left out; the fleet sees it.
fn accept(listener: &Socket, transport: Transport, room: &Room) {
    while let Ok((socket, _)) = listener.accept() {
        if let Ok(member) = welcome(socket.into(), transport) {
            room.lock().unwrap_or_else(PoisonError::into_inner).push(member);
        }
    }
}

/// Answers the upgrade, if there is one, and the authentication.
fn welcome(mut stream: TcpStream, transport: Transport) -> anyhow::Result<Socket> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let answer = Frame::plain(Header { ver: 1, op: AUTH_REPLY, seq: 1 }, b"");
    let mut buffer = [0; 4096];
    match transport {
        Transport::Tcp => {
            let mut decoder = packet::Decoder::default();
            loop {
                let read = some(stream.read(&mut buffer)?)?;
                let mut input = Input::new(&mut buffer[..read]);
                if let Some(packet) = decoder.poll(&mut input, &Limits::default())? {
                    ensure!(packet.header.op == AUTH, "operation {} before authentication", packet.header.op);
                    break;
                }
            }
            stream.write_all(answer.tcp())?;
        }
        Transport::Websocket => {
            upgrade(&mut stream)?;
            let mut decoder = websocket::Decoder::new(Role::Server);
            loop {
                let read = some(stream.read(&mut buffer)?)?;
                let mut input = Input::new(&mut buffer[..read]);
                if let Some(message) = decoder.poll(&mut input, 4096, false)? {
                    ensure!(matches!(message, Message::Binary(_)), "not a packet: {message:?}");
                    break;
                }
            }
            stream.write_all(answer.websocket())?;
        }
    }
    Ok(stream.into())
}

fn upgrade(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let read = some(stream.read(&mut buffer)?)?;
        head.extend_from_slice(&buffer[..read]);
        if let Some(request) = websocket::parse_request(&head)? {
            let mut response = Vec::new();
            websocket::write_response(&mut response, &request.accept);
            stream.write_all(&response)?;
            return Ok(());
        }
    }
}

fn some(read: usize) -> anyhow::Result<usize> {
    if read == 0 {
        bail!("the client has closed");
    }
    Ok(read)
}

fn command(command: FloorCommand, transport: Transport, room: &Room) -> anyhow::Result<Reply> {
    let room = room.lock().unwrap_or_else(PoisonError::into_inner);
    match command {
        FloorCommand::Send { body, stream, seq } => {
            let mut message = Template::new(body, transport);
            let from = clock::now();
            send(&room, message.stamped(Stamp { stream, seq, at: from }))?;
            Ok(Reply::Sent { from, messages: 1 })
        }
        FloorCommand::Pace { body, stream, seq, rate, millis } => {
            let mut message = Template::new(body, transport);
            let interval = (1e9 / rate) as u64;
            let messages = millis * 1_000_000 / interval.max(1);
            let from = clock::now() + interval;
            for turn in 0..messages {
                let at = from + turn * interval;
                clock::sleep_until(at);
                send(&room, message.stamped(Stamp { stream, seq: seq + turn, at }))?;
            }
            Ok(Reply::Sent { from, messages })
        }
    }
}

/// The bare loop.
fn send(room: &[Socket], bytes: &[u8]) -> anyhow::Result<()> {
    for socket in room {
        let sent = socket.send(bytes).context("a client does not read, or has closed")?;
        ensure!(sent == bytes.len(), "a client took {sent} of {} bytes", bytes.len());
    }
    Ok(())
}

/// The bytes of a push, encoded once; only the stamp changes.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    body: usize,
}

impl Template {
    fn new(body: usize, transport: Transport) -> Self {
        let frame = Frame::push(1000, &vec![b'.'; body]);
        let bytes = match transport {
            Transport::Tcp => frame.tcp(),
            Transport::Websocket => frame.websocket(),
        };
        Self { bytes: bytes.to_vec(), body: bytes.len() - body }
    }

    fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        stamp.write(&mut self.bytes[self.body..]);
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_sends_what_a_server_would() {
        let stamp = Stamp { stream: 2, seq: 5, at: 9 };
        let mut body = vec![b'.'; 44];
        stamp.write(&mut body);
        let frame = Frame::push(1000, &body);
        assert_eq!(Template::new(44, Transport::Tcp).stamped(stamp), frame.tcp());
        assert_eq!(Template::new(44, Transport::Websocket).stamped(stamp), frame.websocket());
        assert_eq!(frame.tcp().len(), 60);
    }
}
