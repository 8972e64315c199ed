//! The real binary, as a person at a terminal meets it.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `anser` in an empty folder, with no `ANSER_` variable but these.
fn anser(folder: &Path, env: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anser"));
    command.env_clear().envs(env.iter().copied()).current_dir(folder).args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

/// Exit code, stdout, stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    told(&anser(folder.path(), &[], arguments))
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn version_and_help() {
    assert_eq!(run(&["--version"]), (0, format!("anser {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(help.contains("\nExit codes:\n   0  Done.\n  64  Wrong arguments"), "{help}");
    assert!(help.contains("\n  78  The configuration is wrong."), "{help}");
}

#[test]
fn wrong_arguments() {
    assert_eq!(
        run(&["pusj"]),
        (
            64,
            String::new(),
            "anser: unrecognized subcommand 'pusj': a similar subcommand exists: 'push'\n".to_owned()
        )
    );
    let (code, _, help) = run(&[]);
    assert_eq!(code, 64);
    assert!(help.contains("Usage: anser <COMMAND>"), "{help}");
}

#[test]
fn the_printed_configuration_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let printed = anser(folder.path(), &[], &["config"]);
    assert!(printed.status.success());
    fs::write(folder.path().join("mine.toml"), &printed.stdout).unwrap();
    let ok = |file: &str| (0, format!("{file}: ok\n"), String::new());
    assert_eq!(told(&anser(folder.path(), &[], &["config", "check", "mine.toml"])), ok("mine.toml"));
    assert_eq!(
        told(&anser(folder.path(), &[("ANSER_CONFIG", "mine.toml")], &["config", "check"])),
        ok("mine.toml")
    );
    assert_eq!(told(&anser(folder.path(), &[], &["config", "check"])), ok("no file"));
}

#[test]
fn a_bad_file_is_told_with_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.toml"), "[comet]\npushbody = 1\nqueue = \"x\"\n").unwrap();
    let said = "\
anser: bad.toml:2: unknown key `comet.pushbody`: did you mean `comet.push_body`?
    2 | pushbody = 1
      | ^^^^^^^^
anser: bad.toml:3: comet.queue is \"x\", but must be a whole number, 0 or more: write it like its default, 256
    3 | queue = \"x\"
      |         ^^^
";
    let expected = (78, String::new(), said.to_owned());
    assert_eq!(told(&anser(folder.path(), &[], &["config", "check", "bad.toml"])), expected);
    assert_eq!(told(&anser(folder.path(), &[], &["up", "--config", "bad.toml"])), expected);
    assert!(!folder.path().join("anser-data").exists(), "a wrong configuration touches nothing");
}

#[test]
fn the_file_in_the_data_folder_is_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/anser.toml"), "[comet]\nqueue = 5\nbody = 50\n").unwrap();
    let env = [("ANSER_DATA", "data"), ("ANSER_COMET_BODY", "60")];
    let (code, shown, _) =
        told(&anser(folder.path(), &env, &["config", "show", "--set", "comet.commands=70"]));
    assert_eq!(code, 0);
    for line in [
        "queue = 5 # data/anser.toml:2",
        "body = 60 # ANSER_COMET_BODY",
        "commands = 70 # --set comet.commands",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "no line {line:?} in:\n{shown}");
    }
}

#[test]
fn completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(script.contains("listen"), "{shell}: {script}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anser"));
    let mut child = command.arg("config").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(told(&output), (0, String::new(), String::new()));
}

/// A port at which nobody listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn push_without_a_server() {
    let http = format!("http://127.0.0.1:{}", free_port());
    for target in [&["room", "live://1"][..], &["key", "a", "b"], &["user", "1"], &["all"]] {
        let arguments = [&["push"], target, &["--http", &http, "hello"]].concat();
        assert_eq!(
            run(&arguments),
            (
                69,
                String::new(),
                format!(
                    "anser: no server at {http} (Connection refused): `anser up` starts one, --http names \
                     another\n"
                )
            )
        );
    }
}

/// A server that answers one request, and returns it: its first line and its body, behind them the key that
/// came with it, if there was one.
fn answer_once(body: &'static str) -> (String, std::thread::JoinHandle<String>) {
    use std::io::{BufRead as _, BufReader, Read as _};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut request).unwrap(), 0, "the head is incomplete: {request}");
        }
        let length = request.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut sent = vec![0; length.unwrap().parse().unwrap()];
        stream.read_exact(&mut sent).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
        let line = request.lines().next().unwrap();
        let key = request.lines().find_map(|line| line.strip_prefix("authorization: "));
        let key = key.map(|key| format!(" ({key})")).unwrap_or_default();
        format!("{line} {}{key}", String::from_utf8(sent).unwrap())
    });
    (http, server)
}

