//! Listening sockets and their options, which the kernel hands on to each accepted socket.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Config;

/// How many connections the kernel keeps for us between two rounds of accepting.
const BACKLOG: i32 = 4096;

/// Binds an address. Send buffer, receive buffer, `TCP_NODELAY`, `TCP_NOTSENT_LOWAT` and
/// `TCP_USER_TIMEOUT` are set here once: Linux copies them into each accepted socket.
pub(crate) fn listen(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_send_buffer_size(config.send_buffer)?;
    socket.set_recv_buffer_size(config.receive_buffer)?;
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_notsent_lowat(config.send_buffer as u32)?;
        socket.set_tcp_user_timeout(Some(config.user_timeout.0))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Makes the kernel send a reset instead of keeping what the peer never took: for connections that
/// are cut.
pub(crate) fn abort_on_close(socket: &mio::net::TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let config = Config::default();
        let listener = listen(([127, 0, 0, 1], 0).into(), &config).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = loop {
            match listener.accept() {
                Ok((socket, _)) => break socket,
                Err(cause) => assert_eq!(cause.kind(), io::ErrorKind::WouldBlock),
            }
        };
        let socket = SockRef::from(&accepted);
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * config.send_buffer);
        assert_eq!(socket.recv_buffer_size().unwrap(), 2 * config.receive_buffer);
        assert!(socket.tcp_nodelay().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_notsent_lowat().unwrap() as usize, config.send_buffer);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        }
    }
}
