//! What no single value can know.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anser_api::settings::Span;
use anser_logic::Auth;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::Config;
use super::problem::{Origin, Problem};
use super::table::Key;

/// What can be logged by name.
const CRATES: [&str; 8] = [
    "anser_api",
    "anser_comet",
    "anser_http",
    "anser_job",
    "anser_logic",
    "anser_server",
    "anser_store",
    "anser_wire",
];

/// Something in a configuration that would not work, or not as its author thinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The key to look at.
    pub key: Key,
    /// What is wrong.
    pub what: String,
    /// What to set.
    pub remedy: String,
}

impl Complaint {
    fn new(key: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let key = key.split_once('.').and_then(|(section, name)| Key::find(section, name));
        Self { key: key.expect("checks name keys that exist"), what: what.into(), remedy: remedy.into() }
    }

    /// The same as a problem that says where the key was set.
    pub(super) fn placed(self, origins: &BTreeMap<Key, Origin>) -> Problem {
        Problem { origin: origins.get(&self.key).cloned(), what: self.what, remedy: self.remedy }
    }
}

impl Config {
    /// All that is wrong with it.
    pub fn check(&self) -> Vec<Complaint> {
        let mut complaints = self.bounds();
        complaints.extend(self.factors());
        complaints.extend(self.silence());
        complaints.extend(self.listeners());
        complaints.extend(self.open_doors());
        complaints.extend(self.authentication());
        complaints.extend(self.members());
        complaints.extend(self.filter());
        complaints
    }

