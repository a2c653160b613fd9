//! Code that is made of a `.proto` is committed, so that nobody needs a compiler for it; it is
//! what would be made of the file today.

use std::{env, fs, path::Path};

#[test]
fn the_tonic_example_is_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tonic_client");
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    fs::create_dir_all(&made).unwrap();
    let files = protox::compile(["ledger.proto"], [&folder]).unwrap();
    tonic_prost_build::configure()
        .out_dir(&made)
        .compile_fds(files)
        .unwrap();
    let made = fs::read_to_string(made.join("ledger.v1.rs")).unwrap();

    let kept = folder.join("ledger.v1.rs");
    if env::var("UPDATE").is_ok_and(|value| value == "1") {
        fs::write(&kept, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&kept).is_ok_and(|kept| kept == made),
        "{} isn't what the .proto says; write it by `UPDATE=1 cargo test --test it generated`",
        kept.display()
    );
}
