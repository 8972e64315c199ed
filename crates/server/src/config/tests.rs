use std::fs;

use anser_api::settings::Span;

use super::layers::Layers;
use super::problem::Problems;
use super::table::{self, Key};
use super::{Config, Format, print};

mod check;

/// Loads a file `anser.toml` with this text, these variables and these flags. What is said about the
/// file does not show the folder.
fn load(file: &str, env: &[(&str, &str)], set: &[&str]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anser.toml");
    fs::write(&path, file).unwrap();
    let layers = Layers {
        file: Some(path),
        env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        set: set.iter().map(|text| text.parse().unwrap()).collect(),
    };
    let said =
        |problems: Problems| problems.to_string().replace(&format!("{}/", folder.path().display()), "");
    layers.load().map(|loaded| loaded.config).map_err(said)
}

/// What is said about a file.
fn told(file: &str) -> String {
    load(file, &[], &[]).unwrap_err()
}

/// What is said about a flag.
fn told_of_flag(set: &str) -> String {
    load("", &[], &[set]).unwrap_err()
}

#[test]
fn every_key_is_documented() {
    for section in table::SECTIONS {
        assert!(section.doc.ends_with('.'), "[{}]", section.name);
        for (setting, key) in section.settings.iter().zip(section.keys()) {
            let doc = setting.doc.last().unwrap();
            assert!(doc.ends_with('.'), "the documentation of {key} must end with a full stop: {doc}");
        }
    }
}

#[test]
fn variables_name_one_key_each() {
    let mut names: Vec<String> = table::keys().map(|key| key.env()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), table::keys().count());
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    let printed = print::defaults();
    assert_eq!(load(&printed, &[], &[]).unwrap(), Config::default());
    for key in table::keys() {
        assert!(
            printed.contains(&format!("\n{} = {}\n", key.name(), key.default_value())),
            "{key} is not printed"
        );
    }
}

#[test]
fn the_effective_values_load_as_they_are() {
    let layers = Layers {
        env: vec![("ANSER_COMET_QUEUE".into(), "7".into())],
        set: vec!["log.filter=debug".parse().unwrap()],
        ..Layers::default()
    };
    let loaded = layers.load().unwrap();
    let printed = print::effective(&loaded);
    assert!(printed.contains("\nqueue = 7 # ANSER_COMET_QUEUE\n"), "{printed}");
    assert!(printed.contains("\nfilter = \"debug\" # --set log.filter\n"), "{printed}");
    assert_eq!(load(&printed, &[], &[]).unwrap(), loaded.config);
}

#[test]
fn later_layers_win() {
    let file = "[comet]\nbody = 100\nqueue = 100\ncommands = 100\n";
    let env = [("ANSER_COMET_QUEUE", "200"), ("ANSER_COMET_COMMANDS", "200"), ("PATH", "/bin")];
    let set = ["comet.commands=300", "comet.commands=400"];
    let comet = load(file, &env, &set).unwrap().comet;
    assert_eq!((comet.body, comet.queue, comet.commands), (100, 200, 400));
    assert_eq!(comet.room_queue, Config::default().comet.room_queue);
}

#[test]
fn a_value_outside_the_file_is_toml_or_else_a_string() {
    let env = [
        ("ANSER_COMET_HANDSHAKE_TIMEOUT", "3s"),
        ("ANSER_COMET_DRAIN_LIMIT", "\"4s\""),
        ("ANSER_COMET_TCP", "[\"127.0.0.1:1\", \"127.0.0.1:2\"]"),
        ("ANSER_COMET_ALLOW_UNMASKED", " false "),
        ("ANSER_HTTP_BIND", "127.0.0.1:3"),
        ("ANSER_LOG_FILTER", "anser_comet=debug,info"),
        ("ANSER_LOG_FORMAT", "json"),
        ("ANSER_CONFIG", "elsewhere.toml"),
        ("ANSER_DATA", "elsewhere"),
        ("ANSER_KEY", "a-key-of-the-push-api"),
    ];
    let config = load("", &env, &["comet.outbound_budget=0x10000"]).unwrap();
    assert_eq!(config.comet.handshake_timeout, Span::secs(3));
    assert_eq!(config.comet.drain_limit, Span::secs(4));
    assert_eq!(config.comet.tcp, ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]);
    assert!(!config.comet.allow_unmasked);
    assert_eq!(config.comet.outbound_budget, 65_536);
    assert_eq!(config.http.bind, "127.0.0.1:3".parse().unwrap());
    assert_eq!(config.log.filter, "anser_comet=debug,info");
    assert_eq!(config.log.format, Format::Json);
}

