//! What an operator does: starts that fail and what they say, limits of the system, the first minute.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anser_e2e::{Client, Cluster, Dial, Incoming, Packet, Process, Transport, eventually, eventually_eq};
use rustix::process::Signal;

/// Each address that is taken ends the start with one line that names it.
#[test]
fn a_taken_port() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    for setting in [
        format!("comet.tcp=[\"{address}\"]"),
        format!("comet.websocket=[\"{address}\"]"),
        format!("http.bind={address}"),
    ] {
        let ended = Cluster::builder().set(&[&setting]).fail();
        let said = format!(
            "anser: cannot listen on {address} (Address already in use): stop the process that holds it \
             (`ss -ltnp` names it), or set another address\n"
        );
        assert_eq!((ended.code, ended.stdout, ended.stderr), (Some(69), String::new(), said), "{setting}");
    }
}

/// All that is wrong is told at once, and nothing has been touched.
#[test]
fn a_bad_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("mine.toml"));
    let check = |config: &Path, settings: &[&str], said: &[&str]| {
        let ended = Cluster::builder().config(config).data(&data).set(settings).fail();
        assert_eq!((ended.code, &*ended.stdout), (Some(78), ""), "{}", ended.stderr);
        for said in said {
            assert!(ended.stderr.contains(said), "{said:?} is not in {}", ended.stderr);
        }
        assert!(!data.exists(), "a data folder was made");
    };
    check(&file, &[], &["mine.toml cannot be read (No such file or directory): name a file that can"]);
    check(folder.path(), &[], &["cannot be read (Is a directory)"]);
    fs::write(&file, "[comet]\nqueue = -1\n\n[comets]\n").unwrap();
    check(
        &file,
        &[],
        &["mine.toml:2: comet.queue is -1", "mine.toml:4: unknown section [comets]: did you mean [comet]?"],
    );
    fs::write(&file, "[comet\n").unwrap();
    check(&file, &[], &["mine.toml:1: not TOML"]);
    fs::write(&file, b"\xff").unwrap();
    check(&file, &[], &["mine.toml cannot be read"]);
    fs::write(&file, "").unwrap();
    check(
        &file,
        &["http.bind=0.0.0.0:0", "http.require_key=false"],
        &["--set http.require_key", "whoever reaches it could push to everyone"],
    );
    check(
        &file,
        &["comet.queue=0", "comet.body=1"],
        &["comet.queue = 0 is too small", "comet.body = 1 is too small"],
    );
    check(&file, &["comet.queu=1"], &["unknown key `comet.queu`: did you mean `comet.queue`?"]);
}

#[test]
fn a_data_folder_has_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Cluster::builder().data(&data).start();
    let ended = Cluster::builder().data(&data).fail();
    let said = format!(
        "anser: another anser uses the data folder {}: stop it, or name another folder with --data\n",
        data.display()
    );
    assert_eq!((ended.code, ended.stdout, ended.stderr), (Some(69), String::new(), said));
    drop(first);
    Cluster::builder().data(&data).start();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let ended = Cluster::builder().data(&file).fail();
    assert_eq!(ended.code, Some(73), "{}", ended.stderr);
}

/// A killed server leaves nothing behind that would keep the next one from its addresses or its data.
#[test]
fn a_killed_server_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::builder().data(folder.path()).start();
    let settings = [
        format!("comet.tcp=[\"{}\"]", cluster.tcp()),
        format!("comet.websocket=[\"{}\"]", cluster.websocket()),
        format!("http.bind={}", cluster.http()),
    ];
    let settings: Vec<&str> = settings.iter().map(|setting| &**setting).collect();
    for _ in 0..3 {
        let mut clients = Transport::ALL.map(|transport| cluster.login(transport, "{}"));
        cluster.signal(Signal::KILL);
        assert_eq!(cluster.wait().code, None);
        for client in &mut clients {
            assert_eq!(client.incoming(), Incoming::End);
        }
        cluster = Cluster::builder().data(folder.path()).set(&settings).start();
    }
    assert_eq!(cluster.login(Transport::Tcp, "{}").heartbeat(), 0);
}

