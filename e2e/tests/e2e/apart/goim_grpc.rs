//! goim's gRPC services, called by clients that are not ours: grpcurl (Go, as goim's own programs are) and a
//! script over grpcio (`e2e/grpcio/goim.py`), whichever this machine has.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anser_e2e::{Apart, Client, Cluster, Incoming, Packet, Role, Transport, eventually_eq};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::storm::say;

/// A program that calls.
#[derive(Clone, Debug)]
enum Caller {
    Grpcurl(OsString),
    Grpcio,
}

/// A caller, and whom it calls.
#[derive(Clone, Debug)]
struct Goim {
    caller: Caller,
    address: SocketAddr,
    secret: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn runs(program: &OsString, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Caller {
    /// All that this machine has. Says so when there is none.
    fn all() -> Vec<Self> {
        let mut callers = Vec::new();
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin/grpcurl").into());
        let grpcurl = [Some("grpcurl".into()), home].into_iter().flatten();
        callers.extend(grpcurl.into_iter().find(|path| runs(path, &["-version"])).map(Self::Grpcurl));
        if runs(&"python3".into(), &["-c", "import grpc"]) {
            callers.push(Self::Grpcio);
        }
        if callers.is_empty() {
            say("skipped: goim's gRPC needs a caller: put grpcurl into PATH, or `pip install grpcio`");
        }
        callers
    }
}

impl Goim {
    fn run(&self, method: &str, message: &Value, gzip: bool) -> Output {
        let Self { caller, address, secret } = self;
        let message = message.to_string();
        let address = address.to_string();
        let mut command = match caller {
            Caller::Grpcurl(path) => {
                let mut command = Command::new(path);
                let proto =
                    if method.starts_with("goim.comet") { "goim/comet.proto" } else { "goim/logic.proto" };
                command.args(["-plaintext", "-max-time", "20", "-import-path"]);
                command.arg(root().join("crates/api/proto")).args(["-proto", proto]);
                if !secret.is_empty() {
                    command.args(["-H", &format!("authorization: Bearer {secret}")]);
                }
                command.args(["-d", &message, &address, method]);
                command
            }
            Caller::Grpcio => {
                let mut command = Command::new("python3");
                command.arg(root().join("e2e/grpcio/goim.py"));
                command.args(gzip.then_some("--gzip")).args([&address, secret, method, &message]);
                command
            }
        };
        command.env("no_grpc_proxy", "127.0.0.0/8").env("no_proxy", "*");
        command.output().expect("it ran before")
    }

    #[track_caller]
    fn call_with(&self, method: &str, message: &Value, gzip: bool) -> Value {
        let output = self.run(method, message, gzip);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?} {method} {message}: {said}");
        serde_json::from_slice(&output.stdout).expect("answers are JSON")
    }

    #[track_caller]
    fn call(&self, method: &str, message: &Value) -> Value {
        self.call_with(method, message, false)
    }

    /// The call must fail, and say this.
    #[track_caller]
    fn fails(&self, method: &str, message: &Value, code: &str, text: &str) {
        let output = self.run(method, message, false);
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(!output.status.success(), "{self:?} {method} {message}");
        let told = said.contains(&format!("code: {code}")) && said.contains(&text.to_lowercase());
        assert!(told, "{self:?} {method} {message}: {said}");
    }
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A packet as goim's job sends it: an operation 9 around what the client is to see.
fn wrapped(op: i32, body: &str) -> Value {
    json!({"ver": 1, "op": 9, "body": base64(&Packet::new(op, 0, body).bytes())})
}

/// What goim's job does to a comet.
fn as_job(comet: &Goim, clients: &mut [Client]) {
    let each = |clients: &mut [Client], expected: (i32, &str)| {
        for client in clients {
            assert_eq!(client.push(), (expected.0, expected.1.to_owned()));
        }
    };
    assert_eq!(comet.call("goim.comet.Comet/Rooms", &json!({})), json!({"rooms": {"live://1": true}}));
    let keys = json!({"keys": ["k0", "k1", "nobody"], "protoOp": 1000, "proto": wrapped(1000, "keys")});
    assert_eq!(comet.call("goim.comet.Comet/PushMsg", &keys), json!({}));
    each(clients, (1000, "keys"));
    let other = json!({"keys": ["k0", "k1"], "protoOp": 1001, "proto": wrapped(1001, "not taken")});
    comet.call("goim.comet.Comet/PushMsg", &other);
    let room = json!({"roomID": "live://1", "proto": wrapped(7, "room")});
    assert_eq!(comet.call("goim.comet.Comet/BroadcastRoom", &room), json!({}));
    each(clients, (7, "room"));
    let all = json!({"protoOp": 1000, "speed": 1000, "proto": wrapped(1000, "all")});
    assert_eq!(comet.call("goim.comet.Comet/Broadcast", &all), json!({}));
    each(clients, (1000, "all"));
    // What is not wrapped comes as it is.
    let bare = json!({"ver": 3, "op": 5, "seq": -8, "body": base64(b"bare")});
    comet.call("goim.comet.Comet/PushMsg", &json!({"keys": ["k0", "k1"], "protoOp": 1000, "proto": bare}));
    for client in clients {
        let expected = Packet { ver: 3, op: 5, seq: -8, body: b"bare".to_vec() };
        assert_eq!(client.incoming(), Incoming::Packet(expected));
    }
    comet.fails("goim.comet.Comet/PushMsg", &json!({"keys": ["k0"]}), "unknown", "rpc pushmsg arg error");
    comet.fails("goim.comet.Comet/Broadcast", &json!({}), "unknown", "rpc broadcast arg error");
    comet.fails("goim.comet.Comet/BroadcastRoom", &json!({}), "unknown", "rpc broadcast  room arg error");
    let torn = json!({"roomID": "live://1", "proto": {"op": 9, "body": base64(b"no packet")}});
    comet.fails(
        "goim.comet.Comet/BroadcastRoom",
        &torn,
        "invalid",
        "a body for operation 9 is whole packets",
    );
}

/// What goim's comet does to logic, in which two clients are in the room already.
fn as_comet(logic: &Goim) {
    let token = base64(br#"{"mid":9,"key":"goim","room_id":"live://1","accepts":[1000,1001]}"#);
    let connect = json!({"server": "goim-1", "token": token});
    assert_eq!(
        logic.call("goim.logic.Logic/Connect", &connect),
        json!({
            "mid": "9", "key": "goim", "roomID": "live://1", "accepts": [1000, 1001],
            "heartbeat": "480000000000",
        })
    );
    let renew = json!({"server": "goim-1", "roomCount": {"live://1": 3, "live://2": 1}});
    let everywhere = json!({"allRoomCount": {"live://1": 5, "live://2": 1}});
    eventually_eq("rooms are counted over all comets", everywhere, || {
        logic.call_with("goim.logic.Logic/RenewOnline", &renew, true)
    });
    let session = json!({"mid": 9, "key": "goim", "server": "goim-1"});
    assert_eq!(logic.call("goim.logic.Logic/Heartbeat", &session), json!({}));
    let packet =
        json!({"mid": 9, "proto": {"ver": 1, "op": 4, "seq": 2, "body": base64(b"to the application")}});
    assert_eq!(logic.call("goim.logic.Logic/Receive", &packet), json!({}));
    let nodes = logic.call("goim.logic.Logic/Nodes", &json!({"platform": "web"}));
    assert_eq!((&nodes["domain"], &nodes["tcpPort"]), (&json!("conn.goim.io"), &json!(3101)));
    assert_eq!((&nodes["heartbeat"], &nodes["heartbeatMax"]), (&json!(240), &json!(2)));
    assert_eq!(nodes["backoff"]["maxDelay"], json!(300));
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1, "comets of goim are not told of: {nodes}");
    assert_eq!(logic.call("goim.logic.Logic/Disconnect", &session), json!({"has": true}));
    assert_eq!(logic.call("goim.logic.Logic/Disconnect", &session), json!({}));
    let bad = json!({"server": "goim-1", "token": base64(b"{")});
    logic.fails("goim.logic.Logic/Connect", &bad, "unknown", "bad token");
    // The comet says that it is empty.
    logic.call("goim.logic.Logic/RenewOnline", &json!({"server": "goim-1"}));
}

fn token(n: usize) -> String {
    format!(r#"{{"mid":{},"key":"k{n}","room_id":"live://1","accepts":[1000,5]}}"#, n + 1)
}

/// One process: its secret is in its data folder.
#[test]
fn goim_calls_one_process() {
    let callers = Caller::all();
    if callers.is_empty() {
        return;
    }
    let cluster = Cluster::start(&["comet.renew=100ms"]);
    let secret = fs::read_to_string(cluster.data().join("cluster.secret")).unwrap().trim().to_owned();
    for caller in callers {
        let mut clients = [0, 1].map(|n| cluster.login(Transport::ALL[n], &token(n)));
        let [comet, logic] = ["comet", "logic"].map(|name| {
            let address = cluster.grpc(name);
            Goim { caller: caller.clone(), address, secret: secret.clone() }
        });
        as_job(&comet, &mut clients);
        as_comet(&logic);
        for wrong in ["", "not-the-secret-of-this-cluster"] {
            let stranger = Goim { secret: wrong.to_owned(), ..comet.clone() };
            stranger.fails("goim.comet.Comet/Rooms", &json!({}), "unauthenticated", "secret");
        }
        drop(clients);
        eventually_eq("all are gone", 0, || cluster.metrics().get("comet_connections"));
    }
    cluster.check_accounts();
}

/// Roles apart, on loopback, where goim's own programs may call without a secret.
#[test]
fn goim_calls_roles_without_a_secret() {
    let callers = Caller::all();
    if callers.is_empty() {
        return;
    }
    let apart = Apart::start(1, &["cluster.goim_without_secret=true"]);
    for caller in callers {
        let mut clients = [0, 1].map(|n| apart.login(0, Transport::ALL[n], &token(n)));
        let [comet, logic] = [Role::Comet(0), Role::Logic].map(|role| Goim {
            caller: caller.clone(),
            address: apart.grpc(role),
            secret: String::new(),
        });
        as_job(&comet, &mut clients);
        let before = apart.metrics(Role::Logic).get("logic_received");
        as_comet(&logic);
        assert_eq!(apart.metrics(Role::Logic).get("logic_received"), before + 1);
        drop(clients);
        eventually_eq("all are gone", 0, || apart.metrics(Role::Comet(0)).get("comet_connections"));
    }
    apart.check_accounts();
}
