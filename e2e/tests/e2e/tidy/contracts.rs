//! The code of the gRPC contracts is in the tree, as making it takes longer than all else in a build:
//! here it is made again, and compared.

use std::collections::BTreeMap;
use std::{env, fs};

use super::root;

/// Where it lies.
const GENERATED: &str = "crates/api/src/grpc/generated";

/// What each file begins with.
const HEAD: &str = "//! From crates/api/proto, see CONTRIBUTING.md.\n\n";

/// The code of some contracts, by the path of the file: `goim/comet.rs` for the package `goim.comet`.
fn generate(contracts: &[&str], client: bool) -> BTreeMap<String, String> {
    let protos = root().join("crates/api/proto");
    let descriptors = protox::compile(contracts, [&protos]).unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().expect("there is a place for what is generated");
    tonic_prost_build::configure()
        .build_client(client)
        .build_transport(false)
        .bytes(".")
        .out_dir(folder.path())
        .compile_fds(descriptors)
        .expect("what compiles can be generated");
    let files = fs::read_dir(folder.path()).expect("it was just written");
    let read = |file: fs::DirEntry| {
        let text = fs::read_to_string(file.path()).expect("it was just written");
        let name = file.file_name().to_string_lossy().into_owned();
        let package = name.strip_suffix(".rs").expect("it is code").replace('.', "/");
        (format!("{package}.rs"), format!("{HEAD}{text}"))
    };
    files.map(|file| read(file.expect("it was just written"))).collect()
}

#[test]
fn contracts_are_generated() {
    let goim = generate(&["goim/protocol.proto", "goim/comet.proto", "goim/logic.proto"], false);
    let anser = ["anser/types.proto", "anser/comet.proto", "anser/logic.proto", "anser/job.proto"].as_slice();
    let folder = root().join(GENERATED);
    let expected: BTreeMap<String, String> = goim.into_iter().chain(generate(anser, true)).collect();
    let files = super::files(&["rs"]).into_iter();
    let found: BTreeMap<String, String> = files
        .filter_map(|file| {
            Some((file.path.strip_prefix(GENERATED)?.strip_prefix('/')?.to_owned(), file.text))
        })
        .collect();
    if found == expected {
        return;
    }
    let changed = expected.iter().filter(|(name, text)| found.get(*name) != Some(text));
    let gone = found.keys().filter(|name| !expected.contains_key(*name));
    let names: Vec<&String> = changed.map(|(name, _)| name).chain(gone).collect();
    assert!(
        env::var_os("BLESS").is_some(),
        "{GENERATED} is not what crates/api/proto says, in {names:?}: run `BLESS=1 cargo test -p anser-e2e tidy`"
    );
    for name in found.keys().filter(|name| !expected.contains_key(*name)) {
        fs::remove_file(folder.join(name)).expect("files of the tree can be removed");
    }
    for (name, text) in expected {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("folders can be made");
        fs::write(path, text).expect("files of the tree can be written");
    }
}
