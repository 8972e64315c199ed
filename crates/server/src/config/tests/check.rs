use super::{load, told, told_of_flag};

#[test]
fn bounds() {
    for (set, what) in [
        (
            "comet.handshake_timeout=99ms",
            "comet.handshake_timeout = \"99ms\" is too short: set at least \"100ms\"",
        ),
        ("comet.drain_limit=999ms", "comet.drain_limit = \"999ms\" is too short: set at least \"1s\""),
        ("logic.heartbeat=25h", "logic.heartbeat = \"25h\" is too long: set at most \"24h\""),
        ("logic.heartbeat_max=0", "logic.heartbeat_max = 0 is too small: set at least 1"),
        ("comet.renew=99ms", "comet.renew = \"99ms\" is too short: set at least \"100ms\""),
        (
            "logic.region_weight=0",
            "logic.region_weight = 0 is out of its bounds: set a number from 0.001 to 1000",
        ),
        (
            "logic.backoff_factor=nan",
            "logic.backoff_factor = NaN is out of its bounds: set a number from 0 to 1000",
        ),
        (
            "logic.comet_silence=3s",
            "logic.comet_silence = \"3s\" takes comets for dead that renew every \"2s\", as comet.renew \
             says: set at least \"4s\"",
        ),
        ("comet.body=15", "comet.body = 15 is too small: set at least 16"),
        ("comet.user_timeout=0ms", "comet.user_timeout = \"0ms\" is too short: set at least \"1s\""),
        ("comet.workers=1025", "comet.workers = 1025 is too large: set at most 1024"),
        ("logic.heartbeat=0s", "logic.heartbeat = \"0ms\" is too short: set at least \"1s\""),
        ("logic.jwks_refresh=9s", "logic.jwks_refresh = \"9s\" is too short: set at least \"10s\""),
        ("logic.jwks_timeout=99ms", "logic.jwks_timeout = \"99ms\" is too short: set at least \"100ms\""),
        ("logic.jwt_leeway=2h", "logic.jwt_leeway = \"2h\" is too long: set at most \"1h\""),
        ("logic.webhook_timeout=0s", "logic.webhook_timeout = \"0ms\" is too short: set at least \"100ms\""),
        ("logic.webhook_grace=25h", "logic.webhook_grace = \"25h\" is too long: set at most \"24h\""),
        ("http.max_connections=0", "http.max_connections = 0 is too small: set at least 1"),
        ("comet.queue=0", "comet.queue = 0 is too small: set at least 1"),
        ("comet.room_queue=0", "comet.room_queue = 0 is too small: set at least 1"),
        ("comet.commands=63", "comet.commands = 63 is too small: set at least 64"),
        ("comet.send_buffer=2047", "comet.send_buffer = 2047 is too small: set at least 2048"),
        ("comet.send_buffer=67108865", "comet.send_buffer = 67108865 is too large: set at most 67108864"),
        (
            "log.filter==x",
            "log.filter = \"=x\" is no filter (invalid filter directive): write a level or a list such as \
             \"info,anser_comet=debug\"",
        ),
        (
            "log.filter=verbose",
            "log.filter = \"verbose\": `verbose` is no level (error, warn, info, debug, trace, off): write a \
             level or a list such as \"info,anser_comet=debug\"",
        ),
        (
            "log.filter=info,anser_commet=debug",
            "log.filter = \"info,anser_commet=debug\": `anser_commet` is no part of anser (anser_api, \
             anser_comet, anser_http, anser_job, anser_logic, anser_server, anser_store, anser_wire): write a level or a list such as \
             \"info,anser_comet=debug\"",
        ),
    ] {
        let key = set.split('=').next().unwrap();
        assert_eq!(told_of_flag(set), format!("--set {key}: {what}"));
    }
    let least = "[comet]\nhandshake_timeout = \"100ms\"\ndrain_limit = \"1s\"\nbody = 16\nqueue = \
    1\nroom_queue = 1\n\
                 commands = 64\nsend_buffer = 2048\nrenew = \"500ms\"\n[logic]\nheartbeat_max = 1\n\
                 comet_silence = \"1s\"\nsettle = \"0ms\"\n";
    load(least, &[], &[]).unwrap();
    for filter in ["info", "WARN", "info,anser_comet::worker=debug,hyper=off", "off"] {
        load("", &[], &[&format!("log.filter={filter}")]).unwrap();
    }
}