#[test]
fn push_says_what_it_did() {
    let (http, server) = answer_once(r#"{"code":0,"message":""}"#);
    let (code, said, _) = run(&["push", "room", "live://1", "--op", "7", "--http", &http, "hello"]);
    assert_eq!((code, said.as_str()), (0, "accepted 5 bytes for room live://1, operation 7\n"));
    assert_eq!(server.join().unwrap(), "POST /goim/push/room?operation=7&type=live&room=1 HTTP/1.1 hello");
}

/// From a file that is named, else from the variable, else from the data folder, wherever that is.
#[test]
fn push_sends_the_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("anser-data/push.key", "# ours\nthe-key-where-it-usually-is\nanother-key-beside-it\n", 0o600);
    write("data/push.key", "the-key-of-another-folder\n", 0o600);
    write("mine", "the-key-of-a-file-that-is-named", 0o400);
    write("open", "the-key-that-all-can-read", 0o644);
    let variable = ("ANSER_KEY", "the-key-in-the-environment");
    for (env, more, sent) in [
        (&[][..], &[][..], "the-key-where-it-usually-is"),
        (&[("ANSER_KEY", "")], &[], "the-key-where-it-usually-is"),
        (&[("ANSER_DATA", "data")], &[], "the-key-of-another-folder"),
        (&[], &["--data", "data"], "the-key-of-another-folder"),
        (&[variable], &["--data", "data"], "the-key-in-the-environment"),
        (&[variable], &["--key-file", "mine"], "the-key-of-a-file-that-is-named"),
    ] {
        let (http, server) = answer_once(r#"{"code":0,"message":""}"#);
        let output = anser(folder.path(), env, &[&["push", "all", "x", "--http", &http], more].concat());
        assert_eq!(told(&output).0, 0, "{env:?} {more:?}");
        let expected = format!("POST /goim/push/all?operation=1000 HTTP/1.1 x (Bearer {sent})");
        assert_eq!(server.join().unwrap(), expected, "{env:?} {more:?}");
    }
    for (env, more, code, said) in [
        (&[][..], &["--key-file", "open"][..], 78, "anser: open can be read or written by others"),
        (&[], &["--key-file", "none"], 78, "anser: the secret none cannot be read"),
        (&[("ANSER_KEY", "short")], &[], 64, "anser: ANSER_KEY: the key has 5 characters, at least 20"),
    ] {
        let output = anser(folder.path(), env, &[&["push", "all", "x"], more].concat());
        let (ended, _, stderr) = told(&output);
        assert!(ended == code && stderr.starts_with(said), "{ended} {stderr}");
    }
}

#[test]
fn push_reads_stdin() {
    let (http, server) = answer_once(r#"{"code":0,"message":""}"#);
    let mut command = Command::new(env!("CARGO_BIN_EXE_anser"));
    command.args(["push", "all", "--http", &http, "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(told(&output), (0, "accepted 12 bytes for all, operation 1000\n".to_owned(), String::new()));
    assert_eq!(server.join().unwrap(), "POST /goim/push/all?operation=1000 HTTP/1.1 from a pipe\n");
}

#[test]
fn push_says_why_it_was_refused() {
    let (http, server) = answer_once(r#"{"code":-400,"message":"no such thing"}"#);
    let said = "anser: the server refused the push (no such thing): correct it and push again\n";
    assert_eq!(run(&["push", "all", "--http", &http, "x"]), (64, String::new(), said.to_owned()));
    server.join().unwrap();
}

#[test]
fn listen_without_a_server() {
    let server = format!("tcp://127.0.0.1:{}", free_port());
    let said = format!(
        "anser: no server at {server} (Connection refused): `anser up` starts one, --server names another\n"
    );
    assert_eq!(run(&["listen", "--server", &server]), (69, String::new(), said));
}

/// A goim server for one client: lets it in, and pushes these bodies.
fn push_to_one(bodies: &'static [&'static [u8]]) -> (String, std::thread::JoinHandle<String>) {
    use std::io::Read as _;
    let packet = |op: u32, body: &[u8]| {
        let mut packet = (16 + body.len() as u32).to_be_bytes().to_vec();
        packet.extend_from_slice(&[0, 16, 0, 1]);
        packet.extend_from_slice(&op.to_be_bytes());
        packet.extend_from_slice(&1_u32.to_be_bytes());
        packet.extend_from_slice(body);
        packet
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("tcp://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut login = vec![0; u32::from_be_bytes(length) as usize - 4];
        stream.read_exact(&mut login).unwrap();
        stream.write_all(&packet(8, b"")).unwrap();
        for body in bodies {
            stream.write_all(&packet(1000, body)).unwrap();
        }
        let _ = stream.read_to_end(&mut Vec::new());
        String::from_utf8(login[12..].to_vec()).unwrap()
    });
    (server, thread)
}

#[test]
fn listen_prints_pushes() {
    let (server, thread) = push_to_one(&[b"hello", b"\xff", b"one too many"]);
    let (code, pushed, notes) = run(&["listen", "--server", &server, "--count", "2"]);
    assert_eq!(code, 0, "{notes}");
    let lines: Vec<&str> = pushed.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(lines, ["1000 hello", "1000 0xff"]);
    assert_eq!(notes, format!("connected to {server}, in live://1\n"));
    assert_eq!(
        thread.join().unwrap(),
        r#"{"room_id":"live://1","accepts":[1000],"proto":"anser/1","dropped":true}"#
    );
}

#[test]
fn listen_prints_json() {
    let (server, thread) = push_to_one(&[b"hello"]);
    let (code, pushed, _) =
        run(&["listen", "--server", &server, "--count", "1", "--json", "--room", "a://b"]);
    assert_eq!(code, 0);
    assert!(pushed.starts_with(r#"{"time":"2"#), "{pushed}");
    assert!(pushed.ends_with("Z\",\"op\":1000,\"text\":\"hello\"}\n"), "{pushed}");
    thread.join().unwrap();
}

#[test]
fn a_log_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let said =
        "anser: there is no push log in here: name the data folder of a server that has run with --data\n";
    for arguments in [&["log", "--data", "here"][..], &["log", "verify", "--data", "here"]] {
        let expected = (69, String::new(), said.to_owned());
        assert_eq!(told(&anser(folder.path(), &[], arguments)), expected);
    }
    assert!(!folder.path().join("here").exists(), "looking makes nothing");
}

#[test]
fn a_log_is_read_and_damage_is_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("anser-data/log");
    let disk = anser_store::disk::Folder::open(&folder.path().join("anser-data"))
        .and_then(|_| anser_store::disk::Folder::open(&place));
    let config = anser_store::segments::Config::default();
    let opened = anser_store::segments::SegmentLog::open(
        std::sync::Arc::new(disk.unwrap()),
        &config,
        7,
        Box::new(|cause| panic!("{cause}")),
    );
    let log = opened.unwrap().log;
    let append = |record: &[u8]| anser_store::Log::append(&log, record, &mut |_| true).unwrap();
    // As crates/job/src/record.rs has it: accepted, operation, body, room.
    append(b"\x08\x01\x10\xe8\x07\x1a\x02hi\x42\x08live://1");
    append(b"\xff\xff");
    drop(log);
    let line = "            64  1970-01-01T00:00:00.001Z  op 1000  2 bytes  room live://1";
    let at = |arguments: &[&str]| told(&anser(folder.path(), &[], arguments));
    let (code, out, said) = at(&["log"]);
    assert_eq!((code, &*out), (65, &*format!("{line}\n           107  is no push, 2 bytes\n")), "{said}");
    assert!(said.starts_with("anser: 1 place in the push log cannot be read, and what was there is lost: "));
    let (_, out, _) = at(&["log", "--body"]);
    assert!(out.starts_with(&format!("{line}  \"hi\"\n")), "{out}");
    let (_, out, _) = at(&["log", "--from", "65", "--json"]);
    assert_eq!(out, "{\"id\":\"107\",\"size\":2,\"unknown\":true}\n");
    let (code, out, said) = at(&["log", "verify"]);
    assert_eq!(code, 65, "{said}");
    assert!(said.starts_with("anser: the record at 107 is no push\n"), "{said}");
    assert_eq!(
        out,
        "segments  1\npushes    2, 21 bytes\nfirst     64, accepted 1970-01-01T00:00:00.001Z\n\
         last      64, accepted 1970-01-01T00:00:00.001Z\ndamage    1\n"
    );
    let held = fs::File::create(folder.path().join("anser-data/anser.lock")).unwrap();
    held.lock().unwrap();
    let (code, _, said) = at(&["log"]);
    assert_eq!(
        (code, said.contains("a server uses the data folder ./anser-data: stop it first")),
        (69, true)
    );
}
