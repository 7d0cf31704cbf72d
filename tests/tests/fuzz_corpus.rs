//! The committed corpus of each fuzz target, replayed on every run of the tests: what a fuzzer once found must not
//! come back. See `tests/fuzz/README.md`.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{fs, panic, path::Path};

use tuntrail_tests::fuzz::{TARGETS, Target};

#[test]
fn the_corpus_of_each_fuzz_target_holds() {
    let failed: Vec<_> = TARGETS.iter().flat_map(replay).collect();
    assert_eq!(failed, Vec::<String>::new());
}

#[test]
fn inputs_without_content_hold() {
    for (_, target) in TARGETS {
        target(&[]);
        target(&[0]);
        target(&[0xff; 300]);
    }
}

/// Runs a target on its corpus; gives the names of the inputs that fail.
fn replay(&(name, target): &Target) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(inputs.len() >= 10, "{} has {} inputs", folder.display(), inputs.len());
    let fails = |path: &Path| {
        let input = fs::read(path).unwrap();
        panic::catch_unwind(|| target(&input)).is_err()
    };
    inputs.iter().filter(|path| fails(path)).map(|path| path.display().to_string()).collect()
}
