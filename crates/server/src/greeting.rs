//! What the operator is told at the start: every address, and lines to paste.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::push_key::{self, Secret};
use crate::roles::{Addresses, Roles};
use crate::up::{DATA, quote};

/// The greeting. `keys` is empty when the push API needs none.
pub(crate) fn greeting(roles: Roles, addresses: &Addresses, data: &Path, keys: &[Secret]) -> String {
    let Addresses { tcp, websocket, http, grpc } = addresses;
    let what = match roles {
        Roles::All => "every role in this process".to_owned(),
        one => format!("{} in this process", one.name()),
    };
    let mut text =
        format!("Anser {} is up: {what}, data in {}\n\n", env!("CARGO_PKG_VERSION"), data.display());
    for address in tcp {
        let _ = writeln!(text, "  clients, TCP        tcp://{address}");
    }
    for address in websocket {
        let _ = writeln!(text, "  clients, WebSocket  ws://{address}/sub");
    }
    for (name, address) in grpc {
        let _ = writeln!(text, "  {:<18}  grpc://{address}", format!("{name}, gRPC"));
    }
    let Some(http) = http else { return text };
    if roles.has_logic() {
        let _ = writeln!(
            text,
            "  push API            http://{http}/api/v1/push, explained at /docs; /goim/push/*"
        );
    }
    if !keys.is_empty() {
        let _ = writeln!(text, "  push API key        {}", push_key::path(data).display());
    }
    let _ = writeln!(text, "  health, metrics     http://{http}/healthz /readyz /metrics");
    if roles != Roles::All {
        text.push_str("\nCtrl-C drains and ends.\n");
        return text;
    }
    let (tcp, websocket): (Vec<_>, Vec<_>) =
        (tcp.iter().copied().map(here).collect(), websocket.iter().copied().map(here).collect());
    let http = here(*http);
    let anser = std::env::args().next().unwrap_or_else(|| "anser".into());
    let server = match (&tcp[..], &websocket[..]) {
        ([first, ..], _) if *first == SocketAddr::from((Ipv4Addr::LOCALHOST, 3101)) => String::new(),
        ([first, ..], _) => format!(" --server tcp://{first}"),
        ([], [first, ..]) => format!(" --server ws://{first}/sub"),
        ([], []) => String::new(),
    };
    let api = if http == SocketAddr::from((Ipv4Addr::LOCALHOST, 3111)) {
        String::new()
    } else {
        format!(" --http http://{http}")
    };
    let (folder, authorization) = match keys {
        [] => (String::new(), String::new()),
        keys => {
            let usual = data == Path::new(DATA);
            let folder = if usual { String::new() } else { format!(" --data {}", quote(data)) };
            (folder, format!(" -H \"Authorization: Bearer $({})\"", push_key::shown_by(data, keys)))
        }
    };
    let _ = write!(
        text,
        "\nFirst step: paste the first line into a second terminal, the second into a third.\n\n  \
         {anser} listen{server}\n  {anser} push room live://1 hello{api}{folder}\n\n\
         The same as a back end does it:\n\n  \
         curl{authorization} -d hello 'http://{http}/goim/push/room?operation=1000&type=live&room=1'\n\n\
         Ctrl-C drains and ends.\n"
    );
    text
}

/// Where an address is reached from this machine: what is bound to every address is so at loopback.
pub(crate) fn here(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, address.port()).into(),
    }
}