    fn bounds(&self) -> Vec<Complaint> {
        let Self { comet, logic, http, job, store, .. } = self;
        let day = Span::secs(24 * 3600);
        let spans = [
            ("comet.handshake_timeout", comet.handshake_timeout, Span::millis(100)..=day),
            ("comet.drain_limit", comet.drain_limit, Span::secs(1)..=day),
            ("comet.drain_spread", comet.drain_spread, Span::millis(0)..=day),
            ("comet.user_timeout", comet.user_timeout, Span::secs(1)..=day),
            ("comet.renew", comet.renew, Span::millis(100)..=day),
            ("logic.heartbeat", logic.heartbeat, Span::secs(1)..=day),
            ("logic.comet_silence", logic.comet_silence, Span::secs(1)..=day),
            ("logic.settle", logic.settle, Span::millis(0)..=day),
            ("logic.backoff_max_delay", logic.backoff_max_delay, Span::millis(0)..=day),
            ("logic.backoff_base_delay", logic.backoff_base_delay, Span::millis(0)..=day),
            ("job.patience", job.patience, Span::secs(1)..=day),
            ("job.return_within", job.return_within, Span::secs(1)..=day),
            ("job.idempotency", job.idempotency, Span::secs(60)..=Span::secs(7 * 24 * 3600)),
            ("store.retention", store.retention, Span::millis(0)..=Span::secs(365 * 24 * 3600)),
            ("logic.jwks_refresh", logic.jwks_refresh, Span::secs(10)..=day),
            ("logic.jwks_timeout", logic.jwks_timeout, Span::millis(100)..=day),
            ("logic.jwt_leeway", logic.jwt_leeway, Span::millis(0)..=Span::secs(3600)),
            ("logic.webhook_timeout", logic.webhook_timeout, Span::millis(100)..=day),
            ("logic.webhook_grace", logic.webhook_grace, Span::secs(1)..=day),
            ("cluster.deadline", self.cluster.deadline, Span::millis(100)..=Span::secs(60)),
            ("http.request_timeout", http.request_timeout, Span::millis(100)..=day),
        ];
        let numbers = [
            ("logic.heartbeat_max", logic.heartbeat_max as usize, 1..=1000),
            ("logic.key", logic.key, 1..=4096),
            ("logic.push_connections", logic.push_connections, 1..=1 << 30),
            ("comet.room_name", comet.room_name, 1..=4096),
            ("comet.rooms_per_connection", comet.rooms_per_connection, 1..=usize::MAX),
            ("comet.body", comet.body, 16..=usize::MAX),
            ("comet.queue", comet.queue, 1..=usize::MAX),
            ("comet.queue_bytes", comet.queue_bytes, 1..=usize::MAX),
            ("comet.held", comet.held, 1..=usize::MAX),
            ("comet.held_bytes", comet.held_bytes, 1..=usize::MAX),
            ("comet.outbound_budget", comet.outbound_budget, 64 << 10..=usize::MAX),
            ("comet.room_queue_bytes", comet.room_queue_bytes, 1..=usize::MAX),
            ("comet.backlog", comet.backlog, 1..=usize::MAX),
            ("comet.operations_per_connection", comet.operations_per_connection, 1..=usize::MAX),
            ("comet.room_queue", comet.room_queue, 1..=usize::MAX),
            ("comet.commands", comet.commands, 64..=1 << 24),
            ("comet.send_buffer", comet.send_buffer, 2 << 10..=64 << 20),
            ("comet.receive_buffer", comet.receive_buffer, 1 << 10..=64 << 20),
            ("comet.workers", comet.workers, 0..=1024),
            ("comet.notes", comet.notes, 0..=1 << 20),
            ("comet.upgrade_head", comet.upgrade_head, 512..=1 << 20),
            ("comet.push_body", comet.push_body, 1..=1 << 30),
            ("job.lane", job.lane, 1..=1 << 24),
            ("job.lane_bytes", job.lane_bytes, 1..=usize::MAX),
            ("job.returning", job.returning, 1..=1 << 24),
            ("job.idempotency_keys", job.idempotency_keys, 1..=1 << 24),
            ("store.segment_bytes", store.segment_bytes as usize, 64 << 10..=256 << 20),
            ("store.pending_bytes", store.pending_bytes, 64 << 10..=256 << 20),
            ("store.max_bytes", store.max_bytes as usize, store.retention_bytes as usize..=usize::MAX),
            ("http.body", http.body, 1..=1 << 30),
            ("http.max_connections", http.max_connections, 1..=1 << 20),
            ("http.receivers", http.receivers, 1..=usize::MAX),
        ];
        let spans = spans.into_iter().filter(|(_, value, bounds)| !bounds.contains(value)).map(
            |(key, value, bounds)| {
                let (wrong, remedy) = if value < *bounds.start() {
                    ("short", format!("set at least \"{}\"", bounds.start()))
                } else {
                    ("long", format!("set at most \"{}\"", bounds.end()))
                };
                Complaint::new(key, format!("{key} = \"{value}\" is too {wrong}"), remedy)
            },
        );
        let numbers = numbers.into_iter().filter(|(_, value, bounds)| !bounds.contains(value)).map(
            |(key, value, bounds)| {
                let (least, most) = bounds.into_inner();
                if value < least {
                    Complaint::new(
                        key,
                        format!("{key} = {value} is too small"),
                        format!("set at least {least}"),
                    )
                } else {
                    Complaint::new(
                        key,
                        format!("{key} = {value} is too large"),
                        format!("set at most {most}"),
                    )
                }
            },
        );
        spans.chain(numbers).collect()
    }

    /// Bounds of numbers that are not whole.
    fn factors(&self) -> Vec<Complaint> {
        let logic = &self.logic;
        let factors = [
            ("logic.region_weight", logic.region_weight, 0.001..=1000.0),
            ("logic.backoff_factor", logic.backoff_factor, 0.0..=1000.0),
            ("logic.backoff_jitter", logic.backoff_jitter, 0.0..=1000.0),
        ];
        let wrong = factors.into_iter().filter(|(_, value, bounds)| !bounds.contains(value));
        wrong
            .map(|(key, value, bounds)| {
                let (least, most) = bounds.into_inner();
                let remedy = format!("set a number from {least} to {most}");
                Complaint::new(key, format!("{key} = {value} is out of its bounds"), remedy)
            })
            .collect()
    }