#[test]
fn the_nearest_key() {
    for (section, name, nearest) in [
        ("comet", "pushbody", Some("comet.push_body")),
        ("comet", "bodi", Some("comet.body")),
        ("http", "bodi", Some("http.body")),
        ("commet", "queue", Some("comet.queue")),
        ("comet", "bind", Some("http.bind")),
        ("logic", "hartbeat", Some("logic.heartbeat")),
        ("comet", "foo", None),
        ("", "", None),
    ] {
        let found = Key::nearest(Some(section), name).map(|key| key.to_string());
        assert_eq!(found.as_deref(), nearest, "{section}.{name}");
    }
}

#[test]
fn unknown_keys_of_a_file() {
    assert_eq!(
        told("[comet]\nbody = 100\n\tpushbody = 100 # bytes\n"),
        "anser.toml:3: unknown key `comet.pushbody`: did you mean `comet.push_body`?\n    \
         3 | \tpushbody = 100 # bytes\n      \
         | \t^^^^^^^^"
    );
    assert_eq!(
        told("comet.shoe_size = 43"),
        "anser.toml:1: unknown key `comet.shoe_size`: `anser config` lists every key\n    \
         1 | comet.shoe_size = 43\n      \
         |       ^^^^^^^^^"
    );
    assert_eq!(
        told("\n[commet]\n"),
        "anser.toml:2: unknown section [commet]: did you mean [comet]?\n    \
         2 | [commet]\n      \
         |  ^^^^^^"
    );
    assert_eq!(
        told("[shoes]\n"),
        "anser.toml:1: unknown section [shoes]: the sections are [comet], [logic], [http], [job], [store], [cluster], [log]\n    \
         1 | [shoes]\n      \
         |  ^^^^^"
    );
    assert_eq!(
        told("queue = 3\r\n[comet]\r\n"),
        "anser.toml:1: `queue` stands outside every section: did you mean `comet.queue`?\n    \
         1 | queue = 3\n      \
         | ^^^^^"
    );
    assert_eq!(
        told("comet = 3"),
        "anser.toml:1: `comet` is a section and takes no value: write [comet] and its keys on lines of \
         their own\n    \
         1 | comet = 3\n      \
         | ^^^^^"
    );
}

#[test]
fn unknown_keys_elsewhere() {
    let env = [("ANSER_COMET_PUSHBODY", "1"), ("ANSER_SHOES", "1"), ("ANSWER", "42")];
    assert_eq!(
        load("", &env, &["comet.pushbody=1", "shoes.size=43"]).unwrap_err(),
        "ANSER_COMET_PUSHBODY: no key has this variable: did you mean `ANSER_COMET_PUSH_BODY`, which sets \
         `comet.push_body`?\n\
         ANSER_SHOES: no key has this variable: unset it, or see `anser config` for the keys; the variable \
         is ANSER_<SECTION>_<KEY>\n\
         --set comet.pushbody: unknown key `comet.pushbody`: did you mean `comet.push_body`?\n\
         --set shoes.size: unknown key `shoes.size`: `anser config` lists every key"
    );
}