#[test]
fn listeners() {
    assert_eq!(
        told("[comet]\ntcp = []\nwebsocket = []\n"),
        "anser.toml:2: comet.tcp and comet.websocket are both empty, so no client could connect: give one \
         of them an address, such as comet.tcp = [\"127.0.0.1:3101\"]\n    \
         2 | tcp = []\n      \
         |       ^^"
    );
    load("", &[], &["comet.tcp=[]"]).unwrap();

    let taken = |first: &str, second: &str| {
        load(
            "",
            &[],
            &[&format!("comet.tcp=[\"{first}\", \"{second}\"]"), "logic.allow_open_beyond_loopback=true"],
        )
    };
    assert_eq!(
        taken("127.0.0.1:1", "127.0.0.1:1").unwrap_err(),
        "--set comet.tcp: comet.tcp = 127.0.0.1:1 is already taken by comet.tcp = 127.0.0.1:1: choose \
         another port for one of them"
    );
    taken("0.0.0.0:1", "127.0.0.1:1").unwrap_err();
    taken("[::1]:1", "[::]:1").unwrap_err();
    taken("127.0.0.1:1", "127.0.0.2:1").unwrap();
    taken("127.0.0.1:0", "127.0.0.1:0").unwrap();
    taken("0.0.0.0:1", "[::]:1").unwrap();
    assert_eq!(
        told_of_flag("comet.one_write_per_packet=[\"127.0.0.1:3103\"]"),
        "--set comet.one_write_per_packet: comet.one_write_per_packet = 127.0.0.1:3103 is no address that \
         clients connect to: write it like its entry in comet.tcp or comet.websocket, or add it there"
    );
    load("", &[], &["comet.one_write_per_packet=[\"127.0.0.1:3101\", \"127.0.0.1:3102\"]"]).unwrap();
    assert_eq!(
        told_of_flag("http.bind=127.0.0.1:3102"),
        "--set http.bind: http.bind = 127.0.0.1:3102 is already taken by comet.websocket = 127.0.0.1:3102: \
         choose another port for one of them"
    );
}

#[test]
fn doors_are_not_left_open_by_accident() {
    for key in ["comet.tcp", "comet.websocket"] {
        assert_eq!(
            told_of_flag(&format!("{key}=[\"127.0.0.1:1\", \"0.0.0.0:2\"]")),
            format!(
                "--set {key}: {key} = 0.0.0.0:2 can be reached from other machines, and whoever reaches it \
                 may connect as any user: set logic.auth so that clients have to show who they are, or \
                 logic.allow_open_beyond_loopback = true if that is what you want, or listen on 127.0.0.1"
            )
        );
    }
    load("", &[], &["comet.tcp=[\"0.0.0.0:2\"]", "logic.allow_open_beyond_loopback=true"]).unwrap();
    for auth in ["jwt", "webhook"] {
        load("", &[], &["comet.tcp=[\"0.0.0.0:2\"]", &format!("logic.auth={auth}")]).unwrap();
    }
    load("", &[], &["comet.tcp=[\"127.9.9.9:1\", \"[::1]:1\", \"[::ffff:127.0.0.1]:2\"]"]).unwrap();
    load("", &[], &["http.bind=0.0.0.0:80"]).unwrap();
    load("", &[], &["http.bind=[::1]:80", "http.require_key=false"]).unwrap();
    assert_eq!(
        load("", &[], &["http.bind=192.0.2.1:80", "http.require_key=false"]).unwrap_err(),
        "--set http.require_key: http.require_key = false, and http.bind = 192.0.2.1:80 can be reached from \
         other machines: whoever reaches it could push to everyone: set http.require_key = true, or bind to \
         127.0.0.1"
    );
}

#[test]
fn keys_are_not_set_in_vain() {
    for (key, auth) in [
        ("logic.jwt_secret_file", "jwt"),
        ("logic.jwt_public_key_file", "jwt"),
        ("logic.jwks_file", "jwt"),
        ("logic.jwks_url", "jwt"),
        ("logic.webhook_url", "webhook"),
    ] {
        let set = format!("{key}=http://127.0.0.1/x");
        assert_eq!(
            told_of_flag(&set),
            format!(
                "--set {key}: {key} is set, but logic.auth = \"open\", so clients name themselves: set logic.auth \
                 = \"{auth}\", or leave {key} out"
            )
        );
        load("", &[], &[&set, &format!("logic.auth={auth}")]).unwrap();
    }
}

#[test]
fn answers_come_before_clients_are_sent_away() {
    let webhook = ["logic.auth=webhook", "comet.handshake_timeout=3s", "logic.webhook_timeout=3s"];
    assert_eq!(
        load("", &[], &webhook).unwrap_err(),
        "--set logic.webhook_timeout: logic.webhook_timeout = \"3s\" is not less than comet.handshake_timeout = \
         \"3s\", after which a client is sent away: lower the one, or raise the other"
    );
    load("", &[], &webhook[1..]).unwrap();
    let jwt = ["logic.auth=jwt", "logic.jwks_timeout=9s", "logic.jwks_url=http://127.0.0.1/keys"];
    assert!(load("", &[], &jwt).unwrap_err().contains("logic.jwks_timeout = \"9s\" is not less than"));
    load("", &[], &jwt[..2]).unwrap();
}