    /// A comet that renews as it should must not be taken for dead.
    fn silence(&self) -> Option<Complaint> {
        let (renew, silence) = (self.comet.renew, self.logic.comet_silence);
        (silence.0 < renew.0 * 2).then(|| {
            let what = format!(
                "logic.comet_silence = \"{silence}\" takes comets for dead that renew every \"{renew}\", as \
                 comet.renew says"
            );
            Complaint::new("logic.comet_silence", what, format!("set at least \"{}\"", Span(renew.0 * 2)))
        })
    }

    /// Every address, with the key that names it.
    pub(crate) fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let tcp = self.comet.tcp.iter().map(|address| ("comet.tcp", *address));
        let websocket = self.comet.websocket.iter().map(|address| ("comet.websocket", *address));
        let cluster = &self.cluster;
        let comet = cluster.comet_bind.iter().map(|address| ("cluster.comet_bind", *address));
        let logic = cluster.logic_bind.iter().map(|address| ("cluster.logic_bind", *address));
        tcp.chain(websocket).chain([("http.bind", self.http.bind)]).chain(comet).chain(logic).collect()
    }

    fn listeners(&self) -> Vec<Complaint> {
        let addresses = self.addresses();
        let mut complaints = Vec::new();
        if self.comet.tcp.is_empty() && self.comet.websocket.is_empty() {
            complaints.push(Complaint::new(
                "comet.tcp",
                "comet.tcp and comet.websocket are both empty, so no client could connect",
                "give one of them an address, such as comet.tcp = [\"127.0.0.1:3101\"]",
            ));
        }
        for address in &self.comet.one_write_per_packet {
            if !self.comet.tcp.contains(address) && !self.comet.websocket.contains(address) {
                complaints.push(Complaint::new(
                    "comet.one_write_per_packet",
                    format!("comet.one_write_per_packet = {address} is no address that clients connect to"),
                    "write it like its entry in comet.tcp or comet.websocket, or add it there",
                ));
            }
        }
        for (n, (key, address)) in addresses.iter().enumerate() {
            if let Some((first_key, first)) = addresses[..n].iter().find(|(_, first)| clash(*first, *address))
            {
                complaints.push(Complaint::new(
                    key,
                    format!("{key} = {address} is already taken by {first_key} = {first}"),
                    "choose another port for one of them",
                ));
            }
        }
        complaints
    }

    /// Keys that nobody is going to look at, and answers that nobody would wait for.
    fn authentication(&self) -> Vec<Complaint> {
        let logic = &self.logic;
        let mut complaints = Vec::new();
        for (key, set, auth) in [
            ("logic.jwt_secret_file", !logic.jwt_secret_file.as_os_str().is_empty(), "jwt"),
            ("logic.jwt_public_key_file", !logic.jwt_public_key_file.as_os_str().is_empty(), "jwt"),
            ("logic.jwks_file", !logic.jwks_file.as_os_str().is_empty(), "jwt"),
            ("logic.jwks_url", !logic.jwks_url.is_empty(), "jwt"),
            ("logic.webhook_url", !logic.webhook_url.is_empty(), "webhook"),
        ] {
            if set && logic.auth == Auth::Open {
                complaints.push(Complaint::new(
                    key,
                    format!("{key} is set, but logic.auth = \"open\", so clients name themselves"),
                    format!("set logic.auth = \"{auth}\", or leave {key} out"),
                ));
            }
        }
        let patience = self.comet.handshake_timeout;
        for (key, timeout, counts) in [
            ("logic.jwks_timeout", logic.jwks_timeout, logic.auth == Auth::Jwt && !logic.jwks_url.is_empty()),
            ("logic.webhook_timeout", logic.webhook_timeout, logic.auth == Auth::Webhook),
        ] {
            if counts && timeout >= patience {
                complaints.push(Complaint::new(
                    key,
                    format!("{key} = \"{timeout}\" is not less than comet.handshake_timeout = \"{patience}\", after \
                             which a client is sent away"),
                    "lower the one, or raise the other",
                ));
            }
        }
        complaints
    }

    /// Where nobody is authenticated, the address is what keeps strangers out.
    fn open_doors(&self) -> Vec<Complaint> {
        let unguarded = self.logic.auth == Auth::Open && !self.logic.allow_open_beyond_loopback;
        let mut complaints = Vec::new();
        for (key, addresses) in [("comet.tcp", &self.comet.tcp), ("comet.websocket", &self.comet.websocket)] {
            let open = addresses.iter().find(|address| !is_loopback(address.ip()));
            if let Some(address) = open.filter(|_| unguarded) {
                complaints.push(Complaint::new(
                    key,
                    format!(
                        "{key} = {address} can be reached from other machines, and whoever reaches it may \
                         connect as any user"
                    ),
                    "set logic.auth so that clients have to show who they are, or \
                     logic.allow_open_beyond_loopback = true if that is what you want, or listen on 127.0.0.1",
                ));
            }
        }
        if !is_loopback(self.http.bind.ip()) && !self.http.require_key {
            complaints.push(Complaint::new(
                "http.require_key",
                format!(
                    "http.require_key = false, and http.bind = {} can be reached from other machines: whoever \
                     reaches it could push to everyone",
                    self.http.bind
                ),
                "set http.require_key = true, or bind to 127.0.0.1",
            ));
        }
        complaints
    }

    /// The comets of a cluster, and who may call goim's services.
    fn members(&self) -> Vec<Complaint> {
        let cluster = &self.cluster;
        let mut complaints = Vec::new();
        if let Err(what) = cluster.members() {
            complaints.push(Complaint::new(
                "cluster.comets",
                format!("cluster.comets: {what}"),
                "such as cluster.comets = [\"comet-1=grpc://10.0.0.1:3109\"]",
            ));
        }
        let open = cluster.comet_bind.iter().chain(&cluster.logic_bind).find(|bind| !is_loopback(bind.ip()));
        if let Some(address) = open.filter(|_| cluster.goim_without_secret) {
            complaints.push(Complaint::new(
                "cluster.goim_without_secret",
                format!("cluster.goim_without_secret lets whoever reaches {address} push to everyone"),
                "set it to false, or bind to 127.0.0.1",
            ));
        }
        complaints
    }

    fn filter(&self) -> Option<Complaint> {
        const REMEDY: &str = "write a level or a list such as \"info,anser_comet=debug\"";
        let filter = &self.log.filter;
        if let Err(error) = EnvFilter::try_new(filter) {
            let what = format!("log.filter = \"{filter}\" is no filter ({error})");
            return Some(Complaint::new("log.filter", what, REMEDY));
        }
        let wrong = filter.split(',').map(str::trim).find_map(wrong_directive)?;
        Some(Complaint::new("log.filter", format!("log.filter = \"{filter}\": {wrong}"), REMEDY))
    }
}

/// What is wrong with a part of a filter that parses, but would silence what it is to show: a word that is
/// no level is taken for the name of a module.
fn wrong_directive(directive: &str) -> Option<String> {
    if let Some((module, _)) = directive.split_once('=') {
        let name = module.split("::").next().unwrap_or(module);
        let known = !name.starts_with("anser") || CRATES.contains(&name);
        return (!known).then(|| format!("`{name}` is no part of anser ({})", CRATES.join(", ")));
    }
    let known = directive.parse::<LevelFilter>().is_ok();
    (!known).then(|| format!("`{directive}` is no level (error, warn, info, debug, trace, off)"))
}

/// Whether the second of two listeners could not bind. Port 0 takes any free port.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || covers && a.is_ipv4() == b.is_ipv4())
}

/// An IPv4 address may come written as IPv6.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
