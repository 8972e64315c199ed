//! Whether each address can be listened on, and if not, who does.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::finding::{Finding, parts};
use super::running::Running;
use crate::failure::Failure;

const CHECK: &str = "ports";

/// How many descriptors of a process are looked at. Listeners are opened first, and a server may have a
/// million connections behind them.
const DESCRIPTORS: usize = 4096;

/// One address of the configuration.
#[derive(Debug)]
pub(super) struct Port {
    /// The setting that names it.
    key: &'static str,
    address: SocketAddr,
    /// Why it cannot be listened on.
    error: Option<io::Error>,
    /// Who listens, if that can be seen.
    holder: Option<Holder>,
}

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    name: String,
    pid: u32,
}

impl Port {
    /// Tries to listen, as a server would.
    pub(super) fn look(key: &'static str, address: SocketAddr) -> Self {
        let error = TcpListener::bind(address).err();
        let taken = error.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        Self { key, address, error, holder: taken.then(|| holder(address)).flatten() }
    }

    /// Whether that is well.
    pub(super) fn judge(&self, running: &Running) -> Finding {
        let Self { key, address, error, holder } = self;
        let Some(error) = error else {
            return Finding::ok(CHECK, format!("{key} = {address} is free"));
        };
        let runs = matches!(running, Running::Yes(_));
        match holder {
            Some(Holder { name, pid }) if name == "anser" && runs => {
                return Finding::ok(
                    CHECK,
                    format!("{key} = {address} is held by anser, process {pid}, which runs"),
                );
            }
            None if error.kind() == io::ErrorKind::AddrInUse && runs => {
                let found = format!(
                    "{key} = {address} is held, by the anser that runs here or by a process of another user"
                );
                return Finding::note(CHECK, found, "`sudo ss -ltnp` says by whom");
            }
            _ => {}
        }
        let failure = Failure::bind(format!("{key} = {address}"), error);
        let (found, remedy) = parts(&failure);
        let held = match holder {
            Some(Holder { name, pid }) => format!(": {name}, process {pid}, holds it"),
            None => String::new(),
        };
        Finding::problem(CHECK, failure.exit, format!("{found}{held}"), remedy)
    }
}

/// Who listens on a port, among the processes whose descriptors this user may see.
fn holder(address: SocketAddr) -> Option<Holder> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inodes: Vec<String> = tables
        .iter()
        .flat_map(|table| listeners(table, address))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let pids =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut holders = pids.filter(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = descriptors.take(DESCRIPTORS).filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
    });
    let pid = holders.next()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Holder { name: name.trim().to_owned(), pid })
}

/// The inodes of sockets that listen where this address would clash, in `/proc/net/tcp` or `tcp6`.
fn listeners(table: &str, address: SocketAddr) -> Vec<&str> {
    const LISTEN: &str = "0A";
    let clashes = |local: &str| {
        let (ip, port) = local.split_once(':')?;
        let ip = of_hex(ip)?.to_canonical();
        let covers = ip.is_unspecified() || address.ip().is_unspecified();
        let same = u16::from_str_radix(port, 16).ok()? == address.port();
        Some(same && (covers || ip == address.ip().to_canonical()))
    };
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| {
        row.get(3) == Some(&LISTEN) && row.get(1).is_some_and(|local| clashes(local) == Some(true))
    })
    .filter_map(|row| row.get(9).copied())
    .collect()
}

/// An address as the kernel prints it: words of four bytes in the order of this machine.
fn of_hex(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
       0: 0100007F:0C1D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1663 1 0 100 0 0 10 0\n\
       1: 0100007F:0C1D 0200007F:01BB 01 00000000:00000000 03:000012D0 00000000     0        0 1700 3 0\n\
       2: 00000000:0C1E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1800 1 0 100 0 0 10 0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table() {
        let at = |ip: [u8; 4], port| listeners(TABLE, (ip, port).into());
        assert_eq!(at([127, 0, 0, 1], 3101), ["1663"]);
        assert_eq!(at([127, 0, 0, 2], 3101), [""; 0]);
        assert_eq!(at([0, 0, 0, 0], 3101), ["1663"]);
        assert_eq!(at([10, 0, 0, 1], 3102), ["1800"]);
        assert_eq!(
            of_hex("0000000000000000FFFF00000100007F").unwrap().to_canonical(),
            IpAddr::from([127, 0, 0, 1])
        );
        assert_eq!(of_hex("01"), None);
    }

    #[test]
    fn who_holds_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let held = Port::look("http.bind", listener.local_addr().unwrap());
        assert_eq!(held.holder.as_ref().map(|holder| holder.pid), Some(std::process::id()));
        assert_eq!(held.judge(&Running::No).level, Level::Problem);
        assert!(Port::look("http.bind", ([127, 0, 0, 1], 0).into()).error.is_none());
    }

    #[test]
    fn judgement() {
        let runs = Running::Yes(super::super::running::tests::healthy());
        let other = || Some(Holder { name: "nginx".into(), pid: 8 });
        let ours = || Some(Holder { name: "anser".into(), pid: 7 });
        let taken = || Some(io::Error::from(io::ErrorKind::AddrInUse));
        let absent = || Some(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for (error, holder, running, level, said) in [
            (None, None, &Running::No, Level::Ok, "is free"),
            (taken(), ours(), &runs, Level::Ok, "held by anser, process 7"),
            (taken(), None, &runs, Level::Note, "or by a process of another user"),
            (taken(), other(), &runs, Level::Problem, "nginx, process 8, holds it"),
            (taken(), ours(), &Running::No, Level::Problem, "anser, process 7, holds it"),
            (taken(), None, &Running::No, Level::Problem, "cannot listen on comet.tcp = 127.0.0.1:3101"),
            (absent(), None, &Running::No, Level::Problem, "cannot listen"),
        ] {
            let port = Port { key: "comet.tcp", address: ([127, 0, 0, 1], 3101).into(), error, holder };
            let finding = port.judge(running);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(said), "{finding:?}");
            assert!(finding.remedy.is_none_or(|remedy| !remedy.starts_with("look at what")), "{port:?}");
        }
    }
}