#[test]
fn values_of_the_wrong_type() {
    assert_eq!(
        told("[comet]\nqueue = \"many\"\n"),
        "anser.toml:2: comet.queue is \"many\", but must be a whole number, 0 or more: write it like its \
         default, 256\n    \
         2 | queue = \"many\"\n      \
         |         ^^^^^^"
    );
    for (set, what) in [
        (
            "comet.queue=-1",
            "comet.queue is -1, but must be a whole number, 0 or more: write it like its default, 256",
        ),
        (
            "logic.heartbeat_max=4294967296",
            "logic.heartbeat_max is 4294967296, but must be a whole number from 0 to 4294967295: write it \
             like its default, 2",
        ),
        (
            "comet.allow_unmasked=yes",
            "comet.allow_unmasked is \"yes\", but must be true or false: write it like its default, true",
        ),
        (
            "comet.handshake_timeout=8",
            "comet.handshake_timeout is 8, but must be a duration (a whole number with ms, s, m or h): \
             write it like its default, \"8s\"",
        ),
        (
            "comet.tcp=localhost,127.0.0.1:3101",
            "comet.tcp is [\"localhost\", \"127.0.0.1:3101\"], but must be a list of IP addresses (not names) \
             with ports: write it like its default, [\"127.0.0.1:3101\"]",
        ),
        (
            "http.bind=localhost:80",
            "http.bind is \"localhost:80\", but must be an IP address (not a name) with a port: write it like its \
             default, \"127.0.0.1:3111\"",
        ),
        ("log.filter=3", "log.filter is 3, but must be a string: write it like its default, \"info\""),
        (
            "log.format=yaml",
            "log.format is \"yaml\", but must be \"text\" or \"json\": write it like its default, \"text\"",
        ),
    ] {
        let key = set.split('=').next().unwrap();
        assert_eq!(told_of_flag(set), format!("--set {key}: {what}"));
    }
}

#[test]
fn a_list_outside_the_file_may_be_words_with_commas() {
    let tcp = |set: &str| load("", &[], &[set]).unwrap().comet.tcp;
    let two = ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    assert_eq!(tcp("comet.tcp=127.0.0.1:1, [::1]:2"), two);
    assert_eq!(tcp("comet.tcp=[\"127.0.0.1:1\", \"[::1]:2\"]"), two);
    assert_eq!(tcp("comet.tcp=127.0.0.1:1"), two[..1]);
    assert_eq!(tcp("comet.tcp="), []);
    let origins = load("", &[("ANSER_COMET_ALLOWED_ORIGINS", "*")], &[]).unwrap().comet.allowed_origins;
    assert_eq!(origins, ["*"]);
}

#[test]
fn what_has_the_wrong_type_hides_nothing_else() {
    let said = load(
        "[log]\nfilter = 1\n[comet]\nqueue = 0\ntcp = \"x\"\nwebsocket = []\nworkers = 5000\n",
        &[],
        &[],
    )
    .unwrap_err();
    let starts: Vec<&str> =
        said.lines().filter_map(|line| line.split_once(": ")).map(|(place, _)| place).collect();
    assert_eq!(starts, ["anser.toml:2", "anser.toml:4", "anser.toml:5", "anser.toml:7"]);
}

#[test]
fn files_that_are_not_toml() {
    assert_eq!(
        told("[comet]\nqueue = 3\nqueue = 4\n"),
        "anser.toml:3: not TOML: duplicate key: correct the line; `anser config` prints a valid file\n    \
         3 | queue = 4\n      \
         | ^^^^^"
    );
    assert_eq!(
        told("[log]\nfilter = \"ünfinished"),
        "anser.toml:2: not TOML: invalid basic string, expected `\"`: correct the line; `anser config` \
         prints a valid file\n    \
         2 | filter = \"ünfinished\n      \
         |                     ^"
    );
}

#[test]
fn a_file_that_is_not_there() {
    let layers = Layers { file: Some("/nowhere/anser.toml".into()), ..Layers::default() };
    assert_eq!(
        layers.load().unwrap_err().to_string(),
        "the configuration /nowhere/anser.toml cannot be read (No such file or directory): name a file that \
         can, or make one with `anser config > FILE`"
    );
}

#[test]
fn all_problems_are_told_in_the_order_of_the_layers() {
    let said = load("[http]\nbind = 1\n[comet]\nqueue = \"x\"", &[("ANSER_LOG_FILTER", "1")], &["a.b=c"])
        .unwrap_err();
    let starts: Vec<&str> =
        said.lines().filter_map(|line| line.split_once(": ")).map(|(place, _)| place).collect();
    assert_eq!(starts, ["anser.toml:2", "anser.toml:4", "ANSER_LOG_FILTER", "--set a.b"]);
}