/// What `anser config` prints is a file with which a server starts and does the same.
#[test]
fn the_printed_configuration_starts_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let printed = Process::run(&["config"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let file = folder.path().join("mine.toml");
    fs::write(&file, &printed.stdout).unwrap();
    let cluster = Cluster::builder().config(&file).start();
    let mut client = cluster.login(Transport::WebSocket, r#"{"room_id":"live://1"}"#);
    cluster.push_room("live://1", 1, "works");
    assert_eq!(client.push(), (1, "works".to_owned()));
}

/// Longer than any test waits: whoever is closed was not closed for this.
const NO_TIMEOUT: &str = "comet.handshake_timeout=10m";

/// Whether the server closes without a word.
fn is_refused(dial: Dial) -> bool {
    dial.try_open().is_none_or(|mut client| client.rest().is_empty())
}

/// Beyond as many connections as the limit on open files allows, others are refused at once; when some
/// leave, others get in.
#[test]
fn more_clients_than_open_files() {
    const ALLOWED: usize = 600 - 512;
    let cluster = Cluster::builder().files(600).set(&[NO_TIMEOUT]).start();
    let login = |n: usize| cluster.login(Transport::ALL[n % 2], "{}");
    let mut clients: Vec<Client> = (0..ALLOWED).map(login).collect();
    for n in 0..50 {
        assert!(is_refused(Dial::new(&cluster, Transport::ALL[n % 2])));
    }
    let metrics = cluster.metrics();
    assert_eq!(metrics.labels("comet_refused"), [("max_connections", 50)]);
    assert_eq!(metrics.get("comet_connections"), ALLOWED as i64);
    clients.truncate(ALLOWED - 10);
    eventually_eq("ten are gone", ALLOWED as i64 - 10, || cluster.metrics().get("comet_sockets_open"));
    clients.extend((0..10).map(login));
    for client in &mut clients {
        assert_eq!(client.heartbeat(), 0);
    }
}

/// Here the descriptors are really used up, by callers of the API. goim's acceptors end for good (W7);
/// ours wait, and so do those who knock, until there is one again.
#[test]
fn out_of_descriptors() {
    let mut cluster = Cluster::builder().files(1000).start();
    let mut neighbour = cluster.login(Transport::Tcp, r#"{"accepts":[1000]}"#);
    let mut api = cluster.api();
    let mut errors = || {
        let metrics = api.request("GET", "/metrics", &[], b"");
        let line =
            metrics.text().lines().find_map(|line| line.strip_prefix("anser_comet_accept_errors_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(errors(), 0);
    let used = cluster.open_files();
    cluster.process().limit_files(used + 20);
    let callers: Vec<_> = (0..40).map(|_| cluster.api()).collect();
    // Or those who come now would be accepted before these callers.
    eventually("the descriptors are used up", || (cluster.open_files() >= used + 20).then_some(()));
    let mut late = Transport::ALL.map(|transport| Dial::new(&cluster, transport).open());
    late[0].send(&Packet::new(7, 1, "{}"));
    eventually("accepting fails", || (errors() > 0).then_some(()));
    assert_eq!(neighbour.heartbeat(), 0);
    drop(callers);
    assert_eq!(late[0].packet(), Packet::new(8, 1, ""), "who waited gets in");
    late[1].upgrade("/sub");
    late[1].login("{}");
    cluster.push_all(1000, "everything works again");
    assert_eq!(neighbour.push(), (1000, "everything works again".to_owned()));
}

/// One address cannot take every place.
#[test]
fn connections_from_one_address() {
    let cluster = Cluster::start(&["comet.max_connections_per_ip=3", NO_TIMEOUT]);
    let mut clients: Vec<Client> = (0..3).map(|_| cluster.login(Transport::Tcp, "{}")).collect();
    assert!(is_refused(Dial::new(&cluster, Transport::Tcp)));
    let mut other = Dial::new(&cluster, Transport::Tcp).source([127, 0, 0, 2].into()).connect();
    other.login("{}");
    assert_eq!(cluster.metrics().labels("comet_refused"), [("max_connections_per_ip", 1)]);
    clients.pop();
    eventually_eq("one is gone", 3, || cluster.metrics().get("comet_sockets_open"));
    assert_eq!(cluster.login(Transport::Tcp, "{}").heartbeat(), 0);
}

/// What a shell prints for a line.
fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The lines that `anser up` prints to be pasted, as the README promises.
#[test]
fn the_first_minute() {
    let mut cluster = Cluster::start(&[]);
    let command = |command: &str| -> Vec<String> {
        let line = cluster.greeting().lines().find(|line| line.contains(command));
        let words = line.expect("the greeting has the line").split_whitespace();
        words.skip(1).map(str::to_owned).collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut listen = Process::spawn(folder.path(), &command(" listen"));
    eventually("it listens", || listen.stderr().contains("connected to").then_some(()));
    let pushed = Process::run(&command(" push room live://1 hello"));
    let said = "accepted 5 bytes for room live://1, operation 1000\n";
    assert_eq!((pushed.code, &*pushed.stdout, &*pushed.stderr), (Some(0), said, ""));
    listen.on_stdout("the push", |said| said.ends_with("Z 1000 hello\n").then_some(()));
    let curl = cluster.greeting().lines().find(|line| line.starts_with("  curl "));
    let curl = curl.expect("the greeting has a line for curl");
    let key = cluster.data().join("push.key");
    let begin = format!("  curl -H \"Authorization: Bearer $(cat {})\" -d hello '", key.display());
    assert!(curl.starts_with(&begin), "{curl} does not begin with {begin}");
    assert_eq!(shell(curl), r#"{"code":0,"message":""}"#);
    listen.on_stdout("the second push", |said| (said.matches("Z 1000 hello\n").count() == 2).then_some(()));

    // The README's line, in a folder where the server's data is where the README has it.
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let line = readme.lines().find(|line| line.starts_with("curl ")).expect("the README has a line for curl");
    let line = line.replace("http://127.0.0.1:3111/", &format!("http://{}/", cluster.http()));
    assert!(line.contains(&cluster.http().to_string()), "{line}");
    let here = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(cluster.data(), here.path().join("anser-data")).unwrap();
    assert_eq!(shell(&format!("cd {} && {line}", here.path().display())), r#"{"code":0,"message":""}"#);
    listen.on_stdout("the README's push", |said| said.ends_with("Z 1000 hello again\n").then_some(()));

    // The server goes away, which the listener is told and survives, until it is told to end.
    cluster.signal(Signal::TERM);
    assert_eq!(cluster.wait().code, Some(0));
    eventually("the listener tries again", || {
        listen.stderr().contains("the server stops; next attempt in").then_some(())
    });
    listen.signal(Signal::INT);
    let ended = listen.wait();
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 3), "{}", ended.stderr);
}

/// The log for machines: every line is an object.
#[test]
fn the_log_as_json() {
    let mut cluster = Cluster::start(&["log.format=json", "log.filter=debug"]);
    cluster.connect(Transport::Tcp).write(&[0xff; 16]);
    eventually("it is counted", || (cluster.metrics().get("comet_closed") == 1).then_some(()));
    cluster.signal(Signal::TERM);
    let ended = cluster.wait();
    assert_eq!(ended.code, Some(0));
    let lines: Vec<serde_json::Value> =
        ended.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let said = |text: &str| lines.iter().any(|line| line["fields"]["message"] == text);
    assert!(said("ready") && said("connection closed") && said("ended"), "{}", ended.stderr);
}

/// Callers of the API cannot take the files that are meant for clients.
#[test]
fn callers_leave_files_for_clients() {
    let cluster = Cluster::builder().files(700).set(&["http.request_timeout=10m"]).start();
    let callers: Vec<_> = (0..600).map(|_| cluster.api()).collect();
    let mut clients: Vec<_> = (0..180).map(|n| cluster.login(Transport::ALL[n % 2], "{}")).collect();
    for client in &mut clients {
        assert_eq!(client.heartbeat(), 0);
    }
    drop(callers);
    assert_eq!(cluster.metrics().get("comet_accept_errors"), 0);
}

/// Makes the server say more than a pipe holds.
fn noise(cluster: &Cluster) {
    for n in 1..=1500 {
        cluster.connect(Transport::Tcp).write(&[0xff; 16]);
        if n % 100 == 0 {
            eventually_eq("the noise is heard", n, || cluster.metrics().get("comet_closed"));
        }
    }
}

/// A log that nobody reads, or for which there is no room, costs lines and nothing else.
#[test]
fn a_log_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("log");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _nobody_reads = fs::File::options().read(true).write(true).open(&fifo).unwrap();
    for (file, overflows) in [(&*fifo, true), (Path::new("/dev/full"), false)] {
        let mut cluster = Cluster::builder().stderr(file).set(&["log.filter=trace"]).start();
        let mut client = cluster.login(Transport::WebSocket, r#"{"accepts":[1000]}"#);
        noise(&cluster);
        cluster.push_all(1000, "all is well");
        assert_eq!(client.push(), (1000, "all is well".to_owned()));
        assert_eq!(cluster.metrics().get("log_lost") > 0, overflows, "{}", file.display());
        cluster.signal(Signal::TERM);
        drop(client);
        assert_eq!(cluster.wait().code, Some(0), "{}", file.display());
    }
}

/// Signals that have no meaning here do no harm; a closed terminal drains.
#[test]
fn other_signals() {
    let mut cluster = Cluster::start(&[]);
    let mut client = cluster.login(Transport::Tcp, r#"{"proto":"anser/1"}"#);
    cluster.signal(Signal::USR1);
    cluster.signal(Signal::USR2);
    assert_eq!(client.heartbeat(), 0);
    cluster.signal(Signal::HUP);
    assert_eq!(client.packet().op, 106, "it is told to go");
    drop(client);
    let ended = cluster.wait();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains(r#"draining; a second signal ends at once signal="SIGHUP" connections=1"#),
        "{}",
        ended.stderr
    );
}
