//! Who a connection is, and how it reaches the server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that share a source address. An address has 28 000 ports towards one listener; this few
/// keeps the kernel's search for a free one short, and no limit on connections from one address is met.
const PER_ADDRESS: u64 = 64;

/// Receive buffer of clients that do not read, in bytes. Small, so that the server's own queue fills
/// and not the kernel's memory.
const SLOW_RECEIVE_BUFFER: usize = 4096;

/// The source address of connection `number`: from 127.1.0.0 on, so that no server is met there.
fn source(number: u64) -> Ipv4Addr {
    let block = number / PER_ADDRESS;
    let second = 1 + (block >> 16) % 254;
    Ipv4Addr::new(127, second as u8, (block >> 8) as u8, block as u8)
}

/// The key of connection `number`: 36 bytes, as a UUID has.
pub(crate) fn key(number: u64) -> String {
    format!("be9c0000-0000-4000-8000-{number:012x}")
}

/// The user of connection `number`, when each has its own.
pub(crate) fn user(number: u64) -> u64 {
    number + 1
}

/// The room of connection `number` of a fleet in `rooms` rooms.
pub(crate) fn room(number: u64, rooms: u64) -> u64 {
    number % rooms + 1
}

/// What the connection authenticates with.
pub(crate) fn token(number: u64, user: u64, room: Option<u64>) -> String {
    let room = room.map(|room| format!("bench://{room}")).unwrap_or_default();
    format!(
        r#"{{"mid":{user},"key":"{}","room_id":"{room}","platform":"bench","accepts":[1000,1001,1002]}}"#,
        key(number)
    )
}

/// Starts to connect. The socket becomes writable when it is connected or has failed.
pub(crate) fn dial(address: SocketAddr, number: u64, slow: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if slow {
        socket.set_recv_buffer_size(SLOW_RECEIVE_BUFFER)?;
    }
    if matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        socket.bind(&SocketAddr::from((source(number), 0)).into())?;
    }
    match socket.connect(&address.into()) {
        // EINPROGRESS has no kind of its own.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        other => other?,
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Makes the close of a socket an RST, which leaves nothing in `TIME_WAIT`.
pub(crate) fn close_by_reset(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        assert_eq!(key(0).len(), 36);
        assert_eq!(key(u64::from(u32::MAX)).len(), 36);
        assert_ne!(key(1), key(2));
        let token = token(5, user(5), Some(room(5, 3)));
        let json: serde_json::Value = serde_json::from_str(&token).unwrap();
        assert_eq!(json["mid"], 6);
        assert_eq!(json["room_id"], "bench://3");
        assert_eq!(json["accepts"], serde_json::json!([1000, 1001, 1002]));
    }

    #[test]
    fn sources_are_spread_and_loopback() {
        assert_eq!(source(0), Ipv4Addr::new(127, 1, 0, 0));
        assert_eq!(source(63), source(0));
        assert_eq!(source(64 * 256), Ipv4Addr::new(127, 1, 1, 0));
        assert!(source(u64::from(u32::MAX)).is_loopback());
        assert_ne!(source(u64::from(u32::MAX)).octets()[1], 255);
    }
}
